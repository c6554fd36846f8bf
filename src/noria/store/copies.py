"""Verified bytes into files: nothing has the name of a file before its bytes are known to be right.

One copy is written beside its name, synced and renamed. Of many copies, the system takes them to the disk when
it will; a name that is not there is then made in place, because a rename for each file costs as much as writing
it, so that a checkout goes into a new folder that gets its name at the end: see `unpack` for small ones.
An object of chunks is fetched by two threads while another writes, the disk beside them if it is to be synced,
and chunks of nothing become holes.
"""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from noria.core.errors import Corrupt
from noria.core.identity import Digest, short
from noria.core.lazy import lazy
from noria.store.disk import BLOCK_BYTES, disk_faults, sync_files

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = lazy("concurrent.futures")

__all__ = ["altered", "copy_chunks", "copy_stream", "in_two", "not_a_file"]

_THREADS = 2
_PARTS_AHEAD = 3
_AT_ONCE_BYTES = 4 << 20
_NOTHING = bytes(4096)

Fetch = Callable[[Sequence[Digest]], Iterator[tuple[Digest, bytes]]]


def copy_stream(
    name: Digest, source: BinaryIO, target: Path, *, is_synced: bool, progress: Callable[[int], None]
) -> None:
    """Copy a stream to a file beside the target, and rename it when its bytes are right. Raises: Corrupt."""
    hasher = hashlib.sha256()
    with _placed(target, is_synced=is_synced) as temporary:
        with temporary.open("xb") as sink:
            for block in _blocks(source):
                hasher.update(block)
                sink.write(block)
                progress(len(block))
            sink.flush()
            if is_synced:
                os.fsync(sink.fileno())
        found = "sha256:" + hasher.hexdigest()
        if found != name:
            raise altered(name, found)


def copy_chunks(
    chunks: Sequence[tuple[Digest, int]],
    fetch: Fetch,
    target: Path,
    *,
    is_synced: bool,
    progress: Callable[[int], None],
) -> None:
    """Put chunks together in a file beside the target, and rename it when all are in it.

    `fetch` gives chunks in any order, each verified, from any thread; that the list is right is the
    caller's knowledge. Raises: Corrupt; NotFound.
    """
    with _placed(target, is_synced=is_synced) as temporary:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(handle, sum(size for _, size in chunks))
            _Joining(handle, fetch, progress, is_synced=is_synced).run(chunks)
            if is_synced:
                os.fsync(handle)
        finally:
            os.close(handle)


class _Joining:
    """Chunks on their way to their places in a file: fetched by two threads, written by the caller's alone.

    Writers of one file take turns at its lock, and wait for it spinning: two of them write no faster than
    one, and keep a core from fetching. Another thread may have the disk work meanwhile.
    """

    def __init__(self, handle: int, fetch: Fetch, progress: Callable[[int], None], *, is_synced: bool) -> None:
        self._handle = handle
        self._is_synced = is_synced
        self._fetch = fetch
        self._progress = progress

    def run(self, chunks: Sequence[tuple[Digest, int]]) -> None:
        """All of them. Raises: as `fetch`; Corrupt; OSError."""
        parts = _parts(chunks)
        with (
            futures.ThreadPoolExecutor(_THREADS, "noria-join") as pool,
            futures.ThreadPoolExecutor(1, "noria-sync") as syncing,
        ):
            synced: futures.Future[None] | None = None
            ahead = deque(pool.submit(self._fetched, part) for part in islice(parts, _PARTS_AHEAD))
            while ahead:
                fetched = ahead.popleft().result()
                ahead.extend(pool.submit(self._fetched, part) for part in islice(parts, 1))
                for content, places in fetched:
                    self._write(content, places)
                if self._is_synced and (synced is None or synced.done()):
                    if synced is not None:
                        synced.result()
                    synced = syncing.submit(os.fdatasync, self._handle)
            if synced is not None:
                synced.result()

    def _fetched(self, part: Sequence[tuple[Digest, int, int]]) -> list[tuple[bytes, list[int]]]:
        """The different chunks of a part, each with the offsets that it goes to."""
        places: dict[Digest, list[tuple[int, int]]] = {}
        for name, size, at in part:
            places.setdefault(name, []).append((at, size))
        found = []
        for name, content in self._fetch(list(places)):
            wanted = places.pop(name)
            if any(len(content) != size for _, size in wanted):
                raise Corrupt(f"chunk {short(name)} has {len(content)} bytes, not {wanted[0][1]}")
            found.append((content, [at for at, _ in wanted]))
        assert not places, "a chunk that is not there is an error of whoever fetches"
        return found

    def _write(self, content: bytes, places: Sequence[int]) -> None:
        is_nothing = content.startswith(_NOTHING) and content == bytes(len(content))
        for at in places:
            if not is_nothing:
                _write_at(self._handle, content, at)
            self._progress(len(content))


def _parts(chunks: Sequence[tuple[Digest, int]]) -> Iterator[list[tuple[Digest, int, int]]]:
    """Neighbours, some megabytes of different ones together, with their offsets."""
    part: list[tuple[Digest, int, int]] = []
    seen: set[Digest] = set()
    held = 0
    ends = accumulate(size for _, size in chunks)
    for (name, size), end in zip(chunks, ends, strict=True):
        part.append((name, size, end - size))
        held += 0 if name in seen else size
        seen.add(name)
        if held >= _AT_ONCE_BYTES:
            yield part
            part, seen, held = [], set(), 0
    if part:
        yield part


def _write_at(handle: int, content: bytes, at: int) -> None:
    view = memoryview(content)
    while view:
        done = os.pwrite(handle, view, at)
        view, at = view[done:], at + done


@contextmanager
def _placed(target: Path, *, is_synced: bool) -> Iterator[Path]:
    """A name beside the target for the block to fill, renamed to it at the end; gone if the block fails."""
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name[:200]}.{uuid.uuid4().hex}")
        try:
            yield temporary
            temporary.replace(target)
            if is_synced:
                sync_files([target])
        finally:
            temporary.unlink(missing_ok=True)


def altered(name: str, found: str) -> Corrupt:
    """What to raise when bytes are not those of their name."""
    return Corrupt(
        f"object {short(name)} was altered: its bytes are now {short(found)}",
        hint="it was not handed out; noria data verify heals it from a remote; noria audit verify says what it is",
    )


def not_a_file(name: str) -> Corrupt:
    """What to raise when a folder is where the file of an object was."""
    return Corrupt(
        f"object {short(name)} was altered: a folder is in the place of its file",
        hint="it was not handed out; noria data verify heals it from a remote; noria audit verify says what it is",
    )


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    while block := source.read(BLOCK_BYTES):
        yield block


def in_two(stop: threading.Event, *works: tuple[Callable[[Sequence[Digest]], None], Sequence[Digest]]) -> None:
    """Each work on halves of its names, in two threads; the first failure ends them all."""
    parts = [
        (work, names[len(names) * number // _THREADS : len(names) * (number + 1) // _THREADS])
        for work, names in works
        for number in range(_THREADS)
    ]
    with futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="noria-copy") as pool:
        under_way = [pool.submit(work, part) for work, part in parts if part]
        try:
            for future in under_way:
                future.result()
        except BaseException:
            stop.set()
            raise
