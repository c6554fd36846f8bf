from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.store.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency,
    frontier_places,
    inclusion,
    is_consistent,
    is_included,
    leaf_hash,
    root_of,
)

# The tree of certificate-transparency-go's and Trillian's reference tests, RFC 6962 hashing.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def grown(count: int) -> tuple[Frontier, dict[tuple[int, int], bytes]]:
    frontier, stored = Frontier(), {}
    for position, leaf in enumerate(leaves(count)):
        stored[0, position] = leaf
        for node in frontier.append(leaf):
            stored[node.level, node.position] = node.hash
    return frontier, stored


def test_roots_are_those_of_the_reference_implementation() -> None:
    assert hashlib.sha256(b"").digest() == EMPTY_ROOT == Frontier().root() == root_of([])
    hashes = [leaf_hash(bytes.fromhex(text)) for text in INPUTS]
    frontier = Frontier()
    for count, (leaf, expected) in enumerate(zip(hashes, ROOTS, strict=True), start=1):
        frontier.append(leaf)
        assert frontier.root().hex() == root_of(hashes[:count]).hex() == expected


@given(st.integers(0, 300))
def test_growing_gives_the_root_of_the_definition(count: int) -> None:
    assert grown(count)[0].root() == root_of(leaves(count))


@given(st.integers(0, 300))
def test_a_frontier_is_found_again_among_the_stored_subtrees(count: int) -> None:
    frontier, stored = grown(count)
    assert [stored[place] for place in frontier_places(count)] == frontier.hashes
    assert Frontier(count, frontier.hashes).root() == frontier.root()


def test_a_copy_grows_by_itself() -> None:
    frontier, _ = grown(5)
    root = frontier.root()
    frontier.copy().append(leaf_hash(b"more"))
    assert frontier.root() == root
    assert frontier.size == 5


def test_every_leaf_of_every_tree_is_proved_and_nothing_else_is() -> None:
    for size in range(1, 40):
        frontier, stored = grown(size)
        root = frontier.root()
        for index in range(size):
            leaf = stored[0, index]
            proof = inclusion(index, size, lambda *place: stored[place])  # noqa: B023  # used at once
            assert is_included(leaf, index, size, proof, root)
            assert not is_included(leaf_hash(b"other"), index, size, proof, root)
            assert not is_included(leaf, index, size, [*proof, root], root)
            if proof:
                assert not is_included(leaf, index, size, proof[:-1], root)
            if size > 1:
                assert not is_included(leaf, (index + 1) % size, size, proof, root)
        assert not is_included(stored[0, 0], size, size, [], root)


def test_every_old_tree_is_proved_to_be_a_prefix_and_no_other_is() -> None:
    for new in range(1, 40):
        frontier, stored = grown(new)
        root = frontier.root()
        for old in range(1, new + 1):
            old_root = root_of(leaves(old))
            proof = consistency(old, new, lambda *place: stored[place])  # noqa: B023  # used at once
            assert is_consistent(old, old_root, new, root, proof)
            assert not is_consistent(old, leaf_hash(b"x"), new, root, proof)
            assert not is_consistent(old, old_root, new, leaf_hash(b"x"), proof)
            assert not is_consistent(old, old_root, new, root, [*proof, root])
            if proof:
                assert not is_consistent(old, old_root, new, root, proof[:-1])
                changed = [leaf_hash(b"x"), *proof[1:]]
                assert not is_consistent(old, old_root, new, root, changed)
    assert not is_consistent(0, EMPTY_ROOT, 3, root_of(leaves(3)), [EMPTY_ROOT])
    assert not is_consistent(4, EMPTY_ROOT, 3, EMPTY_ROOT, [EMPTY_ROOT])


def test_a_frontier_needs_one_hash_for_each_bit() -> None:
    with pytest.raises(AssertionError):
        Frontier(3, [EMPTY_ROOT])
