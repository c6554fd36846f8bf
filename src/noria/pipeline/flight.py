"""Equal steps run once: the right to make the result of a key, held by one process at a time.

Where the ledger is a local file, an flock on a file named by the key: it costs some ten
microseconds, and the kernel gives it back when its owner dies. A child that a dead owner left
behind may still hold the descriptor, so the file also says who the owner was, and a dead one's file
is put away. Where processes of several machines share a ledger, a lease in it.

A process must not wait for a key while it holds others that it has not published: publish and give
them back first, or two processes may wait for each other.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from noria.store.objects import disk_faults
from noria.store.workspace import Workspace
from noria.tracking import records
from noria.tracking import run as tracking

__all__ = ["LEASE_S", "Flights"]

LEASE_S = 20.0
WAIT_S = 0.02
LOOK_S = 1.0
"""How often a waiter looks whether the owner of a lock that it cannot have is alive."""


class Flights:
    """The keys that one run has the right to make. Not thread safe."""

    def __init__(self, ws: Workspace, run: str) -> None:
        self._ws = ws
        self._owner = f"{run}/{time.monotonic_ns()}"
        self._folder = ws.project.state / "flights"
        self._is_local = ws.ledger.database.is_sqlite
        self._process = tracking.owner_id().encode()
        self._held: dict[str, int] = {}

    def take(self, key: str) -> bool:
        """Take the right to a key. False: another process has it."""
        if key in self._held:
            return True
        if not self._is_local:
            taken = self._ws.jobs.acquire(f"step/{key}", owner=self._owner, ttl_s=LEASE_S)
            if taken:
                self._held[key] = -1
            return taken
        with disk_faults(self._folder):
            handle = self._locked(self._path(key))
        if handle is not None:
            self._held[key] = handle
        return handle is not None

    def wait(self, key: str) -> None:
        """Return when the right to a key may be had: it was given back, or its owner is dead."""
        assert not self._held, "publish, and give back, what is held before waiting"
        looked = time.monotonic()
        while not self.take(key):
            time.sleep(WAIT_S)
            if time.monotonic() - looked > LOOK_S:
                self._release_dead(key)
                looked = time.monotonic()

    def renew(self) -> None:
        """Keep what is held for longer; to be called at least every `LEASE_S` / 2."""
        if not self._is_local:
            for key in self._held:
                self._ws.jobs.acquire(f"step/{key}", owner=self._owner, ttl_s=LEASE_S)

    def release(self, key: str) -> None:
        """Give a right back; the entry must be there before. Idempotent."""
        handle = self._held.pop(key, None)
        if handle is None:
            return
        if not self._is_local:
            self._ws.jobs.release(f"step/{key}", self._owner)
            return
        self._path(key).unlink(missing_ok=True)
        os.close(handle)

    def release_all(self) -> None:
        """Give every right back."""
        for key in list(self._held):
            self.release(key)

    def _path(self, key: str) -> Path:
        return self._folder / key.removeprefix("sha256:")

    def _locked(self, path: Path) -> int | None:
        """The descriptor of a lock file that is ours, and still has its name; None if another has it."""
        while True:
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                self._folder.mkdir(parents=True, exist_ok=True)
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return None
            except BaseException:
                os.close(handle)
                raise
            if _is_named(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, self._process)
                return handle
            os.close(handle)  # its owner put it away while we waited

    def _release_dead(self, key: str) -> None:
        """Put away what a dead owner holds."""
        if self._is_local:
            self._put_away(self._path(key))
            return
        tracking.reap(self._ws)
        with self._ws.ledger.read() as tx:
            for lease in self._ws.jobs.leases(f"step/{key}"):
                found = records.run(tx, lease.owner.partition("/")[0])
                if found is None or found.status != "running":
                    self._ws.jobs.release(lease.name, lease.owner)

    def _put_away(self, path: Path) -> None:
        """Unlink the file of a dead owner; one process at a time, or a new owner's file could go too."""
        handle = os.open(self._folder / ".sweep", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            owner = path.read_text(encoding="utf-8")
            if owner and tracking.is_dead(owner):
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return  # given back meanwhile
        finally:
            os.close(handle)


def _is_named(handle: int, path: Path) -> bool:
    """Whether the path still names the file that the descriptor has open."""
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(handle)
    return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)
