"""Many objects into a folder of objects at once: small ones to packs, large ones to files or chunks.

Whatever is already there is compared with what is at hand, byte by byte: an altered copy is put
right by the next put, and counting on a copy (deduplication) is always counting on a good one.
Files are read once; a file that changes meanwhile is named and nothing of it is kept as a version.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from noria.core.errors import Conflict, Corrupt, NotFound, StoreUnavailable
from noria.core.identity import Digest
from noria.store.chunks import CHUNKED_BYTES, Chunker, Recipe, pays
from noria.store.failpoint import failpoint
from noria.store.objects import FRESH_S, stamp_of
from noria.store.packs import Batch, Packs, as_name

__all__ = ["PACKED_BYTES", "Adding", "add_files", "opened"]

PACKED_BYTES = 64 << 10
"""Smaller objects go to packs, unless they are stored one at a time."""

_AT_ONCE = 256
_AT_ONCE_BYTES = 4 << 20
_CHUNK_BLOCK_BYTES = 4 << 20
_BLOCKS_AHEAD = 3
_THREADS = 2

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

    def adding(self, pending: set[bytes]) -> AbstractContextManager[Adding]:
        """A turn to add small objects."""
        ...


class Adding:
    """Collects small objects and appends those that are not there to a batch. One thread each.

    `pending` holds what other threads of the same call append, so that nothing is stored twice.
    """

    def __init__(self, packs: Packs, batch: Batch, is_loose: Callable[[bytes], bool], pending: set[bytes]) -> None:
        self._packs = packs
        self._batch = batch
        self._is_loose = is_loose
        self._pending = pending
        self._waiting: dict[bytes, bytes | memoryview] = {}
        self._bytes = 0
        self._touched: list[bytes] = []

    def add(self, key: bytes, content: bytes | memoryview) -> None:
        """One object more; its digest is the caller's word."""
        if key in self._pending:
            return
        self._pending.add(key)
        self._waiting[key] = content
        self._bytes += len(content)
        if len(self._waiting) >= _AT_ONCE or self._bytes >= _AT_ONCE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Look for what waits, and append what is not there as it should be."""
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        found = self._packs.find(list(waiting))
        stored = self._stored(list(found))
        stale = time.time() - FRESH_S / 2
        for key, content in waiting.items():
            if key in found:
                if stored.get(key) == content:
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


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """A user's file, open for reading, with its status at the beginning.

    Raises: NotFound; StoreUnavailable; Conflict if it is another one, or changed, at the end.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no file {path}") from error
    except OSError as error:
        raise StoreUnavailable(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    try:
        before = os.fstat(handle)
        if (before.st_mode & 0o170000) != 0o100000:
            raise NotFound(f"there is no file {path}", hint="it is a folder or a device")
        yield handle, before
        if stamp_of(os.fstat(handle)) != stamp_of(before):
            raise Conflict("the file changed while it was read", where=str(path), hint="run the command again")
    finally:
        os.close(handle)


def add_files(store: Store, paths: Sequence[Path], progress: Progress) -> list[Digest]:
    """Store many files; gives their digests in order. See `Objects.put_files`."""
    found: list[Digest] = [Digest("")] * len(paths)
    large: list[int] = []
    pending: set[bytes] = set()
    stop = threading.Event()

    def small(numbers: Sequence[int]) -> None:
        with store.adding(pending) as adding:
            for number in numbers:
                if stop.is_set():
                    return
                with opened(paths[number]) as (handle, status):
                    if status.st_size >= PACKED_BYTES:
                        large.append(number)
                        continue
                    content = os.read(handle, status.st_size + 1)
                key = hashlib.sha256(content).digest()
                found[number] = as_name(key)
                adding.add(key, content)
                progress(len(content))
            adding.commit()

    half = (len(paths) + _THREADS - 1) // _THREADS
    parts = [range(len(paths))] if len(paths) < 2 * _AT_ONCE else [range(half), range(half, len(paths))]
    _in_threads(small, parts, stop)
    large.sort()
    for number in large:
        found[number] = add_large(store, paths[number])
        progress(paths[number].stat().st_size)
    return found


def _in_threads(work: Callable[[Sequence[int]], None], parts: Sequence[Sequence[int]], stop: threading.Event) -> None:
    if len(parts) == 1:
        work(parts[0])
        return
    with ThreadPoolExecutor(len(parts), thread_name_prefix="noria-add") as pool:
        futures = [pool.submit(work, part) for part in parts]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            raise


def add_large(store: Store, path: Path) -> Digest:
    """Store one file: as chunks where a sample says that it pays, else whole."""
    with opened(path) as (handle, status), os.fdopen(os.dup(handle), "rb", buffering=0) as stream:
        if status.st_size >= CHUNKED_BYTES and pays(stream, status.st_size):
            recipe = _add_chunks(store, stream, status.st_size)
            if stamp_of(os.fstat(handle)) == stamp_of(status):
                store.put_recipe(recipe)
            return recipe.digest
        return store.put_sized(stream, status.st_size)


def _add_chunks(store: Store, stream: BinaryIO, size_bytes: int) -> Recipe:
    """Cut here, hash the whole in one thread and the chunks in another; the disk works beside them."""
    whole = hashlib.sha256()
    chunker = Chunker(size_bytes)
    chunks: list[tuple[Digest, int]] = []
    with store.adding(set()) as adding, ThreadPoolExecutor(1) as hashing, ThreadPoolExecutor(1) as storing:

        def keep(cuts: list[memoryview]) -> None:
            for content in cuts:
                key = hashlib.sha256(content).digest()
                chunks.append((as_name(key), len(content)))
                adding.add(key, content)

        under_way: list[Future[None]] = []
        while block := stream.read(_CHUNK_BLOCK_BYTES):
            under_way += (hashing.submit(whole.update, block), storing.submit(keep, chunker.feed(block)))
            while len(under_way) > 2 * _BLOCKS_AHEAD:
                under_way.pop(0).result()
        under_way.append(storing.submit(keep, chunker.finish()))
        for each in under_way:
            each.result()
        adding.commit()
    failpoint("chunks.stored")
    return Recipe(Digest("sha256:" + whole.hexdigest()), tuple(chunks), chunker.rule)
