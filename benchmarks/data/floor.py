"""The least that versioning costs on this machine: the same bytes read, hashed, written and synced, and nothing else.

Run as a file by itself, from the standard library alone, with no ledger, no index of its contents, no way to
tell two versions apart: a tool that keeps what it stores cannot be faster. `add` appends what changed since the
last time to one file and syncs it, `status` looks at every stamp, `checkout` copies back without verifying.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path

STORE, INDEX = Path(".floor/store"), Path(".floor/index")
BLOCK_BYTES = 4 << 20
LARGE_BYTES = 8 << 20
PARTS = 256

Stamp = tuple[int, int, int, int]
Known = dict[str, tuple[Stamp, int, bytes]]
"""By path: the stamp, the offset in the store, the digest."""


def walk(place: str) -> Iterator[tuple[str, Stamp]]:
    """Every file below a place, or the place itself, with its stamp."""
    if Path(place).is_file():
        yield place, stamp(Path(place).stat())
        return
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from walk(entry.path)
            else:
                yield entry.path, stamp(entry.stat(follow_symlinks=False))


def stamp(found: os.stat_result) -> Stamp:
    """What changes when a file's bytes do."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def known() -> Known:
    """What the last add found."""
    try:
        return marshal.loads(INDEX.read_bytes())  # type: ignore[no-any-return]  # our own file
    except FileNotFoundError:
        return {}


def add(place: str) -> None:
    """Read, hash and append what is new, and sync it; then an index of it."""
    STORE.parent.mkdir(exist_ok=True)
    before, found = known(), {}
    sink = os.open(STORE, os.O_WRONLY | os.O_CREAT)
    at = os.lseek(sink, 0, os.SEEK_END)
    parts: list[bytes] = []
    for path, each in walk(place):
        if path in before and before[path][0] == each:
            found[path] = before[path]
            continue
        if each[0] >= LARGE_BYTES:
            digest = add_large(path, sink)
        else:
            source = os.open(path, os.O_RDONLY)
            parts.append(os.read(source, each[0] + 1))
            os.close(source)
            digest = hashlib.sha256(parts[-1]).digest()
            if len(parts) == PARTS:
                os.writev(sink, parts)
                parts.clear()
        found[path] = each, at, digest
        at += each[0]
    if parts:
        os.writev(sink, parts)
    os.fsync(sink)
    os.close(sink)
    new = INDEX.with_name("index.new")
    with new.open("wb") as index:
        marshal.dump(found, index)
        index.flush()
        os.fsync(index.fileno())
    new.rename(INDEX)


def add_large(path: str, sink: int) -> bytes:
    """Hash in a second thread while this one copies, and let the disk work meanwhile."""
    hasher = hashlib.sha256()
    buffers = [memoryview(bytearray(BLOCK_BYTES)) for _ in range(4)]
    busy: list[Future[None] | None] = [None] * len(buffers)
    with FileIO(path) as source, ThreadPoolExecutor(1) as hashing, ThreadPoolExecutor(1) as syncing:
        synced, number = syncing.submit(os.fdatasync, sink), 0
        while True:
            buffer, waited = buffers[number % len(buffers)], busy[number % len(buffers)]
            if waited is not None:
                waited.result()
            size = source.readinto(buffer)
            if not size:
                break
            busy[number % len(buffers)] = hashing.submit(hasher.update, buffer[:size])
            os.write(sink, buffer[:size])
            if synced.done():
                synced = syncing.submit(os.fdatasync, sink)
            number += 1
        synced.result()
    return hasher.digest()


def status(place: str) -> None:
    """Look at every stamp."""
    before = known()
    sum(path not in before or before[path][0] != each for path, each in walk(place))


def checkout() -> None:
    """Copy everything back, in the order of the store."""
    made = set()
    source = os.open(STORE, os.O_RDONLY)
    for path, (each, at, _) in sorted(known().items(), key=lambda item: item[1][1]):
        folder = path.rpartition("/")[0]
        if folder and folder not in made:
            Path(folder).mkdir(parents=True, exist_ok=True)
            made.add(folder)
        sink, done = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), 0
        while done < each[0]:
            done += os.sendfile(sink, source, at + done, each[0] - done)
        os.close(sink)
    os.close(source)


if __name__ == "__main__":
    if sys.argv[1] == "add":
        add(sys.argv[2])
    elif sys.argv[1] == "status":
        status(sys.argv[2])
    else:
        checkout()
