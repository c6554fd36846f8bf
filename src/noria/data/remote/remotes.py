"""Remotes: where versions are pushed to and pulled from, a folder or S3, through one piece of code.

A remote holds `objects/` (an object store), `versions/NAME/TREE.json` (what a version is, written
when all its objects are there) and `locks/`. A lock is a key that only one writer can create; its
holder writes it again every few seconds, and who waits takes over one that has stopped changing, by
the waiter's own clock, so that no two machines' clocks are compared. Readers never lock.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from noria import plugins
from noria.config import RemoteConfig
from noria.core.errors import ConfigError, Conflict, Corrupt, NoriaError, NotFound, StoreUnavailable
from noria.core.frozen import frozen
from noria.core.identity import Digest, is_digest, short
from noria.data.lock import Owner, is_dead, me
from noria.store.bucket import Bucket
from noria.store.bucketleases import BucketLeases
from noria.store.leases import Lease
from noria.store.objects import Objects
from noria.store.workspace import Workspace

__all__ = ["AtRemote", "Remote", "heal", "locked", "open_remote", "remotes", "require_there"]

WAIT_S = 600.0
BEAT_S = 5.0
STALE_S = 30.0
"""A lock that nobody has written for so long is taken over."""
_LOOK_S = 1.0
COLLECTING = ".collect"
"""The lock of a collection; no data set has such a name."""


@frozen
class Remote:
    """A remote that is open: nothing is asked of it before its first use."""

    name: str
    objects: Objects
    bucket: Bucket

    @property
    def told(self) -> str:
        """Its name and place, for people."""
        return f"{self.name} ({self.bucket.url})"


def remotes(ws: Workspace) -> list[Remote]:
    """Every remote of noria.toml, the default one first."""
    order = sorted(ws.project.remotes.items(), key=lambda item: not item[1].default)
    return [_open(ws, name, config) for name, config in order]


def open_remote(ws: Workspace, name: str = "") -> Remote:
    """The remote of that name, else the default one, else the only one.

    Raises: ConfigError naming the one setting that is missing; NotFound for an unknown name.
    """
    known = ws.project.remotes
    where = str(ws.project.root / "noria.toml")
    if name:
        if name not in known:
            raise NotFound(
                f"there is no remote {name!r}",
                where=where,
                hint=f"known: {', '.join(known) or 'none'}; [remote.{name}]",
            )
        return _open(ws, name, known[name])
    if not known:
        raise ConfigError(
            "there is no remote: [remote.origin] url is not set",
            where=where,
            hint='[remote.origin] url = "s3://BUCKET/PREFIX", or a folder that is shared',
        )
    chosen = [each for each, config in known.items() if config.default] or list(known)
    if len(chosen) > 1:
        raise ConfigError(
            f"no remote is the default: [remote.{chosen[0]}] default is not set",
            where=where,
            hint=f"default = true there, or --remote {chosen[0]}",
        )
    return _open(ws, chosen[0], known[chosen[0]])


def require_there(ws: Workspace, remote: Remote) -> None:
    """A folder that is not there is not an empty remote. Raises: StoreUnavailable naming the setting."""
    url = ws.project.remotes[remote.name].url
    if not url.startswith("s3://") and not Path(remote.bucket.url).is_dir():
        raise StoreUnavailable(
            f"the folder of [remote.{remote.name}] url is not there: {remote.bucket.url}",
            where=str(ws.project.root / "noria.toml"),
            hint="is it mounted? noria data push makes it",
        )


def heal(ws: Workspace, digest: str) -> str:
    """Bring an object that is gone or altered from a remote that has it; gives that remote's name.

    An altered object is moved aside first. Nothing is asked of the network without a remote.
    Raises: NotFound or Corrupt naming every remote that was asked, and what it said.
    """
    if not is_digest(digest):
        raise NotFound(f"{digest[:80]!r} is not the digest of an object", hint="sha256: and 64 hex digits")
    name = Digest(digest)
    said: list[str] = []
    for remote in remotes(ws):
        try:
            require_there(ws, remote)
            if not remote.objects.has(name):
                said.append(f"{remote.told} does not have it")
                continue
            source = remote.objects.path(name)  # verified: never bytes that are as bad
        except NoriaError as error:
            said.append(f"{remote.told}: {error.message}")
            continue
        if ws.objects.has(name):
            ws.objects.quarantine(name)
        stored = ws.objects.put_file(source)
        assert stored == name, "its digest was just compared"
        if source.is_relative_to(ws.project.state):
            source.unlink(missing_ok=True)  # a copy that was fetched for this
        return remote.name
    asked = "; ".join(said) or "there is no remote to ask"
    if ws.objects.has(name):
        hint = "put it back from a backup, or add the file again with --anew"
        raise Corrupt(f"object {short(name)} was altered and cannot be healed: {asked}", hint=hint)
    raise NotFound(f"object {short(name)} is missing: {asked}", hint="noria data push from where it is")


@contextlib.contextmanager
def locked(remote: Remote, name: str, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the one right to push a data set to a remote; others wait for it.

    Raises: StoreUnavailable naming the owner when it is not had in time.
    """
    key = f"locks/{name}"
    owner = me()
    mine = json.dumps([owner.pid, owner.start, owner.boot, owner.words, socket.gethostname(), uuid.uuid4().hex])
    tag = _acquire(remote.bucket, key, mine, wait_s)
    stop = threading.Event()
    beat = _Beat(remote.bucket, key, mine, tag)
    thread = threading.Thread(target=beat.run, args=(stop,), name="noria-remote-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if not beat.is_lost:
            remote.bucket.delete(key)


class AtRemote:
    """Who is at work on the objects of a remote; see `store.collect.AtWork`.

    Args:
        wait_s: so long another collection is waited for; long enough to see that its owner is dead.
    """

    def __init__(self, remote: Remote, wait_s: float = STALE_S + BEAT_S) -> None:
        self._remote = remote
        self._wait_s = wait_s
        self._leases = BucketLeases(remote.bucket)

    def now(self) -> float:
        """The time by the remote's clock, in seconds since the epoch."""
        return self._leases.now()

    def active(self) -> list[Lease]:
        """The leases that are held there."""
        return self._leases.active()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only collection there for the time of the block. Raises: Conflict if there is another one."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(self._remote, COLLECTING, self._wait_s))
            except StoreUnavailable as error:
                if self._remote.bucket.stat(f"locks/{COLLECTING}") is None:
                    raise
                raise Conflict(
                    "another collection is under way", where=self._remote.told, hint="wait until it has ended"
                ) from error
            yield


class _Beat:
    """Writes a lock again and again, each time only over what it wrote before."""

    def __init__(self, bucket: Bucket, key: str, mine: str, tag: str) -> None:
        self._bucket, self._key, self._mine, self._tag = bucket, key, mine, tag
        self.is_lost = False

    def run(self, stop: threading.Event) -> None:
        """Until the event, or until somebody took the lock over."""
        number = 0
        while not stop.wait(BEAT_S):
            number += 1
            try:
                self._tag = self._bucket.create(self._key, f"{self._mine} {number}".encode(), instead_of=self._tag)
            except (Conflict, NotFound):
                self.is_lost = True  # objects are named by content: what both write is the same
                return
            except StoreUnavailable:
                continue  # the push itself will say so; the next beat may arrive


def _acquire(bucket: Bucket, key: str, mine: str, wait_s: float) -> str:
    begun = time.monotonic()
    seen, since = "", begun
    while True:
        try:
            return bucket.create(key, mine.encode())
        except Conflict:
            found = bucket.stat(key)
        now = time.monotonic()
        if found is None:
            continue  # given back between the two looks
        if found.tag != seen:
            seen, since = found.tag, now
        owner = _owner(bucket, key)
        if now - since > STALE_S or (owner is not None and is_dead(owner[0], now - since)):
            try:
                return bucket.create(key, mine.encode(), instead_of=seen)
            except (Conflict, NotFound):
                continue  # it beat, or another waiter was faster
        if now - begun > wait_s:
            named = f"process {owner[0].pid} on {owner[1]}" if owner is not None else "somebody"
            raise StoreUnavailable(
                f"{key.partition('/')[2]} is being pushed by {named}; waited {now - begun:.0f} s",
                where=bucket.url,
                hint="try again when that has ended",
            )
        time.sleep(_LOOK_S)


def _owner(bucket: Bucket, key: str) -> tuple[Owner, str] | None:
    """Who wrote a lock, and on which machine; None if it is gone or cannot be read."""
    try:
        with bucket.open(key) as stream:
            found, _ = json.JSONDecoder().raw_decode(stream.read().decode("utf-8", "replace"))
        pid, start, boot, words, host, _ = found
    except (NotFound, ValueError, TypeError):
        return None
    return Owner(int(pid), str(start), str(boot), str(words)), str(host)


def _open(ws: Workspace, name: str, config: RemoteConfig) -> Remote:
    scheme, separator, _ = config.url.partition("://")
    cache = ws.project.state / "cache"
    if separator and scheme not in ("file", "s3"):
        raise ConfigError(
            f"[remote.{name}] url {scheme + separator!r} is not known",
            where=str(ws.project.root / "noria.toml"),
            hint="s3://BUCKET/PREFIX, or a folder",
        )
    if scheme == "s3" and separator:
        _require_s3(name)
        bucket = plugins.load("bucket", "s3")(config.url, config.endpoint, config.region)
        below = bucket.below("objects")
        made = plugins.load("objects", "s3")(below.url, config.endpoint, config.region, cache / "packs", bucket=below)
    else:
        root = (ws.project.root / config.url.removeprefix("file://")).resolve()
        made = plugins.load("objects", "file")(root / "objects")
        bucket = plugins.load("bucket", "file")(str(root))
    return Remote(name, Objects(made, cache / "remote" / name, ws.objects.copies), bucket)


def _require_s3(name: str) -> None:
    try:
        plugins.load("bucket", "s3")
    except ImportError as error:
        raise ConfigError(
            f"[remote.{name}] is on S3, and {error.name} is not installed", hint="pip install 'noria[s3]'"
        ) from error
