"""Rows of a result: tuples whose values have names, and are read as those of SQLAlchemy are."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from sqlite3 import Cursor
from typing import Any

from noria.core.errors import Corrupt

__all__ = ["Result", "Row", "parsed", "row_class"]

_OWN = frozenset({"count", "index"})
"""What a tuple has itself stays its own."""
Reading = Callable[[Any], Any]


class Row(tuple[Any, ...]):
    """One row: by place, by attribute, to be unpacked, or as a mapping."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    @property
    def _mapping(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))


@functools.lru_cache(maxsize=2_000)
def row_class(fields: tuple[str, ...]) -> type[Row]:
    """The class of rows with these names."""
    named: dict[str, Any] = {"__slots__": (), "_fields": fields}
    for place, name in reversed([*enumerate(fields)]):
        if name not in _OWN:
            named[name] = property(itemgetter(place))
    return type("Row", (Row,), named)


class Result:
    """What a statement gave. Rows are fetched when they are asked for; each is given once."""

    __slots__ = ("_cursor", "_made", "_readings")

    def __init__(
        self, cursor: Cursor, made: type[Row] | None = None, readings: Sequence[tuple[int, Reading]] = ()
    ) -> None:
        """Args: made: the class of its rows; None takes the names that SQLite tells."""
        self._cursor = cursor
        self._made = made or row_class(tuple([each[0] for each in cursor.description or ()]))
        self._readings = readings

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""
        return self._cursor.rowcount

    def __iter__(self) -> Iterator[Any]:
        return map(self._row if self._readings else self._made, self._cursor)

    def all(self) -> list[Any]:
        """Every row that is left."""
        rows = self._cursor.fetchall()
        return [self._row(row) for row in rows] if self._readings else [*map(self._made, rows)]

    fetchall = all

    def first(self) -> Any:
        """The next row, or None; the others are let go."""
        row = self._cursor.fetchone()
        self._cursor.close()
        return None if row is None else self._row(row)

    def scalar(self) -> Any:
        """The first value of the next row, or None; the others are let go."""
        row = self.first()
        return None if row is None else row[0]

    def scalars(self) -> Scalars:
        """The first values of the rows."""
        return Scalars([row[0] for row in self.all()])

    def mappings(self) -> list[dict[str, Any]]:
        """The rows as mappings."""
        return [row._mapping for row in self.all()]

    def _row(self, row: tuple[Any, ...]) -> Row:
        if not self._readings:
            return self._made(row)
        values = list(row)
        for place, reading in self._readings:
            values[place] = reading(values[place])
        return self._made(values)


class Scalars(list[Any]):
    """Values of one column."""

    def all(self) -> list[Any]:
        """All of them."""
        return list(self)


def parsed(text: str) -> Any:
    """The value of a column that holds JSON. Raises: Corrupt."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise Corrupt(
            f"a record of the ledger is no JSON: {text[:40]!r}…",
            hint="noria audit verify names it, noria admin rebuild makes the records anew from the facts",
        ) from error
