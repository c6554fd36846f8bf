"""Connections to SQLite that run statements by plans; some are kept, and what is over that is closed again."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.store.sql.expressions import Node
from noria.store.sql.plan import Plan
from noria.store.sql.plans import plans
from noria.store.sql.rows import Result
from noria.store.sql.schema import Table

if TYPE_CHECKING:
    from noria.store.sql import compiled
else:
    compiled = lazy("noria.store.sql.compiled")

__all__ = ["Connection", "Dialect", "Exhausted", "Pool"]


class Exhausted(Exception):
    """Every connection that there may be is in use, and none came back in time."""


class Dialect:
    """Which database it is."""

    __slots__ = ()
    name = "sqlite"


_DIALECT = Dialect()


class Connection:
    """One open connection to SQLite, within a transaction that who opened it ends."""

    __slots__ = ("dialect", "raw")

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self.dialect = _DIALECT

    def execute(
        self, statement: Any, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> Result:
        """Run a statement; with values by name, or with a list of such for one that writes."""
        if not parameters or isinstance(parameters, Mapping):
            one: Mapping[str, Any] = parameters or {}  # type: ignore[assignment]  # an empty list is no values
            plan = self._plan(statement, one)
            values = statement._values if isinstance(statement, Node) else ()
            found = self.raw.execute(plan.worded(one, values), plan.bound(one, values))
            return Result(found, plan.made, plan.readings)
        if len(parameters) == 1:
            return self.execute(statement, parameters[0])
        plan = self._plan(statement, parameters[0])
        values = statement._values if isinstance(statement, Node) else ()
        rows = [plan.bound(each, values) for each in parameters]
        return Result(self.raw.executemany(plan.text, rows), plan.made, plan.readings)

    def exec_driver_sql(self, text: str) -> Result:
        """Run a text as it is."""
        return Result(self.raw.execute(text))

    def create(self, table: Table) -> None:
        """Create a table that is not there, with its indexes."""
        for text in plans().creating(table):
            self.raw.execute(text)

    def has_table(self, name: str) -> bool:
        """Whether there is a table of that name."""
        return self.raw.execute("SELECT 1 FROM pragma_table_info(?) LIMIT 1", (name,)).fetchone() is not None

    @contextlib.contextmanager
    def lent(self) -> Iterator[Any]:
        """The same transaction as a connection of SQLAlchemy, which can neither end it nor close it."""
        with compiled.lent(self.raw) as connection:
            yield connection

    def _plan(self, statement: Any, one: Mapping[str, Any]) -> Plan:
        if isinstance(statement, Node) and statement._key is not None:
            return plans().of(statement, one)
        return compiled.plan_of(statement, one)


class Pool:
    """Connections that are open and not in use, the one used last first. Thread safe."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, kept: int, most: int, wait_s: float) -> None:
        """Args: kept: so many stay open at most; most: so many are in use at most."""
        self._connect = connect
        self._kept = kept
        self._most = most
        self._wait_s = wait_s
        self._idle: list[sqlite3.Connection] = []
        self._used = 0
        self._is_closed = False
        self._freed = threading.Condition()

    def take(self) -> sqlite3.Connection:
        """A connection that nobody else has. Raises: Exhausted; sqlite3.Error."""
        with self._freed:
            if not self._freed.wait_for(lambda: self._used < self._most, self._wait_s):
                raise Exhausted
            self._used += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._connect()
        except BaseException:
            with self._freed:
                self._used -= 1
                self._freed.notify()
            raise

    def give(self, connection: sqlite3.Connection) -> None:
        """Give one back, with whatever it had begun rolled back."""
        is_whole = False
        try:
            connection.rollback()
            is_whole = True
        finally:
            with self._freed:
                self._used -= 1
                keeps = is_whole and not self._is_closed and len(self._idle) < self._kept
                if keeps:
                    self._idle.append(connection)
                self._freed.notify()
            if not keeps:
                connection.close()

    def close(self) -> None:
        """Close what is not in use, and what is when it comes back."""
        with self._freed:
            idle, self._idle, self._is_closed = self._idle, [], True
        for connection in idle:
            connection.close()
