"""The content of a version from files that are named one by one: what an import has, and no folder to walk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from noria.core.errors import UsageError
from noria.core.progress import task
from noria.data import columns
from noria.data.commit import Content
from noria.data.folders.files import DataFile
from noria.data.forms import formats
from noria.store.tree import Entry, write_sorted
from noria.store.workspace import Workspace

__all__ = ["content_of", "content_of_files", "content_of_one"]


def content_of(ws: Workspace, files: Sequence[tuple[str, Path]], *, time: str = "", is_one: bool = False) -> Content:
    """Store files under their names: what `add` of a folder with them would give, or with `is_one` of the one file.

    Tables among them are looked into; if they do not fit together, or are broken, all are plain files.
    Raises: NotFound; Conflict if one changes meanwhile; StoreFull; StoreUnavailable.
    """
    try:
        inspected = {
            name: formats.inspect(place, name, time, is_named=is_one)
            for name, place in files
            if formats.holds_rows(name, is_one=is_one)
        }
    except UsageError:
        inspected = {}
        as_files = True
    else:
        as_files = False
    with task("storing", total=sum(place.stat().st_size for _, place in files)) as advance:
        digests = ws.objects.put_files([place for _, place in files], advance)
    found = [
        DataFile(name, digest, place.stat().st_size, inspected.get(name))
        for (name, place), digest in zip(files, digests, strict=True)
    ]
    if as_files:
        return _as_files(ws, found, is_one=is_one)
    try:
        return dataclasses.replace(content_of_files(ws, found), content=content_of_one(found[0]) if is_one else "")
    except UsageError:
        return _as_files(ws, found, is_one=is_one)


def content_of_one(file: DataFile) -> str:
    """What names a single file, whatever its own name: the table in it if it was looked into, else its bytes."""
    return file.inspected.logical if file.inspected is not None else file.digest


def content_of_files(ws: Workspace, found: Sequence[DataFile], tree: str = "") -> Content:
    """The content of stored files; their tree is written if it is not given.

    Raises: UsageError if the tables among them have no rows, or do not fit together.
    """
    tables = [file for file in found if file.inspected is not None]
    lows = [file.inspected.time_min for file in tables if file.inspected and file.inspected.time_min]
    highs = [file.inspected.time_max for file in tables if file.inspected and file.inspected.time_max]
    return Content(
        tree=tree or _tree(ws, found),
        files=len(found),
        size_bytes=sum(file.size_bytes for file in found),
        rows=sum(file.inspected.rows for file in tables if file.inspected),
        columns=columns.union(ws, tables),
        time_min=min(lows, default=""),
        time_max=max(highs, default=""),
    )


def _as_files(ws: Workspace, found: Sequence[DataFile], *, is_one: bool) -> Content:
    plain = [DataFile(file.name, file.digest, file.size_bytes, None) for file in found]
    size_bytes = sum(file.size_bytes for file in plain)
    content = content_of_one(plain[0]) if is_one else ""
    return Content(tree=_tree(ws, plain), files=len(plain), size_bytes=size_bytes, as_files=True, content=content)


def _tree(ws: Workspace, found: Sequence[DataFile]) -> str:
    entries = [
        Entry(file.name, file.digest, file.size_bytes, file.inspected.rows if file.inspected else 0) for file in found
    ]
    return write_sorted(ws.objects, sorted(entries, key=lambda entry: entry.path))
