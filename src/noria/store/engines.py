"""SQLite's engines: each has connections of its own, all of a process share what SQLAlchemy has compiled.

SQLAlchemy keeps compiled statements by dialect, and makes a dialect for each engine; how a table is created
it words anew each time. So a process that opens many ledgers, or folds one again to compare, did most of its
work for the same words. They do not depend on the file: one dialect and one store of statements serve every
file of the process.
"""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.engine import URL, Connection, Dialect, Engine
from sqlalchemy.pool import Pool
from sqlalchemy.util import LRUCache

from noria.store.rows import parsed

__all__ = ["create_table", "sqlite_engine"]

STATEMENTS = 2_000
"""So many compiled statements are kept in a process."""


def sqlite_engine(url: URL, pool: type[Pool], connecting: dict[str, Any], **pooling: Any) -> Engine:
    """An engine for one SQLite file.

    Args:
        pool: what keeps its connections; `pooling` are its arguments.
        connecting: arguments of `sqlite3.connect` beside those of the URL.
    """
    dialect, compiled = _shared()
    words, named = dialect.create_connect_args(url)
    kept = pool(lambda: dialect.connect(*words, **{**named, **connecting}), dialect=dialect, **pooling)
    return Engine(kept, dialect, url, execution_options={"compiled_cache": compiled})


def create_table(connection: Connection, table: Table) -> None:
    """Create a table that is not there, with its indexes, on any database."""
    if connection.dialect is not _shared()[0]:
        table.create(connection, checkfirst=False)
        return
    for statement in _worded(table):
        connection.exec_driver_sql(statement)


@functools.lru_cache(maxsize=500)
def _worded(table: Table) -> tuple[str, ...]:
    """What SQLite is told to create a table: what SQLAlchemy would tell it."""
    found: list[str] = []
    teller = sqlalchemy.create_mock_engine(
        "sqlite://", lambda said, *_: found.append(str(said.compile(dialect=_shared()[0])))
    )
    table.create(teller, checkfirst=False)
    return tuple(found)


@functools.cache
def _shared() -> tuple[Dialect, LRUCache[Any, Any]]:
    """The dialect, which has looked once at what this SQLite can do, and the compiled statements."""
    first = sqlalchemy.create_engine("sqlite://", json_deserializer=parsed)
    first.connect().close()
    first.dispose()
    return first.dialect, LRUCache(STATEMENTS)
