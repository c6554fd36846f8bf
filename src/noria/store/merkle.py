"""The Merkle tree over the facts: RFC 6962, append only, pure.

Leaf k (from 1) is the fact with sequence number k. A tree of size n has one root; the hashes of
its complete subtrees never change as it grows, so they are stored once (`Node`) and give every
older root and every proof without reading the facts. Nothing here does input or output.

Source: RFC 6962 §2.1 (hashes, inclusion and consistency proofs), RFC 9162 §2.1.3 to §2.1.5 (checking them).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from noria.core.frozen import frozen

__all__ = [
    "EMPTY_ROOT",
    "Frontier",
    "Node",
    "consistency",
    "frontier_places",
    "inclusion",
    "is_consistent",
    "is_included",
    "leaf_hash",
    "root_of",
]

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of the tree without leaves."""

Lookup = Callable[[int, int], bytes]
"""(level, position) -> hash of the complete subtree over leaves [position * 2**level, …), counted from 0."""


@frozen
class Node:
    """A complete subtree of 2**level leaves; `position` counts subtrees of its level from 0."""

    level: int
    position: int
    hash: bytes


def leaf_hash(content: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + content).digest()


def parent_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees side by side."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The complete subtrees that a tree of some size consists of: all that appending needs.

    `hashes` are those subtrees, largest first, one for each bit of `size`.
    """

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        assert len(self.hashes) == size.bit_count(), "one hash for each bit of the size"

    def copy(self) -> Frontier:
        """An independent frontier of the same tree."""
        return Frontier(self.size, self.hashes)

    def append(self, leaf: bytes) -> list[Node]:
        """Add a leaf; gives the subtrees above level 0 that it completed. Amortised one a leaf."""
        completed: list[Node] = []
        position, level, hash_ = self.size, 0, leaf
        while position & 1:
            hash_ = parent_hash(self.hashes.pop(), hash_)
            position, level = position >> 1, level + 1
            completed.append(Node(level, position, hash_))
        self.hashes.append(hash_)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """The root of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        found = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            found = parent_hash(left, found)
        return found


def frontier_places(size: int) -> list[tuple[int, int]]:
    """The (level, position) of each subtree of a tree's frontier, largest first."""
    places: list[tuple[int, int]] = []
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            places.append((level, start >> level))
            start += 1 << level
    return places


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, straight from the definition: for tests and small trees."""
    count = len(leaves)
    if count == 0:
        return EMPTY_ROOT
    if count == 1:
        return leaves[0]
    split = _split(count)
    return parent_hash(root_of(leaves[:split]), root_of(leaves[split:]))


def inclusion(index: int, size: int, lookup: Lookup) -> list[bytes]:
    """The audit path of leaf `index` (from 0) in the tree of `size` leaves, lowest first."""
    assert 0 <= index < size, "the leaf must be in the tree"
    return _path(index, 0, size, lookup)


def consistency(old: int, new: int, lookup: Lookup) -> list[bytes]:
    """The proof that the tree of `old` leaves is a prefix of the tree of `new` leaves."""
    assert 0 < old <= new, "an old size from 1 to the new one"
    return _subproof(old, 0, new, True, lookup)


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the audit path leads from the leaf to the root. Source: RFC 9162 §2.1.3.2."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = parent_hash(step, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = parent_hash(found, step)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the old tree is a prefix of the new one. Source: RFC 9162 §2.1.4.2."""
    if old == new:
        return old_root == new_root and not proof
    if not 0 < old < new or not proof:
        return False
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = parent_hash(step, first), parent_hash(step, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = parent_hash(second, step)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(count: int) -> int:
    """The largest power of two below the count."""
    return 1 << (count - 1).bit_length() - 1


def _range_root(start: int, count: int, lookup: Lookup) -> bytes:
    """The root over leaves [start, start + count), where start is a multiple of the largest subtree."""
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return lookup(level, start >> level)
    split = _split(count)
    return parent_hash(_range_root(start, split, lookup), _range_root(start + split, count - split, lookup))


def _path(index: int, start: int, count: int, lookup: Lookup) -> list[bytes]:
    if count == 1:
        return []
    split = _split(count)
    if index < split:
        return [*_path(index, start, split, lookup), _range_root(start + split, count - split, lookup)]
    return [*_path(index - split, start + split, count - split, lookup), _range_root(start, split, lookup)]


def _subproof(old: int, start: int, count: int, is_whole: bool, lookup: Lookup) -> list[bytes]:
    if old == count:
        return [] if is_whole else [_range_root(start, count, lookup)]
    split = _split(count)
    if old <= split:
        right = _range_root(start + split, count - split, lookup)
        return [*_subproof(old, start, split, is_whole, lookup), right]
    left = _range_root(start, split, lookup)
    return [*_subproof(old - split, start + split, count - split, False, lookup), left]
