"""The rules of collection, one by one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from noria.core.errors import Corrupt, UsageError
from noria.core.identity import Digest, digest
from noria.engines.objects.file import FileObjects
from noria.engines.objects.memory import MemoryObjects
from noria.store.collect import DAY_S, Collected, collect, present, reachable
from noria.store.leases import Leases
from noria.store.objects import Objects, ObjectStore
from noria.store.packs import as_name
from noria.store.tree import Entry, Tree, tree_nodes, write_sorted, write_tree


class Yard:
    """A store that is collected, and a time that is set."""

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        self.objects = Objects(store, folder / "cache")
        self.leases = Leases(folder / "leases")
        self.roots: list[str] = []
        self.begun = time.time()

    def collect(self, days: float, *, dry_run: bool = False, **arguments: float) -> Collected:
        now = self.begun + days * DAY_S
        return collect(self.objects, lambda: self.roots, self.leases, now=now, dry_run=dry_run, **arguments)

    def here(self) -> set[Digest]:
        return set(self.objects.names())


@pytest.fixture(params=["file", "memory"])
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Yard:
    return Yard(FileObjects(tmp_path / "objects") if request.param == "file" else MemoryObjects(), tmp_path)


@pytest.fixture
def on_disk(tmp_path: Path) -> Yard:
    return Yard(FileObjects(tmp_path / "objects"), tmp_path)


def test_what_nothing_names_goes_to_the_trash_and_after_a_week_for_good(yard: Yard) -> None:
    kept = yard.objects.put_bytes(b"kept")
    garbage = [yard.objects.put_bytes(b"loose"), *yard.objects.put_many([b"one", b"two"])]
    yard.roots = [kept]
    found = yard.collect(0.5)
    assert (found.young, found.trashed, found.reachable) == (3, 0, 1)
    found = yard.collect(2)
    assert (found.young, found.trashed, found.trashed_bytes) == (0, 3, 11)
    assert yard.here() == {kept}
    assert [yard.objects.has(name) for name in garbage] == [False] * 3
    assert yard.objects.get_bytes(garbage[0]) == b"loose", "what is in the trash can still be read"
    assert dict(yard.objects.get_many(garbage))[garbage[1]] == b"one"
    found = yard.collect(8.9)
    assert (found.waiting, found.waiting_bytes, found.purged) == (3, 11, 0)
    found = yard.collect(9.2)
    assert (found.waiting, found.purged, found.purged_bytes) == (0, 3, 11)
    assert yard.objects.get_bytes(kept) == b"kept"
    assert present(yard.objects, garbage) == set()


def test_a_dry_run_tells_the_same_and_moves_nothing(yard: Yard) -> None:
    yard.objects.put_many([b"one", b"two"])
    for day in (0.0, 2.0):
        before = yard.here()
        told = yard.collect(day, dry_run=True)
        assert told.is_dry_run
        assert yard.here() == before
        done = yard.collect(day)
        assert (told.trashed, told.trashed_bytes, told.young) == (done.trashed, done.trashed_bytes, done.young)
    told, done = yard.collect(10, dry_run=True), yard.collect(10)
    assert (told.purged, told.purged_bytes) == (done.purged, done.purged_bytes) == (2, 6)


def test_looking_is_the_default(yard: Yard) -> None:
    yard.objects.put_bytes(b"x")
    assert collect(yard.objects, list, yard.leases, now=yard.begun + 100 * DAY_S).is_dry_run
    assert len(yard.here()) == 1


def test_a_put_of_what_is_in_the_trash_brings_it_back(yard: Yard) -> None:
    names = [yard.objects.put_bytes(b"loose"), *yard.objects.put_many([b"one", b"two"])]
    yard.collect(2)
    assert yard.here() == set()
    assert [yard.objects.put_bytes(b"loose"), *yard.objects.put_many([b"one"])] == names[:2]
    assert yard.here() == set(names[:2])
    yard.roots = [*names[:2]]
    assert yard.collect(30).purged_bytes in (3, 8), "two is gone, and the old copy of loose where it was made anew"
    assert [yard.objects.get_bytes(name) for name in names[:2]] == [b"loose", b"one"]


def test_what_is_named_again_comes_back_from_the_trash(yard: Yard) -> None:
    names = [yard.objects.put_bytes(b"loose"), *yard.objects.put_many([b"one", b"two"])]
    yard.collect(2)
    yard.roots = [*names]
    found = yard.collect(20)
    assert (found.restored, found.purged) == (3, 0)
    assert yard.here() == set(names)


def test_a_root_that_appears_before_the_second_mark_saves_what_is_due(yard: Yard) -> None:
    late, gone = yard.objects.put_many([b"late", b"gone"])
    yard.collect(2)
    asked = 0

    def roots() -> list[str]:
        nonlocal asked
        asked += 1
        return [late] if asked > 1 else []

    now = yard.begun + 20 * DAY_S
    found = collect(yard.objects, roots, yard.leases, now=now, dry_run=False)
    assert (asked, found.purged) == (2, 1)
    assert yard.here() == {late}
    assert present(yard.objects, [late, gone]) == {late}


def test_a_lease_keeps_what_was_stored_since_it_began_and_what_it_names(on_disk: Yard) -> None:
    old, named = on_disk.objects.put_many([b"old", b"named"])
    on_disk.begun += 5 * DAY_S
    with on_disk.leases.hold("add", [named]):
        assert on_disk.collect(0, min_age_s=0).trashed == 0, "what was stored shortly before the lease is safe too"
    found = on_disk.collect(0, min_age_s=0)
    assert found.trashed == 2
    with on_disk.leases.hold("add") as lease:
        lease.add([old])
        assert on_disk.collect(20).restored == 1
        assert old in on_disk.here()


@pytest.mark.parametrize("harm", ["gone", "altered"])
def test_anything_unreadable_aborts_before_anything_moves(on_disk: Yard, harm: str) -> None:
    objects = on_disk.objects
    entries = [Entry(f"{number:05d}", digest(b"file"), 1) for number in range(3000)]
    tree = write_sorted(objects, entries)
    manifest = objects.put_json({"tree": tree})
    garbage = objects.put_many([b"garbage"])[0]
    on_disk.roots = [manifest]
    node = list(tree_nodes(objects, tree))[3]
    if harm == "gone":
        objects.store.delete(node)
    else:
        store = objects.store
        assert isinstance(store, FileObjects)
        (pack,) = (tmp for tmp in store._packs.folder.glob("*.pack"))
        pack.write_bytes(pack.read_bytes().replace(objects.get_bytes(node)[:200], b"x" * 200))
    before = on_disk.here()
    for dry_run in (True, False):
        with pytest.raises(Corrupt, match="nothing was collected") as caught:
            on_disk.collect(50, dry_run=dry_run)
        assert len(str(caught.value).splitlines()) <= 6
    assert on_disk.here() == before
    assert garbage in before
    on_disk.roots = [digest(b"a root that is not here")]
    with pytest.raises(Corrupt, match="nothing was collected"):
        on_disk.collect(50)
    assert on_disk.here() == before


def test_everything_that_roots_lead_to_is_reached(on_disk: Yard, tmp_path: Path) -> None:
    objects = on_disk.objects
    source = tmp_path / "large.csv"
    source.write_bytes(b"".join(b"%d,%d\n" % (number, number * number) for number in range(200_000)))
    large = objects.put_file(source)
    files = objects.put_many([b"%d" % number for number in range(2500)])
    entries = [Entry(f"{number:05d}", name, 1) for number, name in enumerate(files)]
    tree = write_sorted(objects, [*entries, Entry("large.csv", large, 1)])
    small = write_tree(objects, Tree((Entry("a", objects.put_bytes(b"a"), 1),)))
    listed = objects.put_json([[{"tree": tree}], "absent " + digest(b"never stored"), small])
    release = objects.put_json({"anything": {"model": listed}})
    chunks = [name for name, _ in objects.chunks_of(large) or ()]
    assert len(chunks) > 20
    expected = {*files, *chunks, large, listed, release, *tree_nodes(objects, tree), small, digest(b"a")}
    assert {as_name(key) for key in reachable(objects, [release])} == expected
    objects.put_many([b"nobody names me"])
    on_disk.roots = [release]
    on_disk.collect(3)
    assert on_disk.here() == expected
    for name in expected:
        objects.verify(name)


def test_a_large_text_that_names_objects_is_read_as_a_stream(on_disk: Yard, tmp_path: Path) -> None:
    named = on_disk.objects.put_many([b"%d" % number for number in range(30)])
    lines = [b'{"ref":"%s","pad":"%s"}\n' % (name.encode(), b"x" * 99_991) for name in named]
    text = tmp_path / "events.jsonl"
    text.write_bytes(b"".join(lines))
    root = on_disk.objects.put_file(text)
    assert {as_name(key) for key in reachable(on_disk.objects, [root])} >= {root, *named}


def test_too_short_a_grace_or_a_negative_age_is_refused(yard: Yard) -> None:
    with pytest.raises(UsageError, match="too few"):
        yard.collect(0, grace_s=6 * DAY_S)
    with pytest.raises(UsageError, match="negative"):
        yard.collect(0, min_age_s=-1)


def test_a_store_without_a_trash_is_not_collected(tmp_path: Path) -> None:
    class Plain:
        def __init__(self) -> None:
            inner = MemoryObjects()
            self.put, self.get, self.has = inner.put, inner.get, inner.has
            self.list, self.delete = inner.list, inner.delete

    with pytest.raises(UsageError, match="cannot be collected"):
        Yard(Plain(), tmp_path).collect(0)


def test_the_space_of_what_was_packed_comes_back(on_disk: Yard) -> None:
    kept = on_disk.objects.put_many([b"kept"])
    on_disk.objects.put_many([os.urandom(60_000) for _ in range(50)])
    on_disk.roots = [*kept]
    on_disk.collect(2)
    folder = on_disk.objects.store._packs.folder  # type: ignore[attr-defined]  # the store on disk
    assert sum(file.stat().st_size for file in folder.glob("*.pack")) > 3_000_000
    assert on_disk.collect(10).freed_bytes > 2_900_000
    assert sum(file.stat().st_size for file in folder.glob("*.pack")) < 10_000
    assert on_disk.objects.get_bytes(kept[0]) == b"kept"
