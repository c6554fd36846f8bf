"""The local copies of objects that have no file of their own: a cache with a bound, shared by processes.

What was used least lately goes first. A path that was handed out is somebody's, who may open it later:
it is marked as used (by the file's time of access) under the lock that a removal takes, and nothing used
within the grace is removed, even where the bound is then missed for a while. Whoever has the file open
already does not notice. How much there is stands in a tally, so that the folder is walked only when
the bound is reached. Nothing here is the only copy of anything, and no failure here is a verb's.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import logging
else:
    logging = lazy("logging")

__all__ = ["CACHE_BYTES", "COPY_GRACE_S", "LocalCopies", "Pruned"]


CACHE_BYTES = 20 * 10**9
COPY_GRACE_S = 6 * 3600.0
"""So long at least a path that was handed out stays: a scan of many files may open the last one late."""

_TALLY = "copies.tally"
_PRUNING = "copies.pruning"
_SHARD = re.compile(r"[0-9a-f]{2}")
_LEFT = 0.9
"""A removal because the bound was passed goes down to this share of it, so that not every copy needs one."""
_AGAIN = 0.1
"""Where the grace keeps more than the bound, the folder is walked again after this share of it was added."""


@frozen(kw_only=True)
class Pruned:
    """How many copies there are (or were), their bytes, and how many of them go (or went) with what bytes."""

    copies: int
    size_bytes: int
    freed: int
    freed_bytes: int


class _Copy(NamedTuple):
    used: float
    size_bytes: int
    path: Path


class _Tally(NamedTuple):
    """Bytes now, bytes after the last walk, and when that was (seconds since the epoch)."""

    now: int
    walked: int
    at: float


class LocalCopies:
    """The copies below a folder: `XX/…` and `remote/NAME/XX/…`. Thread and process safe.

    `bound_bytes` is what they may hold together, apart from those used within `grace_s` seconds.
    """

    def __init__(self, folder: Path, bound_bytes: int = CACHE_BYTES, *, grace_s: float = COPY_GRACE_S) -> None:
        self._folder = folder
        self.bound_bytes = bound_bytes
        self._grace_s = grace_s
        self._marked: dict[Path, float] = {}

    def take(self, place: Path) -> bool:
        """Whether a copy is there; it then stays for the grace."""
        now = time.monotonic()
        if place in self._marked and now - self._marked[place] < self._grace_s / 8:
            return place.exists()
        try:
            with self._locked(fcntl.LOCK_SH):
                os.utime(place, ns=(time.time_ns(), place.stat().st_mtime_ns))
        except FileNotFoundError:
            return False
        except OSError as error:  # a read-only disk, or another user's file: it is read as it is
            logging.getLogger("noria.store").info("%s could not be marked as used: %s", place, error.strerror)
        self._marked[place] = now
        return place.exists()

    def added(self, place: Path) -> None:
        """A copy was made: count it, and remove others if there is too much now. Never fails."""
        try:
            self._marked[place] = time.monotonic()
            if self._is_too_much(place.stat().st_size):
                self.prune(int(self.bound_bytes * _LEFT), is_waiting=False)
        except OSError as error:
            logging.getLogger("noria.store").warning(
                "the local copies in %s could not be bounded: %s", self._folder, error.strerror
            )

    def look(self, keep_bytes: int) -> Pruned:
        """What is there, and what `prune` would remove now. Raises: OSError."""
        copies = sorted(self._copies())
        limit, held, freed = time.time() - self._grace_s, sum(each.size_bytes for each in copies), 0
        total = held
        for each in copies:
            if held <= keep_bytes or each.used > limit:
                break
            held, freed = held - each.size_bytes, freed + 1
        return Pruned(copies=len(copies), size_bytes=total, freed=freed, freed_bytes=total - held)

    def prune(self, keep_bytes: int, *, is_waiting: bool = True) -> Pruned:
        """Remove what was used least lately until no more than `keep_bytes` are there, or all is in use.

        Where another process is at that, this waits for it, or with `is_waiting=False` leaves it to it.
        Raises: OSError.
        """
        if not self._folder.is_dir():
            return Pruned(copies=0, size_bytes=0, freed=0, freed_bytes=0)
        guard = os.open(self._folder / _PRUNING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
            except BlockingIOError:
                return Pruned(copies=0, size_bytes=0, freed=0, freed_bytes=0)
            return self._prune(keep_bytes)
        finally:
            os.close(guard)

    def _prune(self, keep_bytes: int) -> Pruned:
        with self._locked(fcntl.LOCK_EX) as handle:
            before = _read(handle)
        copies = sorted(self._copies())
        total = held = sum(each.size_bytes for each in copies)
        limit, freed = time.time() - self._grace_s, 0
        for each in copies:
            if held <= keep_bytes or each.used > limit:
                break
            if self._remove(each.path, limit):
                held, freed = held - each.size_bytes, freed + 1
        with self._locked(fcntl.LOCK_EX) as handle:
            now = _read(handle)
            since = now.now - before.now if now is not None and before is not None else 0
            _write(handle, _Tally(held + max(since, 0), held, time.time()))
        return Pruned(copies=len(copies), size_bytes=total, freed=freed, freed_bytes=total - held)

    def _remove(self, path: Path, limit: float) -> bool:
        """Whether it is gone now: it stays where somebody took it meanwhile."""
        with self._locked(fcntl.LOCK_EX):
            try:
                if _used(path.stat()) > limit:
                    return False
                path.unlink()
            except FileNotFoundError:
                pass
        return True

    def _copies(self) -> Iterator[_Copy]:
        """Every copy, and what a killed process left of one."""
        for shard in self._shards():
            for entry in _listed(shard):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield _Copy(_used(status), status.st_size, Path(entry.path))

    def _shards(self) -> Iterator[str]:
        remotes = [entry.path for entry in _listed(str(self._folder / "remote")) if entry.is_dir()]
        for root in (str(self._folder), *remotes):
            yield from (entry.path for entry in _listed(root) if _SHARD.fullmatch(entry.name) and entry.is_dir())

    def _is_too_much(self, size_bytes: int) -> bool:
        with self._locked(fcntl.LOCK_EX) as handle:
            tally = _read(handle)
            if tally is None:
                return True  # nobody has counted yet: a walk does
            tally = tally._replace(now=tally.now + size_bytes)
            _write(handle, tally)
        age = time.time() - tally.at
        is_due = tally.now - tally.walked > self.bound_bytes * _AGAIN or not 0 <= age <= self._grace_s
        return tally.now > self.bound_bytes and is_due

    @contextmanager
    def _locked(self, kind: int) -> Iterator[int]:
        """The tally, locked: shared to take a copy, alone to count or to remove. Raises: OSError."""
        handle = os.open(self._folder / _TALLY, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, kind)
            yield handle
        finally:
            os.close(handle)


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _used(status: os.stat_result) -> float:
    return max(status.st_atime, status.st_mtime)


def _read(handle: int) -> _Tally | None:
    """What the tally says; None if it says nothing, or nothing that was meant."""
    words = os.pread(handle, 128, 0).decode("ascii", "replace").split()
    try:
        now, walked, at = words
        return _Tally(int(now), int(walked), float(at))
    except ValueError:
        return None


def _write(handle: int, tally: _Tally) -> None:
    text = f"{tally.now} {tally.walked} {tally.at:.0f}"
    os.pwrite(handle, f"{text:<80}\n".encode("ascii"), 0)
