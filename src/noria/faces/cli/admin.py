"""`noria admin`: upkeep that is no verb of a capability."""

from __future__ import annotations

import json

import click

from noria.bootstrap import open_workspace
from noria.core import errors
from noria.core.errors import NoriaError, NotFound
from noria.faces.cli.text import columns
from noria.store.replay import difference, rebuild
from noria.store.sealed import altered_rows

__all__ = ["errors_command", "rebuild_command"]

REBUILD_EPILOG = """\b
Examples:
  noria admin rebuild --dry-run
  noria admin rebuild --json"""
ERRORS_EPILOG = """\b
Examples:
  noria admin errors
  noria admin errors gate-closed"""


@click.command("rebuild", epilog=REBUILD_EPILOG)
@click.option("--dry-run", is_flag=True, help="Only say which rows differ from the fold of the facts.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def rebuild_command(dry_run: bool, is_json: bool) -> int:
    """Fold the record tables again from the facts, in one transaction. Facts are not touched.

    Damaged rows of the queue of jobs and leases are taken away; stop what runs in this project before.
    """
    ws = open_workspace()
    differing = [*difference(ws.ledger), *((table, f"- {row}") for table, row in altered_rows(ws.ledger.database))]
    count = ws.ledger.head() if dry_run else rebuild(ws.ledger)
    if is_json:
        click.echo(json.dumps({"facts": count, "differing": differing, "is_dry_run": dry_run}))
    else:
        click.echo(columns([[table, row] for table, row in differing]) or "  records equal the fold of the facts")
        click.echo(f"  {'would fold' if dry_run else 'folded'} {count:,} facts")
        click.echo(click.style("next: ", dim=True) + "noria audit verify")
    return 0


@click.command("errors", epilog=ERRORS_EPILOG)
@click.argument("code", default="")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def errors_command(code: str, is_json: bool) -> int:
    """Every error code with its exit code and meaning, or only CODE."""
    kinds = [getattr(errors, name) for name in errors.__all__]
    found = [kind for kind in kinds if kind is not NoriaError and code in ("", kind.code)]
    if not found:
        raise NotFound(f"there is no error code {code!r}", hint="noria admin errors lists them")
    told = [{"code": kind.code, "exit_code": kind.exit_code, "meaning": _meaning(kind)} for kind in found]
    if is_json:
        click.echo(json.dumps(told))
    else:
        click.echo(
            columns([[each["code"], str(each["exit_code"]), each["meaning"]] for each in told], ["code", "exit", ""])
        )
        click.echo(click.style("next: ", dim=True) + "docs/errors.md says what to do about each")
    return 0


def _meaning(kind: type[NoriaError]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]
