"""The table of commands: words -> "module:function", and what `--help` says of each.

Static on purpose: `noria --help` imports click and this file only, and a typed command imports one
module. A test holds the table against the verbs that are collected from the code: every verb has
exactly one command, and every command's target exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["COMMANDS", "GROUPS", "Command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    `target` names a verb, or with `is_own` a click command of this package. `positional` are
    arguments with a default that may be given without their name; `rename` maps a parameter to the
    option's name; `next` is printed at the end, with the result's fields in braces; `fail_unless`
    names a field of the result that must be true, else the exit code is 1. `fixed` are arguments
    that the command itself gives.
    """

    target: str
    summary: str
    examples: tuple[str, ...]
    is_own: bool = False
    positional: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str | bool] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    show: str = "anything"
    next: str = ""
    fail_unless: str = ""
    is_slow: bool = False


GROUPS: Mapping[str, tuple[str, ...]] = {
    "start": ("init", "up", "status"),
    "build": ("data", "run", "runs", "why", "test", "diff"),
    "ship": ("approve", "deploy", "promote", "rollback"),
    "live": ("watch", "explain", "report"),
    "trust": ("audit",),
    "run it": ("admin",),
}

COMMANDS: Mapping[str, Command] = {}
