"""Copies of a ledger's SQLite file as it stands at one moment, made beside its writers by SQLite's own backup."""

from __future__ import annotations

import os
import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path

from noria.store.database import Database
from noria.store.disk import disk_faults, sync_folder

__all__ = ["copy_file", "errors_at", "keep_before", "opened", "sync"]

WAIT_S = 60.0


def copy_file(source: Path, to: Path) -> None:
    """Copy the committed state of a SQLite file into a new one, which needs no log beside it. Writers go on.

    It is on disk when this returns. Raises: StoreFull; StoreUnavailable; Corrupt.
    """
    with errors_at(to), disk_faults(to):
        with closing(opened(source)) as live, closing(opened(to)) as copied:
            copied.execute("PRAGMA synchronous = OFF")  # synced as a whole below
            live.backup(copied)  # in one go: a snapshot, beside which the log grows
            copied.execute("PRAGMA journal_mode = DELETE")
        sync(to)


def keep_before(file: Path, revision: str) -> Path | None:
    """Copy a ledger beside itself before its tables are brought to a revision: `ledger.db.before-0003`.

    One that a killed migration left is written anew. None if there is nothing to keep yet.
    Raises: StoreFull; StoreUnavailable; Corrupt. Then the migration does not begin.
    """
    kept = file.with_name(f"{file.name}.before-{revision}")
    with errors_at(file), closing(opened(file)) as live:
        if live.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
            return None
    part = kept.with_name(f"{kept.name}.part")
    with disk_faults(kept):
        part.unlink(missing_ok=True)
        try:
            copy_file(file, part)
            part.replace(kept)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(kept.parent)
    return kept


def opened(path: Path) -> sqlite3.Connection:
    """A connection without transactions of Python's own, which waits for locks."""
    return sqlite3.connect(path, isolation_level=None, timeout=WAIT_S)


def errors_at(file: Path) -> AbstractContextManager[None]:
    """SQLite's errors as those of the error tree, about this file."""
    return Database(f"sqlite:///{file}").translated()


def sync(path: Path) -> None:
    """Wait until a file and its name are on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(path.parent)
