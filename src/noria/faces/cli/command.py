"""What a row of the table of commands says. The rows are in `commands.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from noria.core.frozen import frozen

__all__ = ["Command"]


@frozen(kw_only=True)
class Command:
    """One command.

    `target` names a verb, or with `is_own` a click command of this package. `positional` are
    arguments with a default that may be given without their name; `rename` maps a parameter to the
    option's name; `next` is printed at the end, with the result's fields in braces, or the second of
    `next_without` where the result's field that the first names is empty; `fail_unless` names a
    field of the result, or of all in a list, that must be true, else the exit code is 1. `fixed` are arguments that the
    command itself gives; `empty` is said when the result holds nothing. `quick` names a function that
    answers the same from the project's files, without the ledger:
    `f(project, open_objects, **arguments)`; it is asked when no server is. `options` are required
    arguments that are given by name all the same. `alone` gives the value of an option that is named
    without one. `is_followed` adds `--follow`: the verb is asked again with the `cursor` of its answer
    until that says `is_over`. Lists leave out what is `is_hidden`: git calls it.
    `ahead` names a function of the arguments that is called before the target's module is imported.
    `for_files` names the click command, or what makes one, that takes the line over when its `is_script` says so.
    """

    target: str
    summary: str
    examples: tuple[str, ...]
    is_own: bool = False
    positional: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, str | bool] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    show: str = "anything"
    empty: str = ""
    next: str = ""
    next_without: tuple[str, str] = ("", "")
    fail_unless: str = ""
    is_slow: bool = False
    is_hidden: bool = False
    quick: str = ""
    for_files: str = ""
    ahead: str = ""
    alone: Mapping[str, str] = field(default_factory=dict)
    is_followed: bool = False
