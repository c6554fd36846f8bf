"""Words for people that more than one floor needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import difflib
else:
    difflib = lazy("difflib")

__all__ = ["counted", "nearest", "no_column", "percent"]


def counted(count: int, one: str, many: str = "") -> str:
    """A count with its noun: `counted(1, "row")` is "1 row", `counted(1200, "row")` "1,200 rows".

    Args:
        many: the plural, where it is not `one` with an s: `counted(n, "value is", "values are")`.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """The name most like a word, whatever its case; "" if none is."""
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(name.lower(), name)
    near = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=cutoff)
    return folded[near[0]] if near else ""


def no_column(name: str, known: Iterable[str]) -> str:
    """That a column is not there, with the nearest name that is: `no column 'fee', did you mean 'fees'?`."""
    near = nearest(name, known)
    return f"no column {name!r}" + (f", did you mean {near!r}?" if near else "")


def percent(share: float) -> str:
    """A share as people read it."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{share * 100:.1f} %" if share < 0.9995 or share >= 1 else ">99.9 %"
