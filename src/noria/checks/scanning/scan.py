"""One streaming pass over a Parquet file for all rules and profiles: bounded memory, each column read once.

The columns are dealt to a few lanes so that every rule finds all its columns in one of them; each
lane streams its columns in batches of 49,152 rows on a thread of its own, and reads the next batch
meanwhile. Arrow and NumPy compute without the interpreter's lock, so this goes on side by side.
Texts that the file keeps in a dictionary stay in it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.checks.scanning.arrays import Whole, whole
from noria.checks.scanning.chunk import family
from noria.checks.scanning.expression import Conditions
from noria.checks.scanning.tally import Rows, Watcher
from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
    pq = lazy("pyarrow.parquet")

__all__ = ["BATCH_ROWS", "Shape", "scan", "shape_of"]

BATCH_ROWS = 49_152
LANES_MAX = 4
AHEAD = 3
"""So many batches are read ahead: on a busy machine each hand-over from thread to thread waits for its turn."""
_RELEASE_BATCHES = 4
"""Arrow's allocator keeps what was freed: giving it back now and then saves 100 MB in a long-lived process."""
_DICTIONARY_BYTES = 3.0
"""A text column that takes at most so many bytes a row in the file is read as its dictionary."""


@frozen
class Shape:
    """What the footer of a Parquet file says: its schema, rows, and the bytes of each column as stored."""

    schema: pa.Schema
    rows: int
    weights: Mapping[str, int]
    dictionaries: tuple[str, ...]


def shape_of(path: Path, file: str) -> Shape:
    """Read the footer. Raises: UsageError if it is not a whole Parquet file."""
    try:
        found = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken(file, error) from error
    schema = found.schema.to_arrow_schema()
    weights = dict.fromkeys(schema.names, 1)
    plain: dict[str, float] = dict.fromkeys(schema.names, 0.0)
    for group in range(found.num_row_groups):
        row_group = found.row_group(group)
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            name = column.path_in_schema if column.path_in_schema in weights else column.path_in_schema.split(".")[0]
            weights[name] = weights.get(name, 1) + column.total_compressed_size
            plain[name] = plain.get(name, 0.0) + column.total_uncompressed_size
    few = max(found.num_rows, 1) * _DICTIONARY_BYTES
    texts = [field.name for field in schema if family(field.type) == "text" and not pa.types.is_dictionary(field.type)]
    return Shape(schema, found.num_rows, weights, tuple(name for name in texts if plain[name] <= few))


def scan(
    path: Path,
    file: str,
    shape: Shape,
    watchers: Sequence[Watcher],
    *,
    begin: int = 0,
    only: Whole | None = None,
) -> dict[str, str]:
    """Show every batch of the file, from a row on (from 0), to every watcher, in order.

    Gives the conditions that could not be evaluated, with the reason. Raises: UsageError for a file
    that is cut off.

    Args:
        only: the numbers of the rows to show, ascending, shape (n,); they are then counted from 0 among these.
    """
    lanes = _lanes(shape, watchers)
    if not lanes:
        return {}
    with ThreadPoolExecutor(len(lanes)) as pool:
        running = [pool.submit(_run, path, file, shape, lane, begin, only) for lane in lanes]
        return {text: reason for each in running for text, reason in each.result().items()}


def _run(
    path: Path, file: str, shape: Shape, watchers: Sequence[Watcher], begin: int, only: Whole | None
) -> dict[str, str]:
    expressions = [expression for watcher in watchers for expression in watcher.expressions]
    columns = sorted({name for watcher in watchers for name in watcher.columns})
    conditions = Conditions(expressions, shape.schema) if expressions else None
    try:
        batches = _batches(path, file, shape, columns, begin)
        for number, rows in enumerate(batches if only is None else _chosen(batches, only)):
            if conditions is not None:
                rows.said = conditions.evaluate(rows.table())
            for watcher in watchers:
                watcher.look(rows)
            if number % _RELEASE_BATCHES == 0:
                pa.default_memory_pool().release_unused()
        return conditions.faults if conditions is not None else {}
    finally:
        if conditions is not None:
            conditions.close()


def _batches(path: Path, file: str, shape: Shape, columns: list[str], begin: int) -> Iterator[Rows]:
    wanted = [name for name in shape.dictionaries if name in columns]
    try:
        with pq.ParquetFile(path, read_dictionary=wanted, pre_buffer=False, buffer_size=1 << 20) as source:
            first, groups = _from(source.metadata, begin)
            for batch in _ahead(source.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False)):
                skipped = min(max(begin - first, 0), batch.num_rows)
                if skipped < batch.num_rows or not batch.num_rows:
                    yield Rows(batch.slice(skipped) if skipped else batch, first + skipped)
                first += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken(file, error) from error


def _chosen(batches: Iterator[Rows], only: Whole) -> Iterator[Rows]:
    """Some rows, counted among themselves."""
    for rows in batches:
        low, high = (int(at) for at in np.searchsorted(only, [rows.first, rows.first + rows.count]))
        if low < high:
            yield Rows(rows.batch.take(whole(only[low:high] - rows.first)), low)


def _from(metadata: pq.FileMetaData, begin: int) -> tuple[int, list[int]]:
    """The row groups from the one with a row on, and the number of the first row in them."""
    first, number = 0, 0
    while number < metadata.num_row_groups and first + metadata.row_group(number).num_rows <= begin:
        first, number = first + metadata.row_group(number).num_rows, number + 1
    return first, list(range(number, metadata.num_row_groups))


def _ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, read on a thread of its own, some of them while an earlier one is looked at."""
    with ThreadPoolExecutor(1) as reader:
        coming = deque(reader.submit(next, batches, None) for _ in range(AHEAD))
        while (batch := coming.popleft().result()) is not None:
            coming.append(reader.submit(next, batches, None))
            yield batch


def _lanes(shape: Shape, watchers: Sequence[Watcher]) -> list[list[Watcher]]:
    """Watchers by lane: those that share a column are in one lane, the heaviest groups apart."""
    owner: dict[str, int] = {}
    groups: dict[int, list[Watcher]] = {}
    for number, watcher in enumerate(watchers):
        if not watcher.columns and not watcher.expressions:
            continue
        joined = {owner[name] for name in watcher.columns if name in owner}
        groups[number] = [watcher, *(each for group in sorted(joined) for each in groups.pop(group))]
        for name in {name for each in groups[number] for name in each.columns}:
            owner[name] = number
    ordered = sorted(groups.values(), key=lambda group: -_weight(shape, group))
    lanes: list[list[Watcher]] = [[] for _ in range(_lane_count(len(ordered)))]
    loads = [0] * len(lanes)
    for group in ordered:
        lightest = loads.index(min(loads))
        lanes[lightest] += sorted(group, key=watchers.index)
        loads[lightest] += _weight(shape, group)
    return [lane for lane in lanes if lane]


def _lane_count(groups: int) -> int:
    """A lane keeps two cores busy, one reading and one looking; more of them wait for each other."""
    return max(1, min(LANES_MAX, (os.cpu_count() or 1) // 2, groups))


def _weight(shape: Shape, group: Sequence[Watcher]) -> int:
    names = {name for watcher in group for name in watcher.columns}
    return sum(shape.weights.get(name, 1) for name in names) + shape.rows * len(names)


def _broken(file: str, error: Exception) -> UsageError:
    return UsageError(f"{file} is not a whole Parquet file: {_reason(error)}", hint="write it again")


def _reason(error: Exception) -> Any:
    return str(error).splitlines()[0].split(": '")[0][:120]
