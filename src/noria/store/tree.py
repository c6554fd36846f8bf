"""Folders as objects: a tree lists paths with the digests of their contents, sorted by path.

A tree's name is the digest of its canonical list, so equal contents have equal names whatever the
order they were found in, and a difference of two trees needs no file to be opened. Times, owners
and permissions are left out: they are not content. Paths are relative, in POSIX form, without
`.` or `..`, so that no tree can name a place outside of where it is checked out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from noria.core.errors import Corrupt, UsageError
from noria.core.identity import Digest, is_digest, short
from noria.store.objects import Objects

__all__ = ["Entry", "Tree", "is_tree", "read_tree", "write_tree"]

FORMAT = "tree/1"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its path in the tree, digest, size and, for a table, its number of rows."""

    path: str
    digest: str
    size_bytes: int
    rows: int = 0


@dataclass(frozen=True, slots=True)
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


def write_tree(objects: Objects, tree: Tree) -> Digest:
    """Store a tree and give its name. The files' own objects must be stored before."""
    return objects.put_json(
        {
            "format": FORMAT,
            "entries": [[entry.path, entry.digest, entry.size_bytes, entry.rows] for entry in tree.entries],
        }
    )


def read_tree(objects: Objects, digest: str) -> Tree:
    """The tree of that name. Raises: NotFound; Corrupt if the object is not a tree."""
    document = objects.get_json(digest)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise Corrupt(f"object {short(digest)} is not a tree")
    return Tree(tuple(Entry(path, name, size, rows) for path, name, size, rows in document["entries"]))


def _check(path: str) -> None:
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or "\0" in path or any(p in ("", ".", "..") for p in parts):
        raise UsageError(f"{path!r} cannot be a path in a tree")


def is_tree(objects: Objects, digest: str) -> bool:
    """Whether the digest names a stored tree."""
    if not is_digest(digest) or not objects.has(digest):
        return False
    content = objects.get_bytes(digest)
    return content.startswith(b'{"entries":') and content.endswith(f'"format":"{FORMAT}"}}'.encode())
