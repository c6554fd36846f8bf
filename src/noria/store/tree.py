"""Folders as objects: a tree lists paths with the digests of their contents, sorted by path.

A tree's name is a function of its entries alone, whatever the order they were found in and whatever
was changed on the way, so equal contents have equal names and a difference of two trees needs no
file to be opened. Times, owners and permissions are left out: they are not content. Paths are
relative, in POSIX form, without `.` or `..`, so that no tree can name a place outside of where it
is checked out.

Up to a thousand entries are one object (tree/1, where it can say them). More are a tree of nodes
(tree/2): the sorted list is cut behind every path whose digest begins with eight zero bits, or
after a thousand entries, and the list of the pieces likewise with the next eight bits, until one
piece is left. Where a list is cut does not depend on what is far away, so one file that changes
among a million gives three new nodes, and two trees share every node between their differences.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from noria.core.errors import Corrupt, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest, is_digest, short
from noria.core.identity import digest as digest_of
from noria.store.objects import Objects

__all__ = [
    "Entry",
    "Totals",
    "Tree",
    "diff_trees",
    "find_entry",
    "is_tree",
    "iter_tree",
    "merge_trees",
    "node_parts",
    "read_tree",
    "tree_nodes",
    "tree_totals",
    "update_tree",
    "write_sorted",
    "write_tree",
]

FLAT, SHARDED = "tree/1", "tree/2"
NODE_ENTRIES = 1000
_BITS = 8
_LEVELS = 4
_NODES_AT_ONCE = 32
_NODE = re.compile(rb'"format":"tree/(1"|2","level":\d{1,2})}\Z')


@frozen
class Entry:
    """One file: its path in the tree, digest, size and, for a table, its number of rows.

    `logical` is the digest of a table's logical columns, where the file was written by Noria: two files
    with the same one say the same. A path may hold bytes that are not UTF-8, as `os.fsdecode` gives them.
    """

    path: str
    digest: str
    size_bytes: int
    rows: int = 0
    logical: str = ""


class Totals(NamedTuple):
    """The sums over all files of a tree."""

    files: int
    size_bytes: int
    rows: int


@frozen
class Tree:
    """Files sorted by path; any order may be given. Raises: UsageError for a path that is not allowed."""

    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.entries, key=lambda entry: entry.path))
        for entry in ordered:
            _check(entry.path)
        for above, below in pairwise(ordered):
            if above.path == below.path:
                raise UsageError(f"the tree holds {above.path!r} twice")
        object.__setattr__(self, "entries", ordered)

    @property
    def size_bytes(self) -> int:
        """The bytes of all files together."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def rows(self) -> int:
        """The rows of all table files together."""
        return sum(entry.rows for entry in self.entries)


@frozen
class _Child:
    """A node as its parent lists it: `path` is the last one below it."""

    path: str
    digest: Digest
    files: int
    size_bytes: int
    rows: int


_Item: TypeAlias = Entry | _Child


@frozen
class _Node:
    """A node that was read: entries at level 0, else the nodes below."""

    level: int
    items: tuple[Any, ...]


def write_tree(objects: Objects, tree: Tree) -> Digest:
    """Store a tree and give its name. The files' own objects must be stored before."""
    return _write_all(objects, iter(tree.entries))


def write_sorted(objects: Objects, entries: Iterable[Entry]) -> Digest:
    """Store a tree of entries that come sorted by path, in flat memory.

    Raises: UsageError for a path that is not allowed, or comes twice, or out of order.
    """
    return _write_all(objects, _in_order(entries))


def read_tree(objects: Objects, digest: str) -> Tree:
    """The tree of that name. Raises: NotFound; Corrupt if the object is not a tree."""
    return Tree(tuple(iter_tree(objects, digest)))


