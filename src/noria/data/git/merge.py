"""Two branches changed the same data set: one version out of both, by path, and by row where there is a key.

Git calls it for a pin that both sides changed. Trees are merged by path without a file being read; a
file that both sides changed is merged by the rows of its key, if it is a table that has one. The
result is a version like any other, its pin the merged file. What cannot be merged leaves the pin
with conflict marks, and the paths or keys are named.
"""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noria.core.errors import ConfigError, Conflict, UsageError
from noria.core.frozen import frozen
from noria.core.identity import Digest
from noria.core.lazy import lazy
from noria.data import records
from noria.data.commit import Content, commit
from noria.data.content import content_of_files, content_of_one
from noria.data.folders.files import DataFile
from noria.data.forms import formats, where
from noria.data.git.gitlink import clean_environment
from noria.data.git.merge_lines import NotMergeable, merge_lines
from noria.data.lock import dataset_lock, leased
from noria.data.pins import Pin, parse_pin, pin_text, unmerged_label
from noria.data.records import DatasetVersion
from noria.data.remote.transfer import pull_version
from noria.data.rows import layout, read
from noria.data.rows.rowmerge import merge_appended
from noria.data.tabular import segments, tables
from noria.store.tree import Entry, Tree, find_entry, iter_tree, merge_trees, update_tree, write_tree
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pq = lazy("pyarrow.parquet")

__all__ = ["Unmerged", "merge_files", "merge_pins", "told"]

SHOWN = 12
_LINES_MAX_BYTES = 256 << 20
"""A larger text table is not merged by row in memory."""
_PLAIN_TEXT = (".csv", ".tsv", ".jsonl", ".ndjson")


@frozen
class Unmerged:
    """What both sides changed: paths, or keys of rows as `PATH: KEY`."""

    name: str
    conflicts: tuple[str, ...]


def merge_files(ws: Workspace, base: Path, ours: Path, theirs: Path) -> Unmerged | None:
    """The merge driver: merge three pin files into `ours`. None if it went well, else what did not.

    With a conflict, `ours` gets git's conflict marks, so that nobody takes one side by accident.
    Raises: ConfigError for a broken pin; NotFound naming the remotes if a side's data are nowhere.
    """
    before = base.read_bytes()
    mine, other = parse_pin(ours.read_bytes(), str(ours)), parse_pin(theirs.read_bytes(), str(theirs))
    found = merge_pins(ws, parse_pin(before, str(base)) if before.strip() else None, mine, other)
    if isinstance(found, Unmerged):
        labels = ["-L", unmerged_label(found.conflicts), "-L", "base", "-L", "theirs"]
        words = ["git", "merge-file", *labels, str(ours), str(base), str(theirs)]
        subprocess.run(words, check=False, env=clean_environment(), timeout=60)
        return found
    ours.write_text(found, encoding="utf-8")
    return None


def merge_pins(ws: Workspace, base: Pin | None, ours: Pin, theirs: Pin) -> str | Unmerged:
    """The text of the merged pin. A merge that made a version has committed it. Raises: NotFound; StoreUnavailable."""
    if ours.name != theirs.name:
        raise ConfigError(f"the pins are of two data sets: {ours.name} and {theirs.name}")
    roles, clashes = _roles(base, ours, theirs)
    if clashes:
        return Unmerged(ours.name, tuple(clashes))
    if ours.content == theirs.content or (base is not None and theirs.tree == base.tree):
        return pin_text(_with_roles(_version(ws, ours), roles))
    if base is not None and ours.tree == base.tree:
        return pin_text(_with_roles(_version(ws, theirs), roles))
    with dataset_lock(ws, ours.name), leased(ws, f"data merge {ours.name}") as claim:
        claim()
        before = _version(ws, base) if base is not None else None
        mine, other = _version(ws, ours), _version(ws, theirs)
        merged = _merged(ws, before, mine, other, roles)
        if isinstance(merged, Unmerged):
            return merged
        claim([Digest(merged.tree)])
        made = commit(
            ws,
            ours.name,
            merged,
            roles=roles,
            source=ours.source,
            note=f"merge of {mine.ref} and {other.ref}",
            operation="merge",
            watermark=_watermark(ws, mine, other),
            inputs=[("merged", mine.tree), ("merged", other.tree)],
            is_pinned=False,
        )
    return pin_text(made)


