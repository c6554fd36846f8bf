"""What is told of work that a person broke off (Ctrl-C): what is kept of it, and how to go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["going_on", "how_to_go_on"]


@contextlib.contextmanager
def going_on(how: str | Callable[[], str]) -> Iterator[None]:
    """Let an interrupt of the block tell what is kept and what to type next, unless it can tell that already."""
    try:
        yield
    except KeyboardInterrupt as error:
        if not how_to_go_on(error):
            error.add_note(how if isinstance(how, str) else how())
        raise


def how_to_go_on(error: BaseException) -> str:
    """What an interrupt tells, or the one that it broke into: a second Ctrl-C comes while the first is tidied up."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, KeyboardInterrupt) and getattr(found, "__notes__", []):
            return str(found.__notes__[0])
        found = found.__context__
    return ""
