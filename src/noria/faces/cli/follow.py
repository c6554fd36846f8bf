"""Answers that come in parts: a verb is asked again with the cursor of its answer, and what is new is printed.

A part is never shown as if it were all: what is there already is read to its end, also without `--follow`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from noria.faces import verbs
from noria.faces.cli import show_pipeline
from noria.faces.cli.command import Command

__all__ = ["read_on"]

FOLLOW_S = 0.3

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def read_on(ask: Ask, arguments: Mapping[str, Any], command: Command, *, is_following: bool, is_json: bool) -> int:
    """Print all that is there by now, or until nothing more can come; as JSON one answer a line."""
    screen = show_pipeline.Screen()
    while True:
        result = ask(arguments)
        if is_json:
            click.echo(verbs.encode(result).decode())
        else:
            click.echo(screen.text_of(result), nl=False)
        sys.stdout.flush()
        if result["is_over"] or not (is_following or (result["has_more"] and not is_json)):
            break
        arguments = {**arguments, "cursor": result["cursor"], "run": result["run"], "step": result["step"]}
        if not result["has_more"]:
            time.sleep(FOLLOW_S)
    if not is_json:
        click.echo(screen.end(f"  {command.empty}\n"), nl=False)
        if not result["is_over"]:
            click.echo(f"{result['run']} goes on: noria pipeline logs {result['run']} --follow", err=True)
    return 0
