"""Garbage collection against random interleavings of adding, deduplicating, collecting, crashing and time.

Writers and collections are taken apart into steps, and the steps of writers happen between any two
steps of a collection. Time goes by turning back every clock on the disk. Whatever happens, each object
that a committed fact names can be read; and what nothing names is gone in the end.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from noria.core.errors import Conflict
from noria.core.identity import Digest
from noria.engines.objects.file import FileObjects
from noria.store.collect import DAY_S, collect
from noria.store.leases import LeaseHolder, Leases
from noria.store.objects import Objects, Trashed
from noria.store.tree import Entry, Tree, iter_tree, tree_nodes, write_tree

CONTENTS = [b"content %d" % number * 40 for number in range(14)]
LARGE = [b"".join(b"%d,%d\n" % (n, n * number) for n in range(90_000)) for number in (1, 2)]


class Crash(BaseException):
    """The process died here."""


class Stepping(FileObjects):
    """Between any two steps of a collection others act, or the collector dies."""

    def __init__(self, root: Path, between: Callable[[], None]) -> None:
        super().__init__(root)
        self._between = between

    def ages(self) -> Iterator[tuple[Digest, int, float]]:
        self._between()
        yield from super().ages()
        self._between()

    def trash(self, digests: Sequence[Digest], *, at: int, unseen_since: float) -> list[Digest]:
        done: list[Digest] = []
        for digest in digests:
            self._between()
            done += super().trash([digest], at=at, unseen_since=unseen_since)
        return done

    def restore(self, digests: Sequence[Digest]) -> None:
        for digest in digests:
            self._between()
            super().restore([digest])

    def trashed(self) -> Iterator[Trashed]:
        self._between()
        yield from list(super().trashed())
        self._between()

    def purge(self, items: Sequence[Trashed]) -> list[Digest]:
        done: list[Digest] = []
        for item in items:
            self._between()
            done += super().purge([item])
        return done

    def compact(self) -> int:
        self._between()
        return super().compact()


class World:
    """A store, its writers, the facts that were committed, and time."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.folder = folder
        self.root = folder / "objects"
        self.leases = Leases(folder / "leases")
        self.store = FileObjects(self.root)
        self.objects = Objects(self.store, folder / "cache")
        self.facts: list[Digest] = []
        self.writers: list[tuple[Iterator[None], list[float]]] = []
        self.files = [folder / f"large{number}" for number in range(len(LARGE))]
        for path, content in zip(self.files, LARGE, strict=True):
            path.write_bytes(content)

    def write(self) -> None:
        """A new writer; with a lease it may take as long as it likes, without one less than the trash keeps things."""
        is_leased = self.chance.random() < 0.5
        slowness = self.chance.choice([0.0, 0.0, 0.95])
        self.writers.append((self._steps(is_leased), [float("inf") if is_leased else 6.0 * DAY_S, slowness]))

    def step(self) -> None:
        """Some writer goes on, or ends."""
        if self.writers:
            writer = self.chance.choice(self.writers)
            is_slow = writer[1][1] > self.chance.random()
            if not is_slow and next(writer[0], "end") == "end":
                self.writers.remove(writer)

    def finish(self) -> None:
        """Some writer goes on to its end."""
        if self.writers:
            writer = self.chance.choice(self.writers)
            self.writers.remove(writer)
            for _ in writer[0]:
                continue

    def crash(self) -> None:
        """Some writer dies where it is. Its lease is then nobody's, as when the kernel closes its files."""
        if self.writers:
            writer = self.chance.choice(self.writers)
            self.writers.remove(writer)
            writer[0].close()  # type: ignore[attr-defined]  # a generator

    def collect(self) -> None:
        """A collection with anything between its steps; it may die in any of them."""
        fuse = self.chance.choice([0, 0, 0, self.chance.randrange(1, 40)])

        def between() -> None:
            nonlocal fuse
            fuse -= 1
            if fuse == 0:
                raise Crash
            if self.chance.random() < 0.3:
                self.chance.choice([self.write, self.step, self.step, self.step, self.crash])()

        objects = Objects(Stepping(self.root, between), self.folder / "cache")
        try:
            collect(objects, lambda: list(self.facts), self.leases, now=time.time(), dry_run=False)
        except Crash:
            return

    def wait(self) -> None:
        """Days go by: everything on the disk is that much older."""
        seconds = self.chance.choice([0.6, 1.5, 3.0, 8.0]) * DAY_S
        for writer in list(self.writers):
            writer[1][0] -= seconds
            if writer[1][0] < 0:  # nobody without a lease works for longer than the trash keeps things
                self.writers.remove(writer)
                writer[0].close()  # type: ignore[attr-defined]  # a generator
        grow_older(self.folder, seconds)

    def check(self) -> None:
        """Every object that a fact names is there, whole."""
        for tree in self.facts:
            for node in tree_nodes(self.objects, tree):
                self.objects.verify(node)
            for entry in iter_tree(self.objects, tree):
                self.objects.verify(entry.digest)

    def _steps(self, is_leased: bool) -> Iterator[None]:
        with ExitStack() as stack:
            lease: LeaseHolder | None = stack.enter_context(self.leases.hold("test")) if is_leased else None
            yield
            names: list[Digest] = []
            for _ in range(self.chance.randrange(1, 4)):
                names += self._put(lease)
                yield
            entries = {f"f{number}": Entry(f"f{number}", name, 1) for number, name in enumerate(names)}
            tree = write_tree(self.objects, Tree(tuple(entries.values())))
            yield
            self.facts.append(tree)
            yield

    def _put(self, lease: LeaseHolder | None) -> list[Digest]:
        chance = self.chance
        kind = chance.randrange(5)
        if kind == 0:
            return [self.objects.put_bytes(chance.choice(CONTENTS))]
        if kind == 1:
            return [self.objects.put_file(chance.choice(self.files))]
        if kind == 2 and lease is not None:  # what is there already is not put again, but named before it is looked for
            wanted = [name for name, _ in self.store.list()]
            lease.add(wanted)
            there = sorted(self.objects.has_many(wanted))
            return chance.sample(there, min(len(there), 2))
        return self.objects.put_many(chance.sample(CONTENTS, 3))


