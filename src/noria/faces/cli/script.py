"""`noria run train.py`: a script as it is. What it prints comes through as it is printed; the record comes after."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from noria.bootstrap import open_workspace
from noria.config import CONFIG_NAME, find_project
from noria.core.errors import NotAProject
from noria.faces import verbs
from noria.faces.cli import show
from noria.faces.cli.build import run_verb

__all__ = ["is_script", "script_command"]

EPILOG = """\b
Examples:
  noria run train.py
  noria run train.py --model churn -- --epochs 20"""
ENDINGS = (".py", ".ipynb")


def is_script(words: list[str]) -> bool:
    """Whether the words after `run` name a script or notebook, not a pipeline."""
    own = words[: words.index("--")] if "--" in words else words
    before = ["", *own]
    return any(
        word.endswith(ENDINGS) and not word.startswith("-") and before[place] not in ("-p", "--param", "--cause")
        for place, word in enumerate(own)
    )


class _Script(click.Command):
    """Takes Noria's own options; one that it does not know is the script's, and goes behind `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does. Raises: UsageError with the line to type instead."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            script = next(word for word in given if word.endswith(ENDINGS))
            at = next(place for place, word in enumerate(given) if word.startswith(error.option_name))
            rest = shlex.join(given[at:]) if at > given.index(script) else f"{error.option_name} …"
            told = f"{error.option_name} is no option of noria run; those of {script} stand behind --"
            raise click.UsageError(f"{told}\nnext:  noria run {script} -- {rest}", ctx) from error


@click.command("run", cls=_Script, epilog=EPILOG)
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--model", default="", help="What the model is called; else as the file or variable that holds it.")
@click.option(
    "--json", "is_json", is_flag=True, help="Print the result as one line of JSON; the script's go to stderr."
)
@click.option("--env", "environment", default="", help="Ask the server of [env.NAME] instead.")
def script_command(script: str, arguments: tuple[str, ...], model: str, *, is_json: bool, environment: str) -> int:
    """Run a script or notebook as it is, and record what it read, wrote, fitted and measured.

    SCRIPT runs as `python SCRIPT ARGUMENTS`; its own arguments come after --. Models that it writes, or
    still holds when it ends, become versions: noria deploy NAME serves one. The exit code is 4 if the
    script fails, and 1 if a gate of noria.toml refuses its model.
    """
    if environment or os.environ.get("NORIA_SERVER"):
        given: dict[str, Any] = {"script": script, "arguments": list(arguments), "model": model}
        report = run_verb(verbs.load("noria.loop.scripts:run_script"), given, environment=environment)
    else:
        report = _here(script, arguments, model, is_json)
    if is_json:
        click.echo(verbs.encode(report).decode())
    else:
        click.echo(show.render("script", report))
        click.echo(click.style("next: ", dim=True) + report["next"])
    return 0 if report["ok"] else 1


def _here(script: str, arguments: tuple[str, ...], model: str, is_json: bool) -> Any:
    from noria.loop.scripts import perform_script

    _project()
    ws = open_workspace()
    sys.stdout.flush()
    out, err = sys.stdout.buffer, sys.stderr.buffer
    return verbs.builtins(perform_script(ws, script, arguments, model=model, out=err if is_json else out, err=err))


def _project() -> None:
    """A script needs no project: where there is none, the repository or the folder becomes one."""
    try:
        find_project(Path.cwd())
    except NotAProject:
        here = Path.cwd().resolve()
        marked = [folder for folder in (here, *here.parents) if (folder / ".git").exists() and folder != Path.home()]
        folder = marked[0] if marked else here
        name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in folder.name).strip("-")
        content = f'[project]\nname = "{name or "project"}"\n'
        (folder / CONFIG_NAME).write_text(content, encoding="utf-8")
        click.echo(f"  made   {folder / CONFIG_NAME}  (records are in .noria/ beside it)", err=True)
