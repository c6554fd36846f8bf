"""Many objects into a folder of objects at once: small ones to packs, large ones to files or chunks.

Whatever is already there is compared with what is at hand, byte by byte: an altered copy is put
right by the next put, and counting on a copy (deduplication) is always counting on a good one.
Files are read once; a file that changes meanwhile is named and nothing of it is kept as a version.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from noria.core.errors import Conflict, Corrupt, NotFound, StoreUnavailable
from noria.core.identity import Digest
from noria.core.lazy import lazy
from noria.store.chunks import CHUNKED_BYTES, Chunker, Recipe, pays
from noria.store.failpoint import failpoint
from noria.store.objects import FRESH_S, stamp_of
from noria.store.packs import Batch, Packs, as_name

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = lazy("concurrent.futures")

__all__ = ["PACKED_BYTES", "Adding", "add_files", "opened"]

PACKED_BYTES = 64 << 10
"""Smaller objects go to packs, unless they are stored one at a time."""

_AT_ONCE = 256
_AT_ONCE_BYTES = 4 << 20
_CHUNK_BLOCK_BYTES = 4 << 20
_BUFFERS = 4
_GROUPS_AHEAD = 2

Progress = Callable[[int], None]


class Store(Protocol):
    """What adding files asks of the store that they go to."""

    def put(self, source: BinaryIO) -> Digest:
        """Store a stream as a file of its own."""
        ...

    def put_sized(self, source: BinaryIO, size_bytes: int) -> Digest:
        """Store a stream of a known size as a file of its own."""
        ...

    def put_recipe(self, recipe: Recipe) -> None:
        """Name an object whose chunks are stored."""
        ...

    def adding(self) -> AbstractContextManager[Adding]:
        """A turn to add small objects."""
        ...


class Adding:
    """Collects small objects and appends those that are not there to a batch. One thread at a time."""

    def __init__(self, packs: Packs, batch: Batch, is_loose: Callable[[bytes], bool]) -> None:
        self._packs = packs
        self._batch = batch
        self._is_loose = is_loose
        self._seen: set[bytes] = set()
        self._waiting: dict[bytes, bytes | memoryview] = {}
        self._bytes = 0
        self._touched: list[bytes] = []
        self._is_broken = False

    def add(self, key: bytes, content: bytes | memoryview) -> None:
        """One object more; its digest is the caller's word."""
        if key in self._seen:
            return
        self._seen.add(key)
        self._waiting[key] = content
        self._bytes += len(content)
        if len(self._waiting) >= _AT_ONCE or self._bytes >= _AT_ONCE_BYTES:
            self.flush()

    def add_all(self, items: Iterable[tuple[bytes, bytes | memoryview]]) -> None:
        """Some more, and hand all that waits to the operating system: memory that a view shows may change then.

        After a failure nothing more is appended: who waits for what failed is told, and the batch is taken back.
        """
        if self._is_broken:
            return
        self._is_broken = True
        for key, content in items:
            self.add(key, content)
        self.flush()
        self._batch.write()
        self._is_broken = False

    def flush(self) -> None:
        """Look for what waits, and append what is not there as it should be."""
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        found = self._packs.find(list(waiting))
        stored = self._stored(list(found))
        stale = time.time() - FRESH_S / 2
        for key, content in waiting.items():
            if key in found:
                if stored.get(key) == bytes(content):  # a view would be compared byte by byte
                    if found[key].trashed or found[key].seen < stale:
                        self._touched.append(key)
                else:
                    self._batch.append(key, content, replaces=True)
            elif not self._is_loose(key):
                self._batch.append(key, content)

    def commit(self) -> None:
        """Everything is durable when this returns."""
        self.flush()
        if self._touched:
            self._packs.touch(self._touched)
        self._batch.commit()

    def _stored(self, keys: list[bytes]) -> dict[bytes, bytes]:
        if not keys:
            return {}
        try:
            return dict(self._packs.read_many(keys))
        except Corrupt:
            return {key: content for key in keys if (content := self._readable(key)) is not None}

    def _readable(self, key: bytes) -> bytes | None:
        """What is stored under a name, or None where it cannot be read: it is then stored anew."""
        try:
            return self._packs.read(key)
        except Corrupt:
            return None


