"""Reading a version: as one Arrow table, as a relation for DuckDB, or just the rows with a key.

All files in path order, columns joined by name. Bytes come from the object store, verified. A
text file (CSV, JSON lines) is turned into Parquet once, with the types of its data set's one
inference, and that copy is an object too; the map from file to copy is a cache in `.noria/cache`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core import identity
from noria.core.errors import UsageError
from noria.core.identity import canonical, is_digest
from noria.core.lazy import lazy
from noria.data import formats
from noria.data.records import DatasetVersion
from noria.store.objects import disk_faults
from noria.store.tree import Entry, read_tree
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pq = lazy("pyarrow.parquet")

__all__ = ["RowPlace", "find_rows", "scan_sql", "table", "tables", "time_range", "unified"]

_CACHE_FORMAT = "parquet/1"


@dataclass(frozen=True, slots=True)
class RowPlace:
    """One row and where it stands: file in the version, row number in that file (from 0), values by column."""

    file: str
    row: int
    values: Mapping[str, Any]


def table(
    ws: Workspace, version: DatasetVersion, *, columns: Sequence[str] | None = None, files: Sequence[str] | None = None
) -> pa.Table:
    """All rows of a version, files in path order.

    Types are those of the files (the wider one where files differ); a column that a file lacks is
    null there. CSV text such as "02139" stays text.

    Args:
        columns: only these, in this order; files: only these files of the version.
    Raises: UsageError for an unknown column; Corrupt if a stored file was altered.
    """
    found = tables(ws, version, columns=columns, files=files)
    if not found:
        return pa.table({})
    merged = formats.unify({name: part.schema for name, part in found.items()})
    parts = [_conform(part, merged) for part in found.values()]
    whole = pa.concat_tables(parts)
    wanted = list(columns) if columns is not None else [n for n in version.column_names() if n in whole.column_names]
    return whole.select(wanted).unify_dictionaries()


def tables(
    ws: Workspace, version: DatasetVersion, *, columns: Sequence[str] | None = None, files: Sequence[str] | None = None
) -> dict[str, pa.Table]:
    """The same file by file, each with its own schema, in path order."""
    known = version.column_names()
    for column in columns or ():
        if column not in known:
            raise UsageError(f"{version.ref} has no column {column!r}", hint=f"columns: {', '.join(known[:12])}")
    kinds = {name: kind for name, kind, _ in version.columns}
    found = {}
    for entry in _entries(ws, version):
        if files is None or entry.path in files:
            wanted = None if columns is None else list(columns)
            found[entry.path] = _read(ws, entry, kinds, wanted)
    return found


def scan_sql(ws: Workspace, version: DatasetVersion) -> str:
    """A relation for DuckDB over all rows: `SELECT … FROM {scan_sql(ws, version)}`.

    Columns are joined by name; a column `filename` holds the local path of each row's file.
    Raises: UsageError if the version has no table; Corrupt.
    """
    kinds = {name: kind for name, kind, _ in version.columns}
    paths = [str(_as_parquet(ws, entry, kinds)) for entry in _entries(ws, version)]
    if not paths:
        raise UsageError(f"{version.ref} has no table")
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{quoted}], union_by_name=true, filename=true)"


def find_rows(ws: Workspace, version: DatasetVersion, column: str, value: Any) -> list[RowPlace]:
    """Every row whose column equals the value (null equals null), with the file and row that hold it.

    Text is compared as the column's type, so "5" finds 5. Raises: UsageError for an unknown column.
    """
    found: list[RowPlace] = []
    for name, part in tables(ws, version, columns=[column]).items():
        if column not in part.column_names:
            continue
        values = part[column]
        if value is None:
            hits = pc.is_null(values)
        else:
            try:
                hits = pc.equal(values, _as_type(value, values.type))
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
                continue  # this value cannot stand in a column of that type
        rows = pc.indices_nonzero(hits).to_pylist()
        if rows:
            whole = tables(ws, version, files=[name])[name]
            found += [RowPlace(name, row, whole.slice(row, 1).to_pylist()[0]) for row in rows]
    return found


def time_range(ws: Workspace, version: DatasetVersion, column: str) -> tuple[str, str]:
    """The least and greatest time of a column as UTC texts; empty if all are null. Raises: UsageError."""
    values = table(ws, version, columns=[column])[column]
    return formats.time_range(values, column, version.ref)


def unified(ws: Workspace, entries: Sequence[Entry], kinds: Mapping[str, str]) -> pa.Schema:
    """The one schema of these table files. Raises: UsageError naming the column and files that disagree."""
    schemas = {entry.path: _read(ws, entry, kinds, None, is_schema_only=True).schema for entry in entries}
    return formats.unify(schemas)


def _entries(ws: Workspace, version: DatasetVersion) -> list[Entry]:
    return [entry for entry in read_tree(ws.objects, version.tree).entries if formats.format_of(entry.path)]


def _read(
    ws: Workspace,
    entry: Entry,
    kinds: Mapping[str, str],
    columns: list[str] | None,
    *,
    is_schema_only: bool = False,
) -> pa.Table:
    path = _as_parquet(ws, entry, kinds)
    if is_schema_only:
        empty: pa.Table = pq.read_schema(path).empty_table()
        return empty
    return formats.read_file(path, f"{entry.path}.parquet", {}, columns)


def _as_parquet(ws: Workspace, entry: Entry, kinds: Mapping[str, str]) -> Path:
    """A local, verified Parquet file with the rows of a table file."""
    if formats.format_of(entry.path) == "parquet":
        return ws.objects.path(entry.digest)
    key = identity.digest(canonical([_CACHE_FORMAT, entry.digest, formats.format_of(entry.path), dict(kinds)]))
    note = ws.project.state / "cache" / "parquet" / key[7:]
    known = note.read_text() if note.is_file() else ""
    if is_digest(known) and ws.objects.has(identity.Digest(known)):
        return ws.objects.path(known)
    rows = formats.read_file(ws.objects.path(entry.digest), entry.path, kinds)
    with disk_faults(note):
        note.parent.mkdir(parents=True, exist_ok=True)
        part = note.with_suffix(f".{uuid.uuid4().hex}.part")
        try:
            pq.write_table(rows, part, compression="zstd")
            made = ws.objects.put_file(part)
        finally:
            part.unlink(missing_ok=True)
        swap = note.with_suffix(f".{uuid.uuid4().hex}.part")
        swap.write_text(made)
        swap.replace(note)
    return ws.objects.path(made)


def _conform(part: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        if field.name not in part.column_names:
            columns.append(pa.chunked_array([pa.nulls(part.num_rows, field.type)]))
        elif part[field.name].type == field.type:
            columns.append(part[field.name])
        else:
            columns.append(pc.cast(part[field.name], field.type))
    return pa.table(columns, schema=schema)


def _as_type(value: Any, kind: pa.DataType) -> pa.Scalar[Any]:
    wanted = kind.value_type if pa.types.is_dictionary(kind) else kind
    if isinstance(value, str) and not (pa.types.is_string(wanted) or pa.types.is_large_string(wanted)):
        return pa.scalar(value).cast(wanted)
    return pa.scalar(value, wanted)
