"""How long work says how far it is, without knowing who looks.

`with task("adding", total=size, unit="B") as advance:` and then `advance(n)` from any thread. A face
that wants to show it wraps the call of the verb in `shown(listener)`; without one it costs nothing.
The listener is bound to the context of the call, so two requests of one server never see each other.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Protocol

__all__ = ["Advance", "Listener", "shown", "task"]

Advance = Callable[[int], None]
"""Told how much was done since the last call, in the unit of the task."""


class Listener(Protocol):
    """Shows tasks. Called from many threads."""

    def begin(self, words: str, total: int | None, unit: str) -> Advance:
        """A task begins; `total` is None if nobody knows it, `unit` is "B", a plural noun, or "" for a stage."""
        ...

    def end(self, advance: Advance) -> None:
        """The task of that `advance` is over, done or failed."""
        ...


_LISTENER: contextvars.ContextVar[Listener | None] = contextvars.ContextVar("noria_progress", default=None)


@contextlib.contextmanager
def shown(listener: Listener | None) -> Iterator[None]:
    """Let a listener show the tasks of the block; None hides them."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextlib.contextmanager
def task(words: str, *, total: int | None = None, unit: str = "B") -> Iterator[Advance]:
    """A piece of long work.

    Args:
        words: what is being done, such as "adding flights".
        total: how much there is to do; None if it is not known before.
        unit: "B" for bytes, else a plural noun such as "files"; "" for a stage, of which there is no amount.
    """
    listener = _LISTENER.get()
    if listener is None:
        yield _ignore
        return
    advance = listener.begin(words, total, unit)
    try:
        yield advance
    finally:
        listener.end(advance)


def _ignore(_done: int) -> None:
    """Nobody looks."""
