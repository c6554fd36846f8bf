"""Versions that grow: new rows, changed rows and removed rows as segments beside what is there.

Nothing of the files before is written again. What a key names is looked up once, when a delta is
written, and the delta remembers file and place, so a reader needs no search. The content of the new
version is the digest of its merged columns: the same as if the whole table had been added at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.errors import Conflict, UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.data.commit import Content, commit
from noria.data.forms import exact, formats, logical, parquet
from noria.data.records import DatasetVersion
from noria.data.rows import layout, read, rowmerge
from noria.data.rows.layout import AT_FILE, AT_ROW, Delta, Layout
from noria.data.rows.parts import Part, conform
from noria.data.rows.rowmerge import merge_rows
from noria.data.tabular import tables
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = [
    "Found",
    "described",
    "look_up",
    "merge_rows",
    "merge_versions",
    "roles",
    "with_deltas",
    "with_rows",
    "write_merged",
]


@frozen(eq=False)
class Found:
    """Where keys stand in a version: for each asked key the file of rows and place, -1 for none; shape (n_keys,)."""

    file: Any
    row: Any

    @property
    def is_there(self) -> Any:
        """Whether a key names a row; shape (n_keys,)."""
        return self.file >= 0


def roles(version: DatasetVersion) -> dict[str, str]:
    """The columns with a role, as `commit` takes them."""
    return {"key": version.key, "time": version.time, "label": version.label}


def look_up(parts: Sequence[Part], keys: pa.Table) -> Found:
    """Where the rows with these keys stand. Reads the key columns alone.

    Args:
        keys: the key columns, typed as in the version; each key once, none null.
    Raises: UsageError if a key names two rows of the version.
    """
    names = keys.column_names
    file = np.full(keys.num_rows, -1, dtype=np.int64)
    row = np.full(keys.num_rows, -1, dtype=np.int64)
    if not keys.num_rows:
        return Found(file, row)
    index = _KeyIndex(keys)
    for part in parts:
        for _, batch in part.batches(names, places=True):
            hits = index.of(batch)
            there = np.flatnonzero(hits >= 0)
            if len(there):
                which = hits[there]
                if (file[which] >= 0).any() or len(np.unique(which)) < len(which):
                    raise UsageError(
                        f"{', '.join(map(repr, names))} names several rows of the data set",
                        hint="give a key that names one row, or add the table again without doubles",
                    )
                file[which] = part.number
                row[which] = np.asarray(batch.column(AT_ROW))[there]
    return Found(file, row)


class _KeyIndex:
    """Finds rows of batches among some keys: each column as a number, the numbers as one."""

    def __init__(self, keys: pa.Table) -> None:
        self._sets = []
        codes = np.zeros(keys.num_rows, dtype=np.int64)
        self._widths: list[int] = []
        for values in keys.columns:
            known = pc.unique(values)
            self._sets.append(known)
            self._widths.append(len(known))
            codes = codes * len(known) + _places(pc.index_in(values, value_set=known))
        if float(np.prod([float(width) for width in self._widths])) > 2**62:
            raise UsageError("the key has too many combinations of values", hint="give a key of fewer columns")
        self._order = np.argsort(codes, kind="stable")
        self._sorted = codes[self._order]

    def of(self, batch: pa.RecordBatch) -> Any:
        """For each row the number of its key, or -1; shape (n_rows,)."""
        codes = np.zeros(batch.num_rows, dtype=np.int64)
        is_known = np.ones(batch.num_rows, dtype=bool)
        for place, (known, width) in enumerate(zip(self._sets, self._widths, strict=True)):
            values: Any = batch.column(place)
            if pa.types.is_dictionary(values.type):
                values = values.dictionary_decode()
            found = _places(pc.index_in(values, value_set=known, skip_nulls=True))
            is_known &= found >= 0
            codes = codes * width + found
        at = np.minimum(np.searchsorted(self._sorted, codes), len(self._sorted) - 1)
        is_known &= self._sorted[at] == codes
        return np.where(is_known, self._order[at], -1)


def with_rows(
    ws: Workspace, version: DatasetVersion, before: Layout, rows: pa.RecordBatchReader, *, is_same_schema: bool
) -> tuple[Layout, parquet.Written, bool]:
    """The layout with one more file of rows at its end, and whether `written.logical` names the whole table.

    Args:
        is_same_schema: the rows have the very columns of the version, so that its digest can be continued.
    """
    hasher = _continued(ws, version, before) if is_same_schema else None
    path = f"rows/{before.next_number():05d}.parquet"
    stored = tables.store_file(ws, rows, path, time=version.time, hasher=hasher)
    made = dataclasses.replace(before, rows=(*before.rows, stored.entry), is_segmented=True)
    return made, stored.written, hasher is not None


def with_deltas(
    ws: Workspace, before: Layout, *, updates: pa.Table | None, deletes: pa.Table | None, key: Sequence[str]
) -> Layout:
    """The layout with a delta of changed rows, and one of removed ones; both carry AT_FILE and AT_ROW."""
    made = before
    for kind, rows in (("update", updates), ("delete", deletes)):
        if rows is None or not rows.num_rows:
            continue
        stored = tables.store_file(ws, rows, f"deltas/{made.next_number():05d}.{kind}")
        made = dataclasses.replace(made, deltas=(*made.deltas, Delta(stored.entry, kind)))
    return dataclasses.replace(made, key=tuple(key) or before.key, is_segmented=True)


def described(ws: Workspace, version: DatasetVersion, made: Layout) -> Content:
    """What a layout holds, by reading all of it once: rows, columns, times and the logical digest.

    `version` gives names and roles; its own tree is not looked at.
    """
    tree, entries = layout.write_layout(ws.objects, made)
    looked = dataclasses.replace(version, tree=tree)
    reader = read.stream(ws, looked)
    hasher = logical.Hasher(reader.schema)
    nulls: set[str] = set()
    low = high = ""
    for batch in reader:
        hasher.update(batch)
        nulls |= {name for name, values in zip(batch.schema.names, batch.columns, strict=True) if values.null_count}
        if version.time in batch.schema.names:
            first, last = formats.time_range(pa.chunked_array([batch.column(version.time)]), version.time, version.name)
            low, high = min(filter(None, (low, first)), default=""), max(high, last)
    return Content(
        tree=tree,
        files=len(entries),
        size_bytes=sum(entry.size_bytes for entry in entries),
        rows=hasher.rows,
        columns=tuple((field.name, str(field.type), field.name in nulls) for field in reader.schema),
        time_min=low,
        time_max=high,
        content=hasher.digest(),
    )


def grown(ws: Workspace, version: DatasetVersion, made: Layout, written: parquet.Written) -> Content:
    """What a layout holds after rows came to its end, from the version before and what was written."""
    tree, entries = layout.write_layout(ws.objects, made)
    null = {name for columns in (version.columns, written.columns) for name, _, is_null in columns if is_null}
    return Content(
        tree=tree,
        files=len(entries),
        size_bytes=sum(entry.size_bytes for entry in entries),
        rows=version.rows + written.rows,
        columns=tuple((name, kind, name in null) for name, kind, _ in written.columns),
        time_min=min(filter(None, (version.time_min, written.time_min)), default=""),
        time_max=max(version.time_max, written.time_max),
        content=written.logical,
    )


def conformed(rows: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatchReader:
    """A stream with exactly these columns. Raises: UsageError naming a column whose values do not fit."""
    return pa.RecordBatchReader.from_batches(schema, _conformed(rows, schema))


def write_merged(ws: Workspace, version: DatasetVersion, folder: Path) -> list[Path]:
    """Write the rows of a version as plain Parquet files into a folder, one for each file of rows.

    What deltas left untouched is copied byte for byte. Files that are no table are not written.
    """
    found = []
    for part in read.parts(ws, version):
        target = folder / Path(part.file).with_suffix(".parquet" if part.is_changed else Path(part.file).suffix)
        with disk_faults(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        if part.is_changed:
            part.target = None
            rows = pa.RecordBatchReader.from_batches(part.schema.remove_metadata(), _typed(part))
            with disk_faults(target):
                parquet.write(rows, target)
        else:
            ws.objects.copy_to(part.digest, target)
        found.append(target)
    return found


def merge_versions(
    ws: Workspace, base: DatasetVersion, ours: DatasetVersion, theirs: DatasetVersion, note: str = ""
) -> DatasetVersion:
    """A new version with what both sides changed since `base`, by the key of ours; the caller holds the lock.

    Raises: UsageError without a key; Conflict naming keys that both sides changed differently.
    """
    if not ours.key:
        raise UsageError(f"{ours.ref} has no key to merge its rows by", hint=f"noria data describe {ours.ref} --key K")
    first, mine, other = (read.table(ws, each) for each in (base, ours, theirs))
    merged, conflicts = merge_rows(first, mine, other, ours.key)
    if conflicts:
        named = ", ".join(conflicts[:6]) + (", …" if len(conflicts) > 6 else "")
        raise Conflict(
            f"{len(conflicts)} rows of {ours.name} were changed on both sides: {ours.key} {named}",
            hint="take one side's version, or change the rows and add the data again",
        )
    content = tables.store(ws, merged, ours.name, time=ours.time, allow_empty=True)
    return commit(
        ws,
        ours.name,
        content,
        roles=roles(ours),
        source=f"{ours.ref} + {theirs.ref}",
        note=note,
        operation="merge",
        inputs=[("merged", theirs.tree)],
        anew=True,
    )


def same_rows(left: pa.Table, right: pa.Table) -> Any:
    """Where two tables of one schema have equal rows; shape (n_rows,)."""
    return rowmerge.same_rows(left, right)


def current_rows(parts: Sequence[Part], found: Found, which: Any, schema: pa.Schema) -> pa.Table:
    """The rows at looked-up places, in the order of `which` (numbers of keys that are there)."""
    tables_of, order = [schema.empty_table()], [np.zeros(0, dtype=np.int64)]
    for part in parts:
        mine = which[found.file[which] == part.number]
        if len(mine):
            sorted_by_row = mine[np.argsort(found.row[mine], kind="stable")]
            tables_of.append(part.take(found.row[sorted_by_row], schema.names))
            order.append(sorted_by_row)
    back = np.searchsorted(np.sort(which), which)
    together = pa.concat_tables(tables_of).unify_dictionaries()
    in_order = together.take(pa.array(np.argsort(np.concatenate(order), kind="stable"), pa.int64()))
    return in_order.take(pa.array(back, pa.int64()))


def placed(rows: pa.Table, found: Found, which: Any) -> pa.Table:
    """Rows of a delta with their places; `which` are the numbers of their keys."""
    return rows.append_column(AT_FILE, pa.array(found.file[which].astype(np.int32))).append_column(
        AT_ROW, pa.array(found.row[which])
    )


def comparable(value: Any, kind: Any) -> Any:
    """A scalar as a type that it is compared with. Raises: UsageError if the two have no order between them."""
    if value.type == kind:
        return value
    try:
        return value.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise UsageError(
            f"the watermark is {value.type} in the data set and {kind} in the rows", hint="write both with one type"
        ) from error


def _continued(ws: Workspace, version: DatasetVersion, before: Layout) -> logical.Hasher | None:
    """A hasher that has seen the version's rows, from the blocks that its last file carries; None if it cannot."""
    if version.content == version.tree or before.deltas or not before.rows:
        return None
    parts = read.parts(ws, version)
    blocks = exact.blocks_of(parts[-1].metadata)
    if blocks is None or len(blocks) != version.rows // logical.BLOCK_ROWS:
        return None
    schema = read.schema_of(ws, version)
    hasher = logical.Hasher(schema, blocks, exact.levels_of(parts[-1].metadata))
    for batch in read.stream(ws, version, rows=(len(blocks) * logical.BLOCK_ROWS, version.rows)):
        hasher.update(batch)
    return hasher if hasher.digest() == version.content else None


def _conformed(rows: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        try:
            yield conform(batch, schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise UsageError(
                _unfitting(batch, schema), hint="write the column with the type of the data set"
            ) from error


def _unfitting(batch: pa.RecordBatch, schema: pa.Schema) -> str:
    for field in schema:
        if field.name in batch.schema.names:
            try:
                conform(batch.select([field.name]), pa.schema([field]))
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
                kind = batch.schema.field(field.name).type
                return f"column {field.name!r} is {kind} and holds values that are no {field.type}"
    return "the rows do not fit the columns of the data set"


def _typed(part: Part) -> Iterator[pa.RecordBatch]:
    for _, batch in part.batches():
        yield batch.select(part.schema.names)


def _places(found: Any) -> Any:
    return np.asarray(pc.fill_null(found, -1)).astype(np.int64)
