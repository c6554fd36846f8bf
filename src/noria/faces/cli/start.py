"""`noria init`: a new project from a template."""

from __future__ import annotations

from pathlib import Path

import click

from noria.core.errors import UsageError
from noria.faces import verbs
from noria.project.init import Created, init, look

__all__ = ["init_command"]

EPILOG = """\b
Examples:
  noria init churn --csv customers.csv --label churned --time signed_up_at
  noria init noria-demo --template flights"""


@click.command("init", epilog=EPILOG)
@click.argument("name")
@click.option("--template", default="tabular", help="tabular (any table with a label and a time) or flights.")
@click.option(
    "--csv", "table", default="", metavar="PATH", help="Your table: CSV, Parquet or JSON lines. It stays put."
)
@click.option("--label", default="", metavar="COLUMN", help="What to predict.")
@click.option("--time", default="", metavar="COLUMN", help="When each row happened.")
@click.option("--key", default="", metavar="COLUMN", help="What names a row, if anything does.")
@click.option("--positive", default="", metavar="VALUE", help="The label's value to predict, if it has more than two.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def init_command(
    name: str, template: str, table: str, label: str, time: str, key: str, positive: str, is_json: bool
) -> int:
    """Make a project in a new folder NAME, under git if git is there."""
    folder = Path(name).expanduser()
    if name and folder.name in ("", ".."):
        folder = folder.resolve()  # `noria init .`: the folder that one is in gives the name
    columns = {"--label": label, "--time": time, "--key": key, "--positive": positive}
    given = [flag for flag, value in columns.items() if value]
    if table and template != "tabular":
        raise UsageError(f"the template {template!r} brings its own data: --csv does not go with it")
    if given and not table:
        raise UsageError(f"{given[0]} names a column of a table", hint="--csv PATH says which table")
    chosen = look(Path(table).expanduser(), label=label, time=time, key=key, positive=positive) if table else None
    made = init(folder, template, chosen)
    click.echo(verbs.encode(made).decode() if is_json else _text(made))
    return 0


def _text(made: Created) -> str:
    files = "  ".join(made.files)
    lines = [f"  made   {click.style(made.folder, bold=True)}  ({made.template})", f"         {files}"]
    if made.task:
        lines.append(f"  task   {made.task}")
    if made.commit:
        lines.append(f"  git    first commit {made.commit}")
    lines += [f"  note   {note}" for note in made.notes]
    return "\n".join([*lines, click.style("next: ", dim=True) + made.next])
