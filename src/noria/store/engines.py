"""What is done on a connection to SQLite in one way and on one to PostgreSQL, which is SQLAlchemy's, in another."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.store.sql.connection import Connection as OnSqlite
from noria.store.sql.words import Connection, Table

if TYPE_CHECKING:
    import sqlalchemy

    from noria.store.sql import alchemy
else:
    sqlalchemy = lazy("sqlalchemy")
    alchemy = lazy("noria.store.sql.alchemy")

__all__ = ["create_table", "drop_table", "has_table", "in_memory", "of_sqlalchemy"]


def create_table(connection: Connection, table: Table) -> None:
    """Create a table that is not there, with its indexes."""
    on: Any = connection
    if isinstance(on, OnSqlite):
        on.create(table)  # type: ignore[arg-type]  # at run time tables are our own
    else:
        alchemy.built(table).create(connection, checkfirst=False)  # type: ignore[arg-type]  # as above


def has_table(connection: Connection, name: str) -> bool:
    """Whether there is a table of that name."""
    on: Any = connection
    return on.has_table(name) if isinstance(on, OnSqlite) else bool(sqlalchemy.inspect(connection).has_table(name))


def drop_table(connection: Connection, name: str) -> None:
    """Take a table away that is there, with its indexes."""
    connection.exec_driver_sql('DROP TABLE "{}"'.format(name.replace('"', '""')))


@contextmanager
def in_memory() -> Iterator[Connection]:
    """A connection to an SQLite database of its own, which goes when it ends."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        raw.execute("BEGIN")
        yield OnSqlite(raw)  # type: ignore[misc]  # what of SQLAlchemy's connection is used, it has


@contextmanager
def of_sqlalchemy(connection: Connection) -> Iterator[Connection]:
    """The same connection as one of SQLAlchemy, in the same transaction, for what takes no other."""
    on: Any = connection
    if isinstance(on, OnSqlite):
        with on.lent() as lent:
            yield lent
    else:
        yield connection
