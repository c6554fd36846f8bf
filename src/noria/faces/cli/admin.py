"""`noria admin`: upkeep that is no verb of a capability."""

from __future__ import annotations

import json
from pathlib import Path

import click

from noria.bootstrap import open_workspace
from noria.core import errors
from noria.core.errors import NoriaError, NotFound, UsageError
from noria.faces import verbs
from noria.faces.cli.text import columns, size
from noria.project.backups.bring import Restored, restore
from noria.project.backups.keep import Backup, backup
from noria.store.replay import difference, rebuild
from noria.store.sealed import altered_rows

__all__ = ["backup_command", "errors_command", "rebuild_command", "restore_command"]

BACKUP_EPILOG = """\b
Examples:
  noria admin backup /mnt/backups/churn
  noria admin backup /mnt/backups/churn --check
  noria admin backup /mnt/backups/churn --dry-run --json"""
RESTORE_EPILOG = """\b
Examples:
  noria admin restore /mnt/backups/churn ~/churn
  noria admin restore /mnt/backups/churn/2026-11-22T04-00-00Z ~/churn --from kept/checkpoint.txt
  noria admin restore /mnt/backups/churn /tmp/tried --dry-run"""

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


@click.command("backup", epilog=BACKUP_EPILOG)
@click.argument("to", metavar="FOLDER")
@click.option("--without-keys", is_flag=True, help="Leave out the keys that sign and that seal secrets.")
@click.option("--check", is_flag=True, help="Read what is there already anew, and put right what is altered.")
@click.option("--dry-run", is_flag=True, help="Only say what would be copied.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def backup_command(to: str, without_keys: bool, check: bool, dry_run: bool, is_json: bool) -> int:
    """Back the project up into FOLDER while it works: ledger, objects, logs, keys.

    Objects that FOLDER has already are not copied again. Whoever can read the backup can read the project's data,
    and with its keys sign as the project does: keep it as you keep those.
    """
    done = backup(open_workspace(), to, keys=not without_keys, check=check, dry_run=dry_run)
    click.echo(verbs.encode(done).decode() if is_json else _kept(done, to))
    return 0


def _kept(done: Backup, to: str) -> str:
    lines = [
        f"  {'would be' if done.is_dry_run else 'made'}   {done.folder}",
        f"  ledger {done.facts:,} facts, held against their signed checkpoints",
        f"  objects {done.objects:,} ({size(done.objects_bytes)}), of which copied "
        f"{done.copied_objects:,} ({size(done.copied_bytes)})",
        f"  files  {done.files:,}, keys {'with them (mode 0600)' if done.has_keys else 'left out'}",
    ]
    if done.checked:
        lines.append(f"  read   {done.checked:,} objects that were there, {done.mended:,} put right")
    next_step = f"noria admin backup {to}" if done.is_dry_run else f"noria admin restore {to} NEW_FOLDER --dry-run"
    return "\n".join([*lines, click.style("next: ", dim=True) + next_step])


@click.command("restore", epilog=RESTORE_EPILOG)
@click.argument("source", metavar="FROM")
@click.argument("folder", default=".")
@click.option("--from", "checkpoint", default="", metavar="FILE", help="A checkpoint kept elsewhere, compared too.")
@click.option("--dry-run", is_flag=True, help="Bring everything together, verify it, and take it away again.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def restore_command(source: str, folder: str, checkpoint: str, dry_run: bool, is_json: bool) -> int:
    """Make a project of a backup, verified whole before anything of it is visible.

    FROM is a backup, or the folder of backups, of which the newest is taken. FOLDER is a checkout of the project that
    has no .noria yet, or a new folder, which gets the settings that were in the backup.
    """
    try:
        text = Path(checkpoint).read_text(encoding="utf-8") if checkpoint else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the checkpoint {checkpoint} cannot be read: {error}") from error
    done = restore(source, folder, open_workspace, checkpoint=text, dry_run=dry_run)
    click.echo(verbs.encode(done).decode() if is_json else _restored(done))
    return 0


def _restored(done: Restored) -> str:
    lines = [
        f"  {'verified' if done.is_dry_run else 'restored'} {done.backup}  (of {done.at[:19]}Z)",
        f"  ledger {done.facts:,} facts, compared with {', '.join(done.compared)}",
        f"  objects {done.objects:,}, log lines {done.lines:,}: all are what they were",
    ]
    if not done.has_keys:
        lines.append("  keys   were left out of the backup: a new key signs from here on")
    next_step = (
        f"noria admin restore {done.backup} {done.folder}" if done.is_dry_run else f"cd {done.folder} && noria up"
    )
    return "\n".join([*lines, click.style("next: ", dim=True) + next_step])


def _meaning(kind: type[NoriaError]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]
