"""Where the rows of a version are: one local, verified Parquet file for each of its table files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.data.forms import formats
from noria.data.rows import read
from noria.data.rows.parts import Part
from noria.data.versions import DatasetVersion
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pq = lazy("pyarrow.parquet")

__all__ = ["Part", "columns_of", "content_of", "parts", "time_span"]


def parts(ws: Workspace, version: DatasetVersion, files: Sequence[str] | None = None) -> list[Part]:
    """The table files of a version in path order, each as Parquet on this machine. Raises: Corrupt."""
    return read.parts(ws, version, files=files)


def content_of(part: Part) -> str:
    """What names the rows of a file: its digest, and where updates or deletions touch it, that of them all."""
    return part.state if part.is_changed else part.digest


def columns_of(part: Part, columns: Sequence[str]) -> pa.Table:
    """Some columns of a file; those that it lacks are null. Dictionaries are decoded."""
    with pq.ParquetFile(part.path, pre_buffer=False) as source:
        there = [name for name in columns if name in source.schema_arrow.names]
        found = source.read(columns=there)
    made: dict[str, Any] = {}
    for name in columns:
        values = found[name] if name in there else pa.chunked_array([pa.nulls(part.rows)])
        made[name] = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
    return pa.table(made)


def time_span(part: Part, column: str, names: Sequence[str]) -> tuple[str, str]:
    """The range of a file's time column as UTC texts; empty if it has none. Raises: UsageError."""
    if not column or column not in names:
        return "", ""
    return formats.time_range(columns_of(part, [column])[column], column, part.file)
