"""What an expression is made of: the data of expressions.py, which alchemy.py reads. Neither knows the other's work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Bound", "Part"]


class Bound:
    """A value, or the values of a list, that a statement is run with."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Part:
    """A part of a statement: what was called (`_name`), on what (`_of`), with what.

    `_key` is None where a part is an object of SQLAlchemy; `_values` are the bound ones, in the key's order.
    """

    __slots__ = ("_args", "_key", "_made", "_name", "_of", "_values", "_words")

    def __init__(
        self,
        name: str,
        of: Part | None,
        args: tuple[Any, ...] | None,
        words: Mapping[str, Any],
        key: str | None,
        values: tuple[Any, ...],
    ) -> None:
        self._name = name
        self._of = of
        self._args = args
        self._words = words
        self._key = key
        self._values = values
        self._made: Any = None
