"""Opening a ledger: the first start, a migration, or (nearly always) nothing to do.

Everything that a first start writes into the database is one transaction with the version row, so
a process killed at any instant leaves either an empty database, which the next start fills, or a
whole one. A migration is one transaction too. Alembic is imported only when the version differs.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from pathlib import Path

from noria.core.errors import StoreUnavailable, Tampered
from noria.store import tables
from noria.store.checkpoint import is_name
from noria.store.database import Database
from noria.store.engines import create_table, has_table
from noria.store.failpoint import failpoint
from noria.store.fold import Statements
from noria.store.log import get_setting, head_of, set_setting
from noria.store.migrate import upgrade
from noria.store.objects import disk_faults
from noria.store.replay import refold
from noria.store.seen import Seen
from noria.store.slices import Slices
from noria.store.sql.words import Column, Connection, MetaData, String, Table, insert, select, text

__all__ = ["SCHEMA", "start"]

SCHEMA = "0003"
"""The newest revision in migrations/versions."""
MIGRATIONS = Path(__file__).with_name("migrations")

_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


def start(
    database: Database,
    slices: Slices,
    seen: Seen,
    name: str,
    *,
    schema: str = SCHEMA,
    migrations: Path = MIGRATIONS,
    is_audit: bool = False,
) -> str:
    """Make the ledger ready for this version of Noria; gives the log's origin.

    Args:
        name: the project's name; the origin of a new log begins with it.
        schema, migrations: the revision to bring the tables to, and where the ways to it are.
        is_audit: whether it is opened to find out what is wrong with it, by who compares it with what was seen.
    Raises: StoreUnavailable if a newer Noria made it; Tampered if it is not the one seen before.
    """
    origin = _ready(database, slices, seen, schema, is_audit=is_audit)
    if origin:
        return origin
    if database.file is not None:
        _make_file(database)
    with database.write() as connection:
        found = _revision(connection)
        if not found:
            _create(connection, slices, seen, name)
            found = SCHEMA
        if found != schema:
            _bring_up(connection, found, schema, migrations, database.where)
        if get_setting(connection, "records") != slices.fingerprint:
            refold(connection, slices, Statements())
            set_setting(connection, "records", slices.fingerprint)
        origin = _origin(connection)
        failpoint("start.tables")
    failpoint("start.committed")
    return origin


def _ready(database: Database, slices: Slices, seen: Seen, schema: str, *, is_audit: bool) -> str:
    """The origin if there is nothing to do, else nothing."""
    if database.file is not None and not database.file.exists():
        return ""
    seen.look()
    with database.read() as connection:
        if _revision(connection) != schema or get_setting(connection, "records") != slices.fingerprint:
            return ""
        if not is_audit:
            seen.check(connection, head_of(connection))
        return _origin(connection)


def _origin(connection: Connection) -> str:
    """The log's name for ever. Raises: Tampered if it is none."""
    found = get_setting(connection, "origin")
    if not is_name(found):
        raise Tampered(
            f"the row 'origin' of the table setting was altered: {found[:60]!r} names no log",
            hint="restore the ledger from a backup",
        )
    return found


def _make_file(database: Database) -> None:
    """A database file in WAL mode, which is kept in the file for ever."""
    assert database.file is not None
    with disk_faults(database.file):
        database.file.parent.mkdir(parents=True, exist_ok=True)
    with database.exclusive() as connection:
        deadline = time.monotonic() + 60
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    if mode != "wal":
        raise StoreUnavailable(f"SQLite cannot use its write-ahead log here (mode {mode})", where=database.where)


def _create(connection: Connection, slices: Slices, seen: Seen, name: str) -> None:
    checkpoint = seen.checkpoint()
    if checkpoint is not None and checkpoint.size > 0:
        raise Tampered(
            f"the ledger is gone: it is empty, and this client saw {checkpoint.size} facts",
            hint="restore the ledger from a backup; to begin anew, move the whole .noria folder away",
        )
    for table in (*tables.LEDGER.sorted_tables, _version):
        create_table(connection, table)
    guard(connection)
    refold(connection, slices, Statements())
    connection.execute(insert(_version), {"version_num": SCHEMA})
    origin = f"noria/{_SAFE.sub('-', name)[:64] or 'project'}/{os.urandom(4).hex()}"
    set_setting(connection, "origin", origin)
    set_setting(connection, "records", slices.fingerprint)


def guard(connection: Connection) -> None:
    """Let the database itself refuse to change or take away what is immutable."""
    for statement in guards(connection.dialect.name):
        connection.execute(text(statement))


def guards(dialect: str) -> list[str]:
    """The statements that make the ledger's tables immutable, in the database's own words."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table.name}_no_{event.lower()} BEFORE {event} ON {table.name} "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table.name} are immutable'); END"
            for table in tables.IMMUTABLE
            for event in ("UPDATE", "DELETE")
        ]
    made = [
        "CREATE FUNCTION noria_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'rows of % are immutable', TG_TABLE_NAME; END $$"
    ]
    for table in tables.IMMUTABLE:
        made.append(
            f"CREATE TRIGGER {table.name}_immutable BEFORE UPDATE OR DELETE ON {table.name} "
            "FOR EACH ROW EXECUTE FUNCTION noria_refuse()"
        )
        made.append(
            f"CREATE TRIGGER {table.name}_not_emptied BEFORE TRUNCATE ON {table.name} "
            "FOR EACH STATEMENT EXECUTE FUNCTION noria_refuse()"
        )
    return made


def _bring_up(connection: Connection, found: str, schema: str, migrations: Path, where: str) -> None:
    """Bring an older ledger to this version's tables, in the caller's transaction."""
    if found > schema:
        raise StoreUnavailable(
            f"the ledger was made by a newer Noria (tables {found}, this one knows {schema})",
            where=where,
            hint="install that version or a newer one",
        )
    upgrade(connection, migrations, schema)


def _revision(connection: Connection) -> str:
    if not has_table(connection, "alembic_version"):
        return ""
    return str(connection.execute(select(_version.c.version_num)).scalar() or "")
