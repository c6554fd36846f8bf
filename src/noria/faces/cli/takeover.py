"""`noria import dvc`: take over a DVC repository in place, which need not be a project yet."""

from __future__ import annotations

from pathlib import Path

import click

from noria.faces import verbs
from noria.faces.cli import show

__all__ = ["import_dvc_command"]

EPILOG = """\b
Examples:
  noria import dvc
  noria import dvc ../old-project --history"""


@click.command("dvc", epilog=EPILOG)
@click.argument("path", default=".", type=click.Path(path_type=Path))
@click.option("--history", is_flag=True, help="Every version that Git's history of this branch names, oldest first.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def import_dvc_command(path: Path, history: bool, is_json: bool) -> int:
    """Take over the DVC repository at PATH in place: each output becomes a data set.

    Where there is no noria.toml, one is written with the outputs and remotes. Nothing of DVC is
    changed. Doing it again adds nothing. Exit code 1 if something was left out or differs.
    """
    from noria.bootstrap import open_workspace
    from noria.data.takeover.import_dvc import import_dvc, prepare
    from noria.faces.cli.build import waiting

    written = prepare(path)
    workspace = open_workspace(path)
    with waiting("noria import dvc", is_json):
        done = verbs.builtins(import_dvc(workspace, str(path.absolute()), history=history))
    if is_json:
        click.echo(verbs.encode(done).decode())
    else:
        for file in written:
            click.echo(f"  made   {file}")
        click.echo(show.render("taken_over", done))
        click.echo(click.style("next: ", dim=True) + ("noria data status" if done["ok"] else "noria data list"))
    return 0 if done["ok"] else 1