def iter_tree(objects: Objects, digest: str, prefix: str = "") -> Iterator[Entry]:
    """The entries of a tree in order, or those of a file or folder in it; no other nodes are fetched.

    `prefix` is a path: `train` gives `train` and what is in `train/`, never `training`.
    Raises: NotFound; Corrupt if the object is not a tree.
    """
    folder = prefix.rstrip("/")
    root = _read(objects, digest)
    if not folder:
        yield from _entries_below(objects, root)
        return
    low, high = folder + "/", folder + "0"  # "0" follows "/"
    yield from (entry for entry in _range(objects, root, folder, folder + "\0") if entry.path == folder)
    yield from (entry for entry in _range(objects, root, low, high) if low <= entry.path < high)


def find_entry(objects: Objects, digest: str, path: str) -> Entry | None:
    """The entry of a path, or None. Fetches one node a level. Raises: NotFound; Corrupt."""
    found = _range(objects, _read(objects, digest), path, path + "\0")
    return next((entry for entry in found if entry.path == path), None)


def tree_totals(objects: Objects, digest: str) -> Totals:
    """How many files a tree has, their bytes and rows; of a large tree only the root is read."""
    root = _read(objects, digest)
    return _totals(root.items)


def tree_nodes(objects: Objects, digest: str) -> Iterator[Digest]:
    """The name of every object that the tree itself consists of, the root first. Raises: NotFound; Corrupt."""
    yield Digest(digest)
    node = _read(objects, digest)
    level, names = node.level, [child.digest for child in node.items] if node.level else []
    while names:
        yield from names
        level -= 1
        if level == 0:
            return
        names = [child.digest for below in _read_many(objects, names) for child in below.items]


def is_tree(objects: Objects, digest: str) -> bool:
    """Whether the digest names a stored tree."""
    if not is_digest(digest) or not objects.has(digest):
        return False
    return _looks_like_a_node(objects.get_bytes(digest))


def node_parts(content: bytes) -> tuple[list[Digest], list[Digest]] | None:
    """What a node of a tree names, nodes and files; None if the bytes are not one. Raises: Corrupt."""
    if not _looks_like_a_node(content):
        return None
    node = _decoded(digest_of(content), json.loads(content))
    names = [Digest(item.digest) for item in node.items]
    return (names, []) if node.level else ([], names)


def diff_trees(objects: Objects, old: str, new: str) -> Iterator[tuple[Entry | None, Entry | None]]:
    """What differs, by path: (before, after), with None for a file that is not there. Equal nodes are not fetched."""
    if old == new:
        return
    before, after = _read(objects, old), _read(objects, new)
    while before.level or after.level:
        if before.level >= after.level:
            before, after = _below(objects, before, after)
        else:
            after, before = _below(objects, after, before)
    yield from _merge_join(before.items, after.items)


def update_tree(objects: Objects, digest: str, changes: Mapping[str, Entry | None]) -> Digest:
    """The tree with some paths set, or taken out where the entry is None; only nodes that change are read and written.

    Raises: UsageError for a path that is not allowed; NotFound; Corrupt.
    """
    for path, entry in changes.items():
        _check(path)
        if entry is not None and entry.path != path:
            raise UsageError(f"the entry of {path!r} says that it is {entry.path!r}")
    root = _read(objects, digest)
    if not changes:
        return Digest(digest)
    if root.level == 0:
        entries = _applied(root.items, changes)
        return _write_all(objects, (entry for entry in entries if isinstance(entry, Entry)))
    edits: Mapping[str, _Item | None] = changes
    for level in range(root.level + 1):
        edits = _rewrite(objects, root, level, edits)
    nodes = [item for item in edits.values() if isinstance(item, _Child)]
    return _crown(objects, root.level, sorted(nodes, key=lambda node: node.path))


