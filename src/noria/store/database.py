"""One door to the database, the same for SQLite and Postgres: one writer, snapshot readers.

A writer takes the single writer lock before it reads, so what it decides on cannot change under
it. On SQLite that is an flock beside the file, whose waiters the kernel wakes in turn (SQLite's own
busy wait let one of eight processes commit once in eight seconds), then BEGIN IMMEDIATE; on
Postgres an advisory lock held for the transaction. The databases' errors become the error tree
here and nowhere else. A connection never crosses a fork.

On SQLite a durable commit is written under the lock and synced after it: the log's order is fixed
by then, a later sync covers every earlier commit, and writers share the disk's slowest step instead
of queueing for it. SQLite itself syncs the log before it moves pages into the file (synchronous =
NORMAL), so what a power cut leaves is always a prefix, with everything that was acknowledged.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.errors import ConfigError, Corrupt, NoriaError, StoreFull, StoreUnavailable
from noria.core.lazy import lazy
from noria.store.objects import disk_faults, sync_folder
from noria.store.sql.connection import Connection as OnSqlite
from noria.store.sql.connection import Exhausted, Pool
from noria.store.sql.words import Connection

if TYPE_CHECKING:
    from noria.store import postgres
    from noria.store.sql import compiled
else:
    postgres = lazy("noria.store.postgres")
    compiled = lazy("noria.store.sql.compiled")

__all__ = ["Database", "database_url"]

WAIT_S = 60.0
POOL_SIZE = 5
POOL_OVERFLOW = 27
POOL_WAIT_S = 30.0
_SQLITE_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def database_url(text: str, state: Path) -> str:
    """The SQLAlchemy URL of a `[store] database` setting; empty means `.noria/ledger.db`.

    Raises: ConfigError for a database that is neither SQLite nor Postgres.
    """
    if not text:
        return f"sqlite:///{(state / 'ledger.db').resolve()}"
    scheme, _, rest = text.partition("://")
    if scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        return f"postgresql+psycopg://{rest}"
    if scheme == "sqlite":
        return text
    raise ConfigError(
        f"store.database {scheme!r} is not a database that is known", hint="postgresql://… or sqlite:///…"
    )


class Database:
    """Connections to one database. Thread safe; survives a fork."""

    def __init__(self, url: str, *, wait_s: float = WAIT_S) -> None:
        self._url = url
        self._wait_s = wait_s
        self.is_sqlite = url.startswith("sqlite")
        self._connecting: dict[str, Any] = _connecting(url) if self.is_sqlite else {}
        self.file = Path(self._connecting["database"]) if self.is_sqlite else None
        self._engine: Any = None if self.is_sqlite else self._postgres()
        self.where = str(self.file) if self.file else postgres.shown(url)
        self._errors: tuple[type[Exception], ...] = () if self.is_sqlite else postgres.ERRORS
        self._pool = self._new_pool()
        self._left: list[Pool] = []
        self._pid = os.getpid()
        self._writing = threading.local()
        self._synced_inode = 0

    @contextmanager
    def write(self, *, is_durable: bool = True) -> Iterator[Connection]:
        """The one writer: locked at entry, committed at exit, rolled back on any exception.

        A durable commit is on disk when this returns; another one survives the death of processes,
        but the last may be lost when the machine loses power. Not reentrant: a second one in the
        same thread is a bug. Raises: StoreUnavailable when the lock is not had in time; StoreFull; Corrupt.
        """
        assert not getattr(self._writing, "is_on", False), "a transaction is already open in this thread"
        self._writing.is_on = True
        try:
            with self._writer_lock(), self.translated(), self._begun(is_writing=True) as connection:
                self._begin_writing(connection, is_durable)
                before = self._changes(connection)
                yield connection
                has_changed = self._changes(connection) != before
            if is_durable and has_changed:
                self._sync_log()
        finally:
            self._writing.is_on = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: everything read inside is of one moment. Never waits for the writer."""
        with self.translated(), self._begun(is_writing=False) as connection:
            yield connection

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        """SQLite only: a bare connection outside of any transaction, alone among Noria's writers."""
        assert self.file is not None, "only SQLite has a file"
        with self._writer_lock():
            try:
                connection = sqlite3.connect(self.file, isolation_level=None)
                try:
                    yield connection
                finally:
                    connection.close()
            except sqlite3.Error as error:
                translated = self._translate_sqlite(error)
                if translated is None:
                    raise
                raise translated from error

    @contextmanager
    def lenient(self, connection: Connection) -> Iterator[None]:
        """Inside, damaged text is read with its bad bytes as lone surrogates, so that it can be named."""
        if not self.is_sqlite:
            yield
            return
        raw = _raw(connection)
        before = raw.text_factory
        raw.text_factory = _surrogates
        try:
            yield
        finally:
            raw.text_factory = before

    def damage(self, connection: Connection) -> str:
        """What SQLite's own check of its pages and indexes finds first; empty if all is well, or on Postgres."""
        if not self.is_sqlite:
            return ""
        found = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar())
        return "" if found == "ok" else found

    def close(self) -> None:
        """Give the connections back. The database can be used again afterwards."""
        if self._engine is not None:
            self._engine.dispose()
        pool, self._pool = self._pool, self._new_pool()
        pool.close()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the database's errors into StoreFull, StoreUnavailable and Corrupt."""
        try:
            yield
        except self._errors as error:
            translated = postgres.translated(error, self.where)
            if translated is None:
                raise
            raise translated from error
        except sqlite3.Error as error:
            translated = self._translate_sqlite(error)
            if translated is None:
                raise
            raise translated from error
        except Exhausted as error:
            raise StoreUnavailable("every connection to the database is in use", where=self.where) from error

    @contextmanager
    def _begun(self, *, is_writing: bool) -> Iterator[Connection]:
        """A connection within a transaction: a writer's is committed at the end, a reader's rolled back."""
        if self._pid != os.getpid():
            self._forked()
        if self._engine is not None:
            with self._engine.connect() as connection:
                if not is_writing:
                    connection = connection.execution_options(isolation_level="REPEATABLE READ")
                transaction = connection.begin()
                with transaction if is_writing else _ended(transaction):
                    yield connection
            return
        pool = self._pool
        raw = pool.take()
        try:
            raw.execute("BEGIN IMMEDIATE" if is_writing else "BEGIN")
            yield OnSqlite(raw)  # type: ignore[misc]  # what of SQLAlchemy's connection is used, it has
            if is_writing:
                raw.commit()
        finally:
            pool.give(raw)  # which rolls back what was not committed

    def _forked(self) -> None:
        """Another process has the connections: they are neither used nor closed here."""
        if self._engine is not None:
            self._engine.dispose(close=False)
        self._left.append(self._pool)
        self._pool = self._new_pool()
        self._pid = os.getpid()
        self._writing = threading.local()

    def _begin_writing(self, connection: Connection, is_durable: bool) -> None:
        if self.is_sqlite:
            return
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('noria'), hashtext(current_schema()))")
        if not is_durable:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")

    def _changes(self, connection: Connection) -> int:
        if not self.is_sqlite:
            return 0
        return int(_raw(connection).total_changes)

    def _sync_log(self) -> None:
        """Wait until SQLite's write-ahead log is on disk, with its name the first time.

        A log that is gone was moved into the file, and synced, by another process.
        SQLite takes no locks on this file, so a descriptor of our own cannot break them.
        """
        assert self.file is not None
        path = self.file.with_name(self.file.name + "-wal")
        with disk_faults(path):
            try:
                handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return
            try:
                os.fdatasync(handle)
                inode = os.fstat(handle).st_ino
            finally:
                os.close(handle)
            if inode != self._synced_inode:
                sync_folder(self.file.parent)
                self._synced_inode = inode

    def _postgres(self) -> Any:
        return postgres.engine_of(self._url, self._wait_s, kept=POOL_SIZE, overflow=POOL_OVERFLOW)

    def _new_pool(self) -> Pool:
        return Pool(self._connected, kept=POOL_SIZE, most=POOL_SIZE + POOL_OVERFLOW, wait_s=POOL_WAIT_S)

    def _connected(self) -> sqlite3.Connection:
        """A new connection to SQLite."""
        given: dict[str, Any] = {"timeout": self._wait_s, **self._connecting, "check_same_thread": False}
        raw: sqlite3.Connection = sqlite3.connect(**given, isolation_level=None)
        try:
            raw.execute("PRAGMA synchronous = NORMAL")
            raw.execute("PRAGMA trusted_schema = OFF")
        except UnicodeDecodeError as error:
            # sqlite3 cannot even word its error when the schema's own text is damaged
            raw.close()
            raise self._damaged("the schema is not text") from error
        except BaseException:
            raw.close()
            raise
        return raw

    @contextmanager
    def _writer_lock(self) -> Iterator[None]:
        if self.file is None:
            yield
            return
        handle = _locked(self.file.with_name(self.file.name + ".lock"), self._wait_s)
        try:
            yield
        finally:
            os.close(handle)

    def _translate_sqlite(self, error: sqlite3.Error) -> NoriaError | None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _SQLITE_CORRUPT or "Could not decode" in str(error):
            return self._damaged(str(error))
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self._is_disk_full()):
            return StoreFull(
                "no space is left for the ledger; nothing was changed",
                where=self.where,
                hint="free some space, then run the command again",
            )
        if code == sqlite3.SQLITE_BUSY:
            return StoreUnavailable(
                f"the ledger was locked for {self._wait_s:.0f} s", where=self.where, hint="try again"
            )
        unavailable = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM)
        if code in unavailable:
            return StoreUnavailable(
                f"the ledger cannot be used: {error}",
                where=self.where,
                hint="check the folder's permissions and that the disk is mounted for writing",
            )
        if "no such table" in str(error) or "no such column" in str(error):
            return Corrupt(f"the ledger lacks a table: {error}", where=self.where, hint="restore it from a backup")
        return None

    def _damaged(self, what: str) -> Corrupt:
        return Corrupt(
            f"the ledger file is damaged: {what}",
            where=self.where,
            hint="restore it from a backup; noria audit verify then says what is missing",
        )

    def _is_disk_full(self) -> bool:
        assert self.file is not None
        status = os.statvfs(self.file.parent)
        return status.f_bavail * status.f_frsize < 1 << 20


