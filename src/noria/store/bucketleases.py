"""Leases in a bucket: who is at work on objects that many machines share, for a collection of them.

A lease is a key that its owner writes again every minute, each time only over what it wrote before;
one that has stopped changing is a dead owner's. When it began is said by the bucket's own clock, so no
two machines' clocks are compared. What a lease counts on lies beside it, in keys that are written once.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from noria.core.errors import Conflict, NotFound, StoreUnavailable
from noria.core.identity import Digest, is_digest
from noria.store.bucket import Bucket, Item
from noria.store.failpoint import failpoint
from noria.store.leases import LOST_S, Lease

__all__ = ["BucketLeaseHolder", "BucketLeases"]

BEAT_S = 60.0
FOLDER = "leases/"
_HEAD = ".lease"


class BucketLeaseHolder:
    """A lease that is held; `add` names more that it counts on. Thread safe."""

    def __init__(self, bucket: Bucket, what: str) -> None:
        self._bucket = bucket
        self._what = what
        self._name = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._count = 0
        self._parts: list[str] = []
        self._since = 0.0
        self._tag = bucket.create(self._key, self._text())
        found = bucket.stat(self._key)
        if found is not None:
            self._since = found.modified

    def add(self, digests: Iterable[str]) -> None:
        """Count on these objects from now on; durable when this returns. Raises: StoreUnavailable."""
        content = "".join(f"{digest}\n" for digest in digests).encode()
        if content:
            with self._lock:
                part = f"{FOLDER}{self._name}/{len(self._parts):06d}"
                self._bucket.create(part, content)
                self._parts.append(part)

    def beat(self) -> None:
        """Say that the owner lives. A lease that was taken for a dead owner's is made again."""
        with self._lock:
            self._count += 1
            try:
                self._tag = self._bucket.create(self._key, self._text(), instead_of=self._tag)
            except (Conflict, NotFound):
                with contextlib.suppress(Conflict):
                    self._tag = self._bucket.create(self._key, self._text())

    def release(self) -> None:
        """Count on nothing any more."""
        with self._lock:
            for key in [self._key, *self._parts]:
                self._bucket.delete(key)

    @property
    def _key(self) -> str:
        return f"{FOLDER}{self._name}{_HEAD}"

    def _text(self) -> bytes:
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        return json.dumps({"beat": self._count, "owner": owner, "since": self._since, "what": self._what}).encode()


class BucketLeases:
    """The leases in a bucket. Machines see each other's."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def now(self) -> float:
        """The time by the bucket's clock, in seconds since the epoch. Raises: StoreUnavailable."""
        key = f"{FOLDER}{uuid.uuid4().hex}.now"
        self._bucket.create(key, b"")
        try:
            found = self._bucket.stat(key)
        finally:
            self._bucket.delete(key)
        if found is None:
            raise StoreUnavailable("the bucket does not keep what is written", where=self._bucket.url)
        return found.modified

    @contextmanager
    def hold(self, what: str, digests: Iterable[str] = ()) -> Iterator[BucketLeaseHolder]:
        """Hold a lease for the time of the block. Take it before the first object is stored or looked for.

        Raises: StoreUnavailable; Denied.
        """
        holder = BucketLeaseHolder(self._bucket, what)
        stop = threading.Event()
        heart = threading.Thread(target=_beat, args=(holder, stop), name="noria-bucket-lease", daemon=True)
        heart.start()
        try:
            holder.add(digests)
            failpoint("lease.written")
            yield holder
        finally:
            stop.set()
            heart.join()
            holder.release()

    def active(self) -> list[Lease]:
        """The leases of living owners; those of dead ones are taken away.

        What cannot be understood is taken for a lease that began at the beginning of time, until it is old.
        Raises: StoreUnavailable.
        """
        now = self.now()
        heads: dict[str, Item] = {}
        parts: dict[str, list[Item]] = {}
        for item in self._bucket.list(FOLDER):
            name, _, part = item.key.removeprefix(FOLDER).partition("/")
            if part:
                parts.setdefault(name, []).append(item)
            elif name.endswith(_HEAD):
                heads[name.removesuffix(_HEAD)] = item
        found = []
        for name, item in heads.items():
            if now - item.modified > LOST_S:
                self._remove([item, *parts.get(name, [])])
                continue
            with contextlib.suppress(NotFound):  # its owner is done
                found.append(self._read(item, parts.get(name, [])))
        for name in parts.keys() - heads.keys():
            if all(now - part.modified > LOST_S for part in parts[name]):
                self._remove(parts[name])
        return found

    def _read(self, item: Item, parts: Iterable[Item]) -> Lease:
        with self._bucket.open(item.key) as stream:
            content = stream.read()
        names: set[Digest] = set()
        for part in parts:
            with self._bucket.open(part.key) as stream:
                names.update(
                    Digest(line) for line in stream.read().decode("utf-8", "replace").split() if is_digest(line)
                )
        try:
            header = json.loads(content)
            since = float(header["since"]) or item.modified  # at its first beat a lease did not know it yet
            return Lease(str(header["what"]), str(header["owner"]), min(since, item.modified), frozenset(names))
        except (ValueError, KeyError, TypeError):
            return Lease("unknown", "unknown", 0.0, frozenset(names))

    def _remove(self, items: Iterable[Item]) -> None:
        for item in items:
            self._bucket.delete(item.key)


def _beat(holder: BucketLeaseHolder, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        with contextlib.suppress(StoreUnavailable):  # the work itself says so; the next beat may arrive
            holder.beat()
