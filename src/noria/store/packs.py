"""Small objects in large files: one append and one sync for thousands of them.

A pack is records one after another: a header (magic, size, digest, checksum), then the bytes. A
mark ends what one writer appended, and the sync after the mark is the commit; what stands behind
the last mark of a pack that nobody holds is what a killed writer left, and the next writer keeps
what is whole of it and cuts the rest. A writer holds its pack by flock and others take another one,
so any number of processes append at once. A pack is never changed but for the one byte in a header
that says the record is dead, and the zeros that erasure writes over its content.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from io import FileIO
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from noria.core.errors import Corrupt
from noria.core.frozen import slotted
from noria.core.identity import Digest, short
from noria.core.lazy import lazy
from noria.store.disk import begin_writing
from noria.store.failpoint import failpoint
from noria.store.objects import sync_folder
from noria.store.packindex import PackIndex, Place, Row
from noria.store.packrecords import DEAD, HEADER, LIVE, MARK, NOTHING, header, is_whole, parsed, records, scan

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = lazy("concurrent.futures")

__all__ = ["HEADER", "PACK_BYTES", "Batch", "Packs", "as_key", "as_name"]

PACK_BYTES = 64 << 20
_WRITE_BYTES = 1 << 20
_WRITE_PARTS = 512
_BEGIN_BYTES = 8 << 20  # after so many, the disk is asked to begin
_READ_BYTES = 1 << 20
_ALONE_BYTES = 128 << 10
_OPEN_FILES = 64
_CANDIDATES = 8


def as_key(name: str) -> bytes:
    """The 32 bytes of a digest's text."""
    return bytes.fromhex(name[7:])


def as_name(key: bytes) -> Digest:
    """The text of a digest's 32 bytes."""
    return Digest("sha256:" + key.hex())


class _Reader:
    """A pack open for reading; closed when the last reader lets it go, so that none reads a number reused."""

    def __init__(self, path: Path) -> None:
        self._number = -1
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self._number >= 0:
            os.close(self._number)

    def read(self, size: int, at: int) -> bytes:
        """The bytes from an offset on; fewer at the end."""
        return os.pread(self._number, size, at)


