from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import Corrupt, NotFound, UsageError
from noria.core.identity import JSON, digest
from noria.engines.objects.memory import MemoryObjects
from noria.store.objects import Objects
from noria.store.tree import Entry, Tree, is_tree, read_tree, write_tree

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


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", "a\0b", "./a"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="cannot be a path"):
        Tree((Entry(path, digest(b""), 0),))


def test_a_path_is_there_once() -> None:
    with pytest.raises(UsageError, match="twice"):
        Tree((Entry("a", digest(b"1"), 1), Entry("a", digest(b"2"), 1)))


def test_what_is_no_tree_is_refused(objects: Objects) -> None:
    values: list[JSON] = [[], {"format": "tree/2", "entries": []}, "tree"]
    for value in values:
        name = objects.put_json(value)
        assert not is_tree(objects, name)
        with pytest.raises(Corrupt, match="is not a tree"):
            read_tree(objects, name)
    assert not is_tree(objects, "no digest")
    assert not is_tree(objects, digest(b"never stored"))
    with pytest.raises(NotFound):
        read_tree(objects, digest(b"never stored"))
