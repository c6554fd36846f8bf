from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import Corrupt, NotFound, UsageError
from noria.core.identity import JSON, Digest, digest
from noria.engines.objects.memory import MemoryObjects
from noria.store.objects import Objects
from noria.store.tree import (
    Entry,
    Totals,
    Tree,
    diff_trees,
    find_entry,
    is_tree,
    iter_tree,
    merge_trees,
    read_tree,
    tree_nodes,
    tree_totals,
    update_tree,
    write_sorted,
    write_tree,
)

names = st.from_regex(r"[a-z.]{1,3}(/[a-z]{1,3}){0,2}", fullmatch=True).filter(
    lambda path: not {".", ".."} & set(path.split("/"))
)


@pytest.fixture
def objects() -> Objects:
    return Objects(MemoryObjects(), Path("unused"))


@given(st.lists(names, unique=True), st.randoms())
def test_a_trees_name_does_not_depend_on_the_order_it_was_given_in(paths: list[str], chance: random.Random) -> None:
    objects = Objects(MemoryObjects(), Path("unused"))
    entries = [Entry(path, digest(path.encode()), len(path), 3) for path in paths]
    shuffled = list(entries)
    chance.shuffle(shuffled)
    name = write_tree(objects, Tree(tuple(entries)))
    assert write_tree(objects, Tree(tuple(shuffled))) == name
    again = read_tree(objects, name)
    assert again == Tree(tuple(entries))
    assert [entry.path for entry in again.entries] == sorted(paths)
    assert again.rows == 3 * len(paths)
    assert again.size_bytes == sum(map(len, paths))
    assert is_tree(objects, name)


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a\0b", "./a"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="cannot be a path"):
        Tree((Entry(path, digest(b""), 0),))


def test_a_path_is_there_once() -> None:
    with pytest.raises(UsageError, match="twice"):
        Tree((Entry("a", digest(b"1"), 1), Entry("a", digest(b"2"), 1)))


def test_what_is_no_tree_is_refused(objects: Objects) -> None:
    values: list[JSON] = [
        [],
        "tree",
        {"format": "tree/2", "entries": []},
        {"format": "tree/3", "entries": []},
        {"format": "tree/2", "level": 0, "children": []},
        {"format": "tree/2", "level": 1, "entries": []},
    ]
    for value in values:
        name = objects.put_json(value)
        with pytest.raises(Corrupt, match="is not a tree"):
            read_tree(objects, name)
    assert not is_tree(objects, "no digest")
    assert not is_tree(objects, digest(b"never stored"))
    with pytest.raises(NotFound):
        read_tree(objects, digest(b"never stored"))


class Counting(MemoryObjects):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Digest] = []

    def get(self, digest: Digest) -> BinaryIO:
        self.read.append(digest)
        return super().get(digest)


def entry(path: str, content: int = 0) -> Entry:
    return Entry(path, digest(f"{path} {content}".encode(errors="surrogateescape")), 10 + content, content)


def many(count: int, chance: random.Random) -> dict[str, Entry]:
    paths = [f"d{number % 37:02d}/{number:06d}.bin" for number in chance.sample(range(10 * count), count)]
    return {path: entry(path) for path in paths}


def sorted_entries(entries: Mapping[str, Entry]) -> list[Entry]:
    return [entries[path] for path in sorted(entries)]


def written(objects: Objects, entries: Mapping[str, Entry]) -> Digest:
    return write_sorted(objects, sorted_entries(entries))


@pytest.fixture(scope="module")
def large() -> tuple[Objects, dict[str, Entry], Digest]:
    """A tree of three levels."""
    objects = Objects(MemoryObjects(), Path("unused"))
    entries = {path: entry(path) for path in (f"{number // 1000:03d}/{number:06d}.x" for number in range(120_000))}
    return objects, entries, written(objects, entries)


