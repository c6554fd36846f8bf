"""Garbage collection in a bucket against random interleavings of adding, collecting, crashing and time.

Between any two requests of a collection others act: writers, another collection that believes that it
is alone too, or the collector dies. The bucket is one in memory whose clock the test turns; that the real
one keeps the same promises is tested by the seam's conformance class. Whatever happens, each object that
a committed fact names can be read; and what nothing names is gone in the end.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest

from noria.core.errors import Conflict, NotFound
from noria.core.identity import Digest, digest
from noria.engines.objects.s3 import S3Objects
from noria.store.bucket import Item
from noria.store.bucketleases import BucketLeaseHolder, BucketLeases
from noria.store.collect import DAY_S, collect
from noria.store.leases import Lease
from noria.store.objects import Objects
from noria.store.tree import Entry, Tree, iter_tree, tree_nodes, write_tree

if TYPE_CHECKING:
    from pathlib import Path

    from noria.engines.objects.bucket import S3Bucket

CONTENTS = [b"content %d" % number * 40 for number in range(14)]
PARTS = [[b"%d of %d" % (number, which) * 90 for number in range(4)] for which in range(2)]


class Crash(BaseException):
    """The process died here."""


class Shelf:
    """What a bucket holds, and its clock."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[bytes, float]] = {}
        self.now = 1_900_000_000.0
        self.lock = threading.RLock()


