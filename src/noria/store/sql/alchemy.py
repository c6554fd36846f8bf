"""The same tables, expressions and statements as objects of SQLAlchemy. Importing this imports SQLAlchemy."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from typing import Any

import sqlalchemy
from sqlalchemy.dialects import postgresql, sqlite

from noria.store.sql.caselike import CaseLike
from noria.store.sql.parts import Bound, Part

__all__ = ["built", "built_with", "type_of"]

_ROOTS: dict[str, Callable[..., Any]] = {
    "case_like": CaseLike,
    "postgresql_insert": postgresql.insert,
    "sqlite_insert": sqlite.insert,
}
_ONE_TABLE = threading.Lock()
_OPERATORS = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "mod", "neg", "inv"})


def built(node: Part) -> Any:
    """What a node stands for, with its values; made once for each node."""
    if node._made is None:
        node._made = _Builder(None).of(node, 0)
    return node._made


def built_with(node: Part, values: list[Any]) -> Any:
    """What a node stands for, with other values in the places of its own."""
    return _Builder(values).of(node, 0)


def type_of(given: Any) -> Any:
    """SQLAlchemy's type for one of ours, which may be a class."""
    if isinstance(given, type):
        given = given()
    made = getattr(sqlalchemy, type(given).__name__)
    made = made() if given.length is None else made(given.length)
    for name, other in given.variants:
        made = made.with_variant(type_of(other), name)
    return made


class _Builder:
    """Builds one expression. A node that stands in it twice is one object there, too."""

    def __init__(self, values: list[Any] | None) -> None:
        self._values = values
        self._made: dict[int, Any] = {}

    def of(self, node: Part, place: int) -> Any:
        """The object for a node whose values begin at a place of all values."""
        if node._name in ("table", "column"):
            return _table(node) if node._name == "table" else _column(node)
        if id(node) not in self._made:
            self._made[id(node)] = self._new(node, place)
        return self._made[id(node)]

    def _new(self, node: Part, place: int) -> Any:
        before: Any = self.of(node._of, place) if node._of is not None else None
        if node._args is None:
            return getattr(before, node._name)
        if node._name == "[]":
            return before[node._args[0]]
        place += len(node._of._values) if node._of is not None else 0
        args = []
        for each in node._args:
            args.append(self._argument(each, place))
            place += _count(each)
        named = {}
        for word, each in node._words.items():
            named[word] = self._argument(each, place)
            place += _count(each)
        if before is not None:
            return getattr(before, node._name)(*args, **named)
        return _root(node._name)(*args, **named)

    def _argument(self, each: Any, place: int) -> Any:
        if isinstance(each, Part):
            return self.of(each, place)
        if isinstance(each, Bound):
            return each.value if self._values is None else self._values[place]
        if isinstance(each, dict):
            found = {}
            for name, part in each.items():
                found[self._argument(name, place)] = self._argument(part, place)
                place += _count(part)
            return found
        if isinstance(each, list | tuple):
            kept = []
            for part in each:
                kept.append(self._argument(part, place))
                place += _count(part)
            return kept if isinstance(each, list) else tuple(kept)
        return type_of(each) if hasattr(each, "type_key") else each


def _count(each: Any) -> int:
    """How many bound values are in an argument."""
    if isinstance(each, Part):
        return len(each._values)
    if isinstance(each, Bound):
        return 1
    if isinstance(each, dict):
        return sum(map(_count, each.values()))
    return sum(map(_count, each)) if isinstance(each, list | tuple) else 0


def _root(name: str) -> Callable[..., Any]:
    if name in _OPERATORS:
        return getattr(operator, name)  # type: ignore[no-any-return]  # a function of the module
    if name.startswith("func."):
        return getattr(sqlalchemy.func, name.removeprefix("func."))  # type: ignore[no-any-return]
    return _ROOTS.get(name) or getattr(sqlalchemy, name)


def _table(table: Any) -> sqlalchemy.Table:
    """SQLAlchemy's table, one in a process: of two that threads made, a statement would name both."""
    if table._made is None:
        with _ONE_TABLE:
            if table._made is None:
                table._made = _new_table(table)
    return table._made  # type: ignore[no-any-return]  # it was made above


def _new_table(table: Any) -> sqlalchemy.Table:
    columns = [
        sqlalchemy.Column(
            column.name,
            type_of(column.type),
            primary_key=column.primary_key,
            nullable=column.nullable,
            autoincrement=column.autoincrement,
            index=column.index,
        )
        for column in table.columns
    ]
    others = [
        sqlalchemy.UniqueConstraint(*other.columns, name=other.name)
        if other.is_unique
        else sqlalchemy.Index(other.name, *other.columns)
        for other in table.others
    ]
    return sqlalchemy.Table(table.name, sqlalchemy.MetaData(), *columns, *others)


def _column(column: Any) -> Any:
    assert column.table is not None, f"the column {column.name} belongs to no table"
    return _table(column.table).c[column.name]
