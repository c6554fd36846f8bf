"""Folders in the temporary directory that go with who made them, also when that was killed.

A folder is locked by the process that uses it, and the system lets go of the lock however that process ends. So who
can take the lock knows that nobody uses the folder, whatever process numbers, containers or users share the
directory. Whoever makes a folder first removes those that the same user left so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from types import TracebackType

__all__ = ["PREFIX", "Scratch", "sweep"]

PREFIX = "noria-held-"
"""Only folders of this name are ever removed: what a release before this one made has no lock while it is used."""


class Scratch:
    """An empty folder of this user alone, until `remove`, the end of the block, of this object, or of the process.

    Args:
        kind: what it is for; part of its name.
    """

    def __init__(self, kind: str) -> None:
        sweep()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _take(self._lock)
            if _is_at(self._lock, self.path):
                break
            os.close(self._lock)  # a sweep came between making it and locking it
        self.remove = weakref.finalize(self, _remove, self.path, self._lock, os.getpid())

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def sweep() -> int:
    """Remove the folders of this user whose process is gone; gives how many. Safe from many processes at once."""
    removed = 0
    with os.scandir(tempfile.gettempdir()) as found:
        names = [Path(each.path) for each in found if each.name.startswith(PREFIX)]
    for place in names:
        # Another user's, one that another sweep removes now, or in use: each of them stays.
        with contextlib.suppress(OSError):
            removed += _swept(place)
    return removed


def _swept(place: Path) -> bool:
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_uid != os.getuid():
            return False
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(handle, place):
            return False
        shutil.rmtree(place)
    finally:
        os.close(handle)
    return True


def _take(handle: int) -> None:
    """Lock it. A file system without such locks refuses it to every sweep as well, so nothing is lost there."""
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)


def _is_at(handle: int, place: Path) -> bool:
    """Whether an open folder is still what its name leads to."""
    try:
        return os.path.samestat(os.fstat(handle), place.lstat())
    except FileNotFoundError:
        return False


def _remove(place: Path, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # a forked child ends without its parent's folders
        shutil.rmtree(place, ignore_errors=True)
    os.close(lock)