def grow_older(folder: Path, seconds: float) -> None:
    """Turn back every clock on the disk."""
    for file in [*folder.rglob("*")]:
        if file.is_file() and "packs" not in file.parts:
            status = file.stat()
            os.utime(file, (status.st_atime - seconds, status.st_mtime - seconds))
    trash = folder / "objects" / "trash"
    for batch in sorted(trash.iterdir()) if trash.is_dir() else []:
        batch.rename(trash / str(int(batch.name) - int(seconds)))
    index = folder / "objects" / "packs" / "index.db"
    if index.exists():
        connection = sqlite3.connect(index, timeout=60)
        with connection:
            connection.execute("update object set seen = seen - ?", (int(seconds),))
            connection.execute("update object set trashed = trashed - ? where trashed > 0", (int(seconds),))
        connection.close()


ACTIONS = ["write"] * 4 + ["step"] * 12 + ["finish"] * 2 + ["crash"] + ["collect"] * 4 + ["wait"] * 3


@pytest.mark.parametrize("seed", range(int(os.environ.get("NORIA_COLLECTIONS", "25"))))
def test_nothing_that_is_referenced_is_ever_lost(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    world = World(tmp_path, chance)
    for action in chance.choices(ACTIONS, k=120):
        getattr(world, action)()
        if action == "collect":
            world.check()
    world.check()
    for writer, _ in world.writers:
        writer.close()  # type: ignore[attr-defined]  # a generator
    world.writers.clear()
    world.facts = world.facts[: (len(world.facts) + 1) // 2]
    for days in (2.0, 8.0):
        grow_older(world.folder, days * DAY_S)
        collect(world.objects, lambda: world.facts, world.leases, now=time.time(), dry_run=False)
    world.check()
    named = {name for tree in world.facts for name in (tree, *(each.digest for each in iter_tree(world.objects, tree)))}
    chunks = {chunk for name in named for chunk, _ in world.objects.chunks_of(name) or ()}
    assert {name for name, _ in world.store.list()} == named | chunks, "and all else is gone"
    assert list(world.store.trashed()) == []


def test_two_collections_at_once_are_one_too_many(tmp_path: Path) -> None:
    world = World(tmp_path, random.Random(1))

    def again() -> list[str]:
        with pytest.raises(Conflict, match="under way"):
            collect(world.objects, list, Leases(world.leases.folder, wait_s=0.1), now=time.time())
        return []

    collect(world.objects, again, world.leases, now=time.time())
