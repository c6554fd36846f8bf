"""Plans made by SQLAlchemy, and its connections lent to what needs one. Importing this imports SQLAlchemy.

A statement is built with values that occur nowhere else, so that each is found again among what is bound. One whose
text holds such a value, or that binds what was made of one, has no plan for other values, and is compiled each time.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from noria.store.sql import alchemy
from noria.store.sql.expressions import Node
from noria.store.sql.plan import LIST, READINGS, WRITINGS, Plan, Source
from noria.store.sql.rows import parsed
from noria.store.sql.schema import Table

__all__ = ["connecting", "creating", "dialect", "general_plan", "lent", "plan_of"]

_TOKEN = re.compile(r"__\[POSTCOMPILE_(\S+?)(?:~~.+?~~)?\]")


def general_plan(statement: Node, one: Mapping[str, Any]) -> tuple[Plan, list[Any] | None]:
    """A plan for a statement with any values, and how it stands in the file.

    None in place of that: the plan is for these values alone, or a type of a column has no name in the file.
    """
    marks = [_mark(place, value) for place, value in enumerate(statement._values)]
    made = _Made(alchemy.built_with(statement, marks), one)
    places = {_hashed(mark): place for place, mark in enumerate(marks)}
    sources, is_general = [], True
    for name in made.names:
        source = made.source(name)
        if source[0] == "is" and not _is_fixed(source[1]):
            place = places.get(_hashed(source[1]))
            is_general = is_general and place is not None
            source = ("value", place, source[2], source[3])
        sources.append(source)
    if not is_general or any(str(mark) in made.text for mark in marks if not isinstance(mark, list)):
        return plan_of(statement, one), None
    plan = Plan(made.text, sources, made.fields, made.readings(), made.writings)
    if made.is_strange:
        return plan, None
    fields = None if made.fields is None else list(made.fields)
    return plan, [made.text, [list(each) for each in sources], fields, made.kinds()]


def plan_of(statement: Any, one: Mapping[str, Any]) -> Plan:
    """A plan for a statement with the values that it has."""
    built = alchemy.built(statement) if isinstance(statement, Node) else statement
    made = _Made(built, one)
    return Plan(made.text, [made.source(name) for name in made.names], made.fields, made.readings(), made.writings)


def creating(table: Table) -> list[str]:
    """What SQLite is told to create a table: what SQLAlchemy would tell it."""
    found: list[str] = []
    teller = sqlalchemy.create_mock_engine(
        "sqlite://", lambda said, *_: found.append(str(said.compile(dialect=dialect())))
    )
    alchemy.built(table).create(teller, checkfirst=False)
    return [found[0], *sorted(found[1:])]  # a table keeps its indexes in no order


def connecting(url: str) -> dict[str, Any]:
    """The arguments of `sqlite3.connect` that a URL says."""
    words, named = dialect().create_connect_args(sqlalchemy.make_url(url))
    return {**named, "database": words[0]}


@contextlib.contextmanager
def lent(raw: sqlite3.Connection) -> Iterator[Connection]:
    """A connection of SQLAlchemy over an open one, in the transaction that is under way and goes on afterwards."""
    pool = StaticPool(lambda: _Lent(raw), dialect=dialect(), reset_on_return=None)
    engine = Engine(pool, dialect(), sqlalchemy.make_url("sqlite://"))
    try:
        with engine.connect() as connection:
            yield connection
            connection.commit()
    except DBAPIError as error:
        raise error.orig or error from error


@functools.cache
def dialect() -> Dialect:
    """SQLAlchemy's dialect, which has looked once at what this SQLite can do."""
    first = sqlalchemy.create_engine("sqlite://", json_deserializer=parsed)
    first.connect().close()
    first.dispose()
    return first.dialect