def _connecting(url: str) -> dict[str, Any]:
    """The arguments of `sqlite3.connect` that a URL says; what it says beside a path, SQLAlchemy reads."""
    path = url.removeprefix("sqlite:///")
    if path != url and path and "?" not in path and path != ":memory:":
        return {"database": path}
    return compiled.connecting(url)


@contextmanager
def _ended(transaction: Any) -> Iterator[None]:
    """A reader's transaction on PostgreSQL: rolled back, if the server has not ended it."""
    try:
        yield
    finally:
        if transaction.is_active:
            transaction.rollback()


def _raw(connection: Connection) -> sqlite3.Connection:
    on: Any = connection
    assert isinstance(on, OnSqlite), "only a connection to SQLite is asked for its own"
    return on.raw


def _surrogates(content: bytes) -> str:
    return content.decode("utf-8", errors="surrogateescape")


def _locked(path: Path, wait_s: float) -> int:
    """An open descriptor that holds the lock; closing it gives the lock back.

    The kernel wakes waiters in the order they came. It has no time limit of its own, so a waiter
    that has to wait does it in a thread; one that gave up lets go as soon as it gets the lock.
    """
    with disk_faults(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except BaseException:
            os.close(handle)
            raise
        else:
            return handle
        return _waited(handle, path, wait_s)


def _waited(handle: int, path: Path, wait_s: float) -> int:
    decided = threading.Lock()
    has_given_up = False
    is_locked = threading.Event()

    def wait() -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with decided:
            if has_given_up:
                os.close(handle)
            else:
                is_locked.set()

    threading.Thread(target=wait, name="noria-lock", daemon=True).start()
    begun = time.monotonic()
    is_locked.wait(wait_s)
    with decided:
        if is_locked.is_set():
            return handle
        has_given_up = True
    raise StoreUnavailable(
        f"another process has held the ledger for {time.monotonic() - begun:.0f} s",
        where=str(path),
        hint="try again; a process that was stopped (SIGSTOP) or hangs may hold it",
    )