def merge_trees(objects: Objects, base: str, ours: str, theirs: str) -> tuple[Digest, list[str]]:
    """Both sides' changes since `base` in one tree, and the paths where they contradict each other, sorted.

    A path is in conflict when both changed it in different ways, or one made a file where the other has
    a folder; it is then as in `ours`. An empty `base` is the empty tree. Raises: NotFound; Corrupt.
    """
    start = base or _write_all(objects, iter(()))
    mine = {_path_of(pair): pair[1] for pair in diff_trees(objects, start, ours)}
    taken: dict[str, Entry | None] = {}
    conflicts = set()
    for pair in diff_trees(objects, start, theirs):
        path, entry = _path_of(pair), pair[1]
        if path not in mine:
            taken[path] = entry
        elif mine[path] != entry:
            conflicts.add(path)
    files = {path for path, entry in mine.items() if entry is not None}
    folders = {folder for path in files for folder in _folders(path)}
    for path in [path for path, entry in taken.items() if entry is not None]:
        if path in folders or any(folder in files for folder in _folders(path)):
            conflicts.add(path)
            del taken[path]
    return update_tree(objects, ours, taken), sorted(conflicts)


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _path_of(pair: tuple[Entry | None, Entry | None]) -> str:
    entry = pair[1] or pair[0]
    assert entry is not None, "a difference has a side"
    return entry.path


# Writing: one list after the other is cut into nodes, until one node is left.


def _write_all(objects: Objects, entries: Iterator[Entry]) -> Digest:
    head = [entry for _, entry in zip(range(NODE_ENTRIES + 1), entries, strict=False)]
    if len(head) <= NODE_ENTRIES:
        return objects.put_bytes(_encoded(0, head))
    children = _write_nodes(objects, 0, (item for part in (head, entries) for item in part))
    return _crown(objects, 0, children)


def _crown(objects: Objects, level: int, children: Sequence[_Child]) -> Digest:
    """The one root above the nodes of a level; a root is never above a single node."""
    while len(children) > 1:
        level += 1
        children = _write_nodes(objects, level, iter(children))
    if not children:
        return objects.put_bytes(_encoded(0, []))
    root = children[0]
    if root.files <= NODE_ENTRIES:
        return objects.put_bytes(_encoded(0, [*iter_tree(objects, root.digest)]))
    node = _read(objects, root.digest)
    while node.level and len(node.items) == 1:
        root = node.items[0]
        node = _read(objects, root.digest)
    return root.digest


def _write_nodes(objects: Objects, level: int, items: Iterator[_Item]) -> list[_Child]:
    """Cut a level's list into nodes and store them; gives what their parents list."""
    made: list[_Child] = []
    waiting: list[list[_Item]] = []
    for node in _cut(level, items):
        waiting.append(node)
        if len(waiting) == _NODES_AT_ONCE:
            made += _store(objects, level, waiting)
            waiting = []
    return made + _store(objects, level, waiting)


def _store(objects: Objects, level: int, nodes: Sequence[Sequence[_Item]]) -> list[_Child]:
    names = objects.put_many([_encoded(level, node) for node in nodes])
    return [_Child(node[-1].path, name, *_totals(node)) for name, node in zip(names, nodes, strict=True)]


def _cut(level: int, items: Iterator[_Item]) -> Iterator[list[_Item]]:
    node: list[_Item] = []
    for item in items:
        node.append(item)
        if len(node) == NODE_ENTRIES or _is_boundary(level, item.path):
            yield node
            node = []
    if node:
        yield node


def _is_boundary(level: int, path: str) -> bool:
    """Whether the list of a level is cut behind this path: one in 256, and of those one in 256 a level up."""
    if level >= _LEVELS:
        return False
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()
    return not digest[level] and not any(digest[:level])


def _totals(items: Sequence[_Item]) -> Totals:
    files = sum(item.files if isinstance(item, _Child) else 1 for item in items)
    return Totals(files, sum(item.size_bytes for item in items), sum(item.rows for item in items))


