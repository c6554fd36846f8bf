"""What a source gives an append: rows beyond the watermark, known ones, late ones, and ones that were deleted.

The source is read once and laid down, so that the data set can be looked at again if another writer
was first. A row at or before the watermark is known if the data set has it (by its key, else the
whole row, as often as it is there), deleted if `noria data delete` took it out, and late otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.data.records import DatasetVersion
from noria.data.rows import layout, read
from noria.data.tabular import duck, segments, tables
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pq = lazy("pyarrow.parquet")

__all__ = ["LateRows", "Split", "ordered"]

_AT = "__noria_at"
_SPOOL_ROWS = 1 << 16
_EXAMPLES = 5


@frozen(eq=False)
class Split:
    """The rows of a source against one version. `newest` is the greatest value of the watermark's column."""

    held: LateRows
    last: Any
    beyond: int
    known: int
    unordered: int
    newest: Any
    late_rows: Any
    examples: tuple[str, ...]
    deleted: int = 0

    @property
    def late(self) -> int:
        """How many rows came late."""
        return len(self.late_rows)

    def rows(self, *, with_late: bool) -> pa.RecordBatchReader:
        """The rows beyond the watermark, in the source's order, and the late ones among them if wanted."""
        return pa.RecordBatchReader.from_batches(self.held.schema, self._rows(with_late=with_late))

    def _rows(self, *, with_late: bool) -> Iterator[pa.RecordBatch]:
        late = np.asarray(self.late_rows, dtype=np.int64)
        for start, batch in self.held.numbered():
            chosen = _beyond(batch.column(self.held.watermark), self.last)
            if with_late:
                inside = late[(late >= start) & (late < start + batch.num_rows)] - start
                chosen[inside] = True
            if chosen.any():
                yield batch.filter(pa.array(chosen))


