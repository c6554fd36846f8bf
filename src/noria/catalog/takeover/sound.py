"""Whether what a foreign store tells can be what it claims to be, before anything of it is taken.

A database may hold texts where numbers belong (SQLite keeps what it is given), a server may answer anything. Either
is the store's fault and is told as such; here nothing is mended, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from noria.core.errors import UsageError
from noria.core.lazy import lazy
from noria.core.printable import printable

__all__ = ["require_sound", "telling", "told"]

msgspec = lazy("msgspec")
SHOWN = 200
T = TypeVar("T")


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Around the reading of a store: what does not have the shape of such a thing is an error of the store's.

    Args:
        what: what is read, such as "the runs of experiment 3".
    Raises: UsageError.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        said = printable(f"{type(error).__name__}: {error}")[:SHOWN]
        raise UsageError(
            f"what the store tells of {what} is not what such a store tells: {said}",
            hint="is it whole, and of the kind that was named?",
        ) from error


def told(found: Iterable[T], what: str) -> Iterator[T]:
    """The same things; only the reading is watched, not what is done with each. Raises: UsageError."""
    rest = iter(found)
    while True:
        with telling(what):
            try:
                each = next(rest)
            except StopIteration:
                return
        yield each


def require_sound(doc: Any, what: str) -> None:
    """Each field of a document, and of those in it, holds what its type says. Raises: UsageError naming the field."""
    held = {each.name: getattr(doc, each.name) for each in fields(doc)}
    for value in held.values():
        for each in value if isinstance(value, tuple) else ():
            if is_dataclass(each):
                require_sound(each, what)
    try:
        msgspec.convert(held, type(doc))
    except msgspec.ValidationError as error:
        raise UsageError(f"{what} is not what such a store holds: {printable(str(error))[:SHOWN]}") from error
