"""What is known of files by their size, times and inode, so that nothing is read twice.

One SQLite file a data set, one row a folder: `sign` is the packed list of the folder's files with
their stamps, `body` their digests in the same order. A folder that has not changed costs one
comparison of bytes. A file younger than two seconds when it was hashed is written with a stamp that
never fits, because a second write within one tick of the file system's clock would not show (Git
calls it racy). A root (a folder that was added or checked out) also knows the tree that its rows
make up, if they make up one: then nothing but the rows is needed to tell what has changed.

It is a cache: a missing, broken or unwritable file is an empty one, and deleting it costs time only.
Nothing here trusts a row whose own checksum is wrong.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from noria.core.frozen import frozen
from noria.data.folders.roots import cache_path
from noria.data.folders.walk import File, Folder

__all__ = [
    "DIGEST_BYTES",
    "NEVER",
    "Row",
    "StatCache",
    "Step",
    "cache_path",
    "digest_at",
    "packed",
    "unpacked",
    "without_racy",
]

RACY_NS = 2_000_000_000
NEVER = -1
"""The time of a file that must be read again."""
DIGEST_BYTES = 32
FORMAT = 1
CHECKOUTS = 16
"""So many places that were only checked out are remembered."""
WAIT_S = 60.0
_PAGE = 64

_SCHEMA = """
create table root (id integer primary key, path text not null unique, tree text not null, used real not null,
    is_source integer not null default 0);
