"""Reading a version: all of it, or the columns, the stretch of rows, the rows of a condition that are asked for.

The rows of all files in the order of the version, columns joined by name, later updates and
deletions applied. Bytes come from the object store, verified; what is not asked for is not read. A
text file (CSV, JSON lines) is turned into Parquet once, with the types of its data set's one
inference, and that copy is an object too; the map from file to copy is a cache in `.noria/cache`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.words import counted
from noria.data.forms import formats, where
from noria.data.records import DatasetVersion
from noria.data.rows import layout
from noria.data.rows.parts import Part, as_parquet, parts_of
from noria.store.tree import Entry, find_entry
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pq = lazy("pyarrow.parquet")

__all__ = [
    "Part",
    "RowPlace",
    "batches",
    "decoded",
    "find_rows",
    "is_segmented",
    "parts",
    "scan_sql",
    "schema_of",
    "stream",
    "table",
    "tables",
    "time_range",
    "unified",
]


@frozen
class RowPlace:
    """One row and where it stands: file in the version, row number in that file (from 0), values by column."""

    file: str
    row: int
    values: Mapping[str, Any]


def table(
    ws: Workspace,
    version: DatasetVersion,
    *,
    columns: Sequence[str] | None = None,
    files: Sequence[str] | None = None,
    rows: tuple[int, int] | None = None,
    condition: str = "",
) -> pa.Table:
    """The rows of a version, in its order.

    Types are those of the files (the wider one where files differ); a column that a file lacks is
    null there. CSV text such as "02139" stays text.

    Args:
        columns: only these, in this order; files: only these files of the version.
        rows: only rows [first, last) of the version, counted from 0.
        condition: only rows that fit, such as "amount > 100 and zip = '02139'".
    Raises: UsageError for an unknown column, a range that is none, or a condition that cannot be read; Corrupt if
        a stored file was altered.
    """
    found = parts(ws, version, files)
    if not found:
        return pa.table({})
    metadata = found[0].schema.metadata if len(found) == 1 and columns is None else None
    whole = stream(ws, version, columns=columns, files=files, rows=rows, condition=condition).read_all()
    return whole.unify_dictionaries().replace_schema_metadata(metadata)


def stream(
    ws: Workspace,
    version: DatasetVersion,
    *,
    columns: Sequence[str] | None = None,
    files: Sequence[str] | None = None,
    rows: tuple[int, int] | None = None,
    condition: str = "",
) -> pa.RecordBatchReader:
    """The same as a stream of batches: memory holds a few of them, whatever the size of the version."""
    if rows is not None and not 0 <= rows[0] <= rows[1]:
        raise UsageError(
            f"({rows[0]}, {rows[1]}) is no range of rows",
            hint=f"[first, last) counted from 0, such as (0, {min(version.rows, 1000)}); {version.ref} has"
            f" {counted(version.rows, 'row')}",
        )
    found = parts(ws, version, files)
    _known(version, columns)
    whole = _target(found, version)
    asked = where.parse(condition, decoded(whole)) if condition else None
    names = list(whole.names) if columns is None else list(columns)
    schema = pa.schema([whole.field(name) for name in names])
    return pa.RecordBatchReader.from_batches(schema, _streamed(found, names, rows, asked))


def batches(
    ws: Workspace, version: DatasetVersion, *, columns: Sequence[str] | None = None, files: Sequence[str] | None = None
) -> Iterator[tuple[str, int, pa.RecordBatch]]:
    """(file, first row of the batch in it, rows), in order, with one schema over all files."""
    found = parts(ws, version, files)
    _known(version, columns)
    _target(found, version)
    for part in found:
        for first, batch in part.batches(columns):
            yield part.file, first, batch


def parts(ws: Workspace, version: DatasetVersion, files: Sequence[str] | None = None) -> list[Part]:
    """The files of rows of a version in order, each with its rows as they are now; `path` is a Parquet of them."""
    placed = layout.layout_of(ws.objects, version)
    kinds = {name: kind for name, kind, _ in version.columns}
    found = parts_of(ws, placed, kinds, version.column_names())
    return [part for part in found if files is None or part.file in files]


def schema_of(ws: Workspace, version: DatasetVersion) -> pa.Schema:
    """The exact Arrow schema of a version: the wider type where files differ."""
    return _target(parts(ws, version), version)


def is_segmented(ws: Workspace, version: DatasetVersion) -> bool:
    """Whether the version's tree holds segments that only this module can put together."""
    entry = find_entry(ws.objects, version.tree, layout.MANIFEST)
    return entry is not None and layout.layout_of(ws.objects, version).is_segmented


def decoded(schema: pa.Schema) -> pa.Schema:
    """Categories by their values: what a condition compares."""
    kinds: list[Any] = [field.type for field in schema]
    plain = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds]
    return pa.schema(list(zip(schema.names, plain, strict=True)))


