"""`noria promote models:/…`: the line is taken over where it names a model as MLflow's clients do."""

from __future__ import annotations

import click

from noria.faces.cli.build import build
from noria.faces.cli.commands import COMMANDS
from noria.registry.versions import CLIENT_SCHEME

__all__ = ["is_script", "promote_command"]


def is_script(words: list[str]) -> bool:
    """Whether the words after `promote` name a model of another tool's client."""
    return any(word.startswith(CLIENT_SCHEME) for word in words)


def promote_command() -> click.Command:
    """The command of the verb that judges such a model, by the name of the shorter one."""
    made = build("loop promote-model", COMMANDS["loop promote-model"])
    made.name = "promote"
    return made