class MemoryBucket:
    """A bucket in memory that does what S3 does; `between` happens before each request of the main thread."""

    def __init__(self, shelf: Shelf, between: Callable[[], None] = lambda: None) -> None:
        self.shelf = shelf
        self.url = "memory"
        self._between = between

    def _request(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._between()

    def read(self, key: str, start: int = 0, length: int = -1) -> bytes:
        self._request()
        if key not in self.shelf.items:
            raise NotFound(f"there is no {key}")
        content = self.shelf.items[key][0]
        return content[start : start + length if length >= 0 else None]

    def open(self, key: str, start: int = 0, length: int = -1) -> BinaryIO:
        return io.BytesIO(self.read(key, start, length))

    def _item(self, key: str) -> Item:
        content, modified = self.shelf.items[key]
        return Item(key, len(content), hashlib.md5(content, usedforsecurity=False).hexdigest(), modified)

    def stat(self, key: str) -> Item | None:
        self._request()
        with self.shelf.lock:
            return self._item(key) if key in self.shelf.items else None

    def create(self, key: str, content: bytes, *, instead_of: str = "") -> str:
        self._request()
        with self.shelf.lock:
            found = self._item(key).tag if key in self.shelf.items else ""
            if found != instead_of:
                raise Conflict(f"{key} was written by somebody else")
            self.shelf.items[key] = content, self.shelf.now
            return self._item(key).tag

    def write(self, key: str, content: bytes, sha256: bytes = b"") -> None:
        self._request()
        with self.shelf.lock:
            if key not in self.shelf.items:
                self.shelf.items[key] = content, self.shelf.now

    def upload(self, key: str, source: BinaryIO, size: int, sent: Callable[[int], None] = lambda _: None) -> None:
        source.seek(0)
        self.write(key, source.read(size))

    def list(self, prefix: str = "") -> Iterator[Item]:
        self._request()
        with self.shelf.lock:
            return iter([self._item(key) for key in sorted(self.shelf.items) if key.startswith(prefix)])

    def copy(self, key: str, target: str) -> None:
        content = self.read(key)
        with self.shelf.lock:
            self.shelf.items[target] = content, self.shelf.now

    def delete(self, key: str) -> None:
        self._request()
        with self.shelf.lock:
            self.shelf.items.pop(key, None)


class AtWork:
    """The leases, and nobody who keeps two collections apart."""

    def __init__(self, bucket: MemoryBucket) -> None:
        self._leases = BucketLeases(bucket)

    def active(self) -> list[Lease]:
        return self._leases.active()

    def alone(self) -> AbstractContextManager[None]:
        return nullcontext()


class Writer:
    """Work that is under way, and how long it may take at most."""

    def __init__(self, lease: BucketLeaseHolder | None, steps: Iterator[None]) -> None:
        self.lease = lease
        self.steps = steps
        self.left_s = float("inf") if lease else 6.0 * DAY_S


class World:
    """A bucket, its writers, the facts that were committed, and time."""

    def __init__(self, cache: Path, chance: random.Random) -> None:
        self.chance = chance
        self.cache = cache
        self.shelf = Shelf()
        self.bucket = MemoryBucket(self.shelf)
        self.objects = self.opened(self.bucket)
        self.facts: list[Digest] = []
        self.writers: list[Writer] = []
        self.depth = 0

    def opened(self, bucket: MemoryBucket) -> Objects:
        store = S3Objects("", bucket=cast("S3Bucket", bucket), share=1.0, clock=lambda: self.shelf.now)
        return Objects(store, self.cache)

    def write(self) -> None:
        """A new writer, with a lease or without one; some have been open for long and know old packs."""
        lease = BucketLeaseHolder(self.bucket, "test") if self.chance.random() < 0.5 else None
        objects = self.chance.choice([self.objects, self.opened(self.bucket)])
        self.writers.append(Writer(lease, self._steps(objects, lease)))

    def step(self) -> None:
        """Some writer goes on, or ends."""
        if self.writers:
            writer = self.chance.choice(self.writers)
            if next(writer.steps, "end") == "end":
                self.end(writer)

    def end(self, writer: Writer) -> None:
        """Its work is done."""
        self.writers.remove(writer)
        if writer.lease is not None:
            writer.lease.release()

    def finish(self) -> None:
        """Some writer goes on to its end."""
        if self.writers:
            writer = self.chance.choice(self.writers)
            self.end(writer)
            for _ in writer.steps:
                continue

    def forget(self) -> None:
        """A fact is no more: what only it named is garbage, until somebody puts it again."""
        if self.facts:
            self.facts.remove(self.chance.choice(self.facts))

    def crash(self) -> None:
        """Some writer dies where it is; its lease stays and beats no more."""
        if self.writers:
            self.writers.remove(self.chance.choice(self.writers))

    def collect(self) -> None:
        """A collection with anything between its requests; it may die in any of them."""
        fuse = self.chance.choice([0, 0, 0, self.chance.randrange(1, 120)])
        actions = [self.write, self.step, self.step, self.step, self.step, self.finish, self.crash]
        if self.depth == 0:
            actions.append(self.collect)

        def between() -> None:
            nonlocal fuse
            fuse -= 1
            if fuse == 0:
                raise Crash
            if self.chance.random() < 0.2:
                self.chance.choice(actions)()

        self.depth += 1
        bucket = MemoryBucket(self.shelf, between)
        try:
            collect(
                self.opened(bucket), lambda: list(self.facts), AtWork(self.bucket), now=self.shelf.now, dry_run=False
            )
        except Crash:
            return
        finally:
            self.depth -= 1

    def wait(self) -> None:
        """Days go by. The living beat on; nobody without a lease works for longer than the trash keeps things."""
        seconds = self.chance.choice([0.6, 1.5, 3.0, 8.0]) * DAY_S
        self.shelf.now += seconds
        for writer in list(self.writers):
            writer.left_s -= seconds
            if writer.lease is not None:
                writer.lease.beat()
            elif writer.left_s < 0:
                self.writers.remove(writer)

    def check(self) -> None:
        """Every object that a fact names can be read, by one that knows old packs and by a new one."""
        for objects in (self.objects, self.opened(self.bucket)):
            for tree in self.facts:
                for node in tree_nodes(objects, tree):
                    objects.verify(node)
                for entry in iter_tree(objects, tree):
                    objects.verify(entry.digest)

    def _steps(self, objects: Objects, lease: BucketLeaseHolder | None) -> Iterator[None]:
        yield
        names: list[Digest] = []
        for _ in range(self.chance.randrange(1, 4)):
            names += self._put(objects, lease)
            yield
        entries = [Entry(f"f{number}", name, 1) for number, name in enumerate(names)]
        tree = write_tree(objects, Tree(tuple(entries)))
        yield
        self.facts.append(tree)
        yield

    def _put(self, objects: Objects, lease: BucketLeaseHolder | None) -> list[Digest]:
        chance = self.chance
        kind = chance.randrange(5)
        if kind == 0:
            return [objects.put_bytes(chance.choice(CONTENTS))]
        store = objects.store
        assert isinstance(store, S3Objects)
        if kind == 1:
            parts = chance.choice(PARTS)
            whole = digest(b"".join(parts))
            names = store.put_many(parts)
            store.put_chunked(whole, [(name, len(part)) for name, part in zip(names, parts, strict=True)])
            return [whole]
        if kind == 2 and lease is not None:  # what is there already is not put again, but named before it is looked for
            wanted = [name for name, _ in store.list()]
            lease.add(wanted)
            there = sorted(objects.has_many(wanted))
            return chance.sample(there, min(len(there), 2))
        return objects.put_many(chance.sample(CONTENTS, 3))


ACTIONS = ["write"] * 4 + ["step"] * 10 + ["finish"] * 3 + ["forget"] * 4 + ["crash"] + ["collect"] * 4 + ["wait"] * 3


@pytest.mark.parametrize("seed", range(int(os.environ.get("NORIA_COLLECTIONS", "20"))))
def test_nothing_that_is_referenced_in_a_bucket_is_ever_lost(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    world = World(tmp_path, chance)
    for action in chance.choices(ACTIONS, k=160):
        getattr(world, action)()
        if action == "collect":
            world.check()
    world.check()
    for writer in list(world.writers):
        world.end(writer)
    world.facts = world.facts[: (len(world.facts) + 1) // 2]
    for days in (2.0, 8.0, 8.0, 8.0):
        world.shelf.now += days * DAY_S
        collect(world.objects, lambda: world.facts, AtWork(world.bucket), now=world.shelf.now, dry_run=False)
    world.check()
    named = {name for tree in world.facts for name in (tree, *(each.digest for each in iter_tree(world.objects, tree)))}
    chunks = {chunk for name in named for chunk, _ in world.objects.chunks_of(name) or ()}
    assert {name for name, _ in world.objects.store.list()} == named | chunks, "and all else is gone"
    left = [key for key in world.shelf.items if key.startswith(("trash/", "leases/"))]
    assert left == []
