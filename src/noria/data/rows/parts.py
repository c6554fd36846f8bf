"""One file of rows of a version as its readers see it: typed, with later updates and deletions applied.

Streams: a column, a stretch of rows or a condition touch the pages that they need, not the file.
Rows keep the order of the file; an update stands where the row stood.
"""

from __future__ import annotations

import functools
import io
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core import identity
from noria.core.errors import Corrupt, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.identity import JSON, canonical, is_digest
from noria.core.lazy import lazy
from noria.data.forms import exact, formats, parquet
from noria.data.forms.where import Condition
from noria.data.lock import mark
from noria.data.rows.layout import AT_FILE, AT_ROW, Layout
from noria.store.objects import disk_faults
from noria.store.tree import Entry
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Places: TypeAlias = npt.NDArray[np.int64]
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pq = lazy("pyarrow.parquet")
ds = lazy("pyarrow.dataset")

__all__ = ["Part", "as_parquet", "conform", "parts_of"]

BATCH_ROWS = 1 << 16
_CACHE_FORMAT = "parquet/2"
_MERGED_FORMAT = "merged/2"


@frozen
class _Changes:
    """What deltas say of one file: places that are gone, places that changed, and where the new rows are.

    `at` sorted, unique; `source` and `row` are the delta (by its place) and the row in it, aligned.
    """

    gone: Places
    at: Places
    source: Places
    row: Places


