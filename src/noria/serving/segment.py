"""Files of the prediction log: one writer each, rotated by size and age, locked while it is open.

A writer holds an exclusive lock on its file, which the system lets go when its process dies in
any way. So whoever can take the lock knows that the file is complete, except perhaps for a torn
last line that nobody was answered for. Answers leave only after their lines were written.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from noria.core.errors import UsageError
from noria.store.linelog import LineWriter, read_lines
from noria.store.objects import disk_faults

__all__ = ["MAX_AGE_S", "MAX_BYTES", "SegmentWriter", "folder", "is_open", "models", "read", "sources", "sweep"]

MAX_BYTES = 16 * 1024 * 1024
MAX_AGE_S = 60.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


def folder(state: Path, model: str, kind: str = "predictions") -> Path:
    """Where a model's log files are. Raises: UsageError for a name that is no file name."""
    if not _NAME.fullmatch(model):
        raise UsageError(f"{model[:80]!r} is not a model's name: letters, digits, '_', '-' and '.'")
    return state / kind / model


class SegmentWriter:
    """Appends lines to the newest file of this process. Thread safe.

    Args:
        now_us: the wall clock in microseconds; names files and ages them.
    """

    def __init__(
        self, place: Path, now_us: Callable[[], int], *, max_bytes: int = MAX_BYTES, max_age_s: float = MAX_AGE_S
    ) -> None:
        self._place = place
        self._now_us = now_us
        self._max_bytes, self._max_age_us = max_bytes, int(max_age_s * 1e6)
        self._guard = threading.Lock()
        self._writer: LineWriter | None = None
        self._lock_fd = -1
        self._opened_us = 0
        self._bytes = 0

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write the lines with one system call before returning. Raises: StoreFull, StoreUnavailable."""
        with self._guard, disk_faults(self._place):
            if (
                self._writer is None
                or self._bytes > self._max_bytes
                or self._now_us() - self._opened_us > self._max_age_us
            ):
                self._open()
            assert self._writer is not None
            self._writer.append(payloads)
            self._bytes += sum(map(len, payloads)) + 10 * len(payloads)

    def rest(self) -> None:
        """Close the file if it is old, so that it can be sealed though no request comes."""
        with self._guard:
            if self._writer is not None and self._now_us() - self._opened_us > self._max_age_us:
                self._close()

    def close(self) -> None:
        """Close the file; a later append opens a new one."""
        with self._guard:
            self._close()

    def _open(self) -> None:
        self._close()
        self._place.mkdir(parents=True, exist_ok=True)
        self._opened_us = max(self._now_us(), self._opened_us + 1)
        path = self._place / f"{os.getpid()}-{self._opened_us}.log"
        # Locked before it has the name that readers look for: nobody can take it for a finished file.
        hidden = path.with_suffix(".tmp")
        self._lock_fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(path)
        self._writer = LineWriter(path)
        self._bytes = 0

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def sources(place: Path) -> list[Path]:
    """The log files of a folder, oldest first; none if there is no folder."""
    if not place.is_dir():
        return []
    return sorted(place.glob("*.log"), key=_started)


def is_open(path: Path) -> bool:
    """Whether a living process may still append to a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def sweep(place: Path) -> None:
    """Remove what a writer left that died between making its file and naming it. Nothing was written there."""
    for path in place.glob("*.tmp"):
        if path.stat().st_size == 0 and not is_open(path):
            path.unlink(missing_ok=True)


def read(path: Path, offset: int = 0, *, limit_bytes: int = 0) -> tuple[list[bytes], int]:
    """The whole valid lines of a file from an offset, and the next offset. A torn tail is left alone.

    A file that was sealed and removed meanwhile has no lines. Raises: Corrupt for a broken line in the middle.
    """
    return read_lines(path, offset, limit_bytes=limit_bytes)


def models(state: Path, kind: str = "predictions") -> Iterator[str]:
    """The names of the models that have log files."""
    place = state / kind
    if place.is_dir():
        yield from sorted(path.name for path in place.iterdir() if path.is_dir())


def _started(path: Path) -> tuple[int, str]:
    _, _, start = path.stem.partition("-")
    return (int(start) if start.isdigit() else 0, path.name)