class _Lent:
    """A connection whose transaction is not the borrower's to end."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def commit(self) -> None:
        """The lender commits."""

    def rollback(self) -> None:
        """The lender rolls back: what made the borrower do so is raised."""

    def close(self) -> None:
        """The lender closes."""


class _Made:
    """A compiled statement: its text, the names of what is bound, in order, and the columns of its rows."""

    def __init__(self, statement: Any, one: Mapping[str, Any]) -> None:
        self._compiled = statement.compile(dialect=dialect(), column_keys=sorted(one) or None)
        self._one = one
        self.is_strange = False
        empty = {name for name in self._compiled.binds if self._is_list(name) and not self._list(name)}
        self.names = [name for name in self._compiled.positiontup or () if name not in empty]
        self.text = _TOKEN.sub(lambda found: self._marks(found.group(1), empty), self._compiled.string)
        columns = getattr(self._compiled, "_result_columns", None) or []
        self.fields = tuple(column.keyname for column in columns) if columns else None
        self._readers = [self._reader(column.type) for column in columns]
        self.writings: dict[str, Callable[[Any], Any]] = dict(WRITINGS)

    def source(self, name: str) -> Source:
        """Where a bound value comes from."""
        bind = self._compiled.binds[name]
        origin, which = ("name", bind.key) if bind.key in self._one else ("is", bind.effective_value)
        assert origin == "name" or not bind.required, f"a value is required for {bind.key}"
        return origin, which, self._writing(name), self._is_list(name)

    def readings(self) -> list[tuple[int, Callable[[Any], Any]]]:
        """What reads the columns that SQLite gives in another form."""
        return [(place, reader) for place, (_, reader) in enumerate(self._readers) if reader is not None]

    def kinds(self) -> list[list[Any]]:
        """The same by the names that stand in the file."""
        return [[place, kind] for place, (kind, reader) in enumerate(self._readers) if reader is not None]

    def _is_list(self, name: str) -> bool:
        return bool(self._compiled.binds[name].expanding)

    def _list(self, name: str) -> Any:
        bind = self._compiled.binds[name]
        return self._one.get(bind.key, bind.effective_value)

    def _marks(self, name: str, empty: set[str]) -> str:
        if name not in empty:
            return LIST
        bind = self._compiled.binds[name]
        return str(self._compiled.visit_empty_set_op_expr([bind.type], bind.expand_op))

    def _writing(self, name: str) -> str:
        """The name of what writes a value; empty if SQLite takes it as it is."""
        kind = self._compiled.binds[name].type
        writer = kind.dialect_impl(dialect()).bind_processor(dialect())
        if writer is None or isinstance(kind, sqlalchemy.LargeBinary):
            return ""
        for known, found in (("truth", sqlalchemy.Boolean), ("json", sqlalchemy.JSON), ("number", sqlalchemy.Float)):
            if isinstance(kind, found):
                return known
        self.is_strange = True
        self.writings[f"of {name}"] = writer
        return f"of {name}"

    def _reader(self, kind: Any) -> tuple[str, Callable[[Any], Any] | None]:
        reader = kind.dialect_impl(dialect()).result_processor(dialect(), None)
        if reader is None:
            return "", None
        for known, found in (("truth", sqlalchemy.Boolean), ("json", sqlalchemy.JSON)):
            if isinstance(kind, found):
                return known, READINGS[known]
        self.is_strange = True
        return "", reader


def _mark(place: int, value: Any) -> Any:
    """A value of the same type that stands nowhere else; of a list that is not empty, a list of one."""
    if isinstance(value, list):
        return [_mark(place, value[0])] if value else []
    if isinstance(value, str):
        return f"\x02{place}\x02"
    if isinstance(value, bytes):
        return b"\x02%d\x02" % place
    return float(-(2**70) - place * 2**30) if isinstance(value, float) else 2**60 + place


def _hashed(mark: Any) -> Any:
    return ("list", *mark) if isinstance(mark, list) else (type(mark).__name__, mark)


def _is_fixed(value: Any) -> bool:
    """Whether a bound value is one that shapes the statement, and so stands in its key."""
    if isinstance(value, list):
        return all(map(_is_fixed, value))
    if isinstance(value, str):
        return "\x02" not in value
    if isinstance(value, bytes):
        return b"\x02" not in value
    return not (isinstance(value, float) and value <= -(2**70)) and not (isinstance(value, int) and value >= 2**60)
