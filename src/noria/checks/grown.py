"""Files that grew, and upserts: which rows are new, so that they can be judged on their own too.

Of a file that replaces an accepted one of the same name all rows are new as far as names and digests tell. If it
begins with the rows of that one, the rest is what came; failing that, what lies behind its latest time. A broken
month at the end of three years of good ones is a small share of the whole, and most of what came. The rows that an
upsert replaced stand anywhere in their files; the delta that it wrote holds them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.checks.scanning import source
from noria.checks.scanning.arrays import Whole
from noria.checks.scanning.source import Part
from noria.core.errors import NoriaError, NotFound
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.data.forms import formats
from noria.data.versions import DatasetVersion, log, resolve
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")

__all__ = ["Upserted", "accepted_parts", "begin_of_new", "upserted", "upserted_before_compaction"]

_ROWS = 1 << 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen(eq=False)
class Upserted:
    """The rows that one upsert replaced and that still are as it left them.

    `path` is the Parquet file of its delta, `at` their numbers in it, ascending; `part` says which file of the
    version each stands in (from 0) and `row` where, among those that are there. All have shape (n_rows,).
    """

    path: Path
    at: Whole
    part: Whole
    row: Whole


def upserted(ws: Workspace, parts: Sequence[Part], accepted: Mapping[str, Part]) -> list[Upserted]:
    """What each upsert since an accepted version replaced; since the beginning, or a compaction, if there is none.

    Args:
        parts: every file of rows of the version, in order; accepted: those of the accepted one, if they are here.
    """
    found: dict[int, list[tuple[Whole, Whole, Whole]]] = {}
    begin = _known_deltas(parts, accepted)
    for number, part in enumerate(parts):
        for delta, at, rows in part.updates():
            if delta >= begin:
                found.setdefault(delta, []).append((at, np.full(len(at), number, np.int64), rows))
    made = []
    for delta, each in sorted(found.items()):
        at, file, row = (np.concatenate(values) for values in zip(*each, strict=True))
        order = np.argsort(at)
        path = ws.objects.path(parts[0].layout.deltas[delta].entry.digest)
        made.append(Upserted(path, at[order], file[order], row[order]))
    return made


def upserted_before_compaction(
    ws: Workspace, version: DatasetVersion, parts: Sequence[Part], accepted: Mapping[str, Part], since: int
) -> list[Upserted]:
    """What upserts replaced since an accepted version (number `since`) that a compaction folded in meanwhile.

    A compaction writes the rows in their order, so each is found in its file by its number; those that were
    replaced or removed after it are left out. Only the last one is looked behind, if what it read is still here.
    """
    newer = [each for each in log(ws, version.name) if since < each.version <= version.version]
    made = next((each for each in newer if each.operation == "compact" and not each.dropped_at), None)
    if made is None or not parts:
        return []
    try:
        before = source.parts(ws, next(each for each in newer if each.tree == made.parent))
        if [part.digest for part in source.parts(ws, made)] != [parts[0].digest]:
            return []  # the table was added anew since
        found = upserted(ws, before, accepted)
    except (NoriaError, StopIteration):
        return []  # dropped or collected: the whole is judged, and no more is known
    begins = np.cumsum([0, *(part.rows for part in before)], dtype=np.int64)
    folded = []
    for each in found:
        places = begins[each.part] + each.row
        keep = ~np.isin(places, parts[0].touched)
        rows = places[keep] - np.searchsorted(parts[0].gone, places[keep])
        folded.append(Upserted(each.path, each.at[keep], np.zeros(len(rows), np.int64), rows))
    return folded


def _known_deltas(parts: Sequence[Part], accepted: Mapping[str, Part]) -> int:
    """How many of the first deltas of a version the accepted one had too, in the same files."""
    known = next((part.layout for part in accepted.values()), None)
    if not parts or known is None or parts[0].layout.rows[: len(known.rows)] != known.rows:
        return 0
    pairs = list(zip(parts[0].layout.deltas, known.deltas, strict=False))
    return next((number for number, (one, other) in enumerate(pairs) if one != other), len(pairs))


def accepted_parts(ws: Workspace, name: str, number: int, tree: str) -> dict[str, Part]:
    """The files of rows of an accepted version by path; none if they are not here any more."""
    try:
        version = resolve(ws, f"{name}@{number}")
        return {part.file: part for part in source.parts(ws, version)} if version.tree == tree else {}
    except NoriaError:
        return {}  # dropped or collected: what is new is then told by its times alone, or not at all


def begin_of_new(part: Part, before: Part | None, time: str, time_max: str) -> int:
    """The number of the first new row of a file (from 0); 0 if all are, or if it cannot be told.

    Args:
        before: the accepted file of that name, if it is here.
        time: the column that orders the rows, or ""; time_max: the latest time of the accepted file, UTC text.
    """
    try:
        if before is not None and 0 < before.rows <= part.rows and _begins_with(part, before):
            return before.rows
    except NotFound:
        pass  # collected since: its times tell, or nothing does
    if not time or not time_max or time not in part.schema.names:
        return 0
    try:
        column = formats.as_utc(source.columns_of(part, [time])[time], time, part.file)
    except NoriaError:
        return 0  # a time that is none is a finding of its own
    last = (datetime.fromisoformat(time_max) - _EPOCH) // timedelta(microseconds=1)
    times = column.cast(pa.int64()).combine_chunks()
    is_old = ~(np.asarray(times.fill_null(last)) > last)
    return int(np.flatnonzero(is_old)[-1]) + 1 if is_old.any() else 0


def _begins_with(part: Part, before: Part) -> bool:
    """Whether the first rows of a file are those of another one, whatever types and columns came since.

    A column at a time: what is held of the files does not grow with the number of their columns.
    """
    names = before.schema.names
    if any(name not in part.schema.names for name in names):
        return False
    for name in names:
        mine, theirs = (_rows(each, name, before.rows) for each in (part, before))
        if not all(_same(one, other) for one, other in zip(mine, theirs, strict=True)):
            return False
    return True


def _rows(part: Part, name: str, stop: int) -> Iterator[pa.Array[Any]]:
    """The values of a column from the first row on, so many at a time whatever the file's own batches are."""
    held: list[pa.RecordBatch] = []
    count = 0
    for _, batch in part.batches([name], 0, stop):
        held.append(batch)
        count += batch.num_rows
        while count >= _ROWS:
            table = pa.Table.from_batches(held)
            yield table.slice(0, _ROWS)[name].combine_chunks()
            held, count = table.slice(_ROWS).to_batches(), count - _ROWS
    if count:
        yield pa.Table.from_batches(held)[name].combine_chunks()


def _same(mine: Any, theirs: Any) -> bool:
    mine, theirs = (
        each.cast(each.type.value_type) if pa.types.is_dictionary(each.type) else each for each in (mine, theirs)
    )
    if mine.type != theirs.type:
        try:
            theirs = theirs.cast(mine.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return False
    return bool(mine.equals(theirs))
