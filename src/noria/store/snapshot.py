"""A ledger as it stands at one moment, in one SQLite file; and such a file in a new database.

Writers go on beside it. From SQLite the file is a copy of the pages by SQLite's own backup; from PostgreSQL every
table of the ledger is read in one REPEATABLE READ transaction. So a snapshot has one form, whatever it came from,
and goes into either database. It is not looked at here whether it says what was signed: `verify` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy.pool import NullPool

from noria.core.errors import Conflict, Tampered
from noria.store import tables
from noria.store.checkpoint import Checkpoint
from noria.store.database import Database, database_url
from noria.store.disk import disk_faults, sync_folder
from noria.store.engines import has_table
from noria.store.fold import Statements
from noria.store.log import frontier_of, get_setting, head_of, set_setting
from noria.store.merkle import Frontier
from noria.store.replay import refold
from noria.store.seen import Seen
from noria.store.slices import Slices
from noria.store.sql import words
from noria.store.sqlitefile import copy_file, errors_at, opened, sync
from noria.store.start import start

__all__ = ["NAME", "place", "pour", "require_room", "take"]

NAME = "ledger.db"
"""What a snapshot's file is called: as the database of a project is in its state."""
BATCH = 2000
_DERIVED = ("records", "tables")
"""Settings that say how records were folded: those of the database that holds them."""


def take(database: Database, url: str, slices: Slices, folder: Path) -> Path:
    """Write what a database holds now to `ledger.db` in a folder; gives the file, which is on disk.

    Args:
        url: the SQLAlchemy URL of the database.
    Raises: StoreFull; StoreUnavailable; Corrupt.
    """
    to = folder / NAME
    if database.file is not None:
        copy_file(database.file, to)
    else:
        _dump(database, url, slices, to)
    return to


def require_room(target: Database, checkpoint: Checkpoint) -> bool:
    """Whether a database holds this very ledger already; else it must hold none.

    Raises: Conflict if it holds another one; StoreUnavailable.
    """
    if target.file is not None and not target.file.exists():
        return False
    with target.read() as reading:
        if not has_table(reading, "fact"):
            return False
        return _is_there(reading, head_of(reading), checkpoint, target)


def pour(source: Path, target: Database, slices: Slices, checkpoint: Checkpoint) -> None:
    """Write a snapshot into an empty database, in one transaction, with its records folded anew.

    Idempotent. Raises: Conflict if it holds another ledger; Tampered if what was written is not the checkpoint's tree.
    """
    start(target, slices, Seen(None), "restore")
    with closing(opened(source)) as kept, target.write() as connection:
        if _is_there(connection, head_of(connection), checkpoint, target):
            return
        for table in tables.LEDGER.sorted_tables:
            names = [column.name for column in table.columns]
            if table.name == "setting":
                for name, value in kept.execute("SELECT name, value FROM setting"):
                    if name not in _DERIVED:
                        set_setting(connection, name, value)
                continue
            marks = ", ".join(f":{name}" for name in names)
            statement = words.text(f'INSERT INTO "{table.name}" ({_quoted(names)}) VALUES ({marks})')
            rows = kept.execute(f'SELECT {_quoted(names)} FROM "{table.name}"')
            while batch := rows.fetchmany(BATCH):
                connection.execute(statement, [dict(zip(names, row, strict=True)) for row in batch])
        refold(connection, slices, Statements())
        set_setting(connection, "records", slices.fingerprint)
        written = Frontier()
        leaves = connection.execute(words.text("SELECT leaf FROM fact ORDER BY seq"))
        for row in leaves:
            written.append(bytes(row[0]))
        if (written.size, written.root()) != (checkpoint.size, checkpoint.root):
            raise Tampered("the facts that were written are not those of the checkpoint", where=target.where)


def place(source: Path, to: Path) -> None:
    """Make a copy of a snapshot the file of a ledger, with the log that a ledger's file has. It must be a new name.

    Raises: Conflict if there is a file; StoreFull; StoreUnavailable.
    """
    part = to.with_name(f"{to.name}.restoring")
    with errors_at(to), disk_faults(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        copy_file(source, part)
        with closing(opened(part)) as copied:
            copied.execute("PRAGMA journal_mode = WAL")
        sync(part)
        try:
            os.link(part, to)
        except FileExistsError as error:
            raise Conflict("there is a file already", where=str(to), hint="move it away first") from error
        finally:
            part.unlink()
        sync_folder(to.parent)


def _dump(database: Database, url: str, slices: Slices, to: Path) -> None:
    """Every row of the ledger's tables, of one moment. The records of the copy are folded when it is opened."""
    made = Database(database_url("", to.parent))
    start(made, slices, Seen(None), "snapshot")
    made.close()
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, isolation_level="REPEATABLE READ")
    try:
        with errors_at(to), closing(opened(to)) as copied:
            copied.execute("PRAGMA journal_mode = DELETE")
            copied.execute("PRAGMA synchronous = OFF")
            copied.execute("BEGIN")
            copied.execute("DELETE FROM setting")
            with database.translated(), engine.connect() as live, live.begin():
                for table in tables.LEDGER.sorted_tables:
                    names = [column.name for column in table.columns]
                    marks = ", ".join("?" * len(names))
                    statement = f'INSERT INTO "{table.name}" ({_quoted(names)}) VALUES ({marks})'
                    for batch in _rows(live, table.name, names):
                        copied.executemany(statement, batch)
            copied.execute("DELETE FROM setting WHERE name IN (?, ?)", _DERIVED)
            copied.execute("COMMIT")
    finally:
        engine.dispose()
    with disk_faults(to):
        sync(to)


def _rows(live: sqlalchemy.Connection, table: str, names: list[str]) -> Iterator[list[tuple[Any, ...]]]:
    text = sqlalchemy.text(f'SELECT {_quoted(names)} FROM "{table}"')
    found = live.execution_options(stream_results=True, yield_per=BATCH).execute(text)
    for part in found.partitions():
        yield [tuple(row) for row in part]


def _is_there(connection: Any, head: int, checkpoint: Checkpoint, target: Database) -> bool:
    if head == 0:
        return False
    is_same = get_setting(connection, "origin") == checkpoint.origin and head == checkpoint.size
    if is_same and frontier_of(connection, head).root() == checkpoint.root:
        return True
    raise Conflict(
        f"the database holds a ledger already, of {head} facts",
        where=target.where,
        hint="restore into an empty one: [store] database in noria.toml, or NORIA_DATABASE",
    )


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
