"""A table or a query of a SQL database as a stream of Arrow batches that says exactly what the rows say.

One read-only transaction is one moment: a query that must be looked at twice, because its database
does not say a column's type, sees the same rows both times. Types come from the database where it
has them (Postgres, declared columns of SQLite), else from every value. Nothing is guessed and
nothing rounded: decimals keep their digits, whole numbers beyond 53 bits stay whole, times with a
zone are moments in UTC, and a column of several kinds of value is an error that names it.

A table is read in the order of its primary key; a query in the order that it asks for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, NoSuchTableError, SQLAlchemyError

from noria.core.errors import NotFound, StoreUnavailable, UsageError
from noria.core.lazy import lazy
from noria.engines.sources import sqltypes
from noria.engines.sources.sqltypes import Column

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")

__all__ = ["read"]

BATCH_ROWS = 1 << 14
CONNECT_S = 10


@contextmanager
def read(url: str, query: str = "", table: str = "", *, folder: Path | None = None) -> Iterator[pa.RecordBatchReader]:
    """The rows of a query or a table, streamed; the connection is closed at the end of the block.

    Args:
        url: `sqlite:///file.db` or `postgresql://user@host/name`; `?table=T` names the table too.
        query: one SELECT; table: a table or view, `schema.table` for another schema.
        folder: where a relative path of SQLite starts.
    Raises: NotFound for a database file or table that is not there; UsageError for SQL that the
    database refuses, or values that have no one type; StoreUnavailable.
    """
    place, table = _parsed(url, table, folder)
    if bool(query) == bool(table):
        raise UsageError(
            "give a query or a table of the database", where=shown(url), hint='--query "SELECT …", or URL?table=NAME'
        )
    engine = _engine(place)
    try:
        with _faults(url, query or table), engine.connect() as connection:
            _begin(connection)
            statement = query or _of_table(connection, table)
            columns = _columns(connection, statement)
            schema = pa.schema([pa.field(column.name, column.kind) for column in columns])
            yield pa.RecordBatchReader.from_batches(schema, _batches(connection, statement, columns, schema))
    finally:
        engine.dispose()


def shown(url: str) -> str:
    """A database's address without user and password."""
    try:
        found = make_url(url)
    except ArgumentError:
        return url.partition("://")[0] + "://…"
    return str(URL.create(found.get_backend_name(), host=found.host, port=found.port, database=found.database))


def _parsed(url: str, table: str, folder: Path | None) -> tuple[URL, str]:
    try:
        found = make_url(url)
    except ArgumentError as error:
        raise UsageError("the address of the database cannot be read", hint="postgresql://user@host/name") from error
    named = found.query.get("table", "")
    found = found.difference_update_query(["table"])
    backend = found.get_backend_name()
    if backend in ("postgres", "postgresql"):
        if importlib.util.find_spec("psycopg") is None:
            raise UsageError("PostgreSQL needs psycopg, which is not here", hint="pip install 'noria[postgres]'")
        return found.set(drivername="postgresql+psycopg"), table or str(named)
    if backend != "sqlite":
        raise UsageError(f"{backend!r} is not a database that is read", hint="sqlite:///file.db or postgresql://…")
    if not found.database:
        raise UsageError("the address names no file", where=url, hint="sqlite:///file.db")
    path = Path(found.database).expanduser()
    path = path if path.is_absolute() or folder is None or path.exists() else folder / path
    if not path.is_file():
        raise NotFound(f"there is no database {found.database}", hint="sqlite:///file.db, relative to the project")
    return found.set(database=f"file:{path.resolve().as_posix()}", query={"mode": "ro", "uri": "true"}), table or str(
        named
    )


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": CONNECT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    return create_engine(url, connect_args={"connect_timeout": CONNECT_S})


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own


