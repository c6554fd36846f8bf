"""Parquet as Noria writes it: an Arrow stream as one file, made to share bytes with its next version.

zstd, content-defined pages in row groups that the rows cut (`rowgroups`), dictionaries only where a
sample has few values, no statistics of the machine. The file carries the logical digest and what
Parquet would lose: the exact Arrow schema, categories with their order, pandas' own metadata. Equal
tables have equal `content`, whatever this file's bytes are, so a rewritten Parquet is no new version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.frozen import frozen, slotted
from noria.core.identity import Digest
from noria.core.lazy import lazy
from noria.core.progress import task
from noria.data.forms import exact, formats, logical, rowgroups

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pq = lazy("pyarrow.parquet")

__all__ = ["Written", "rows_of", "write"]

WRITER = "noria/1"
_FEW_SHARE = 0.1
"""A column whose sample has so few values, of its rows, is written with a dictionary."""
_BATCH_ROWS = 1 << 16


@frozen(kw_only=True)
class Written:
    """What a written Parquet file holds. `blocks` are the full blocks of its logical digest."""

    rows: int
    columns: formats.Columns
    logical: Digest
    blocks: tuple[str, ...]
    time_min: str = ""
    time_max: str = ""


@slotted
class _Seen:
    """What is noted of the rows on their way to the file."""

    hasher: logical.Hasher
    time: str
    nulls: set[str] = field(default_factory=set)
    low: str = ""
    high: str = ""
    rows: int = 0

    def note(self, batch: pa.RecordBatch) -> None:
        self.hasher.update(batch)
        self.rows += batch.num_rows
        self.nulls |= {
            name for name, values in zip(batch.schema.names, batch.columns, strict=True) if values.null_count
        }
        if self.time in batch.schema.names and batch.num_rows:
            values = pa.chunked_array([batch.column(self.time)])
            low, high = formats.time_range(values, self.time, "the table")
            self.low = min(filter(None, (self.low, low)), default="")
            self.high = max(self.high, high)


def write(
    rows: pa.Table | pa.RecordBatchReader, path: Path, *, time: str = "", hasher: logical.Hasher | None = None
) -> Written:
    """Write a table to a Parquet file. Its bytes depend on its content and pyarrow's version alone.

    Args:
        time: the column whose range is noted; "" for none.
        hasher: has seen the rows that come before these in their table; `logical` then names the whole.

    Raises: UsageError for two columns of one name, no columns, or a type that Parquet cannot keep.
    """
    reader = rows_of(rows)
    schema = reader.schema
    _check(schema)
    seen = _Seen(hasher or logical.Hasher(schema), time)
    plain = pa.schema([pa.field(each.name, _plain_type(each.type)) for each in schema])
    groups = rowgroups.groups(_plain_batches(reader, plain, seen), plain)
    first = next(groups, plain.empty_table())
    options: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": _few(first) or False,
        "use_content_defined_chunking": True,
        "data_page_size": 1 << 20,
        "write_batch_size": 1 << 10,
        "version": "2.6",
    }
    with task(f"writing {path.name}", unit="rows") as advance, pq.ParquetWriter(path, plain, **options) as writer:
        for group in _chained(first, groups):
            if group.num_rows:
                writer.write_table(_one_chunk(group), row_group_size=group.num_rows)
                advance(group.num_rows)
        writer.add_key_value_metadata(_metadata(schema, seen))
    return Written(
        rows=seen.rows,
        columns=tuple((each.name, str(each.type), each.name in seen.nulls) for each in schema),
        logical=seen.hasher.digest(),
        blocks=tuple(seen.hasher.blocks),
        time_min=seen.low,
        time_max=seen.high,
    )


def rows_of(rows: pa.Table | pa.RecordBatchReader) -> pa.RecordBatchReader:
    """A stream of the rows of a table, or the stream itself."""
    return rows.to_reader(max_chunksize=_BATCH_ROWS) if isinstance(rows, pa.Table) else rows


def _check(schema: pa.Schema) -> None:
    names = schema.names
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise UsageError(f"two columns are named {twice!r}", hint="rename one of them")
    if not names:
        raise UsageError("a table without columns says nothing", hint="give at least one column")
    for each in schema:
        if not each.name:
            raise UsageError("a column has no name", hint="name every column")
        logical.type_name(each.type)
        if str(each.type).startswith("month_day_nano"):
            raise UsageError(
                f"column {each.name!r} is {each.type}, which Parquet cannot keep", hint="store days or microseconds"
            )


def _plain_batches(reader: Iterable[pa.RecordBatch], plain: pa.Schema, seen: _Seen) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        seen.note(batch)
        if batch.num_rows:
            columns = [_plain(values, each.type) for values, each in zip(batch.columns, plain, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=plain)


def _plain_type(kind: Any) -> Any:
    """The type that goes into the file: categories by value, run-end encoding undone."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    return kind


def _plain(values: Any, wanted: Any) -> Any:
    if pa.types.is_run_end_encoded(values.type):
        values = pc.run_end_decode(values)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values if values.type == wanted else values.cast(wanted)


def _few(table: pa.Table) -> list[str]:
    """Columns that a dictionary makes smaller without moving many bytes at an edit."""
    sample = table.slice(0, rowgroups.SAMPLE_ROWS)
    found = []
    for each in sample.schema:
        if pa.types.is_nested(each.type) or pa.types.is_boolean(each.type) or pa.types.is_null(each.type):
            continue
        values = sample[each.name]
        if isinstance(each.type, pa.BaseExtensionType):
            continue
        if len(pc.unique(values)) <= max(_FEW_SHARE * len(values), 1):
            found.append(each.name)
    return found


def _one_chunk(table: pa.Table) -> pa.Table:
    """The same rows in one piece, so that page boundaries do not depend on batches."""
    return table.combine_chunks()


def _chained(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest


def _metadata(schema: pa.Schema, seen: _Seen) -> dict[str, str]:
    hasher = seen.hasher
    about = {"writer": WRITER, "pyarrow": pa.__version__, "logical": hasher.digest(), "blocks": hasher.blocks}
    return exact.noted(schema, hasher.levels, about)
