"""Who may change a data set now, and which version the project stands on.

One writer a data set: a lock file that the kernel gives back when its owner dies. The file says who
holds it, so that a waiter can name them. A lock that outlives its owner (a child of a killed process
has it, or another machine's that has stopped beating) is taken over: the waiter puts a new file in
its place. Readers never lock. The lock is not reentrant: the outermost verb takes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from noria.core.errors import StoreFull, StoreUnavailable
from noria.core.frozen import frozen
from noria.data import clones
from noria.data.pins import pin_path, pin_text, read_pin, write_pin
from noria.data.records import DatasetVersion
from noria.store.bucket import InBucket
from noria.store.bucketleases import BucketLeaseHolder, BucketLeases
from noria.store.leases import LeaseHolder, Leases
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = [
    "Claim",
    "Owner",
    "dataset_lock",
    "file_lock",
    "is_dead",
    "is_left",
    "lease_folder",
    "leased",
    "leases",
    "mark",
    "me",
    "pin",
    "pinned",
]

WAIT_S = 60.0
BEAT_S = 5.0
STALE_S = 60.0
"""An owner on another machine that has not beaten for so long is taken for dead."""
DAY_S = 86_400.0
_LEFT = (
    "; it goes on with what it has stored. To give that up: noria data gc --sweep moves it to the trash after a day"
    " (--min-age 0s: an hour), and a week later off the disk"
)
_LOOK_S = 0.02
_LOOK_LIMIT_S = 0.25


class Claim(Protocol):
    """Counts on objects until the lease ends."""

    def __call__(self, digests: Iterable[str] = ()) -> None:
        """These are relied on from now on; none only begins the lease."""
        ...


@frozen
class Owner:
    """A process: its id, when it started (in the kernel's ticks), the boot that it lives in, and what it does."""

    pid: int
    start: str
    boot: str
    words: str


def _command_line() -> str:
    """What this process was asked, for those who wait for it: without users, passwords and settings of addresses."""
    words = " ".join([Path(sys.argv[0]).name, *sys.argv[1:4]])
    return re.sub(r"(\w+://)(?:[^/\s@]*@)?([^\s?]*)\S*", r"\1\2", words)


def me(words: str = "") -> Owner:
    """This process."""
    pid = os.getpid()
    return Owner(pid, _start_of(pid), _boot(), words or _command_line())


def is_dead(owner: Owner, silent_s: float) -> bool:
    """Whether a process is surely gone. One of another boot (machine, container) is, when it was silent for long."""
    if owner.boot != _boot():
        return silent_s > STALE_S
    return _start_of(owner.pid) != owner.start


def leases(ws: Workspace) -> Leases | BucketLeases:
    """The leases of everybody who uses the same store."""
    store = ws.objects.store
    if isinstance(store, InBucket):
        return BucketLeases(store.bucket)
    return Leases(lease_folder(ws))


def lease_folder(ws: Workspace) -> Path:
    """Where the leases on a store that is a folder are."""
    return (clones.shared_store(ws) or ws.project.state) / "leases"


@contextlib.contextmanager
def leased(ws: Workspace, what: str) -> Iterator[Claim]:
    """Keep what is stored in the block from being collected before a fact names it.

    Gives a function that takes the lease when it is first called, and counts on the digests it is told:
    call it before the first object is stored or found to be there. Raises: StoreFull; StoreUnavailable.
    """
    with contextlib.ExitStack() as stack:
        held: list[LeaseHolder | BucketLeaseHolder] = []

        def claim(digests: Iterable[str] = ()) -> None:
            if not held:
                clones.register(ws)
                book = leases(ws)
                holding: AbstractContextManager[LeaseHolder | BucketLeaseHolder] = book.hold(what)
                held.append(stack.enter_context(holding))
            held[0].add(digests)

        try:
            yield claim
        except StoreFull as error:
            if not held:
                raise
            raise StoreFull(error.message, where=error.where, hint=f"{error.hint}{_LEFT}") from error


def mark() -> str:
    """A word for names of temporary folders, which `is_left` knows again when this process is gone."""
    owner = me()
    return f"{owner.pid}-{owner.start or 0}-{zlib.crc32(owner.boot.encode()):08x}"


def is_left(word: str, age_s: float) -> bool:
    """Whether the process that `mark` named is gone; one that cannot be asked is after a day."""
    pid, start, boot = word.split("-")
    if boot != f"{zlib.crc32(_boot().encode()):08x}":
        return age_s > DAY_S
    return (_start_of(int(pid)) or "0") != start


@contextlib.contextmanager
def dataset_lock(ws: Workspace, name: str, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the one right to change a data set; others wait.

    Raises: StoreUnavailable naming the owner when it is not had in time. Not reentrant.
    """
    with file_lock(ws.project.state / "locks" / f"data-{name}.lock", f"the data set {name}", wait_s):
        yield


@contextlib.contextmanager
def file_lock(path: Path, what: str, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold a lock file. Raises: StoreUnavailable naming who has it for longer than `wait_s`."""
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquired(path, what, wait_s)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(handle, stop), name="noria-beat", daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        os.close(handle)


def pin(ws: Workspace, version: DatasetVersion) -> Path:
    """Write the pin of a version, whatever else the ledger has: another clone's, or another branch's."""
    with file_lock(ws.project.state / "locks" / f"pin-{version.name}.lock", f"the pin of {version.name}"):
        write_pin(ws.project.root, version.name, pin_text(version))
    return pin_path(ws.project.root, version.name)


def pinned(root: Path, name: str) -> str:
    """The tree that a project's pin names, or "" without a pin. Raises: ConfigError for a broken file."""
    found = read_pin(root, name)
    return found.tree if found is not None else ""


def _acquired(path: Path, what: str, wait_s: float) -> int:
    begun = time.monotonic()
    pause = _LOOK_S
    while True:
        handle = _taken(path)
        if handle is not None:
            return handle
        waited = time.monotonic() - begun
        owner, silent_s = _read_owner(path)
        if owner is not None and is_dead(owner, silent_s):
            _replace(path, owner)
            continue
        if waited >= wait_s:
            named = f"process {owner.pid} ({owner.words})" if owner is not None else "another process"
            raise StoreUnavailable(
                f"{what} is in use by {named}; waited {waited:.0f} s",
                where=str(path),
                hint="try again when it has ended, or end it",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, _LOOK_LIMIT_S)


def _taken(path: Path) -> int | None:
    """The locked descriptor, or None if somebody has it. The name must still be that of the file that was locked."""
    with disk_faults(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with _guarded(path):
                if os.fstat(handle).st_ino == _inode(path):
                    owner = me()
                    text = json.dumps([owner.pid, owner.start, owner.boot, owner.words]).encode()
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, text, 0)
                    return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    return None


def _replace(path: Path, dead: Owner) -> None:
    """Put a new file in the place of a lock whose owner is dead, unless another waiter just did."""
    with disk_faults(path), _guarded(path):
        now, silent_s = _read_owner(path)
        if now == dead and is_dead(dead, silent_s):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """For an instant: nobody else says that they own the lock, or that its owner is dead."""
    with path.with_suffix(".guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _read_owner(path: Path) -> tuple[Owner | None, float]:
    """Who wrote the lock, and how long ago they last beat; None while it is being written."""
    try:
        silent_s = time.time() - path.stat().st_mtime
        pid, start, boot, words = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None, 0.0
    return Owner(int(pid), str(start), str(boot), str(words)), silent_s


def _beat(handle: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        with contextlib.suppress(OSError):  # the disk is out of reach: whoever writes next says so
            os.utime(handle)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _start_of(pid: int) -> str:
    """When a process started, in ticks since the boot; "" if there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "" if Path("/proc/self").exists() else _alive(pid)
    return "" if fields[0] in ("Z", "X") else fields[19]


def _alive(pid: int) -> str:
    """Without /proc: whether the process id is in use."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "alive"
    return "alive"


def _boot() -> str:
    """The boot that this process lives in, with its process namespace: process ids mean nothing outside of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return os.uname().nodename
