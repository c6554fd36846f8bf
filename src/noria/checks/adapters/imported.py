"""What an import made of each rule of another tool: a rule of Noria, or a refusal with its reason."""

from __future__ import annotations

from noria.checks.suites.rules import Rule
from noria.core.frozen import frozen

__all__ = ["Imported", "Refused"]


class Refused(ValueError):
    """A rule that has no equal here; the text says why."""


@frozen(kw_only=True)
class Imported:
    """One rule of the other tool. `rules` are what it became; empty if `refused` says why not."""

    source: str
    column: str
    rules: tuple[Rule, ...] = ()
    refused: str = ""
