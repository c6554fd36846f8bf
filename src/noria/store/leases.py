"""Who is at work on objects right now: a collection leaves alone what they store, or count on.

A lease is a file, written and synced before the first object is stored or found to be there already.
Its owner holds it by flock, so on the same machine a dead owner is seen at once; for other machines
that share the folder the owner beats a heart. While a lease is held, everything that was stored or
put again since it began is taken for in use, and so are the digests that it names.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from noria.core.errors import Conflict
from noria.core.frozen import frozen
from noria.core.identity import Digest, is_digest
from noria.store.disk import disk_faults, sync_folder
from noria.store.failpoint import failpoint

__all__ = ["LOST_S", "Lease", "LeaseHolder", "Leases"]

BEAT_S = 60.0
LOST_S = 15 * 60.0
"""An owner on another machine whose heart has not beaten for so long is dead."""
WAIT_S = 600.0
"""So long a collection waits for another one, which may take minutes; a dead one is not waited for at all."""
_LOOK_S, _LOOK_LIMIT_S = 0.02, 0.5


@frozen
class Lease:
    """What somebody is at work on, since when (seconds since the epoch), and what it counts on."""

    what: str
    owner: str
    since: float
    digests: frozenset[Digest]


class LeaseHolder:
    """A lease that is held; `add` names more that it counts on. Thread safe."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lock = threading.Lock()

    def add(self, digests: Iterable[str]) -> None:
        """Count on these objects from now on; durable when this returns."""
        lines = "".join(f"{digest}\n" for digest in digests)
        if lines:
            with self._lock:
                os.write(self._handle, lines.encode())
                os.fsync(self._handle)

    def beat(self) -> None:
        """Say that the owner lives."""
        os.utime(self._handle)


class Leases:
    """The leases in a folder. Processes, and machines that share the folder, see each other's.

    Args:
        wait_s: so long another collection is waited for.
    """

    def __init__(self, folder: Path, wait_s: float = WAIT_S) -> None:
        self._folder = folder
        self._wait_s = wait_s

    @property
    def folder(self) -> Path:
        """Where the leases are."""
        return self._folder

    @contextmanager
    def hold(self, what: str, digests: Iterable[str] = ()) -> Iterator[LeaseHolder]:
        """Hold a lease for the time of the block. Take it before the first object is stored or looked for.

        Raises: StoreFull; StoreUnavailable.
        """
        with disk_faults(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            path, handle = self._make()
        try:
            with disk_faults(self._folder):
                os.write(handle, json.dumps(_header(what), sort_keys=True).encode() + b"\n")
                holder = LeaseHolder(handle)
                holder.add(digests)
                os.fsync(handle)
                sync_folder(self._folder)
            failpoint("lease.written")
            stop = threading.Event()
            heart = threading.Thread(target=_beat, args=(holder, stop), name="noria-lease", daemon=True)
            heart.start()
            try:
                yield holder
            finally:
                stop.set()
                heart.join()
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)

    def active(self) -> list[Lease]:
        """The leases of living owners; those of dead ones are taken away.

        What cannot be understood is taken for a lease that began at the beginning of time.
        """
        if not self._folder.is_dir():
            return []
        with disk_faults(self._folder):
            found = (self._look(path) for path in sorted(self._folder.glob("*.lease")))
            return [lease for lease in found if lease is not None]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only collection for the time of the block; another one is waited for.

        Raises: Conflict if it takes longer than that; StoreFull; StoreUnavailable.
        """
        with disk_faults(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._folder / "collect.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not _is_free_within(handle, self._wait_s):
                raise Conflict(
                    f"another collection is under way; waited {self._wait_s:.0f} s",
                    where=str(self._folder),
                    hint="wait until it has ended",
                )
            yield
        finally:
            os.close(handle)

    def _make(self) -> tuple[Path, int]:
        """A new file that is held. One that was taken for a dead owner's before it was held is made again."""
        while True:
            path = self._folder / f"{time.time_ns():016x}-{uuid.uuid4().hex[:12]}.lease"
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                return path, handle
            os.close(handle)

    def _look(self, path: Path) -> Lease | None:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None  # its owner is done
        try:
            is_free = _is_free(handle)
            status = os.fstat(handle)
            content = os.pread(handle, status.st_size, 0).decode("utf-8", "replace")
            lease, is_here = _parsed(content, status.st_mtime)
            if is_free and (is_here or time.time() - status.st_mtime > LOST_S):
                path.unlink(missing_ok=True)
                return None
            return lease
        finally:
            os.close(handle)


def _header(what: str) -> dict[str, object]:
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    return {"boot": _boot_id(), "owner": owner, "since": time.time(), "what": what}


def _parsed(content: str, changed: float) -> tuple[Lease, bool]:
    """The lease in a file, and whether its owner is on this machine."""
    first, *lines = content.split("\n")
    try:
        header = json.loads(first)
        names = frozenset(Digest(line) for line in lines if is_digest(line))
        lease = Lease(header["what"], header["owner"], min(header["since"], changed), names)
        return lease, header["boot"] == _boot_id()
    except (ValueError, KeyError, TypeError):
        return Lease("unknown", "unknown", 0.0, frozenset()), True


def _is_free(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free_within(handle: int, wait_s: float) -> bool:
    """Hold a file as soon as nobody else does; whether that was so in time."""
    until, pause = time.monotonic() + wait_s, _LOOK_S
    while not _is_free(handle):
        if time.monotonic() >= until:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, _LOOK_LIMIT_S)
    return True


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def _beat(holder: LeaseHolder, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        with contextlib.suppress(OSError):  # the disk is out of reach: whoever stores next says so
            holder.beat()