def tables(
    ws: Workspace, version: DatasetVersion, *, columns: Sequence[str] | None = None, files: Sequence[str] | None = None
) -> dict[str, pa.Table]:
    """The rows file by file, each with its own columns and types, in the order of the version."""
    _known(version, columns)
    found: dict[str, pa.Table] = {}
    for part in parts(ws, version, files):
        own = part.schema
        names = own.names if columns is None else [name for name in columns if name in own.names]
        part.target = pa.schema([own.field(name) for name in own.names])
        schema = pa.schema([own.field(name) for name in names])
        read = [batch for _, batch in part.batches(names)]
        found[part.file] = pa.Table.from_batches(read, schema) if read else schema.empty_table()
    return found


def scan_sql(ws: Workspace, version: DatasetVersion, files: Sequence[str] | None = None) -> str:
    """A relation for DuckDB over all rows: `SELECT … FROM {scan_sql(ws, version)}`.

    Columns are joined by name; a column `filename` holds the local path of each row's file.
    Raises: UsageError if the version has no table; Corrupt.
    """
    paths = [str(part.path) for part in parts(ws, version, files)]
    if not paths:
        raise UsageError(f"{version.ref} has no table")
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{quoted}], union_by_name=true, filename=true)"


def find_rows(ws: Workspace, version: DatasetVersion, column: str, value: Any) -> list[RowPlace]:
    """Every row whose column equals the value (null equals null), with the file and row that hold it.

    Text is compared as the column's type, so "5" finds 5. Raises: UsageError for an unknown column.
    """
    _known(version, [column])
    found: list[RowPlace] = []
    for part in parts(ws, version):
        if column not in part.schema.names:
            continue
        rows: list[int] = []
        for first, batch in part.batches([column]):
            rows += [first + row for row in _hits(batch.column(column), value)]
        for row in rows:
            values = next(batch for _, batch in part.batches(part.schema.names, row, row + 1)).to_pylist()[0]
            found.append(RowPlace(part.file, row, values))
    return found


def time_range(ws: Workspace, version: DatasetVersion, column: str) -> tuple[str, str]:
    """The least and greatest time of a column as UTC texts; empty if all are null. Raises: UsageError."""
    values = table(ws, version, columns=[column])[column]
    return formats.time_range(values, column, version.ref)


def unified(ws: Workspace, entries: Sequence[Entry], kinds: Mapping[str, str]) -> pa.Schema:
    """The one schema of these table files. Raises: UsageError naming the column and files that disagree."""
    return formats.unify({entry.path: pq.read_schema(as_parquet(ws, entry, kinds)) for entry in entries})


def _as_parquet(ws: Workspace, entry: Entry, kinds: Mapping[str, str]) -> Path:
    """A local, verified Parquet file with the rows of a table file, before deltas."""
    return as_parquet(ws, entry, kinds)


def _target(found: Sequence[Part], version: DatasetVersion) -> pa.Schema:
    """One schema for all files, columns in the version's order; every part is told it."""
    if not found:
        raise UsageError(f"{version.ref} has no table")
    if len(found) == 1:
        merged = pa.schema([field.with_nullable(True) for field in found[0].schema])
    else:
        merged = formats.unify({part.file: part.schema for part in found}, is_kept=True)
    known = [name for name in version.column_names() if name in merged.names]
    names = [*known, *(name for name in merged.names if name not in known)]
    target = pa.schema([merged.field(name) for name in names])
    for part in found:
        part.target = target
    return target


def _streamed(
    found: Sequence[Part], names: Sequence[str], rows: tuple[int, int] | None, asked: where.Condition | None
) -> Iterator[pa.RecordBatch]:
    seen = 0
    for part in found:
        start, stop = 0, None
        if rows is not None:
            count = part.rows
            start, stop = max(rows[0] - seen, 0), max(min(rows[1] - seen, count), 0)
            seen += count
        for _, batch in part.batches(names, start, stop, where=asked):
            if batch.num_rows:
                yield batch


def _known(version: DatasetVersion, columns: Sequence[str] | None) -> None:
    known = version.column_names()
    if isinstance(columns, str):
        raise UsageError(f"columns is the text {columns[:40]!r}, not a list", hint=f"columns=[{columns[:40]!r}]")
    for column in columns or ():
        if list(columns or ()).count(column) > 1:
            raise UsageError(f"the column {column!r} is asked for twice", hint="name each column once")
        if column not in known:
            raise UsageError(f"{version.ref} has no column {column!r}", hint=f"columns: {', '.join(known[:12])}")


def _hits(values: Any, value: Any) -> list[int]:
    if value is None:
        hits = pc.is_null(values)
    else:
        plain = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
        try:
            hits = pc.equal(plain, where.value_as(value, plain.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            return []  # this value cannot stand in a column of that type
    rows: list[int] = pc.indices_nonzero(pc.fill_null(hits, False)).to_pylist()
    return rows
