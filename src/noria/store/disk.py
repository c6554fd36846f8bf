"""The disk's part in storing objects: its refusals as errors, what makes names and bytes durable, file digests."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from noria.core.errors import StoreFull, StoreUnavailable, UsageError
from noria.core.identity import Digest
from noria.core.lazy import lazy
from noria.core.printable import printable

if TYPE_CHECKING:
    import ctypes
else:
    ctypes = lazy("ctypes")

__all__ = [
    "BLOCK_BYTES",
    "begin_writing",
    "devices",
    "disk_faults",
    "full",
    "hash_file",
    "is_full",
    "length_of",
    "make_state",
    "stamp_of",
    "sync_files",
    "sync_folder",
    "too_long",
]

BLOCK_BYTES = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ONE_BY_ONE = 8
"""Up to so many files are synced one by one; for more, syncing the file system is cheaper (2 ms against 0.2 s)."""


@functools.cache
def devices() -> tuple[str, ...]:
    """What of `/dev` is no file: all but the folder of shared memory, where a project or its data may lie."""
    return tuple(sorted(str(place) for place in Path("/dev").iterdir() if place.name != "shm"))


@contextmanager
def disk_faults(where: Path) -> Iterator[None]:
    """Turn the operating system's refusals into StoreFull and StoreUnavailable, a name too long into UsageError."""
    try:
        yield
    except OSError as error:
        told = too_long(error)
        if told is not None:
            raise told from error
        if is_full(error):
            raise full(where, error) from error
        name = errno.errorcode.get(error.errno or 0, "EIO")
        raise StoreUnavailable(
            f"the store cannot be used: {error.strerror or error} ({name})",
            where=str(where),
            hint="check the folder's permissions and that the disk is mounted for writing",
        ) from error


def is_full(error: OSError) -> bool:
    """Whether the disk had no space left, or no more was allowed."""
    return error.errno in _FULL


def full(where: Path, error: OSError) -> StoreFull:
    """What to say then."""
    name = errno.errorcode[error.errno or 0]
    return StoreFull(f"no space is left ({name})", where=str(where), hint="free some space, then run the command again")


def too_long(error: BaseException) -> UsageError | None:
    """What to say of a name that is too long for a file; None for another error."""
    if not isinstance(error, OSError) or error.errno != errno.ENAMETOOLONG:
        return None
    name = Path(os.fsdecode(error.filename or "")).name
    return UsageError(f"{printable(name[:40])!r}… has {len(os.fsencode(name))} bytes, more than a file's name may have")


def make_state(state: Path) -> None:
    """Make a project's folder of state where it is not, so that git leaves it alone.

    Raises: StoreUnavailable; StoreFull.
    """
    with disk_faults(state):
        if not state.is_dir():
            state.mkdir(parents=True, exist_ok=True)  # a database elsewhere does not make it
            (state / ".gitignore").write_text("*\n", encoding="utf-8")  # `git add .` must not take the objects


def sync_folder(folder: Path) -> None:
    """Make renames and new names inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def begin_writing(handle: int, begin: int, end: int) -> None:
    """Ask the system to begin to write a part of a file, and do not wait: a sync later has less left to wait for.

    Linux begins with what is dirty where it is told that a part need not be kept, and drops of it only what is on
    disk already. Elsewhere nothing may come of it.
    Source: Linux, mm/fadvise.c, generic_fadvise.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, begin, end - begin, os.POSIX_FADV_DONTNEED)


def sync_files(paths: Iterable[str | Path]) -> None:
    """Make files that were written durable, and their names, at once.

    Few are synced one by one with their folders. For many the whole file system is (syncfs), where the
    machine has that; they must then be on one file system.
    """
    every = list(paths)
    if len(every) > _ONE_BY_ONE and _sync_file_system(Path(every[0]).parent):
        return
    for path in every:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    for folder in {Path(path).parent for path in every}:
        sync_folder(folder)


def _sync_file_system(folder: Path) -> bool:
    """Whether the file system could be synced as a whole. Raises: OSError if it could, and failed."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return False
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if call(handle) == 0:
            return True
        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            return False
        raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(handle)


def hash_file(path: Path) -> Digest:
    """The digest of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return Digest("sha256:" + hashlib.file_digest(stream, "sha256").hexdigest())


def length_of(stream: BinaryIO) -> int:
    """How many bytes a stream gives, in flat memory."""
    total = 0
    while block := stream.read(BLOCK_BYTES):
        total += len(block)
    return total


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file's bytes do: size, time of the last change, inode."""
    return status.st_size, status.st_mtime_ns, status.st_ino