def _encoded(level: int, items: Sequence[Any]) -> bytes:
    """The bytes of a node: JSON with sorted keys and no spaces, so that equal nodes are equal bytes."""
    if level:
        rows = [[item.path, item.digest, item.files, item.size_bytes, item.rows] for item in items]
        return _json({"children": rows, "format": SHARDED, "level": level})
    if len(items) <= NODE_ENTRIES and not any(item.logical for item in items):
        flat = [[item.path, item.digest, item.size_bytes, item.rows] for item in items]
        text = json.dumps({"entries": flat, "format": FLAT}, ensure_ascii=False, separators=(",", ":"))
        try:
            return text.encode()
        except UnicodeEncodeError:
            return _json({"entries": flat, "format": SHARDED, "level": 0})
    full = [
        [item.path, item.digest, item.size_bytes, item.rows, *([item.logical] if item.logical else [])]
        for item in items
    ]
    return _json({"entries": full, "format": SHARDED, "level": 0})


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")


# Reading.


def _read(objects: Objects, digest: str) -> _Node:
    return _decoded(digest, objects.get_json(digest))


def _read_many(objects: Objects, names: Sequence[Digest]) -> Iterator[_Node]:
    """Nodes in the given order; so many at a time that memory stays flat."""
    for start in range(0, len(names), _NODES_AT_ONCE):
        part = names[start : start + _NODES_AT_ONCE]
        found = dict(objects.get_many(part))
        for name in part:
            try:
                document = json.loads(found[name])
            except ValueError as error:
                raise Corrupt(f"object {short(name)} is not a tree") from error
            yield _decoded(name, document)


def _looks_like_a_node(content: bytes) -> bool:
    return content.startswith((b'{"entries":', b'{"children":')) and bool(_NODE.search(content, len(content) - 40))


def _decoded(digest: str, document: Any) -> _Node:
    try:
        match document:
            case {"format": "tree/1", "entries": list(rows)} | {"format": "tree/2", "level": 0, "entries": list(rows)}:
                entries = tuple([Entry(*row) for row in rows])
                for entry in entries:
                    _check(entry.path)
                return _Node(0, entries)
            case {"format": "tree/2", "level": int(level), "children": list(rows)} if level > 0:
                return _Node(level, tuple([_Child(*row) for row in rows]))
    except (TypeError, UsageError) as error:
        raise Corrupt(f"object {short(digest)} is not a tree: {str(error)[:200]}") from error
    raise Corrupt(f"object {short(digest)} is not a tree")


def _entries_below(objects: Objects, node: _Node) -> Iterator[Entry]:
    if node.level == 0:
        yield from node.items
        return
    for below in _read_many(objects, [child.digest for child in node.items]):
        yield from _entries_below(objects, below)


def _range(objects: Objects, node: _Node, low: str, high: str) -> Iterator[Entry]:
    """The entries of all leaves that may hold a path in [low, high), in order."""
    if node.level == 0:
        yield from node.items
        return
    wanted, before = [], ""
    for child in node.items:
        if child.path >= low and (not before or before < high):
            wanted.append(child.digest)
        before = child.path
    for below in _read_many(objects, wanted):
        yield from _range(objects, below, low, high)


# Comparing.


def _below(objects: Objects, upper: _Node, other: _Node) -> tuple[_Node, _Node]:
    """Go one level down where it is needed: what both list is left out of both."""
    mine, others = list(upper.items), list(other.items)
    if upper.level == other.level:
        same = {child.digest for child in mine} & {child.digest for child in others}
        mine = [child for child in mine if child.digest not in same]
        others = [child for child in others if child.digest not in same]
        other = _expanded(objects, other.level, others)
    return _expanded(objects, upper.level, mine), other


def _expanded(objects: Objects, level: int, children: Sequence[_Child]) -> _Node:
    nodes = _read_many(objects, [child.digest for child in children])
    return _Node(level - 1, tuple(item for node in nodes for item in node.items))