def test_up_to_a_thousand_entries_are_one_object_of_the_first_format(objects: Objects) -> None:
    entries = many(1000, random.Random(1))
    name = written(objects, entries)
    document = objects.get_json(name)
    assert document["format"] == "tree/1"
    assert name == objects.put_json(document), "the bytes are canonical, as they always were"
    assert list(tree_nodes(objects, name)) == [name]
    assert objects.get_json(written(objects, {**entries, "one": entry("one")}))["format"] == "tree/2"


def test_an_old_tree_of_many_entries_in_one_object_is_read_compared_and_changed(objects: Objects) -> None:
    entries = many(3000, random.Random(1))
    rows: list[JSON] = [[e.path, e.digest, e.size_bytes, e.rows] for e in sorted_entries(entries)]
    old = objects.put_json({"format": "tree/1", "entries": rows})
    assert is_tree(objects, old)
    new = written(objects, entries)
    assert old != new
    assert read_tree(objects, old) == read_tree(objects, new)
    assert list(diff_trees(objects, old, new)) == list(diff_trees(objects, new, old)) == []
    assert list(tree_nodes(objects, old)) == [old]
    assert update_tree(objects, old, {"d00/x": entry("d00/x")}) == update_tree(objects, new, {"d00/x": entry("d00/x")})
    assert tree_totals(objects, old) == tree_totals(objects, new)


def test_one_file_among_many_rewrites_one_node_a_level(large: tuple[Objects, dict[str, Entry], Digest]) -> None:
    objects, entries, name = large
    nodes = set(tree_nodes(objects, name))
    levels = {objects.get_json(node).get("level", 0) for node in nodes}
    assert levels == {0, 1, 2}
    for path in ("000/000000.x", "059/059321.x", "119/119999.x"):
        changed = update_tree(objects, name, {path: entry(path, 5)})
        assert len(set(tree_nodes(objects, changed)) - nodes) == 3
        assert changed == written(objects, {**entries, path: entry(path, 5)})
        assert find_entry(objects, changed, path) == entry(path, 5)
    sizes = [
        len(rows) for node in nodes for key, rows in objects.get_json(node).items() if key in ("entries", "children")
    ]
    assert max(sizes) <= 1000


def test_only_what_is_needed_is_read(large: tuple[Objects, dict[str, Entry], Digest]) -> None:
    source, entries, name = large
    store = Counting()
    store.put_many(source.get_bytes(node) for node in tree_nodes(source, name))
    objects = Objects(store, Path("unused"))
    everything = len(store.read) + sum(1 for _ in tree_nodes(objects, name))

    def reads() -> int:
        count = len(store.read)
        store.read.clear()
        return count

    store.read.clear()
    changed = update_tree(objects, name, {"059/059321.x": entry("059/059321.x", 1)})
    assert reads() <= 12
    assert list(diff_trees(objects, name, changed)) == [(entry("059/059321.x"), entry("059/059321.x", 1))]
    assert reads() <= 10
    assert [each.path for each in iter_tree(objects, name, "059")] == [f"059/{n:06d}.x" for n in range(59_000, 60_000)]
    assert reads() < 30 < everything
    assert tree_totals(objects, name) == Totals(len(entries), 10 * len(entries), 0)
    assert reads() == 1
    assert sum(1 for _ in tree_nodes(objects, name)) > 400
    assert reads() < 10, "leaves are named by their parents"


def test_any_changes_give_the_tree_that_writing_it_anew_gives() -> None:
    for seed in range(14):
        chance = random.Random(seed)
        objects = Objects(MemoryObjects(), Path("unused"))
        entries = many(chance.choice([3, 900, 1100, 2500, 5000]), chance)
        name = written(objects, entries)
        for _ in range(8):
            changes = some_changes(entries, chance)
            before, old = dict(entries), name
            for path, each in changes.items():
                entries.pop(path, None)
                entries.update({path: each} if each else {})
            name = update_tree(objects, name, changes)
            assert name == written(objects, entries)
            assert name == write_tree(objects, Tree(tuple(entries.values())))
            found = {(a or b).path: (a, b) for a, b in diff_trees(objects, old, name)}  # type: ignore[union-attr]  # one is there
            paths = before.keys() | entries.keys()
            assert found == {p: (before.get(p), entries.get(p)) for p in paths if before.get(p) != entries.get(p)}
            assert list(found) == sorted(found)
            assert list(iter_tree(objects, name)) == sorted_entries(entries)
            assert [e.path for e in iter_tree(objects, name, "d05")] == [p for p in sorted(entries) if p[:4] == "d05/"]
            assert tree_totals(objects, name).files == len(entries)