def _watermark(ws: Workspace, ours: DatasetVersion, theirs: DatasetVersion) -> str:
    """How far the appends of both sides have come, if they go by one column; else ours."""
    column, _, mine = ours.watermark.partition("=")
    same, _, other = theirs.watermark.partition("=")
    if column != same or not (mine and other):
        return ours.watermark or theirs.watermark
    kind = read.schema_of(ws, ours).field(column).type
    one, two = (where.value_as(value, kind) for value in (mine, other))
    return theirs.watermark if pc.greater(two, one).as_py() else ours.watermark


def _merged(
    ws: Workspace, base: DatasetVersion | None, ours: DatasetVersion, theirs: DatasetVersion, roles: Mapping[str, str]
) -> Content | Unmerged:
    if _is_segmented(ws, ours) or _is_segmented(ws, theirs):
        return _merged_rows(ws, base, ours, theirs, roles)
    empty = write_tree(ws.objects, Tree(()))
    tree, conflicts = merge_trees(
        ws.objects, Digest(base.tree) if base else empty, Digest(ours.tree), Digest(theirs.tree)
    )
    changes: dict[str, Entry | None] = {}
    left: list[str] = []
    for path in conflicts:
        found = _merged_file(ws, path, [base, ours, theirs], roles["key"])
        if isinstance(found, Entry):
            changes[path] = found
        else:
            left += found
    if left:
        return Unmerged(ours.name, tuple(left))
    if changes:
        tree = update_tree(ws.objects, tree, changes)
    try:
        return _content(ws, tree, ours, theirs, roles["time"])
    except UsageError as error:
        return Unmerged(ours.name, (error.message,))


def _content(ws: Workspace, tree: Digest, ours: DatasetVersion, theirs: DatasetVersion, time: str) -> Content:
    """What is true of the merged tree. Only where the columns of the two sides differ are all tables read."""
    entries = list(iter_tree(ws.objects, tree))
    is_one = ours.is_one_file and theirs.is_one_file and len(entries) == 1
    one = content_of_one(_file(ws, entries[0], time, as_files=ours.as_files, is_named=True)) if is_one else ""
    if ours.columns and [each[:2] for each in ours.columns] != [each[:2] for each in theirs.columns]:
        found = [_file(ws, each, time) for each in entries]
        return dataclasses.replace(content_of_files(ws, found, tree), content=one)
    null = {name for name, _, is_null in (*ours.columns, *theirs.columns) if is_null}
    made = Content(
        tree=tree,
        files=len(entries),
        size_bytes=sum(entry.size_bytes for entry in entries),
        rows=sum(entry.rows for entry in entries),
        columns=tuple((name, kind, name in null) for name, kind, _ in ours.columns),
        as_files=ours.as_files,
        content=one,
    )
    if time and made.columns:
        low, high = read.time_range(ws, dataclasses.replace(ours, tree=tree, content="", columns=made.columns), time)
        made = dataclasses.replace(made, time_min=low, time_max=high)
    return made


def _file(ws: Workspace, entry: Entry, time: str, *, as_files: bool = False, is_named: bool = False) -> DataFile:
    """A stored file and what it holds, if it is a table."""
    inspected = None
    if formats.holds_rows(entry.path, is_one=is_named) and not as_files:
        inspected = formats.inspect(ws.objects.path(entry.digest), entry.path, time, is_named=is_named)
    return DataFile(entry.path, entry.digest, entry.size_bytes, inspected)


def _merged_rows(
    ws: Workspace, base: DatasetVersion | None, ours: DatasetVersion, theirs: DatasetVersion, roles: Mapping[str, str]
) -> Content | Unmerged:
    """Tables whose rows are in segments: read whole, merged by key, written as one table.

    Without a key they can be merged if both sides did nothing but append.
    """
    mine, other = read.table(ws, ours), read.table(ws, theirs)
    if not roles["key"]:
        is_grown = base is not None and all(_only_appended(ws, base, each) for each in (ours, theirs))
        both = merge_appended(base.rows, mine, other) if base is not None and is_grown else None
        if both is None:
            return Unmerged(ours.name, ("the rows, which have no key",))
        return tables.store(ws, both, ours.name, time=roles["time"])
    before = read.table(ws, base) if base is not None else mine.slice(0, 0)
    merged, conflicts = segments.merge_rows(before, mine, other, roles["key"])
    if conflicts:
        return Unmerged(ours.name, tuple(f"{roles['key']} = {each}" for each in conflicts))
    return tables.store(ws, merged, ours.name, time=roles["time"])