def _merge_join(before: Sequence[Entry], after: Sequence[Entry]) -> Iterator[tuple[Entry | None, Entry | None]]:
    old, new = iter(before), iter(after)
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.path < right.path):
            yield left, None
            left = next(old, None)
        elif left is None or right.path < left.path:
            yield None, right
            right = next(new, None)
        else:
            if left != right:
                yield left, right
            left, right = next(old, None), next(new, None)


# Changing: at each level the nodes that hold an edit are cut anew, up to the next boundary that stays.


class _Cursor:
    """Goes over the nodes of one level from left to right; only what lies on the way is fetched."""

    def __init__(self, objects: Objects, root: _Node, level: int) -> None:
        self._objects = objects
        self._root = root
        self._level = level
        self._way: list[tuple[_Node, int]] = []
        self._known: dict[Digest, _Node] = {}

    def seek(self, path: str) -> None:
        """Stand before the node that holds the path, or would; that is the last one for a path behind all."""
        self._way = []
        node = self._root
        while node.level > self._level:
            ends = [child.path for child in node.items]
            number = min(bisect_left(ends, path), len(ends) - 1)
            self._way.append((node, number))
            if node.level - 1 > self._level:
                node = self._upper(node.items[number].digest)
            else:
                return

    def take(self) -> tuple[str, Sequence[_Item]]:
        """The last path and the list of the next node, and go on behind it."""
        if not self._way:
            return self._root.items[-1].path, self._root.items
        node, number = self._way[-1]
        child = node.items[number]
        self._step()
        return child.path, _read(self._objects, child.digest).items

    def is_at_end(self) -> bool:
        """Whether there is no node left."""
        return not self._way

    def _step(self) -> None:
        while self._way:
            node, number = self._way.pop()
            if number + 1 < len(node.items):
                self._way.append((node, number + 1))
                break
        while self._way and (node := self._way[-1][0]).level - 1 > self._level:
            self._way.append((self._upper(node.items[self._way[-1][1]].digest), 0))

    def _upper(self, digest: Digest) -> _Node:
        if digest not in self._known:
            self._known[digest] = _read(self._objects, digest)
        return self._known[digest]


def _rewrite(objects: Objects, root: _Node, level: int, edits: Mapping[str, _Item | None]) -> dict[str, _Item | None]:
    """Apply edits to the list of a level; gives the edits to the list above: old nodes out, new ones in."""
    above: dict[str, _Item | None] = {}
    made: list[_Child] = []
    waiting = sorted(edits.items(), key=lambda edit: edit[0])
    cursor = _Cursor(objects, root, level)
    while waiting:
        cursor.seek(waiting[0][0])
        items: list[_Item] = []
        is_open = True
        while is_open:
            end, node = cursor.take()
            above[end] = None
            count = len(waiting) if cursor.is_at_end() else bisect_right(waiting, end, key=lambda edit: edit[0])
            items += _applied(node, dict(waiting[:count]))
            waiting = waiting[count:]
            is_open = not cursor.is_at_end() and _is_open(level, items)
        made += _write_nodes(objects, level, iter(items))
    above.update({child.path: child for child in made})
    return above


def _is_open(level: int, items: Sequence[_Item]) -> bool:
    """Whether the last node that these items give would take in what follows them."""
    if not items:
        return False
    *_, last = _cut(level, iter(items))
    return len(last) < NODE_ENTRIES and not _is_boundary(level, last[-1].path)


def _applied(items: Iterable[_Item], edits: Mapping[str, _Item | None]) -> list[_Item]:
    kept = [item for item in items if item.path not in edits]
    return sorted([*kept, *(item for item in edits.values() if item is not None)], key=lambda item: item.path)


def _in_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    before = ""
    for entry in entries:
        _check(entry.path)
        if entry.path <= before:
            raise UsageError(f"the tree holds {entry.path!r} twice, or out of order")
        before = entry.path
        yield entry


def _check(path: str) -> None:
    inside = f"/{path}/"
    if "//" in inside or "/./" in inside or "/../" in inside or "\0" in path:
        raise UsageError(f"{path!r} cannot be a path in a tree")
