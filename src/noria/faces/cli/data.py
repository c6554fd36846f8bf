"""`noria data check`: run a suite on a version, write the suite first when asked, set failing rows apart."""

from __future__ import annotations

import os
from typing import Any

import click

from noria.core.errors import UsageError
from noria.faces import verbs
from noria.faces.cli import show
from noria.faces.cli.build import run_verb

__all__ = ["check_command"]

EPILOG = """\b
Examples:
  noria data check customers --infer
  noria data check customers --infer --accept
  noria data check customers@3 --quarantine
  noria data check customers --pandera schemas:Customers
  noria data check customers@3 --json"""


@click.command("check", epilog=EPILOG)
@click.argument("dataset")
@click.option("--infer", "is_infer", is_flag=True, help="First learn rules from this version into checks/NAME.toml.")
@click.option("--accept", "is_accept", is_flag=True, help="With --infer: take changes of keys that nobody edited.")
@click.option("--quarantine", "is_quarantine", is_flag=True, help="Write failing rows and the rest as two data sets.")
@click.option("--pandera", "schema", default="", metavar="MODULE:SCHEMA", help="Check by this Pandera schema instead.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
@click.option("--env", "environment", default="", help="Ask the server of [env.NAME] instead.")
def check_command(
    dataset: str,
    *,
    is_infer: bool,
    is_accept: bool,
    is_quarantine: bool,
    schema: str,
    is_json: bool,
    environment: str,
) -> int:
    """Check a version of a data set against its rules, such as customers or customers@3.

    A name alone is the version that noria.lock/ pins, so that it follows the branch, else the newest.

    With --infer the rules are learned from that version. If the file is there, what would change is
    shown and nothing is written; --accept takes the changes, but never of a key that you edited.

    When a rule fails, the exit code is 1 and a page with every failure is written.
    """
    if is_accept and not is_infer:
        raise UsageError("--accept goes with --infer", hint=f"noria data check {dataset} --infer --accept")
    if schema and (is_infer or is_quarantine):
        raise UsageError("--pandera checks by a schema alone", hint=f"noria checks import pandera {schema} {dataset}")
    target = "noria.checks.schemarun:check_schema" if schema else "noria.checks.suite:run"
    if is_infer:
        given: dict[str, Any] = {"dataset": dataset, "accept": is_accept}
        suite = run_verb(verbs.load("noria.checks.infer:infer"), given, environment=environment)
        if not is_json:
            click.echo(show.render("suite", suite))
    asked = {"dataset": dataset, "schema": schema} if schema else {"dataset": dataset}
    report = run_verb(verbs.load(target), asked, environment=environment)
    if is_json:
        click.echo(verbs.encode(report).decode())
    else:
        click.echo(show.render("checks", report))
    if is_quarantine and not report["ok"]:
        apart = run_verb(
            verbs.load("noria.checks.quarantine:quarantine"), {"dataset": dataset}, environment=environment
        )
        click.echo(show.render("quarantined", apart), err=is_json)
    if not is_json:
        _after(report, environment, is_schema=bool(schema))
    return 0 if report["ok"] else 1


def _after(report: Any, environment: str, *, is_schema: bool) -> None:
    """The page of a failure, and what to do next."""
    ref = f"{report['dataset']}@{report['version']}"
    is_here = not environment and not os.environ.get("NORIA_SERVER")
    if (report["failed"] or report["warned"]) and is_here and not is_schema:
        page = run_verb(verbs.load("noria.checks.report:report"), {"dataset": ref})
        click.echo(f"  page   {page['to']}")
    name, version = report["dataset"], report["version"]
    look = f"noria data diff {name}@{version - 1} {ref}" if version > 1 else f"noria data show {ref}"
    after = "noria run" if report["ok"] else look
    click.echo(click.style("next: ", dim=True) + after)