create table folder (
    id integer primary key, root integer not null, prefix text not null, sign blob not null, body blob not null,
    checksum integer not null
);
create unique index folder_place on folder (root, prefix);
create table note (digest blob not null, kind text not null, found blob not null, primary key (digest, kind));
"""
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[File])
_decoder_of_bytes = msgspec.msgpack.Decoder(list[tuple[bytes, int, int, int, int]])


@frozen
class Row:
    """A folder as it is remembered; `body` is read only when it is asked for."""

    id: int
    prefix: str
    sign: bytes


@frozen
class Step:
    """A folder of the walk beside its row, either of them None where there is none; or both are equal."""

    folder: Folder | None
    row: Row | None
    is_same: bool


class StatCache:
    """The memory of one data set's folders. Used by one thread; processes may share the file."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._connection = self._opened()
        self._connection.text_factory = _text

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def root(self, place: str) -> int:
        """The number of a root; a new one where it was never seen (not kept before `save`)."""
        found = self._root(place)
        if not found:
            with self._writing():
                self._connection.execute(
                    "insert or ignore into root (path, tree, used) values (cast(? as text), '', ?)",
                    (_bytes(place), time.time()),
                )
            found = self._root(place)
        return found

    def newest_source(self) -> str:
        """The root that was added last, or ""."""
        return str(self._one("select path from root where is_source = 1 order by used desc limit 1", ()) or "")

    def tree(self, root: int) -> str:
        """The tree that the rows of a root make up, or ""."""
        return str(self._one("select tree from root where id = ?", (root,)) or "")

    def steps(self, root: int, folders: Iterable[Folder]) -> Iterator[Step]:
        """The walk beside the rows, in the order of their prefixes."""
        rows = self._rows(root)
        row = next(rows, None)
        for folder in folders:
            while row is not None and row.prefix < folder.prefix:
                yield Step(None, row, False)
                row = next(rows, None)
            if row is not None and row.prefix == folder.prefix:
                yield Step(folder, row, packed(folder.files) == row.sign)
                row = next(rows, None)
            else:
                yield Step(folder, None, False)
        while row is not None:
            yield Step(None, row, False)
            row = next(rows, None)

    def digests(self, row: Row) -> bytes | None:
        """The digests of a row's files, one after the other; None if the row is broken."""
        found = self._connection.execute("select body, checksum from folder where id = ?", (row.id,)).fetchone()
        if found is None or zlib.crc32(found[0], zlib.crc32(row.sign)) != found[1]:
            return None
        return bytes(found[0])

    def known(self, row: Row) -> dict[str, tuple[File, str]]:
        """The files of a row by name, each with its digest; empty if the row is broken."""
        body = self.digests(row)
        files = unpacked(row.sign) if body is not None else []
        if body is None or len(body) != DIGEST_BYTES * len(files):
            return {}
        return {file[0]: (file, digest_at(body, place)) for place, file in enumerate(files)}

    def notes(self, kind: str) -> dict[str, bytes]:
        """What was noted of contents, by digest; `kind` names how they were looked at."""
        rows = self._connection.execute("select digest, found from note where kind = ?", (kind,))
        return {f"sha256:{digest.hex()}": bytes(found) for digest, found in rows}

    def keep_notes(self, kind: str, found: Iterable[tuple[str, bytes]]) -> None:
        """Note something of contents: it stays true whatever the files are called."""
        rows = [(bytes.fromhex(digest[7:]), kind, each) for digest, each in found]
        with self._writing():
            self._connection.executemany("insert or replace into note values (?, ?, ?)", rows)

    def all_known(self, root: int) -> dict[str, tuple[File, str]]:
        """Every remembered file of a root by its path, each with its digest."""
        found = {}
        for row in self._rows(root):
            found.update({row.prefix + name: known for name, known in self.known(row).items()})
        return found

    def save(
        self,
        root: int,
        tree: str,
        changed: Iterable[tuple[str, list[File], bytes]],
        *,
        removed: Iterable[str] | None,
        is_source: bool,
    ) -> None:
        """Write rows (prefix, files with racy ones marked, digests), and the tree that all rows of the root make up.

        Args:
            removed: prefixes of rows to take away; None for all that are not written.
            is_source: the root is one that was added, not one that was checked out.
        """
        with self._writing():
            if removed is None:
                self._connection.execute("delete from folder where root = ?", (root,))
            gone = [(root, _bytes(prefix)) for prefix in removed or ()]
            self._connection.executemany("delete from folder where root = ? and prefix = cast(? as text)", gone)
            self._connection.executemany(
                "insert or replace into folder (root, prefix, sign, body, checksum)"
                " values (?, cast(? as text), ?, ?, ?)",
                (
                    (root, _bytes(prefix), sign, body, zlib.crc32(body, zlib.crc32(sign)))
                    for prefix, files, body in changed
                    for sign in (packed(files),)
                ),
            )
            self._connection.execute(
                "update root set tree = ?, used = ?, is_source = max(is_source, ?) where id = ?",
                (tree, time.time(), is_source, root),
            )
            self._forget_old_roots()

    def stands_for(self, root: int, tree: str) -> None:
        """What lies at a root says the same as a tree whose bytes or names are others: unchanged, it is that tree."""
        with self._writing():
            self._connection.execute("update root set tree = ? where id = ?", (tree, root))

    def refresh(self, root: int, tree: str, changed: Iterable[tuple[Row, list[File], bytes]]) -> None:
        """Write new stamps of files whose content was found unchanged; rows that another process rewrote are left."""
        with self._writing():
            for row, files, body in changed:
                sign = packed(files)
                self._connection.execute(
                    "update folder set sign = ?, body = ?, checksum = ? where id = ? and sign = ? "
                    "and (select tree from root where id = ?) = ?",
                    (sign, body, zlib.crc32(body, zlib.crc32(sign)), row.id, row.sign, root, tree),
                )

    def forget_unused(self, *, is_dry_run: bool) -> tuple[int, int]:
        """Forget places that were added and are gone, but the last, and notes of contents that are in no place.

        Gives how many, and their bytes. With `is_dry_run` it only counts.
        """
        last = self.newest_source()
        places = self._connection.execute("select id, path from root where is_source = 1").fetchall()
        gone = [number for number, path in places if path != last and not os.path.lexists(path)]
        noted = {bytes(row[0]) for row in self._connection.execute("select distinct digest from note")}
        size_bytes = 0
        for root, sign, body in self._connection.execute("select root, length(sign), body from folder"):
            if root in gone:
                size_bytes += sign + len(body)
            elif noted:
                noted.difference_update(body[at : at + DIGEST_BYTES] for at in range(0, len(body), DIGEST_BYTES))
        for digest in noted:
            size_bytes += int(str(self._one("select sum(length(found)) from note where digest = ?", (digest,)) or 0))
        if not is_dry_run and (gone or noted):
            with self._writing():
                self._connection.executemany("delete from folder where root = ?", [(number,) for number in gone])
                self._connection.executemany("delete from root where id = ?", [(number,) for number in gone])
                self._connection.executemany("delete from note where digest = ?", [(digest,) for digest in noted])
            with contextlib.suppress(sqlite3.OperationalError):  # in use: the next time
                self._connection.execute("vacuum")
        return len(gone) + len(noted), size_bytes

    def now_ns(self) -> int:
        """The present by the file system's own clock: the time that it gives a file just touched."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            mark = self._path.with_name(f".{self._path.name}.{os.getpid()}.now")
            mark.touch()
            now = mark.stat().st_mtime_ns
            mark.unlink()
        except OSError:
            return time.time_ns()  # a folder that cannot be written keeps no rows either
        return now

    def _rows(self, root: int) -> Iterator[Row]:
        """The rows of a root by prefix, some at a time: whoever reads them may also write."""
        after = ""
        found = self._connection.execute(
            "select id, prefix, sign from folder where root = ? and prefix >= '' order by prefix limit ?", (root, _PAGE)
        ).fetchall()
        while found:
            for number, prefix, sign in found:
                yield Row(number, prefix, sign)
            after = found[-1][1]
            if len(found) < _PAGE:
                return
            found = self._connection.execute(
                "select id, prefix, sign from folder where root = ? and prefix > cast(? as text) order by prefix"
                " limit ?",
                (root, _bytes(after), _PAGE),
            ).fetchall()

    def _forget_old_roots(self) -> None:
        """Places that were checked out once and never again are not remembered for ever."""
        old = "select id from root where is_source = 0 order by used desc limit -1 offset ?"
        self._connection.execute(f"delete from folder where root in ({old})", (CHECKOUTS,))
        self._connection.execute(f"delete from root where id in ({old})", (CHECKOUTS,))

    def _root(self, place: str) -> int:
        found = self._connection.execute(
            "select id from root where path = cast(? as text)", (_bytes(place),)
        ).fetchone()
        return 0 if found is None else int(found[0])

    def _one(self, query: str, values: tuple[object, ...]) -> object:
        found = self._connection.execute(query, values).fetchone()
        return None if found is None else found[0]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction. A cache that cannot be written is not kept; nothing else depends on it."""
        try:
            self._connection.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")
        except sqlite3.OperationalError:
            self._replace_by_memory()

    def _replace_by_memory(self) -> None:
        self._connection.close()
        self._connection = _memory()
        self._connection.text_factory = _text

    def _opened(self) -> sqlite3.Connection:
        for _ in range(2):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                return self._connected()
            except sqlite3.OperationalError:
                return self._read_only() or _memory()
            except sqlite3.DatabaseError:
                for suffix in ("", "-wal", "-shm"):  # a broken cache is thrown away
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            except OSError:
                return self._read_only() or _memory()
        return _memory()

    def _read_only(self) -> sqlite3.Connection | None:
        """The file as it was when it could last be written: what it says of a stamp is still true."""
        try:
            connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
            )
            if int(connection.execute("pragma user_version").fetchone()[0]) == FORMAT:
                return connection
            connection.close()
        except sqlite3.Error:
            return None  # there is none, or it is broken: an empty one then
        return None

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            version = int(connection.execute("pragma user_version").fetchone()[0])
            connection.execute("pragma synchronous = normal")
            if version != FORMAT:
                connection.execute("pragma journal_mode = wal")
                _create(connection)
            connection.execute("select count(*) from (select 1 from root limit 1)").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection


