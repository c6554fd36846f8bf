"""Objects from one store to another: only what is missing, checked at both ends, to be broken off at any time.

Small objects go in batches, so that the other side can pack them; a large one that is stored in
pieces sends the pieces that the other side lacks; a large one that is whole is sent in parts, and
what arrived before a kill is not sent again. Every byte is hashed on the way out of its store and
compared with its name on the way into the other. A large object that is fetched waits in a file
beside the cache, with a note of the parts that are there.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from noria.core.errors import Corrupt, NotFound
from noria.core.frozen import frozen
from noria.core.identity import Digest, short
from noria.store.objects import HasChunks, Objects, SealsChunks, disk_faults

__all__ = ["Copied", "HasRanges", "HasUploads", "Missing", "copy", "missing"]

SMALL_BYTES = 1 << 20
"""Objects up to this size travel in batches."""
BATCH_BYTES = 64 << 20
"""What is lost at most of each batch that is under way when a process is killed."""
BATCHES = 2
PART_BYTES = 8 << 20
THREADS = 8
Advance = Callable[[int], None]
Missing = Mapping[Digest, int]
"""Objects by name, with their sizes in bytes."""


@runtime_checkable
class HasUploads(Protocol):
    """A store that is far away: it takes a large object in parts, and continues what was broken off."""

    def put_known(self, digest: Digest, source: BinaryIO, size: int, sent: Advance = ...) -> None:
        """Store a seekable stream whose digest the caller has verified."""
        ...


@runtime_checkable
class HasRanges(Protocol):
    """A store that is far away: a large object is best fetched in parts, several at a time."""

    def read_range(self, digest: Digest, start: int, length: int) -> bytes:
        """Some bytes of an object. Raises: NotFound."""
        ...


@frozen
class Copied:
    """What travelled: objects and bytes, and how many objects were there already."""

    objects: int
    size_bytes: int
    there: int


def missing(target: Objects, wanted: Mapping[Digest, int]) -> dict[Digest, int]:
    """Those that the target does not have, with their sizes."""
    there = target.has_many(wanted)
    return {name: size for name, size in wanted.items() if name not in there}


def copy(
    source: Objects, target: Objects, lacking: Missing, *, partial: Path, advance: Advance = lambda _: None
) -> Copied:
    """Bring objects that the target lacks; gives what travelled.

    Idempotent: what a killed call has brought is found by `missing` at the next one.
    Args:
        partial: a folder for large objects that are on their way in.
        advance: told the bytes that are done; pieces that the target had count as done.
    Raises: NotFound for what the source does not have; Corrupt naming the object and the store.
    """
    small = {name: size for name, size in lacking.items() if size <= SMALL_BYTES}
    large = {name: size for name, size in lacking.items() if size > SMALL_BYTES}
    there = 0
    recipes: dict[Digest, Sequence[tuple[Digest, int]]] = {}
    pieces: dict[Digest, int] = {}
    for name in list(large):
        chunks = _chunks(source, target, name)
        if chunks is not None:
            recipes[name] = chunks
            pieces.update(chunks)
            del large[name]
    if pieces:
        needed = missing(target, pieces)
        there += len(pieces) - len(needed)
        advance(sum(size for chunks in recipes.values() for _, size in chunks) - sum(needed.values()))
        small.update(needed)
    moved = sum(small.values()) + sum(large.values())
    _copy_small(source, target, small, advance)
    with ThreadPoolExecutor(THREADS // 2) as pool:
        list(pool.map(lambda item: _copy_large(source, target, item, partial, advance), large.items()))
    for name, chunks in recipes.items():
        assert isinstance(target.store, HasChunks), "looked at when the recipe was read"
        if isinstance(target.store, HasUploads) and not isinstance(source.store, SealsChunks):
            source.verify(name)  # the other store takes our word, so it must be good
        target.store.put_chunked(name, chunks)
    return Copied(len(small) + len(large), moved, there)


def _chunks(source: Objects, target: Objects, name: Digest) -> Sequence[tuple[Digest, int]] | None:
    """The pieces to send instead of the object, if both sides know pieces."""
    if isinstance(source.store, HasChunks) and isinstance(target.store, HasChunks):
        return source.store.chunks_of(name)
    return None


def _copy_small(source: Objects, target: Objects, wanted: Missing, advance: Advance) -> None:
    """In batches, each durable at its end; two at a time, so that one is on its way while the other is synced."""

    def bring(batch: Sequence[Digest]) -> None:
        def contents() -> Iterator[tuple[Digest, bytes]]:
            for name, content in source.get_many(batch):
                if stop.is_set():
                    return
                yield name, content
                advance(len(content))

        stored = target.put_verified(contents())
        if not stop.is_set() and set(stored) != set(batch):
            absent = set(batch) - set(stored)
            raise NotFound(f"{len(absent)} objects did not arrive, such as {short(min(absent, default=''))}")

    stop = threading.Event()
    with ThreadPoolExecutor(BATCHES) as pool:
        futures = [pool.submit(bring, batch) for batch in _batches(wanted)]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise


def _batches(wanted: Missing) -> Iterator[list[Digest]]:
    batch: list[Digest] = []
    held = 0
    for name, size in wanted.items():
        batch.append(name)
        held += size
        if held >= BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _copy_large(source: Objects, target: Objects, item: tuple[Digest, int], partial: Path, advance: Advance) -> None:
    name, size = item
    if isinstance(target.store, HasUploads):
        with source.path(name).open("rb") as stream:  # verified when it was opened by name
            target.store.put_known(name, stream, size, advance)
    elif isinstance(source.store, HasRanges):
        _fetch(source, target, name, size, partial, advance)
    else:
        stored = target.put_file(source.path(name))
        if stored != name:
            raise _altered(name, "the other store")
        advance(size)


def _fetch(source: Objects, target: Objects, name: Digest, size: int, partial: Path, advance: Advance) -> None:
    """Parts side by side into a file, then the whole file by its digest; parts that are there are kept."""
    with _Waiting(partial / name[7:], size).held() as waiting:
        _fill(source, target, name, size, waiting, advance)


def _fill(source: Objects, target: Objects, name: Digest, size: int, waiting: _Waiting, advance: Advance) -> None:
    read = source.store.read_range if isinstance(source.store, HasRanges) else None
    assert read is not None, "looked at before"
    for attempt in (1, 2):
        fetched = waiting.fill(lambda start, length: read(name, start, length), advance if attempt == 1 else _silent)
        stored = target.put_file(waiting.path)  # hashed on its way; what is not wanted is collected as garbage
        waiting.remove()
        if stored == name:
            return
        if attempt == 2 or fetched == size:  # every part is fresh: the store's bytes are wrong, not ours
            raise _altered(name, "the store that it came from")


class _Waiting:
    """A file that fills up in parts, in any order, over any number of processes' lives."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._notes = path.with_name(f"{path.name}.parts")
        self._size = size
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[_Waiting]:
        """Keep the file from being taken for one that was broken off (`broken_off`)."""
        with disk_faults(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = self._opened()
        try:
            yield self
        finally:
            os.close(handle)

    def _opened(self) -> int:
        """The file, locked together with other pulls; one that was taken away before it was locked is made again."""
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_SH)
            try:
                if os.fstat(handle).st_ino == self.path.stat().st_ino:
                    return handle
            except FileNotFoundError:
                pass
            os.close(handle)

    def fill(self, read: Callable[[int, int], bytes], advance: Advance) -> int:
        """Fetch the parts that are not there; gives how many bytes were fetched."""
        with disk_faults(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            done = self._noted() if self.path.exists() and self.path.stat().st_size == self._size else set()
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with disk_faults(self.path):
                os.ftruncate(handle, self._size)
            if not done:
                self._notes.unlink(missing_ok=True)
            count = -(-self._size // PART_BYTES)
            for number in done:
                advance(self._length(number))
            rest = [number for number in range(count) if number not in done]
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(lambda number: self._part(handle, number, read, advance), rest))
            return sum(map(self._length, rest))
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Take the file and its notes away."""
        self._notes.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _length(self, number: int) -> int:
        return min(PART_BYTES, self._size - number * PART_BYTES)

    def _part(self, handle: int, number: int, read: Callable[[int, int], bytes], advance: Advance) -> None:
        content = read(number * PART_BYTES, self._length(number))
        if len(content) != self._length(number):
            raise Corrupt(
                f"object {self.path.stem[:12]} ends early in the store that it came from",
                hint="it was cut short there; push it again from where it is whole",
            )
        with disk_faults(self.path):
            view, at = memoryview(content), number * PART_BYTES
            while view:
                count = os.pwrite(handle, view, at)
                view, at = view[count:], at + count
            with self._lock, self._notes.open("a", encoding="ascii") as notes:
                notes.write(f"{number}\n")
        advance(len(content))

    def _noted(self) -> set[int]:
        if not self._notes.exists():
            return set()
        lines = self._notes.read_text(encoding="ascii", errors="replace").split("\n")
        return {int(line) for line in lines[:-1] if line.isdigit()}  # the last line may be torn


def broken_off(partial: Path, *, unused_since: float, is_dry_run: bool) -> tuple[int, int]:
    """Take away downloads that no process holds and nobody has gone on with since then; gives number and bytes."""
    count = size_bytes = 0
    for path in sorted(partial.glob("*.part")) if partial.is_dir() else ():
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # it has just arrived
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(handle)
            if status.st_mtime < unused_since:
                count, size_bytes = count + 1, size_bytes + status.st_size
                if not is_dry_run:
                    path.with_name(f"{path.name}s").unlink(missing_ok=True)
                    path.unlink(missing_ok=True)
        except BlockingIOError:
            continue  # a pull is at work on it
        finally:
            os.close(handle)
    return count, size_bytes


def _silent(_done: int) -> None:
    """A second try is not progress."""


def _altered(name: Digest, place: str) -> Corrupt:
    return Corrupt(
        f"object {short(name)} was altered in {place}",
        hint="it was not taken over; push it again from where it is whole",
    )