def _open(path: str | Path) -> tuple[int, os.stat_result]:
    """A user's file, open for reading, and its status. Raises: NotFound; StoreUnavailable."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no file {path}") from error
    except OSError as error:
        raise StoreUnavailable(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    status = os.fstat(handle)
    if (status.st_mode & 0o170000) != 0o100000:
        os.close(handle)
        raise NotFound(f"there is no file {path}", hint="it is a folder or a device")
    return handle, status


def _check_unchanged(handle: int, before: os.stat_result, path: str | Path) -> None:
    if stamp_of(os.fstat(handle)) != stamp_of(before):
        raise Conflict("the file changed while it was read", where=str(path), hint="run the command again")


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[int, os.stat_result]]:
    """A user's file, open for reading, with its status at the beginning.

    Raises: NotFound; StoreUnavailable; Conflict if it is another one, or changed, at the end.
    """
    handle, before = _open(path)
    try:
        yield handle, before
        _check_unchanged(handle, before, path)
    finally:
        os.close(handle)


def _read_small(path: str | Path) -> bytes | None:
    """The bytes of a small file, None of a large one. Raises: as `opened`, which costs as much as reading does."""
    handle, before = _open(path)
    try:
        is_small = before.st_size < PACKED_BYTES
        content = os.read(handle, before.st_size + 1) if is_small else None
        _check_unchanged(handle, before, path)
        return content
    finally:
        os.close(handle)


def add_files(store: Store, paths: Sequence[str | Path], progress: Progress) -> list[Digest]:
    """Store many files; gives their digests in order. See `Objects.put_files`.

    They are read and hashed here and appended in another thread, some hundreds at a time: two threads that
    both go from file to file would take turns at the interpreter, and be slower than one.
    """
    found: list[Digest] = [Digest("")] * len(paths)
    large: list[int] = []
    group: list[tuple[bytes, bytes]] = []
    held = 0
    under_way: list[futures.Future[None]] = []
    with store.adding() as adding, futures.ThreadPoolExecutor(1, thread_name_prefix="noria-add") as storing:
        for number, path in enumerate(paths):
            content = _read_small(path)
            if content is None:
                large.append(number)
                continue
            key = hashlib.sha256(content).digest()
            found[number] = as_name(key)
            group.append((key, content))
            held += len(content)
            if len(group) == _AT_ONCE or held >= _AT_ONCE_BYTES:
                under_way.append(storing.submit(adding.add_all, group))
                progress(held)
                group, held = [], 0
                while len(under_way) > _GROUPS_AHEAD:
                    under_way.pop(0).result()
        for each in under_way:
            each.result()
        adding.add_all(group)
        adding.commit()
        progress(held)
    for number in large:
        found[number] = add_large(store, paths[number])
        progress(os.stat(paths[number]).st_size)  # noqa: PTH116  # a name as well as a Path
    return found


def add_large(store: Store, path: str | Path) -> Digest:
    """Store one file: as chunks where a sample says that it pays, else whole."""
    with opened(path) as (handle, status), os.fdopen(os.dup(handle), "rb", buffering=0) as stream:
        if status.st_size >= CHUNKED_BYTES and pays(stream, status.st_size):
            recipe = _add_chunks(store, stream, status.st_size)
            if stamp_of(os.fstat(handle)) == stamp_of(status):
                store.put_recipe(recipe)
            return recipe.digest
        return store.put_sized(stream, status.st_size)


def _add_chunks(store: Store, stream: BinaryIO, size_bytes: int) -> Recipe:
    """Cut here, hash the whole in one thread and the chunks in another; the disk works beside them.

    What is read goes round in a few buffers: fresh memory for each block costs as much as hashing it.
    """
    whole = hashlib.sha256()
    chunker = Chunker(size_bytes)
    chunks: list[tuple[Digest, int]] = []
    with store.adding() as adding, futures.ThreadPoolExecutor(1) as hashing, futures.ThreadPoolExecutor(1) as storing:

        def keep(cuts: list[memoryview]) -> None:
            keyed = [(hashlib.sha256(content).digest(), content) for content in cuts]
            chunks.extend((as_name(key), len(content)) for key, content in keyed)
            adding.add_all(keyed)

        buffers = [memoryview(bytearray(chunker.rest_bytes + _CHUNK_BLOCK_BYTES)) for _ in range(_BUFFERS)]
        busy: list[list[futures.Future[None]]] = [[] for _ in buffers]
        rest = memoryview(b"")
        for number in itertools.cycle(range(_BUFFERS)):
            for each in busy[number]:
                each.result()
            buffer, begin = buffers[number], len(rest)
            buffer[:begin] = rest
            end = begin + stream.readinto(buffer[begin : begin + _CHUNK_BLOCK_BYTES])  # type: ignore[attr-defined]  # it is unbuffered
            is_last = end == begin
            busy[number] = [hashing.submit(whole.update, buffer[begin:end])]
            ends = chunker.cuts(buffer[:end], is_last=is_last)
            cuts = [buffer[start:stop] for start, stop in itertools.pairwise([0, *ends])]
            busy[number].append(storing.submit(keep, cuts))
            rest = buffer[ends[-1] if ends else 0 : end]
            if is_last:
                break
        for each in itertools.chain(*busy):
            each.result()
        adding.commit()
    failpoint("chunks.stored")
    return Recipe(Digest("sha256:" + whole.hexdigest()), tuple(chunks), chunker.rule)
