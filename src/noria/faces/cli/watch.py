"""`noria watch`: the state of a model, again and again, until it is interrupted or nothing goes on.

On a terminal it is drawn in place; in a pipe each new fact is one line, as text or as JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from noria.faces import verbs
from noria.faces.cli import show_project
from noria.faces.cli.build import run_verb
from noria.faces.cli.show import plain

__all__ = ["watch_command"]

EPILOG = """\b
Examples:
  noria watch churn
  noria watch churn --until-idle --json"""


@click.command("watch", epilog=EPILOG)
@click.argument("model", default="")
@click.option("--once", is_flag=True, help="Look once.")
@click.option("--until-idle", is_flag=True, help="Stop when no rollout and no job is under way.")
@click.option("--every", "every_s", type=click.FloatRange(0.1, 3600), default=1.0, help="Seconds between two looks.")
@click.option("--json", "is_json", is_flag=True, help="Print each look as one line of JSON.")
@click.option("--env", "environment", default="", help="Ask the server of [env.NAME] instead.")
def watch_command(model: str, once: bool, until_idle: bool, every_s: float, is_json: bool, environment: str) -> int:
    """What is going on with a model: shares, rollout, jobs and the newest facts."""
    found = verbs.load("noria.project.watch:watch")

    def look(after: int) -> Mapping[str, Any]:
        given = {"after": after, **({"model": model} if model else {})}
        answer: Mapping[str, Any] = run_verb(found, given, environment=environment)
        return answer

    if not once and not is_json and sys.stdout.isatty():
        return _drawn(look, every_s, until_idle)
    state = look(0)
    click.echo(_line(state, is_json) if is_json else show_project.watched(plain(state)))
    while not once and not (until_idle and not state["is_busy"]):
        time.sleep(every_s)
        before, state = state["head"], look(state["head"])
        if state["head"] > before:
            click.echo(_line(state, is_json) if is_json else show_project.events(plain(state["events"])))
    return 0


def _line(state: Mapping[str, Any], is_json: bool) -> str:
    return verbs.encode(state).decode()


def _drawn(look: Any, every_s: float, until_idle: bool) -> int:
    from rich.live import Live
    from rich.text import Text

    state = look(0)
    with Live(Text.from_ansi(show_project.watched(plain(state))), auto_refresh=False) as live:
        while not (until_idle and not state["is_busy"]):
            time.sleep(every_s)
            state = look(0)
            live.update(Text.from_ansi(show_project.watched(plain(state))), refresh=True)
    return 0