def _begin(connection: Connection) -> None:
    """One moment for everything that is read, and nothing can be written."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA temp_store = MEMORY")
        connection.exec_driver_sql("BEGIN")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        sqltypes.keep_text(connection.connection.driver_connection)


def _of_table(connection: Connection, table: str) -> str:
    schema, _, name = table.rpartition(".")
    found = inspect(connection)
    try:
        key = found.get_pk_constraint(name, schema or None)["constrained_columns"]
    except NoSuchTableError as error:
        if name not in found.get_view_names(schema or None):
            known = ", ".join(sorted(found.get_table_names(schema or None))[:12]) or "none"
            raise NotFound(f"the database has no table {table!r}", hint=f"tables: {known}") from error
        key = []
    quote = connection.dialect.identifier_preparer.quote
    whole = f"{quote(schema)}.{quote(name)}" if schema else quote(name)
    order = f" ORDER BY {', '.join(map(quote, key))}" if key else ""
    return f"SELECT * FROM {whole}{order}"


def _columns(connection: Connection, statement: str) -> list[Column]:
    """Every column with its Arrow type; values are looked at only where the database does not say it."""
    if connection.dialect.name == "sqlite":
        columns = sqltypes.declared(_described_sqlite(connection, statement))
    else:
        columns = sqltypes.of_postgres(_description(connection, statement))
    open_ones = [(place, column) for place, column in enumerate(columns) if column.is_open]
    if open_ones:
        looks = {place: sqltypes.Look(column) for place, column in open_ones}
        for rows in _pages(connection, statement):
            for place, look in looks.items():
                look.note([row[place] for row in rows])
        for place, look in looks.items():
            columns[place] = look.decided()
    return columns


def _described_sqlite(connection: Connection, statement: str) -> list[tuple[str, str]]:
    """(name, declared type) of each column: those of a view on the query, which SQLite passes through."""
    connection.exec_driver_sql(f"CREATE TEMP VIEW noria_query AS {statement.rstrip().rstrip(';')}")
    rows = connection.exec_driver_sql("PRAGMA temp.table_info(noria_query)").fetchall()
    connection.exec_driver_sql("DROP VIEW temp.noria_query")
    names = list(connection.execution_options(stream_results=True).execute(text(_escaped(statement))).keys())
    return [(name, str(row[2])) for name, row in zip(names, rows, strict=True)]


def _description(connection: Connection, statement: str) -> Sequence[Any]:
    with connection.connection.driver_connection.cursor() as cursor:  # type: ignore[union-attr]  # a live connection
        cursor.execute(f"SELECT * FROM ({statement.rstrip().rstrip(';')}) noria_query LIMIT 0".encode())
        found: Sequence[Any] = cursor.description
        return found


def _pages(connection: Connection, statement: str) -> Iterator[Sequence[Any]]:
    if connection.dialect.name == "sqlite":
        cursor = connection.connection.cursor()
        cursor.execute(statement)
    else:
        driver: Any = connection.connection.driver_connection
        cursor = driver.cursor(name="noria_rows")
        cursor.execute(statement.encode())
    try:
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield rows
    finally:
        cursor.close()


def _batches(
    connection: Connection, statement: str, columns: Sequence[Column], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    seen = 0
    for rows in _pages(connection, statement):
        arrays = [column.array([row[place] for row in rows], seen) for place, column in enumerate(columns)]
        seen += len(rows)
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _escaped(statement: str) -> str:
    return statement.replace(":", "\\:")


@contextmanager
def _faults(url: str, asked: str) -> Iterator[None]:
    """The database's own words, first line, without parameters or values."""
    try:
        yield
    except NoSuchModuleError as error:
        raise UsageError(f"no driver for {shown(url)} is installed", hint="pip install 'noria[postgres]'") from error
    except ModuleNotFoundError as error:
        raise UsageError(f"no driver for {shown(url)} is installed", hint="pip install 'noria[postgres]'") from error
    except sqltypes.driver_errors(SQLAlchemyError) as error:
        origin = error.orig if isinstance(error, DBAPIError) else error
        words = str(origin).strip().splitlines()
        said = words[0][:200] if words else type(origin).__name__
        if sqltypes.is_out_of_reach(origin):
            words_of = f"the database cannot be read: {said}"
            raise StoreUnavailable(words_of, where=shown(url), hint="is it up, and the address right?") from error
        raise UsageError(f"the database refuses {asked[:80]!r}: {said}", where=shown(url)) from error