class Part:
    """One file of rows of a version; `rows` counts those that are still there."""

    def __init__(
        self,
        ws: Workspace,
        layout: Layout,
        number: int,
        changes: _Changes,
        version: tuple[Mapping[str, str], Sequence[str]],
    ) -> None:
        self.entry: Entry = layout.rows[number]
        self.number = number
        self._ws = ws
        self._layout = layout
        self._changes = changes
        self._kinds, self._columns = version
        self.target: pa.Schema | None = None

    @property
    def file(self) -> str:
        """Its path in the tree."""
        return self.entry.path

    @property
    def digest(self) -> str:
        """The digest of the file, before deltas."""
        return self.entry.digest

    @functools.cached_property
    def physical_rows(self) -> int:
        """The rows of the file, those that are gone included."""
        return int(self._open.metadata.num_rows)

    @property
    def rows(self) -> int:
        """The rows that are there."""
        return self.physical_rows - len(self._changes.gone)

    @property
    def is_changed(self) -> bool:
        """Whether a delta touches it."""
        return bool(len(self._changes.gone) or len(self._changes.at))

    @property
    def gone(self) -> Places:
        """The places of the file, from 0, whose rows were deleted; sorted."""
        return self._changes.gone

    @property
    def touched(self) -> Places:
        """The places of the file, from 0, that a delta removed or changed; sorted."""
        places: Places = np.union1d(self._changes.gone, self._changes.at)
        return places

    @property
    def layout(self) -> Layout:
        """The layout that it stands in."""
        return self._layout

    def updates(self) -> Iterator[tuple[int, Places, Places]]:
        """(place of a delta in the layout, rows of the delta, rows here) of each upsert whose rows stand here.

        Rows of the delta that a later one replaced or removed are left out. Rows here are counted from 0
        among those that are there; both have shape (n,).
        """
        changes = self._changes
        here = changes.at - np.searchsorted(changes.gone, changes.at)
        for source in np.unique(changes.source):
            mine = changes.source == source
            yield int(source), changes.row[mine], here[mine]

    @property
    def state(self) -> str:
        """Equal for two parts of one file that have the same rows for the same reasons."""
        changes = self._changes
        deltas = [self._layout.deltas[int(number)].entry.digest for number in np.unique(changes.source)]
        places = [values.tobytes().hex() for values in (changes.gone, changes.at, changes.row)]
        order = np.unique(changes.source, return_inverse=True)[1].astype(np.int64).tobytes().hex()
        return identity.digest(canonical([self.entry.digest, deltas, order, *places]))

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The columns of its rows, exact types, without metadata of its writer's but pandas'.

        Those of the file itself, and what the updates in force there brought: a column, or a wider type.
        """
        updates = {
            delta.entry.path: self._delta_schema(delta.entry.digest)
            for delta in (self._layout.deltas[int(number)] for number in np.unique(self._changes.source))
        }
        own = self._own
        if all(name in own.names and own.field(name).type == kind for each in updates.values() for name, kind in each):
            return own
        known = {path: pa.schema(each) for path, each in updates.items()}
        return formats.unify({self.file: own, **known}, is_kept=True).with_metadata(own.metadata)

    @functools.cached_property
    def _own(self) -> pa.Schema:
        return exact.restored_schema(self._open.schema_arrow, self._open.metadata.metadata)

    def _delta_schema(self, digest: str) -> list[tuple[str, pa.DataType]]:
        file = pq.ParquetFile(_opened(self._ws, digest))
        found = exact.restored_schema(file.schema_arrow, file.metadata.metadata)
        return [(field.name, field.type) for field in found if field.name not in (AT_FILE, AT_ROW)]

    @property
    def metadata(self) -> Mapping[bytes, bytes]:
        """What the writer noted in the file."""
        return self._open.metadata.metadata or {}

    @functools.cached_property
    def path(self) -> Path:
        """A local, verified Parquet file with exactly these rows; made once where text or deltas are in the way."""
        if not self.is_changed:
            return as_parquet(self._ws, self.entry, self._kinds)
        deltas = [[delta.entry.digest, delta.kind] for delta in self._layout.deltas]
        about: JSON = [_MERGED_FORMAT, self.entry.digest, self.number, deltas, [str(f.type) for f in self._target()]]

        def make(place: Path) -> None:
            reader = pa.RecordBatchReader.from_batches(self._target(), (batch for _, batch in self.batches()))
            parquet.write(reader, place)

        return _cached(self._ws, about, make)

    def batches(
        self,
        columns: Sequence[str] | None = None,
        start: int = 0,
        stop: int | None = None,
        *,
        where: Condition | None = None,
        places: bool = False,
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(first row, rows) in order; rows are counted from 0 among those that are there.

        Args:
            columns: only these, all if None; those that the file lacks are null.
            start, stop: only rows in [start, stop).
            where: only rows that fit; row groups that cannot fit are not read. `first row` is then
                that of the batch before the choice.
            places: append a column AT_ROW with each row's place in the file.
        """
        target = self._target()
        wanted = list(target.names) if columns is None else list(columns)
        looked = [*wanted, *(name for name in (where.columns if where else ()) if name not in wanted)]
        schema = pa.schema([target.field(name) for name in looked])
        stop = self.rows if stop is None else min(stop, self.rows)
        if start >= stop:
            return
        low, high = self._place_of(start), self._place_of(stop - 1) + 1
        first = start
        for base, batch in self._physical(looked, low, high, where):
            found = self._with_updates(conform(batch, schema), base)
            keep = self._kept(base, found.num_rows)
            first = base - int(np.searchsorted(self._changes.gone, base))
            if places:
                at = pa.array(np.arange(base, base + found.num_rows, dtype=np.int64))
                found = found.append_column(AT_ROW, at)
            if keep is not None:
                found = found.filter(pa.array(keep))
            if where is not None:
                found = found.filter(_mask(found, where))
            if found.num_rows or where is None:
                yield first, found.select([*wanted, AT_ROW] if places else wanted)

    def take(self, places: Places, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows at places of the file (sorted, unique, none of them gone), updates applied."""
        target = self._target()
        names = list(target.names) if columns is None else list(columns)
        schema = pa.schema([target.field(name) for name in names])
        found = [schema.empty_table()]
        starts = self._group_starts()
        groups = np.searchsorted(starts, places, side="right") - 1
        for group in np.unique(groups):
            inside = places[groups == group]
            for base, batch in self._group(int(group), int(starts[group]), names, int(inside[0]), int(inside[-1]) + 1):
                here = inside[(inside >= base) & (inside < base + batch.num_rows)]
                if len(here):
                    rows = self._with_updates(conform(batch, schema), base).take(_indices(here - base))
                    found.append(pa.Table.from_batches([rows], schema))
        return pa.concat_tables(found)

    def _target(self) -> pa.Schema:
        if self.target is None:
            names = [name for name in self._columns if name in self.schema.names]
            rest = [name for name in self.schema.names if name not in names]
            self.target = pa.schema([self.schema.field(name) for name in (*names, *rest)])
        return self.target

    @functools.cached_property
    def _open(self) -> Any:
        is_parquet = formats.format_of(self.entry.path) == "parquet"
        source = _opened(self._ws, self.entry.digest) if is_parquet else as_parquet(self._ws, self.entry, self._kinds)
        try:
            return pq.ParquetFile(source, memory_map=False, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise UsageError(f"{self.entry.path} is not a whole Parquet file", hint="write it again") from error

    def _group_starts(self) -> Places:
        metadata = self._open.metadata
        lengths = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        starts: Places = np.cumsum([0, *lengths], dtype=np.int64)[:-1]
        return starts

    def _place_of(self, row: int) -> int:
        """The place in the file of a row that is counted among those that are there."""
        gone = self._changes.gone
        return row + int(np.searchsorted(gone - np.arange(len(gone)), row, side="right"))

    def _physical(
        self, names: Sequence[str], low: int, high: int, where: Condition | None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches of the file as it was written, those that meet [low, high), cut to it."""
        starts = self._group_starts()
        chosen = self._fitting(where)
        for group, start in enumerate(starts):
            length = self._open.metadata.row_group(group).num_rows
            if start >= high or start + length <= low:
                continue
            if chosen is not None and group not in chosen and not self._is_touched(int(start), length):
                continue
            yield from self._group(group, int(start), names, low, high)

    def _group(
        self, group: int, start: int, names: Sequence[str], low: int, high: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        file = self._open
        present = [name for name in names if name in self._own.names]
        read = present or [file.schema_arrow.names[0]]
        base = start
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=read):
            end = base + batch.num_rows
            if end > low:
                offset = max(low - base, 0)
                part = batch.slice(offset, min(end, high) - base - offset)
                table = exact.restored(pa.Table.from_batches([part]), file.metadata.metadata)
                yield base + offset, _single(table, part.num_rows)
            base = end
            if base >= high:
                return

    def _fitting(self, where: Condition | None) -> set[int] | None:
        """The row groups that may hold a row that fits, by their statistics; None for all."""
        if where is None or any(name not in self._open.schema_arrow.names for name in where.columns):
            return None
        exact = {field.name: field.type for field in self._open.schema_arrow}
        if any(exact[name] != self._target().field(name).type for name in where.columns):
            return None  # categories and widened columns are compared after reading
        is_parquet = formats.format_of(self.entry.path) == "parquet"
        source = _opened(self._ws, self.entry.digest) if is_parquet else as_parquet(self._ws, self.entry, self._kinds)
        fragment = ds.ParquetFileFormat().make_fragment(
            pa.OSFile(str(source), "rb") if isinstance(source, Path) else source
        )
        found = fragment.split_by_row_group(where.expression, schema=self._open.schema_arrow)
        return {group.id for each in found for group in each.row_groups}

    def _is_touched(self, start: int, length: int) -> bool:
        at = self._changes.at
        return bool(np.searchsorted(at, start) < np.searchsorted(at, start + length))

    def _kept(self, base: int, length: int) -> Any:
        gone = self._changes.gone
        here = gone[np.searchsorted(gone, base) : np.searchsorted(gone, base + length)]
        if not len(here):
            return None
        keep = np.ones(length, dtype=bool)
        keep[here - base] = False
        return keep

    def _with_updates(self, batch: pa.RecordBatch, base: int) -> pa.RecordBatch:
        changes = self._changes
        span = slice(*np.searchsorted(changes.at, [base, base + batch.num_rows]))
        at = changes.at[span] - base
        if not len(at):
            return batch
        new = self._new_rows(batch.schema, changes.source[span], changes.row[span])
        picks = np.arange(batch.num_rows, dtype=np.int64)
        picks[at] = batch.num_rows + np.arange(len(at))
        whole = pa.concat_tables([pa.Table.from_batches([batch]), new]).unify_dictionaries().take(_indices(picks))
        return _single(whole, batch.num_rows)

    def _new_rows(self, schema: pa.Schema, sources: Places, rows: Places) -> pa.Table:
        """The newest values of updated rows, in the order of their places."""
        parts = []
        order = []
        for source in np.unique(sources):
            mine = np.flatnonzero(sources == source)
            delta = self._delta(int(source), tuple(schema.names))
            parts.append(conform_table(delta, schema).take(_indices(rows[mine])))
            order.append(mine)
        back = np.argsort(np.concatenate(order), kind="stable")
        return pa.concat_tables(parts).unify_dictionaries().take(_indices(back))

    @functools.lru_cache(maxsize=8)  # noqa: B019  # a part lives as long as one reading
    def _delta(self, source: int, names: tuple[str, ...]) -> pa.Table:
        file = pq.ParquetFile(_opened(self._ws, self._layout.deltas[source].entry.digest))
        present = [name for name in names if name in file.schema_arrow.names]
        return exact.restored(file.read(columns=present or [AT_ROW]), file.metadata.metadata)


def parts_of(ws: Workspace, layout: Layout, kinds: Mapping[str, str], columns: Sequence[str]) -> list[Part]:
    """Every file of rows of a layout, in order.

    Args:
        kinds: the types of the columns of text files; columns: the names of the version's, in order.
    """
    changes = _changes(ws, layout)
    return [Part(ws, layout, number, changes[number], (kinds, columns)) for number in range(len(layout.rows))]


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of a schema from a batch: by name, cast where the type is wider, null where it has none."""
    return pa.RecordBatch.from_arrays([_column(batch, field) for field in schema], schema=schema)


def conform_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same for a table."""
    return pa.Table.from_arrays([_column(table, field) for field in schema], schema=schema)


def as_parquet(ws: Workspace, entry: Entry, kinds: Mapping[str, str]) -> Path:
    """A local, verified Parquet file with the rows of a table file, before deltas."""
    if formats.format_of(entry.path) == "parquet":
        return ws.objects.path(entry.digest)

    def make(place: Path) -> None:
        rows = formats.read_file(ws.objects.path(entry.digest), entry.path, kinds)
        pq.write_table(rows, place, compression="zstd")

    return _cached(ws, [_CACHE_FORMAT, entry.digest, formats.format_of(entry.path), dict(kinds)], make)


def _cached(ws: Workspace, about: JSON, make: Callable[[Path], None]) -> Path:
    """A file made once for what it is about, kept as an object so that its bytes are verified."""
    key = identity.digest(canonical(about))
    note = ws.project.state / "cache" / "parquet" / key[7:]
    known = note.read_text() if note.is_file() else ""
    with suppress(NotFound, Corrupt):  # gone or altered: it is made again
        if is_digest(known) and ws.objects.has(known):
            return ws.objects.path(known)
    with disk_faults(note):
        note.parent.mkdir(parents=True, exist_ok=True)
    part = note.with_suffix(f".{uuid.uuid4().hex}.{mark()}.part")
    try:
        with disk_faults(note):
            make(part)
        made = ws.objects.put_file(part)
    finally:
        part.unlink(missing_ok=True)
    with disk_faults(note):
        swap = note.with_suffix(f".{uuid.uuid4().hex}.{mark()}.part")
        swap.write_text(made)
        swap.replace(note)
    return ws.objects.path(made)


def _changes(ws: Workspace, layout: Layout) -> list[_Changes]:
    none = np.zeros(0, dtype=np.int64)
    if not layout.deltas:
        return [_Changes(none, none, none, none)] * len(layout.rows)
    files, rows, sources, is_gone = [], [], [], []
    for number, delta in enumerate(layout.deltas):
        table = pq.ParquetFile(_opened(ws, delta.entry.digest)).read(columns=[AT_FILE, AT_ROW])
        files.append(table[AT_FILE].to_numpy().astype(np.int64))
        rows.append(table[AT_ROW].to_numpy().astype(np.int64))
        sources.append(np.full(table.num_rows, number, dtype=np.int64))
        is_gone.append(np.full(table.num_rows, delta.kind == "delete"))
    every = [np.concatenate(each) for each in (files, rows, sources, is_gone)]
    in_delta = np.concatenate([np.arange(len(each), dtype=np.int64) for each in rows])
    found = []
    for number in range(len(layout.rows)):
        mine = every[0] == number
        place, source, gone, row = every[1][mine], every[2][mine], every[3][mine], in_delta[mine]
        removed = np.unique(place[gone])
        keep = ~gone & ~np.isin(place, removed)
        order = np.lexsort((source[keep], place[keep]))
        place, source, row = (each[keep][order] for each in (place, source, row))
        last = np.append(place[1:] != place[:-1], True) if len(place) else np.zeros(0, dtype=bool)
        found.append(_Changes(removed, place[last], source[last], row[last]))
    return found


def _opened(ws: Workspace, digest: str) -> Any:
    """An object for a reader of Parquet: a local file where there is one, else a stream that fetches what is read."""
    stream = ws.objects.open(digest)
    if isinstance(getattr(stream, "raw", None), io.FileIO):
        stream.close()
        return ws.objects.path(digest)
    return stream


def _column(source: Any, field: Any) -> Any:
    if field.name not in source.schema.names:
        nulls = pa.nulls(source.num_rows, field.type)
        return nulls if isinstance(source, pa.RecordBatch) else pa.chunked_array([nulls])
    values = source.column(field.name)
    if values.type == field.type:
        return values
    if pa.types.is_dictionary(values.type) and not pa.types.is_dictionary(field.type):
        values = values.cast(values.type.value_type)
    try:
        return pc.cast(values, field.type)
    except pa.ArrowInvalid as error:
        found = _even_larger(values, field.type)
        if found is not None:
            return found
        raise UsageError(
            f"column {field.name!r} holds values that {field.type} does not hold without rounding",
            hint="write all rows with one type, or add them as another data set",
        ) from error


def _even_larger(values: Any, kind: Any) -> Any:
    """Whole numbers as floats, where each is held exactly; None otherwise.

    Arrow's own cast refuses all beyond 2**53, though a double holds every second one after that.
    """
    if not (pa.types.is_integer(values.type) and pa.types.is_floating(kind)):
        return None
    found = pc.cast(values, kind, safe=False)
    bound = 2.0**63 if pa.types.is_signed_integer(values.type) else 2.0**64
    is_within = pc.all(pc.and_(pc.less(found, bound), pc.greater_equal(found, -bound))).as_py()
    if is_within is False:
        return None
    is_same = pc.all(pc.equal(pc.cast(found, values.type, safe=False), values)).as_py()
    return None if is_same is False else found


def _indices(places: Places) -> Any:
    return pa.array(places, pa.int64())


def _single(table: pa.Table, rows: int) -> pa.RecordBatch:
    """A table of few rows as one batch."""
    found = table.combine_chunks().to_batches()
    if found:
        return found[0]
    arrays = [pa.array([], field.type) for field in table.schema]
    assert not rows, "rows without a batch"
    return pa.RecordBatch.from_arrays(arrays, schema=table.schema)


def _mask(batch: pa.RecordBatch, where: Condition) -> Any:
    """Which rows fit; categories are compared by value."""
    columns = {}
    for name in where.columns:
        values: Any = batch.column(name)
        columns[name] = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    looked = ds.InMemoryDataset(pa.table(columns))
    found = looked.scanner(columns={"fits": where.expression}).to_table()["fits"]
    return pc.fill_null(found, False).combine_chunks()
