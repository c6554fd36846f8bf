"""`noria data check`: run a suite on a version, and write the suite first when asked."""

from __future__ import annotations

import click

from noria.faces import verbs
from noria.faces.cli import show
from noria.faces.cli.build import run_verb

__all__ = ["check_command"]

EPILOG = """\b
Examples:
  noria data check customers --infer
  noria data check customers@3 --json"""


@click.command("check", epilog=EPILOG)
@click.argument("dataset")
@click.option("--infer", "is_infer", is_flag=True, help="First write checks/NAME.toml from this version.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
@click.option("--env", "environment", default="", help="Ask the server of [env.NAME] instead.")
def check_command(dataset: str, is_infer: bool, is_json: bool, environment: str) -> int:
    """Check a version of a data set against its rules, such as customers or customers@3.

    With --infer the rules are learned from that version first; a file that is there is never changed.
    """
    if is_infer:
        suite = run_verb(verbs.load("noria.checks.infer:infer"), {"dataset": dataset}, environment=environment)
        if not is_json:
            click.echo(show.render("suite", suite))
    report = run_verb(verbs.load("noria.checks.suite:run"), {"dataset": dataset}, environment=environment)
    if is_json:
        click.echo(verbs.encode(report).decode())
    else:
        click.echo(show.render("checks", report))
        after = "noria run" if report["ok"] else f"noria data show {report['dataset']}@{report['version']}"
        click.echo(click.style("next: ", dim=True) + after)
    return 0 if report["ok"] else 1