class LateRows:
    """The rows of a source, laid down in a scratch folder for the length of a block."""

    def __init__(self, ws: Workspace, rows: pa.RecordBatchReader, watermark: str) -> None:
        self._ws = ws
        self._source = rows
        self._stack = ExitStack()
        self._path = Path()
        self.watermark = watermark
        self.schema: pa.Schema = rows.schema.remove_metadata()
        self.unordered = 0
        self._newest: Any = None

    def __enter__(self) -> LateRows:
        self._path = self._stack.enter_context(tables.scratch(self._ws)) / "source.arrow"
        with disk_faults(self._path), pa.ipc.new_file(str(self._path), self.schema) as sink:
            for batch in self._source:
                for start in range(0, batch.num_rows, _SPOOL_ROWS):
                    part = batch.slice(start, _SPOOL_ROWS).replace_schema_metadata(None)
                    values = ordered(part.column(self.watermark))
                    self.unordered += values.null_count
                    self._newest = _greater(self._newest, pc.max(values))
                    sink.write_batch(part)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def newest(self) -> Any:
        """The greatest value of the watermark's column, or None."""
        return self._newest

    def rows(self) -> pa.RecordBatchReader:
        """All rows that have a watermark."""
        return Split(self, None, 0, 0, 0, None, (), ()).rows(with_late=False)

    def numbered(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(number of the first row, batch) over the whole source."""
        start = 0
        with pa.memory_map(str(self._path)) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                yield start, batch
                start += batch.num_rows

    def split(self, version: DatasetVersion, schema: pa.Schema, last: Any, gone: pa.Table) -> Split:
        """The rows against a version whose watermark has come to `last`; `gone` are rows that were deleted."""
        beyond = rest = 0
        for _, batch in self.numbered():
            values = ordered(batch.column(self.watermark))
            count = int(_beyond(values, last).sum())
            beyond += count
            rest += len(values) - values.null_count - count
        late: Any = np.zeros(0, dtype=np.int64)
        examples: tuple[str, ...] = ()
        deleted = 0
        if rest:
            late, examples, deleted = self._late(version, schema, last, gone)
        newest = _greater(last, self._newest)
        known = rest - len(late) - deleted
        return Split(self, last, beyond, known, self.unordered, newest, late, examples, deleted)

    def _late(
        self, version: DatasetVersion, schema: pa.Schema, last: Any, gone: pa.Table
    ) -> tuple[Any, tuple[str, ...], int]:
        """The numbers of rows at or before the watermark that never were in the data set, some by name; how many
        others were deleted.
        """
        key = layout.layout_of(self._ws.objects, version).key or ((version.key,) if version.key else ())
        names = [name for name in (key or self.schema.names) if name in schema.names and name in self.schema.names]
        looked = list(dict.fromkeys([*names, self.watermark]))
        place = self._path.with_name("rest.parquet")
        with disk_faults(place):
            self._write_rest(place, looked, last)
        removed = self._path.with_name("gone.parquet")
        with disk_faults(removed):
            pq.write_table(pa.table({name: _plain_column(gone[name]) for name in names}), removed)
        with duck.connected(self._ws) as connection:
            there = duck.paths([part.path for part in read.parts(self._ws, version)])
            listed = ", ".join(map(duck.name, names))
            told = ", ".join(f"CAST(r.{duck.name(name)} AS VARCHAR)" for name in (key or [self.watermark]))
            same = " AND ".join(f"r.{duck.name(name)} IS NOT DISTINCT FROM v.{duck.name(name)}" for name in names)
            found = connection.execute(
                f"""
                WITH r AS (SELECT *, row_number() OVER (PARTITION BY {listed} ORDER BY {_AT}) AS __n
                           FROM read_parquet({duck.paths([place])})),
                v AS (SELECT {listed}, count(*) FILTER (NOT __g) AS __c, count(*) FILTER (__g) AS __d FROM (
                        SELECT {listed}, false AS __g FROM read_parquet({there}, union_by_name=true)
                        UNION ALL SELECT {listed}, true AS __g FROM read_parquet({duck.paths([removed])}))
                      GROUP BY {listed})
                SELECT r.{_AT}, __n <= coalesce(__c + __d, 0), {told}
                FROM r LEFT JOIN v ON {same} WHERE __n > coalesce(__c, 0) ORDER BY r.{_AT}
                """
            ).fetchall()
        late = [row for row in found if not row[1]]
        examples = tuple(", ".join(map(str, row[2:])) for row in late[:_EXAMPLES])
        return np.array([row[0] for row in late], dtype=np.int64), examples, len(found) - len(late)

    def _write_rest(self, place: Path, names: Sequence[str], last: Any) -> None:
        schema = pa.schema([pa.field(name, _value_type(self.schema.field(name).type)) for name in names])
        with pq.ParquetWriter(place, schema.append(pa.field(_AT, pa.int64()))) as writer:
            for start, batch in self.numbered():
                values = ordered(batch.column(self.watermark))
                rest = ~_beyond(values, last) & np.asarray(values.is_valid())
                if rest.any():
                    numbers = pa.array(np.flatnonzero(rest) + start)
                    chosen = batch.select(list(names)).filter(pa.array(rest))
                    arrays = [by_value(column) for column in chosen.columns]
                    writer.write_batch(pa.RecordBatch.from_arrays([*arrays, numbers], names=[*names, _AT]))


def _beyond(values: Any, last: Any) -> Any:
    """Which values are greater than the watermark; all that are there, without one. Shape (n_rows,)."""
    found = ordered(values)
    if last is None:
        return np.array(found.is_valid(), dtype=bool)
    return np.array(pc.fill_null(pc.greater(found, segments.comparable(last, found.type)), False), dtype=bool)


def _greater(one: Any, other: Any) -> Any:
    if one is None or not one.is_valid:
        return other if other is not None and other.is_valid else None
    if other is None or not other.is_valid:
        return one
    return other if pc.greater(other, segments.comparable(one, other.type)).as_py() else one


def ordered(values: Any) -> Any:
    """A watermark's values, null where one has no place in an order that goes on: NaN, and the infinities.

    Behind an infinity nothing would ever come, so that every later row would be late.
    """
    found = by_value(values)
    if not pa.types.is_floating(found.type):
        return found
    return pc.if_else(pc.fill_null(pc.is_finite(found), False), found, pa.scalar(None, found.type))


def by_value(values: Any) -> Any:
    """The values of an array, of categories by value."""
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _plain_column(values: Any) -> Any:
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _value_type(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
