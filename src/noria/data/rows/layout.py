"""Where the rows of a version stand in its tree: files of rows, and deltas that came after them.

A version of plain files has its tables in the order of their paths. One that grew by `append`,
`upsert` or `delete` carries `segments.json`: the files of rows in order, and the deltas. A delta says
for rows of these files, by file and place, what they are now (`update`) or that they are gone
(`delete`), and names their keys. Files never change; a place in one means the same for ever.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from noria.core.errors import Corrupt
from noria.core.frozen import frozen
from noria.core.identity import Digest, canonical
from noria.data.forms import formats
from noria.data.records import DatasetVersion
from noria.store.objects import Objects
from noria.store.tree import Entry, Tree, read_tree, write_tree

__all__ = ["AT_FILE", "AT_ROW", "MANIFEST", "Delta", "Layout", "layout_of", "table_entries", "write_layout"]

MANIFEST = "segments.json"
FORMAT = "segments/1"
AT_FILE = "__noria_file"
AT_ROW = "__noria_row"
"""Columns of a delta: which file of rows (its place in the layout), and which row of it, from 0."""


@frozen
class Delta:
    """A file of changed (`update`) or removed (`delete`) rows; an update holds whole rows, a delete keys."""

    entry: Entry
    kind: str


@frozen
class Layout:
    """The files of rows in order, the deltas oldest first, and everything else in the tree.

    `key` are the columns that name a row; empty while nothing was upserted or deleted.
    """

    rows: tuple[Entry, ...]
    deltas: tuple[Delta, ...] = ()
    key: tuple[str, ...] = ()
    others: tuple[Entry, ...] = ()
    is_segmented: bool = False

    def next_number(self) -> int:
        """A number for the next segment's name that none has yet."""
        return len(self.rows) + len(self.deltas) + 1


def layout_of(objects: Objects, version: DatasetVersion) -> Layout:
    """How the rows of a version are laid out. Raises: NotFound; Corrupt."""
    entries = read_tree(objects, version.tree).entries
    by_path = {entry.path: entry for entry in entries}
    manifest = by_path.get(MANIFEST)
    document = _manifest(objects, manifest) if manifest is not None else None
    if document is None:
        tables = tuple(entry for entry in entries if _holds_rows(entry, version))
        return Layout(tables, others=tuple(entry for entry in entries if not _holds_rows(entry, version)))
    try:
        rows = tuple(by_path[path] for path in document["rows"])
        deltas = tuple(Delta(by_path[path], kind) for path, kind in document["deltas"])
        key = tuple(document["key"])
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"{MANIFEST} of {version.ref} does not fit its tree: {error}") from error
    named = {MANIFEST, *(entry.path for entry in rows), *(delta.entry.path for delta in deltas)}
    others = tuple(entry for entry in entries if entry.path not in named)
    return Layout(rows, deltas, key, others, is_segmented=True)


def write_layout(objects: Objects, layout: Layout) -> tuple[Digest, tuple[Entry, ...]]:
    """Store the tree of a layout; gives its name and entries. The files' objects are stored before."""
    document = {
        "format": FORMAT,
        "key": list(layout.key),
        "rows": [entry.path for entry in layout.rows],
        "deltas": [[delta.entry.path, delta.kind] for delta in layout.deltas],
    }
    content = _encoded(document)
    manifest = Entry(MANIFEST, objects.put_bytes(content), len(content))
    entries = (*layout.rows, *(delta.entry for delta in layout.deltas), *layout.others, manifest)
    return write_tree(objects, Tree(entries)), entries


def _encoded(document: dict[str, Any]) -> bytes:
    try:
        return canonical(document)
    except ValueError:  # a path that is no UTF-8: JSON can say it with escapes
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def table_entries(objects: Objects, version: DatasetVersion) -> Sequence[Entry]:
    """The files of rows of a version, in order."""
    return layout_of(objects, version).rows


def _holds_rows(entry: Entry, version: DatasetVersion) -> bool:
    """Whether a file is a table. One below a dot that has rows was added when those were counted in."""
    is_counted = bool(entry.rows and formats.format_of(entry.path))
    return is_counted or formats.holds_rows(entry.path, is_one=version.is_one_file)


def _manifest(objects: Objects, entry: Entry) -> dict[str, Any] | None:
    """The document of a manifest, or None for a user's own file of that name."""
    try:
        document = json.loads(objects.get_bytes(entry.digest))
    except ValueError:
        return None
    is_ours = isinstance(document, dict) and document.get("format") == FORMAT
    return document if is_ours else None