def _merged_file(ws: Workspace, path: str, versions: Sequence[DatasetVersion | None], key: str) -> Entry | list[str]:
    """One file that both sides changed: the merged file, or what stands against it."""
    base, ours, theirs = (
        find_entry(ws.objects, Digest(each.tree), path) if each is not None else None for each in versions
    )
    kind = formats.format_of(path)
    if ours is None or theirs is None:
        return [f"{path} (changed on one side, removed on the other)"]
    if not kind or not key:
        return [path]
    if path.lower().endswith(_PLAIN_TEXT) and max(ours.size_bytes, theirs.size_bytes) <= _LINES_MAX_BYTES:
        before = ws.objects.get_bytes(base.digest) if base is not None else b""
        mine, other = ws.objects.get_bytes(ours.digest), ws.objects.get_bytes(theirs.digest)
        try:
            found = merge_lines(before, mine, other, [key], path)
        except NotMergeable as error:
            return [f"{path} ({error})"]
        if found.conflicts:
            return [f"{path}: {key} = {each}" for each in found.conflicts]
        digest = ws.objects.put_bytes(found.content)
        return Entry(path, digest, len(found.content), found.rows)
    if kind == "parquet":
        return _merged_parquet(ws, path, [base, ours, theirs], key)
    return [path]


def _merged_parquet(ws: Workspace, path: str, entries: Sequence[Entry | None], key: str) -> Entry | list[str]:
    read_in = [pq.read_table(ws.objects.path(each.digest)) if each is not None else None for each in entries]
    base, ours, theirs = read_in
    assert ours is not None, "looked at before"
    assert theirs is not None, "looked at before"
    if key not in ours.column_names or key not in theirs.column_names:
        return [path]
    merged, conflicts = segments.merge_rows(base if base is not None else ours.slice(0, 0), ours, theirs, key)
    if conflicts:
        return [f"{path}: {key} = {each}" for each in conflicts]
    return tables.store_file(ws, merged, path).entry


def _roles(base: Pin | None, ours: Pin, theirs: Pin) -> tuple[dict[str, str], list[str]]:
    before = base.roles if base is not None else {}
    merged: dict[str, str] = {}
    clashes: list[str] = []
    for role, mine in ours.roles.items():
        other, was = theirs.roles[role], before.get(role, "")
        merged[role] = mine if other in (mine, was) else other
        if mine not in (other, was) and other != was:
            clashes.append(f"the {role} is {mine!r} here and {other!r} there")
    return merged, clashes


def _version(ws: Workspace, pin: Pin) -> DatasetVersion:
    """The version of a pin; one that is not here is asked of the remotes. Raises: NotFound; StoreUnavailable."""
    with ws.ledger.read() as tx:
        found = records.by_tree(tx, pin.name, pin.tree)
    if found is not None and ws.objects.has(pin.tree):
        return found
    return pull_version(ws, pin.name, pin.tree)


def _with_roles(version: DatasetVersion, roles: Mapping[str, str]) -> DatasetVersion:
    return dataclasses.replace(version, key=roles["key"], time=roles["time"], label=roles["label"])


def _only_appended(ws: Workspace, base: DatasetVersion, side: DatasetVersion) -> bool:
    """Whether a side has the files of the base as they were, and files of rows behind them."""
    before, after = layout.layout_of(ws.objects, base), layout.layout_of(ws.objects, side)
    return (after.rows[: len(before.rows)], after.deltas, after.others) == (before.rows, before.deltas, before.others)


def _is_segmented(ws: Workspace, version: DatasetVersion) -> bool:
    return bool(version.columns) and layout.layout_of(ws.objects, version).is_segmented


def told(found: Unmerged) -> Conflict:
    """The error that names what both sides changed."""
    shown = "\n".join(f"  {each}" for each in found.conflicts[:SHOWN])
    more = f"\n  and {len(found.conflicts) - SHOWN} more" if len(found.conflicts) > SHOWN else ""
    return Conflict(
        f"both branches changed the data set {found.name}:\n{shown}{more}",
        hint=f"git checkout --ours (or --theirs) noria.lock/{found.name}.toml, or noria data add the merged data",
    )