def packed(files: list[File]) -> bytes:
    """A folder's files as bytes: equal if and only if every name and stamp is."""
    try:
        return _encoder.encode(files)
    except UnicodeEncodeError:  # a name that is no UTF-8: it is kept as bytes
        return _encoder.encode([(_bytes(file[0]), *file[1:]) for file in files])


def unpacked(sign: bytes) -> list[File]:
    """The files of a sign; none if it is broken."""
    try:
        return _decoder.decode(sign)
    except msgspec.ValidationError:
        pass  # names that are no UTF-8: see `packed`
    except msgspec.DecodeError:
        return []
    try:
        return [(_text(file[0]), *file[1:]) for file in _decoder_of_bytes.decode(sign)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def digest_at(body: bytes, place: int) -> str:
    """One of the digests of a body."""
    return f"sha256:{body[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES].hex()}"


def without_racy(files: list[File], now_ns: int) -> list[File]:
    """The files as they may be remembered when their hashing began at `now_ns`."""
    oldest = now_ns - RACY_NS
    return [
        file if file[2] < oldest and file[3] < oldest else (file[0], file[1], NEVER, NEVER, file[4]) for file in files
    ]


def _bytes(text: str) -> bytes:
    """A name or path as SQLite and msgpack can hold it; its order is that of the text, also where it is no UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("begin immediate")
    if int(connection.execute("pragma user_version").fetchone()[0]) != FORMAT:
        for table in ("root", "folder", "note"):
            connection.execute(f"drop table if exists {table}")
        for statement in _SCHEMA.split(";"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(f"pragma user_version = {FORMAT}")
    connection.execute("commit")


def _memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _create(connection)
    return connection