class Packs:
    """The packs of a folder and their index. Thread safe; processes share them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = PackIndex(folder, self._contents, self._is_whole_in)
        self._files: dict[str, _Reader] = {}
        self._lock = threading.Lock()
        self._is_fresh = False
        self._is_rescanned = False

    @property
    def folder(self) -> Path:
        """Where the packs are."""
        return self._folder

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Place]:
        """The places of the objects that are there, those in the trash too."""
        if not self._folder.is_dir():
            return {}
        if not self._is_fresh:
            self.refresh()
        return self._index.find(keys)

    def find_live(self, keys: Sequence[bytes]) -> dict[bytes, Place]:
        """The places of the objects that are there and not in the trash."""
        return {key: place for key, place in self.find(keys).items() if not place.trashed}

    def read(self, key: bytes) -> bytes | None:
        """An object's bytes as they are on disk, or None. The caller verifies them. Raises: Corrupt."""
        return next((content for _, content in self.read_many([key])), None)

    def read_many(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """The bytes of those that are there, in the order of the disk. The caller verifies them."""
        found = self.find(keys)
        if len(found) < len(set(keys)) and self._folder.is_dir():
            missing = [key for key in keys if key not in found]
            found.update(self._search(missing))
        ordered = sorted(found.items(), key=lambda item: (item[1].pack, item[1].at))
        for pack, group in groupby(ordered, key=lambda item: item[1].pack):
            yield from self._read_pack(pack, list(group))

    def objects(self, *, trashed: bool = False) -> Iterator[tuple[bytes, Place]]:
        """Every object that is there, or every one in the trash."""
        if not self._folder.is_dir():
            return
        if not self._is_fresh:
            self.refresh()
        yield from self._index.objects(trashed=trashed)

    def batch(self) -> Batch:
        """A turn to append; see Batch."""
        return Batch(self, self._index)

    def touch(self, keys: Iterable[bytes]) -> None:
        """Objects are asked for again: as if stored now, and out of the trash."""
        self._index.touch(keys)

    def trash(self, keys: Sequence[bytes], *, at: int, unseen_since: int) -> list[bytes]:
        """Move to the trash those that nobody stored or asked for since; gives them."""
        return self._index.trash(keys, at=at, unseen_since=unseen_since)

    def purge(self, key: bytes, place: Place) -> bool:
        """Take away an object that is still in the trash since then; its space comes back by `repack`."""
        if not self._index.drop(key, place):
            return False
        self._kill(key, place.pack, place.at, is_erased=False)
        return True

    def delete(self, key: bytes, *, is_erased: bool = True) -> bool:
        """Take every copy of an object away for good; whether there was one.

        The records are dead, and their bytes zeros if `is_erased`, before this returns.
        """
        if not self._folder.is_dir():
            return False
        is_there = False
        for name in sorted(file.name for file in self._folder.glob("*.pack")):
            with (self._folder / name).open("rb", buffering=0) as handle:
                found = [row for row in records(handle, 0, os.fstat(handle.fileno()).st_size) if row.digest == key]
            for row in found:
                is_there |= self._kill(key, name, row.at, is_erased=is_erased)
        while place := self.find([key]).get(key):
            is_there = True
            self._index.drop(key, place)
        return is_there

    def refresh(self) -> None:
        """Look for what other processes, living or killed, put on disk since the index was written."""
        self._index.reopen_if_replaced()
        known = self._index.packs()
        on_disk = {file.name: file.stat().st_size for file in self._folder.glob("*.pack")}
        for name, size in on_disk.items():
            if size > known.get(name, 0):
                handle = _open_locked(self._folder / name)
                if handle is not None:
                    with handle:
                        self._adopt(name, handle)
        for name in known.keys() - on_disk.keys():
            if name in self._index.packs() and not (self._folder / name).exists():
                self._index.forget(name)
        self._is_fresh = True

    def repack(self, *, share: float = 0.5) -> int:
        """Copy what is named out of packs that are less than `share` in use, and remove them; bytes freed.

        Safe at any moment: a copy is on disk before the index points to it, and the pack goes last.
        """
        if not self._folder.is_dir():
            return 0
        self.refresh()
        freed = 0
        usage = self._index.usage()
        for name, (count, live) in sorted(usage.items()):
            path = self._folder / name
            if path.exists() and live + count * HEADER.size <= share * path.stat().st_size:
                freed += self._empty(name)
        return freed

    def idle_bytes(self, *, share: float = 0.5) -> int:
        """How much `repack` would free: what lies in packs that are little used, and nothing names."""
        if not self._folder.is_dir():
            return 0
        self.refresh()
        freed = 0
        for name, (count, live) in self._index.usage().items():
            size, used = (self._folder / name).stat().st_size, live + count * HEADER.size
            freed += size - used if used <= share * size else 0
        return freed

    def _empty(self, name: str) -> int:
        handle = _open_locked(self._folder / name)
        if handle is None:
            return 0  # a writer is at work in it; the next collection comes again
        with handle:
            size = os.fstat(handle.fileno()).st_size
            if size > self._index.packs().get(name, 0):
                self._adopt(name, handle)
            moved: list[tuple[Row, str, int]] = []
            with self.batch() as batch:
                batch.avoid(name)
                for row in self._index.of_pack(name):
                    record = os.pread(handle.fileno(), HEADER.size + row.size, row.at)
                    content = record[HEADER.size :]
                    if hashlib.sha256(content).digest() != row.digest:
                        return 0  # an altered object stays where it can be looked at, and so does its pack
                    pack, at = batch.append(row.digest, content)
                    moved.append((row, pack, at))
                ends = batch.sync()
                failpoint("repack.copied")
                left = self._index.move(name, moved, ends)
            failpoint("repack.moved")
            if left:
                return 0
            (self._folder / name).unlink()
            sync_folder(self._folder)
            with self._lock:
                self._files.pop(name, None)
            return size - sum(row.size + HEADER.size for row, _, _ in moved)

    def _contents(self) -> Iterator[tuple[str, int, list[Row]]]:
        for file in sorted(self._folder.glob("*.pack")):
            with file.open("rb", buffering=0) as handle:
                rows, end = scan(handle, 0, os.fstat(handle.fileno()).st_size)
            yield file.name, end, rows

    def _is_whole_in(self, pack: str, row: Row) -> bool:
        with FileIO(self._folder / pack) as handle:
            return is_whole(handle, row)

    def _adopt(self, name: str, handle: FileIO) -> None:
        """Index what a killed writer committed or left whole, and cut off the rest; the pack is held."""
        begin, size = self._index.packs().get(name, 0), os.fstat(handle.fileno()).st_size
        rows, end = scan(handle, begin, size)
        behind = [row for row in records(handle, end, size) if is_whole(handle, row)]
        if behind:
            end = behind[-1].at + HEADER.size + behind[-1].size
        if "+" in handle.mode and (end < size or behind):
            os.ftruncate(handle.fileno(), end)
            if behind:
                os.pwrite(handle.fileno(), header(MARK, 0, NOTHING), end)
                end += HEADER.size
            os.fsync(handle.fileno())
        self._index.add(name, end, [*rows, *behind])

    def _search(self, keys: Sequence[bytes]) -> dict[bytes, Place]:
        """What the index does not know may be on disk all the same: written by others, or its row is lost."""
        self.refresh()
        found = self._index.find(keys)
        if len(found) < len(set(keys)) and not self._is_rescanned:
            self._is_rescanned = True
            wanted = set(keys) - found.keys()
            for name, end, rows in self._contents():
                lost = [row for row in rows if row.digest in wanted]
                if lost:
                    whole = {row for row in lost if self._is_whole_in(name, row)}
                    known = min(end, self._index.packs().get(name, 0))
                    ordered = sorted(lost, key=whole.__contains__)  # the last of several copies is named
                    self._index.add(name, known, ordered, replaces={row.digest for row in whole})
            found = self._index.find(keys)
        return found

    def _read_pack(self, pack: str, group: list[tuple[bytes, Place]]) -> Iterator[tuple[bytes, bytes]]:
        """Neighbours are read together."""
        try:
            file = self._file(pack)
        except FileNotFoundError:
            yield from self._read_moved(group)
            return
        start = 0
        while start < len(group):
            key, first = group[start]
            if first.size >= _ALONE_BYTES:  # read where it is needed, not cut out of a block
                head, content = file.read(HEADER.size, first.at), file.read(first.size, first.at + HEADER.size)
                if (whole := self._checked(key, first, head, content)) is not None:
                    yield key, whole
                start += 1
                continue
            stop, end = start, first.at
            while stop < len(group) and group[stop][1].size < _ALONE_BYTES:
                after = group[stop][1].at + HEADER.size + group[stop][1].size
                if stop > start and after - first.at > _READ_BYTES:
                    break
                stop, end = stop + 1, after
            block = memoryview(file.read(end - first.at, first.at))
            for other, place in group[start:stop]:
                record = block[place.at - first.at :][: HEADER.size + place.size]
                if (found := self._content(other, place, record)) is not None:
                    yield other, found
            start = stop

    def _read_moved(self, group: list[tuple[bytes, Place]]) -> Iterator[tuple[bytes, bytes]]:
        """The pack was emptied between the look at the index and the look at the disk."""
        self.refresh()
        again = self._index.find([key for key, _ in group])
        for key, place in again.items():
            record = memoryview(self._file(place.pack).read(HEADER.size + place.size, place.at))
            if (content := self._content(key, place, record)) is not None:
                yield key, content

    def _content(self, key: bytes, place: Place, record: memoryview) -> bytes | None:
        return self._checked(key, place, bytes(record[: HEADER.size]), bytes(record[HEADER.size :]))

    def _checked(self, key: bytes, place: Place, head: bytes, content: bytes) -> bytes | None:
        """The content of a record, if the index was right about it."""
        if head[4:] == header(LIVE, place.size, key)[4:] and len(content) == place.size:
            return content if head[:4] != DEAD else None
        if len(content) == place.size and hashlib.sha256(content).digest() == key:
            return content  # only the header was altered
        for other in self._elsewhere(key):
            return other
        raise Corrupt(
            f"object {short(as_name(key))} was altered: its record is gone",
            where=f"{self._folder / place.pack}, byte {place.at}",
            hint="it was not handed out; put it again, or heal it from a remote",
        )

    def _elsewhere(self, key: bytes) -> Iterator[bytes]:
        """The index was wrong: look through all packs, and put the index right."""
        for name, end, rows in self._contents():
            for row in rows:
                if row.digest == key:
                    with (self._folder / name).open("rb", buffering=0) as handle:
                        content = os.pread(handle.fileno(), row.size, row.at + HEADER.size)
                    if hashlib.sha256(content).digest() == key:
                        self._index.add(name, min(end, self._index.packs().get(name, 0)), [row], replaces=[key])
                        yield content

    def _file(self, pack: str) -> _Reader:
        """The open file of a pack; whoever holds it may go on reading when it is let go here."""
        with self._lock:
            found = self._files.pop(pack, None) or _Reader(self._folder / pack)
            self._files[pack] = found
            while len(self._files) > _OPEN_FILES:
                self._files.pop(next(iter(self._files)))
        return found

    def _kill(self, key: bytes, pack: str, at: int, *, is_erased: bool) -> bool:
        """Mark a record as dead; the mark is one byte, so that it is written or not."""
        try:
            handle = (self._folder / pack).open("r+b", buffering=0)
        except FileNotFoundError:
            return False  # the pack was emptied meanwhile; its copy has its own record
        with handle:
            kind, size, found = parsed(os.pread(handle.fileno(), HEADER.size, at).ljust(HEADER.size, b"\0"))
            if kind == MARK or (kind and found != key):
                return False
            os.pwrite(handle.fileno(), DEAD[2:3], at + 2)
            if is_erased:
                os.fsync(handle.fileno())
                left, to = size, at + HEADER.size
                while left:
                    done = os.pwrite(handle.fileno(), bytes(min(left, _WRITE_BYTES)), to)
                    left, to = left - done, to + done
            os.fsync(handle.fileno())
        return True


@slotted
class _Pack:
    """A pack that a batch appends to: held by flock until the file is closed."""

    name: str
    file: FileIO
    begin: int
    end: int
    is_new: bool
    rows: list[Row] = field(default_factory=list)
    synced: futures.Future[None] | None = None
    begun: int = 0  # the disk was asked to write what stands before


class Batch:
    """One writer's turn to append, in packs that are its own until it ends.

    Nothing is visible before `commit`, which returns when everything is on disk and indexed. Leaving
    the block without it takes back what was appended. Not thread safe: one batch a thread.
    """

    def __init__(self, packs: Packs, index: PackIndex) -> None:
        self._packs = packs
        self._index = index
        self._pack: _Pack | None = None
        self._full: list[_Pack] = []
        self._parts: list[bytes | memoryview] = []
        self._part_bytes = 0
        self._replaces: set[bytes] = set()
        self._avoided: set[str] = set()
        self._syncer: futures.ThreadPoolExecutor | None = None

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the packs go; what was not committed is cut off, unless its mark is already written."""
        if self._syncer is not None:
            self._syncer.shutdown(wait=True)
        for pack in self._full:
            pack.file.close()
        if self._pack is not None:
            with self._pack.file as file:
                if self._pack.is_new:
                    (self._packs.folder / self._pack.name).unlink(missing_ok=True)
                else:
                    os.ftruncate(file.fileno(), self._pack.begin)

    def avoid(self, pack: str) -> None:
        """Do not append to this pack."""
        self._avoided.add(pack)

    def append(self, key: bytes, content: bytes | memoryview, *, replaces: bool = False) -> tuple[str, int]:
        """Add a record; gives its pack and the offset of its header. With `replaces` it heals another copy."""
        if self._pack is None or self._pack.end >= PACK_BYTES:
            self._turn_over()
        assert self._pack is not None
        at, size = self._pack.end, len(content)
        self._parts += (header(LIVE, size, key), content)
        self._part_bytes += HEADER.size + size
        self._pack.end += HEADER.size + size
        self._pack.rows.append(Row(key, at, size))
        if replaces:
            self._replaces.add(key)
        if self._part_bytes >= _WRITE_BYTES or len(self._parts) >= _WRITE_PARTS:
            self.write()
        return self._pack.name, at

    def write(self) -> None:
        """Give what was appended to the operating system: nothing that was handed over is needed any more."""
        if self._pack is None:
            return
        parts, self._parts, self._part_bytes = self._parts, [], 0
        at = self._pack.end - sum(map(len, parts))
        while parts:
            done = os.pwritev(self._pack.file.fileno(), parts[:_WRITE_PARTS], at)
            at += done
            while parts and done >= len(parts[0]):
                done -= len(parts.pop(0))
            if done:
                parts[0] = memoryview(parts[0])[done:]
        if at - self._pack.begun >= _BEGIN_BYTES:
            begin_writing(self._pack.file.fileno(), self._pack.begun, at)
            self._pack.begun = at

    def sync(self) -> dict[str, int]:
        """Put everything on disk, without naming it in the index; gives the end of each pack."""
        if self._pack is not None:
            self._finish(self._pack)
            os.fsync(self._pack.file.fileno())
            self._full.append(self._pack)
            self._pack = None
        for pack in self._full:
            if pack.synced is not None:
                pack.synced.result()
        if any(pack.is_new for pack in self._full):
            sync_folder(self._packs.folder)
        return {pack.name: pack.end for pack in self._full}

    def commit(self) -> None:
        """Everything that was appended is durable and can be found when this returns."""
        self.sync()
        failpoint("pack.synced")
        for pack in self._full:
            healed = [row.digest for row in pack.rows if row.digest in self._replaces]
            self._index.add(pack.name, pack.end, pack.rows, replaces=healed)
            pack.file.close()
        self._full.clear()
        failpoint("pack.indexed")

    def _turn_over(self) -> None:
        """Let the disk work on a full pack while the caller fills the next one."""
        if self._pack is not None:
            self._finish(self._pack)
            if self._syncer is None:
                self._syncer = futures.ThreadPoolExecutor(1, thread_name_prefix="noria-pack")
            self._pack.synced = self._syncer.submit(os.fsync, self._pack.file.fileno())
            self._full.append(self._pack)
            self._pack = None
        self._pack = self._taken()

    def _taken(self) -> _Pack:
        """A pack that has room and that nobody holds, or a new one."""
        folder = self._packs.folder
        folder.mkdir(parents=True, exist_ok=True)
        known = self._index.packs()
        tried = 0
        for name in sorted(known, reverse=True):
            if known[name] >= PACK_BYTES or name in self._avoided or tried >= _CANDIDATES:
                continue
            tried += 1
            file = _open_locked(folder / name)
            if file is None:
                continue
            size = os.fstat(file.fileno()).st_size
            if size > self._index.packs().get(name, 0):
                self._packs._adopt(name, file)
                size = os.fstat(file.fileno()).st_size
            if size == self._index.packs().get(name, -1) < PACK_BYTES:
                return _Pack(name, file, size, size, is_new=False, begun=size)
            file.close()
        name = f"{time.time_ns():016x}-{uuid.uuid4().hex[:8]}.pack"
        file = FileIO(folder / name, "x+")
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        return _Pack(name, file, 0, 0, is_new=True)

    def _finish(self, pack: _Pack) -> None:
        """Write the mark: what stands before it is whole."""
        self.write()
        failpoint("pack.appended")
        self._parts.append(header(MARK, 0, NOTHING))
        pack.end += HEADER.size
        self.write()
        failpoint("pack.marked")


def _open_locked(path: Path) -> FileIO | None:
    """The pack, held; None if somebody holds it, or it is gone. Read only where nothing can be written."""
    try:
        file = FileIO(path, "r+") if os.access(path, os.W_OK) else FileIO(path, "r")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None