def some_changes(entries: Mapping[str, Entry], chance: random.Random) -> dict[str, Entry | None]:
    paths = sorted(entries)
    kind = chance.choice(
        ["few", "few", "many", "folder", "range", "end", "all"] if len(paths) > 2000 else ["few", "many"]
    )
    if kind == "folder":
        return dict.fromkeys(path for path in paths if path.startswith(f"d{chance.randrange(37):02d}/"))
    if kind == "range":
        begin = chance.randrange(len(paths))
        return dict.fromkeys(paths[begin : begin + 1200])
    if kind == "end":
        return {**dict.fromkeys(paths[-300:]), "z/last": entry("z/last")}
    if kind == "all":
        return dict.fromkeys(paths[chance.randrange(900) :])
    count = 700 if kind == "many" else chance.choice([1, 2, 5, 40])
    added = [f"d{number % 37:02d}/{number:06d}.bin" for number in (chance.randrange(50_000) for _ in range(count))]
    touched = chance.sample(paths, min(count, len(paths) // 2)) if paths else []
    return {
        **{path: entry(path, chance.randrange(9)) for path in added},
        **{path: None if chance.random() < 0.5 else entry(path, 3) for path in touched},
        "d00/never there": None,
    }


def test_a_prefix_is_a_path_and_not_the_beginning_of_a_name(objects: Objects) -> None:
    entries = {path: entry(path) for path in ("train", "train-2", "train/a", "train/b/c", "train0", "training/x")}
    small = written(objects, entries)
    big = written(objects, {**entries, **many(3000, random.Random(2))})
    for name in (small, big):
        assert [each.path for each in iter_tree(objects, name, "train")] == ["train", "train/a", "train/b/c"]
        assert [each.path for each in iter_tree(objects, name, "train/")] == ["train", "train/a", "train/b/c"]
        assert [each.path for each in iter_tree(objects, name, "train/b")] == ["train/b/c"]
        assert [each.path for each in iter_tree(objects, name, "trai")] == []
        assert find_entry(objects, name, "train") == entry("train")
        assert find_entry(objects, name, "train/b") is None


def test_names_that_are_not_utf_8_and_logical_digests_come_back(objects: Objects) -> None:
    odd = os.fsdecode(b"caf\xe9/\xff\xfe.bin")
    logical = Entry("table.parquet", digest(b"file"), 9, 3, digest(b"columns"))
    for extra in ({}, many(2000, random.Random(1))):
        entries = {**extra, odd: entry(odd), "caf\u00e9": entry("caf\u00e9"), "table.parquet": logical}
        name = written(objects, entries)
        assert is_tree(objects, name)
        assert list(iter_tree(objects, name)) == sorted_entries(entries)
        assert find_entry(objects, name, odd) == entry(odd)
        assert update_tree(objects, name, {odd: None}) == written(
            objects, {path: each for path, each in entries.items() if path != odd}
        )


def test_a_tree_from_elsewhere_that_names_a_place_outside_is_refused(objects: Objects) -> None:
    for path in ("../x", "/etc/passwd", "a/../../b", "a//b", 7, None):
        for document in (
            {"format": "tree/1", "entries": [[path, digest(b""), 0, 0]]},
            {"format": "tree/2", "level": 0, "entries": [[path, digest(b""), 0, 0]]},
        ):
            name = objects.put_json(document)  # type: ignore[arg-type]  # plain JSON
            with pytest.raises(Corrupt, match="is not a tree"):
                list(iter_tree(objects, name))
    short = objects.put_json({"format": "tree/1", "entries": [["a"]]})
    with pytest.raises(Corrupt, match="is not a tree"):
        read_tree(objects, short)


def test_sorted_entries_out_of_order_or_with_a_bad_path_are_refused(objects: Objects) -> None:
    for paths in (["b", "a"], ["a", "a"], ["a", "../b"]):
        with pytest.raises(UsageError):
            write_sorted(objects, [entry(path) for path in paths])
    name = write_sorted(objects, [entry("a")])
    with pytest.raises(UsageError, match="says that it is"):
        update_tree(objects, name, {"b": entry("c")})
    with pytest.raises(UsageError, match="cannot be a path"):
        update_tree(objects, name, {"../b": None})


@given(st.dictionaries(names, st.integers(0, 3)), st.dictionaries(names, st.integers(0, 3)), st.data())
def test_a_merge_takes_both_sides_and_names_what_contradicts(
    base: dict[str, int], added: dict[str, int], data: st.DataObject
) -> None:
    objects = Objects(MemoryObjects(), Path("unused"))
    sides = []
    for _ in range(2):
        kept = {path: value for path, value in base.items() if data.draw(st.booleans())}
        more = {path: value for path, value in added.items() if data.draw(st.booleans())}
        sides.append({**kept, **more})

    def tree(values: Mapping[str, int]) -> Digest:
        return written(objects, {path: entry(path, value) for path, value in values.items()})

    ours, theirs = sides
    merged, conflicts = merge_trees(objects, tree(base), tree(ours), tree(theirs))
    found = {each.path: each.rows for each in iter_tree(objects, merged)}
    for path in base.keys() | ours.keys() | theirs.keys():
        before, mine, others = base.get(path), ours.get(path), theirs.get(path)
        if path in conflicts or mine == others or others == before:
            assert found.get(path) == mine
        else:
            assert mine == before, "only one side changed it"
            assert found.get(path) == others
    clashes = {p for p in conflicts if ours.get(p) == base.get(p)}
    assert all(any(q.startswith(p + "/") or p.startswith(q + "/") for q in ours) for p in clashes)


def test_a_merge_of_large_trees_touches_what_changed(large: tuple[Objects, dict[str, Entry], Digest]) -> None:
    objects, entries, name = large
    ours = update_tree(
        objects, name, {"000/000001.x": entry("000/000001.x", 1), "000/000002.x": entry("000/000002.x", 1)}
    )
    theirs = update_tree(
        objects,
        name,
        {"100/100001.x": None, "zz": entry("zz"), "000/000002.x": entry("000/000002.x", 2), "000/000001.x": None},
    )
    merged, conflicts = merge_trees(objects, name, ours, theirs)
    assert conflicts == ["000/000001.x", "000/000002.x"]
    expected = {
        **entries,
        "000/000001.x": entry("000/000001.x", 1),
        "000/000002.x": entry("000/000002.x", 1),
        "zz": entry("zz"),
    }
    del expected["100/100001.x"]
    assert merged == written(objects, expected)
    assert merge_trees(objects, "", ours, ours) == (ours, [])


def test_a_file_where_the_other_side_has_a_folder_is_a_conflict(objects: Objects) -> None:
    base = written(objects, {"x": entry("x")})
    ours = written(objects, {"x": entry("x"), "a": entry("a"), "b/c": entry("b/c")})
    theirs = written(objects, {"x": entry("x"), "a/b": entry("a/b"), "b": entry("b"), "n": entry("n")})
    merged, conflicts = merge_trees(objects, base, ours, theirs)
    assert conflicts == ["a/b", "b"]
    assert [each.path for each in iter_tree(objects, merged)] == ["a", "b/c", "n", "x"]
