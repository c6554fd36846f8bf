"""`@verb`: marks a public function as something people and machines may ask for.

The mark wraps nothing. `faces/verbs.py` collects marked functions once for the command line,
HTTP, the client and the docs; taking the mark away removes only those routes. The first
parameter is the workspace, the others are plain values (text, numbers, booleans, lists and
mappings of them), so that one definition serves every face.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from noria.core.frozen import frozen

__all__ = ["Verb", "verb", "verb_of"]

F = TypeVar("F", bound=Callable[..., Any])
Where = Literal["anywhere", "project"]


@frozen
class Verb:
    """The declaration of one verb.

    `permission` is `capability.action`; `is_change` is False for verbs that only read; `where` is
    "project" for verbs that need the project's files (they run on the server's own project when
    they arrive over HTTP).
    """

    capability: str
    name: str
    permission: str
    is_change: bool
    where: Where


def verb(*, permission: str, name: str = "", changes: bool = True, where: Where = "anywhere") -> Callable[[F], F]:
    """Mark a function as a verb; its capability is the package it lives in."""

    def mark(function: F) -> F:
        capability = function.__module__.split(".")[1]
        public = name or function.__name__.replace("_", "-")
        function.__noria_verb__ = Verb(capability, public, permission, changes, where)  # type: ignore[attr-defined]  # the mark
        return function

    return mark


def verb_of(function: object) -> Verb | None:
    """The declaration of a function, or None if it is not a verb."""
    found = getattr(function, "__noria_verb__", None)
    return found if isinstance(found, Verb) else None
