"""Which pack holds an object, and where: a cache in SQLite that the packs alone can give again.

A row is written after the bytes it points at are on disk, and a reader checks what it finds there,
so this index can be behind, lost or wrong without harm: what is missing is read from the packs'
headers, and a damaged file is set aside and made anew. On a disk that cannot be written the index
is made in memory. For the same reason its log is not synced at each commit.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

__all__ = ["PackIndex", "Place", "Row"]

T = TypeVar("T")

WAIT_S = 60.0
_AT_ONCE = 500
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_SHUT = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
_FAULTS = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS, sqlite3.SQLITE_PERM: errno.EACCES}
_SCHEMA = """
create table pack (id integer primary key autoincrement, name text not null unique, bytes integer not null);
create table object (
    digest blob primary key, pack integer not null, at integer not null, size integer not null,
    seen integer not null, trashed integer not null default 0
) without rowid;
create index object_by_pack on object (pack, at);
create index object_trashed on object (trashed) where trashed > 0;
"""
_INSERT = "insert into object (digest, pack, at, size, seen) values (?, ?, ?, ?, ?) on conflict do nothing"
_PLACE = "select digest, pack, at, size, seen, trashed from object"
WAL_WAIT_S = 60.0
"""How long others may hold up the change of an older index to WAL mode."""


class Place(NamedTuple):
    """Where a packed object is: its pack, the offset of its header there, its size in bytes.

    `seen` is when it was stored or asked for again, `trashed` when it went to the trash, or 0; in seconds.
    """

    pack: str
    at: int
    size: int
    seen: int
    trashed: int


class Row(NamedTuple):
    """An object that was appended to a pack: digest, offset of its header, size in bytes."""

    digest: bytes
    at: int
    size: int


Contents = Callable[[], Iterable[tuple[str, int, Sequence[Row]]]]
"""Gives, for every pack on disk, its name, the end of what is committed in it, and the objects in it."""
IsWhole = Callable[[str, Row], bool]
"""Whether what stands in a pack, by its name, is the object that a row says."""


class PackIndex:
    """The index of the packs in a folder. Thread safe; processes share it; survives a fork."""

    def __init__(self, folder: Path, contents: Contents, is_whole: IsWhole) -> None:
        self._folder = folder
        self._file = folder / "index.db"
        self._contents = contents
        self._is_whole = is_whole
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._inode = 0
        self._names: dict[int, str] = {}
        self._is_in_memory = False

    def __del__(self) -> None:
        self.close()

    def find(self, digests: Sequence[bytes]) -> dict[bytes, Place]:
        """The places of those that are indexed, trashed ones too."""
        found: dict[bytes, Place] = {}

        def ask(connection: sqlite3.Connection) -> None:
            if connection.execute("select 1 from object limit 1").fetchone() is None:
                return
            ordered = sorted(digests)  # neighbours are on the same pages
            for start in range(0, len(ordered), _AT_ONCE):
                part = ordered[start : start + _AT_ONCE]
                query = f"{_PLACE} where digest in ({','.join('?' * len(part))})"
                for digest, pack, at, size, seen, trashed in connection.execute(query, part):
                    name = self._names.get(pack) or self._name(connection, pack)
                    found[digest] = Place(name, at, size, seen, trashed)

        self._read(ask)
        return found

    def objects(self, *, trashed: bool) -> Iterator[tuple[bytes, Place]]:
        """Every object that is in the trash, or every one that is not; nothing is held open meanwhile."""
        which = "trashed > 0" if trashed else "trashed = 0"
        query = f"{_PLACE} where digest > ? and {which} order by digest limit 5000"
        page: list[tuple[bytes, Place]] = [(b"", Place("", 0, 0, 0, 0))]
        while page:
            last = page[-1][0]
            page = self._read(
                lambda connection, after=last: [  # type: ignore[misc]  # the default binds the loop's value
                    (digest, Place(self._name(connection, pack), *place))
                    for digest, pack, *place in connection.execute(query, (after,)).fetchall()
                ]
            )
            yield from page

    def packs(self) -> dict[str, int]:
        """Every known pack, and how many of its bytes are indexed."""
        return self._read(lambda connection: dict(connection.execute("select name, bytes from pack").fetchall()))

    def usage(self) -> dict[str, tuple[int, int]]:
        """Of every known pack: how many objects are named in it, and the bytes of their contents."""
        query = (
            "select pack.name, count(object.digest), coalesce(sum(object.size), 0) "
            "from pack left join object on object.pack = pack.id group by pack.id"
        )
        return {name: (count, live) for name, count, live in self._read(lambda c: c.execute(query).fetchall())}

    def of_pack(self, pack: str) -> list[Row]:
        """The objects that are named in a pack, by offset."""
        query = "select digest, at, size from object where pack = (select id from pack where name = ?) order by at"
        return [Row(*row) for row in self._read(lambda c: c.execute(query, (pack,)).fetchall())]

    def add(self, pack: str, end: int, rows: Sequence[Row], *, replaces: Iterable[bytes] = ()) -> None:
        """Name what is in a pack up to `end`; those in `replaces` take the place of another copy."""
        now, altered = int(time.time()), set(replaces)

        def change(connection: sqlite3.Connection) -> None:
            number = self._number(connection, pack)
            connection.executemany(_INSERT, [(row.digest, number, row.at, row.size, now) for row in rows])
            connection.executemany(
                "update object set pack = ?, at = ?, size = ?, seen = ?, trashed = 0 where digest = ?",
                [(number, row.at, row.size, now, row.digest) for row in rows if row.digest in altered],
            )
            connection.execute("update pack set bytes = max(bytes, ?) where id = ?", (end, number))

        self._write(change)

    def move(self, old: str, moved: Sequence[tuple[Row, str, int]], ends: Mapping[str, int]) -> int:
        """Point objects of a pack to their copies (pack, offset); gives how many are still named in it.

        Atomic: others see all old places or all new ones. A pack in which nothing is named is forgotten.
        """

        def change(connection: sqlite3.Connection) -> int:
            known = self._number(connection, old)
            for row, pack, at in moved:
                connection.execute(
                    "update object set pack = ?, at = ? where digest = ? and at = ? and pack = ?",
                    (self._number(connection, pack), at, row.digest, row.at, known),
                )
            for pack, end in ends.items():
                number = self._number(connection, pack)
                connection.execute("update pack set bytes = max(bytes, ?) where id = ?", (end, number))
            left = connection.execute("select count(*) from object where pack = ?", (known,)).fetchone()[0]
            if not left:
                connection.execute("delete from pack where id = ?", (known,))
            return int(left)

        return self._write(change)

    def touch(self, digests: Iterable[bytes]) -> None:
        """Objects are asked for again: as if stored now, and out of the trash. Atomic for each."""
        now = int(time.time())
        values = [(now, digest) for digest in digests]
        self._write(lambda c: c.executemany("update object set seen = ?, trashed = 0 where digest = ?", values))

    def trash(self, digests: Sequence[bytes], *, at: int, unseen_since: int) -> list[bytes]:
        """Move to the trash those that nobody stored or asked for since; gives them. Atomic for each."""
        query = "update object set trashed = ? where digest = ? and trashed = 0 and seen < ?"

        def change(connection: sqlite3.Connection) -> list[bytes]:
            return [digest for digest in digests if connection.execute(query, (at, digest, unseen_since)).rowcount]

        return self._write(change)

    def drop(self, digest: bytes, place: Place) -> bool:
        """Forget an object if its place and its time in the trash are still these. Atomic."""
        query = (
            "delete from object where digest = ? and trashed = ? and at = ? "
            "and pack = (select id from pack where name = ?)"
        )
        values = (digest, place.trashed, place.at, place.pack)
        return bool(self._write(lambda connection: connection.execute(query, values).rowcount))

    def forget(self, pack: str) -> None:
        """A pack that is not on disk any more, and what was only there."""

        def change(connection: sqlite3.Connection) -> None:
            connection.execute("delete from object where pack = (select id from pack where name = ?)", (pack,))
            connection.execute("delete from pack where name = ?", (pack,))

        self._write(change)

    def reopen_if_replaced(self) -> bool:
        """Look at the index that another process made anew, if one did; whether that was so."""
        with self._lock:
            if self._connection is None or self._is_in_memory:
                return False
            try:
                is_same = self._file.stat().st_ino == self._inode
            except FileNotFoundError:
                is_same = False
            if not is_same:
                self.close()
            return not is_same

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def _read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, _faults_of_the_disk(self._file):
            try:
                return ask(self._open())
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise
                self._set_aside()
                return ask(self._open())

    def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, _faults_of_the_disk(self._file):
            try:
                return self._change(change)
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise
                self._set_aside()
                return self._change(change)

    def _change(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """One transaction, alone among writers, on the index that is in place."""
        while True:
            connection = self._open()
            with self._alone():
                if self.reopen_if_replaced():
                    continue
                connection.execute("begin immediate")
                try:
                    result = change(connection)
                    connection.execute("commit")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("rollback")
                    raise
                return result

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time; the kernel wakes the waiting ones in turn."""
        if self._is_in_memory:
            yield
            return
        handle = os.open(self._folder / "index.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        self._names = {}
        self._pid = os.getpid()
        self._is_in_memory = not os.access(self._folder, os.W_OK)
        if not self._is_in_memory:
            try:
                self._connection = self._open_file()
            except sqlite3.OperationalError as error:
                if _code(error) not in _SHUT:
                    raise
                self._is_in_memory = True
        if self._is_in_memory:
            self._connection = _connect(":memory:")
            self._fill(self._connection)
        assert self._connection is not None
        return self._connection

    def _open_file(self) -> sqlite3.Connection:
        while True:
            if not self._file.exists():
                with self._alone():
                    if not self._file.exists():
                        self._make()
            connection = _connect(str(self._file))
            try:
                self._inode = self._file.stat().st_ino
                _use_wal(connection)
                connection.execute("pragma synchronous = normal")
                if connection.execute("select count(*) from sqlite_master where name = 'object'").fetchone()[0]:
                    return connection
            except FileNotFoundError:
                connection.close()
                continue  # it was set aside between the two looks
            except BaseException:
                connection.close()
                raise
            connection.close()
            self._set_aside()

    def _make(self) -> None:
        """An index of what the packs hold, whole before it has its name."""
        temporary = self._folder / f"index.{uuid.uuid4().hex}"
        try:
            connection = _connect(str(temporary))
            try:
                connection.execute("pragma journal_mode = off")
                connection.execute("pragma synchronous = off")
                self._fill(connection)
                # Here nobody else has it open: a file that many open at once cannot always be turned over to WAL.
                connection.execute("pragma journal_mode = wal")
            finally:
                connection.close()
            temporary.rename(self._file)
        finally:
            temporary.unlink(missing_ok=True)

    def _fill(self, connection: sqlite3.Connection) -> None:
        now = int(time.time())
        connection.executescript(_SCHEMA)
        connection.execute("begin")
        for pack, end, rows in self._contents():
            number = self._number(connection, pack)
            connection.execute("update pack set bytes = ? where id = ?", (end, number))
            values = [(row.digest, number, row.at, row.size, now) for row in rows]
            if connection.executemany(_INSERT, values).rowcount < len(rows):
                self._prefer_whole(connection, pack, number, rows)
        connection.execute("commit")

    def _prefer_whole(self, connection: sqlite3.Connection, pack: str, number: int, rows: Sequence[Row]) -> None:
        """Of several copies the last that is whole counts: one that was healed stands behind the altered one."""
        for row in rows:
            query = "select pack, at from object where digest = ?"
            if connection.execute(query, (row.digest,)).fetchone() != (number, row.at) and self._is_whole(pack, row):
                place = (number, row.at, row.size, row.digest)
                connection.execute("update object set pack = ?, at = ?, size = ? where digest = ?", place)

    def _set_aside(self) -> None:
        """Take a damaged index away, unless another process has already put a new one there."""
        was = self._inode
        self.close()
        with self._alone(), suppress(FileNotFoundError):
            if self._file.stat().st_ino == was or not was:
                for suffix in ("-wal", "-shm", ""):
                    Path(f"{self._file}{suffix}").unlink(missing_ok=True)

    def _name(self, connection: sqlite3.Connection, number: int) -> str:
        if number not in self._names:
            self._names = dict(connection.execute("select id, name from pack").fetchall())
        return self._names.get(number, "")

    def _number(self, connection: sqlite3.Connection, name: str) -> int:
        connection.execute("insert into pack (name, bytes) values (?, 0) on conflict do nothing", (name,))
        return int(connection.execute("select id from pack where name = ?", (name,)).fetchone()[0])


def _connect(target: str) -> sqlite3.Connection:
    return sqlite3.connect(target, timeout=WAIT_S, isolation_level=None, check_same_thread=False)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Set WAL mode, which SQLite refuses at once, without waiting, while another connection is at work."""
    deadline = time.monotonic() + WAL_WAIT_S
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def _faults_of_the_disk(where: Path) -> Iterator[None]:
    """SQLite's words for a full or failing disk become the operating system's, which callers translate."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        number = _FAULTS.get(_code(error), errno.EIO)
        raise OSError(number, f"{os.strerror(number)}: {error}", str(where)) from error
