"""Files that grew: where the rows begin that are new, so that they can be judged on their own too.

Of a file that replaces an accepted one of the same name all rows are new as far as names and digests tell. If it
begins with the rows of that one, the rest is what came; failing that, what lies behind its latest time. A broken
month at the end of three years of good ones is a small share of the whole, and most of what came.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from noria.checks.scanning import source
from noria.checks.scanning.source import Part
from noria.core.errors import NoriaError, NotFound
from noria.core.lazy import lazy
from noria.data.forms import formats
from noria.data.versions import resolve
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")

__all__ = ["accepted_parts", "begin_of_new"]

_ROWS = 1 << 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
