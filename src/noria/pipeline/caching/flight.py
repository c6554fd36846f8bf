"""Equal steps run once: the right to make the result of a key, held by one process at a time.

Where the ledger is a local file, a lock on one byte of a file, at the place that the key's first
digits name: a microsecond, no file to make or take away, and the kernel gives it back when its
owner dies, whatever children it leaves. (Measured 2026-11: a lease in the database cost 1.2 ms a
step, a lock file of its own up to 3 ms to take away.) Where processes of several machines share a
ledger, a lease in it.

A process must not wait for a key while it holds others that it has not published: publish and give
them back first, or two processes may wait for each other.
Source: fcntl(2), advisory record locks: they belong to the process, and are not inherited by fork.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from noria.core.identity import is_digest
from noria.store.objects import disk_faults
from noria.store.owner import is_stopped
from noria.store.workspace import Workspace
from noria.tracking import records
from noria.tracking import run as tracking

__all__ = ["LEASE_S", "Flights", "alone"]

LEASE_S = 20.0
WAIT_S = 0.02
LOOK_S = 1.0
"""How often a waiter for a lease looks whether its owner is alive."""
_DIGITS = 15
_FLOCK = struct.Struct("hhqqi4x")
"""A `struct flock` of 64 bits: kind, whence, start, length, process. Source: fcntl(2)."""


class Flights:
    """The keys that one run has the right to make; several runs of one process exclude each other.

    One thread takes and gives back, another may renew meanwhile: never a key that was just given back.
    """

    def __init__(self, ws: Workspace, run: str) -> None:
        self._ws = ws
        self._owner = f"{run}/{time.monotonic_ns()}"
        self._board = _board(ws.project.state / "flights", os.getpid()) if ws.ledger.database.is_sqlite else None
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def take(self, key: str) -> bool:
        """Take the right to a key. False: another has it."""
        with self._lock:
            if key in self._held:
                return True
            if self._board is not None:
                is_taken = self._board.take(key)
            else:
                is_taken = self._ws.jobs.acquire(f"step/{key}", owner=self._owner, ttl_s=LEASE_S)
            if is_taken:
                self._held.add(key)
            return is_taken

    def wait(self, key: str) -> None:
        """Return with the right to a key, when it was given back or its owner is dead."""
        assert not self._held, "publish, and give back, what is held before waiting"
        looked = time.monotonic()
        while not self.take(key):
            time.sleep(WAIT_S)
            if self._board is None and time.monotonic() - looked > LOOK_S:
                self._release_dead(key)
                looked = time.monotonic()

    def stopped_holder(self, key: str) -> int:
        """The process on this machine that has the right to a key and is stopped (SIGSTOP); 0 if there is none."""
        holder = self._board.holder(key) if self._board is not None else 0
        return holder if holder and is_stopped(holder) else 0

    def renew(self) -> None:
        """Keep what is held for longer; to be called at least every `LEASE_S` / 2."""
        if self._board is not None:
            return
        with self._lock:
            held = list(self._held)
        for key in held:
            with self._lock:  # for each anew: whoever takes or gives back waits for one write at most
                if key in self._held:
                    self._ws.jobs.acquire(f"step/{key}", owner=self._owner, ttl_s=LEASE_S)

    def release(self, key: str) -> None:
        """Give a right back; the entry must be there before. Idempotent."""
        with self._lock:
            if key not in self._held:
                return
            self._held.discard(key)
            if self._board is not None:
                self._board.release(key)
            else:
                self._ws.jobs.release(f"step/{key}", self._owner)

    def release_all(self) -> None:
        """Give every right back."""
        for key in list(self._held):
            self.release(key)

    def _release_dead(self, key: str) -> None:
        """Take the lease of a run whose process is gone, so that nobody waits for the dead."""
        tracking.reap(self._ws)
        with self._ws.ledger.read() as tx:
            for lease in self._ws.jobs.leases(f"step/{key}"):
                found = records.run(tx, lease.owner.partition("/")[0])
                if found is None or found.status != "running":
                    self._ws.jobs.release(lease.name, lease.owner)


class _Board:
    """The lock file of one workspace in this process. It stays open: closing it would drop every lock."""

    def __init__(self, path: Path) -> None:
        with disk_faults(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._path = path
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def is_gone(self) -> bool:
        """Whether the file was deleted."""
        return os.fstat(self._handle).st_nlink == 0

    def take(self, key: str) -> bool:
        place = _place(key)
        with self._lock, disk_faults(self._path):
            if place in self._taken:
                return False
            try:
                fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):
                return False
            self._taken.add(place)
            return True

    def holder(self, key: str) -> int:
        """The id of another process that holds a key; 0 if none does, or if it is of another space of ids."""
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _place(key), 1, 0)
        with disk_faults(self._path):
            kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(self._handle, fcntl.F_GETLK, asked))
        return 0 if kind == fcntl.F_UNLCK else max(0, pid)

    def release(self, key: str) -> None:
        place = _place(key)
        with self._lock, disk_faults(self._path):
            fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, place)
            self._taken.discard(place)

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Hold a key for the block; waits, without a limit, until every other process has let go of it."""
        with disk_faults(self._path):
            fcntl.lockf(self._handle, fcntl.LOCK_EX, 1, _place(key))
        try:
            yield
        finally:
            with disk_faults(self._path):
                fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _place(key))


def alone(state: Path, key: str) -> contextlib.AbstractContextManager[None]:
    """Run the block in one process of this machine at a time.

    The right to a key goes with its driver. When a driver is killed its workers end by themselves a
    moment later; whoever takes the step over waits here until the kernel has seen them go, even if
    they were stopped.
    """
    return _board(state / "attempts", os.getpid()).alone(key)


_boards: dict[tuple[Path, int], _Board] = {}


def _board(path: Path, pid: int) -> _Board:
    """One for each workspace and process: a child after a fork has none of its parent's locks.

    Those of workspaces that are gone are let go of: nobody else can come to their locks, even if the folder is
    made anew.
    """
    found = _boards.get((path, pid))
    if found is None or found.is_gone():
        for key in [key for key, each in _boards.copy().items() if each.is_gone()]:
            _boards.pop(key, None)
        found = _boards.setdefault((path, pid), _Board(path))
    return found


def _place(key: str) -> int:
    text = key.removeprefix("sha256:") if is_digest(key) else hashlib.sha256(key.encode()).hexdigest()
    return int(text[:_DIGITS], 16)
