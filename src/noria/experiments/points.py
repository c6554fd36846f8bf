"""Metric points as columnar segments with a summary of each chunk, and histories made small.

A segment is a Parquet object with the columns of every other series (name, step, at, value), sorted by
name, each name in the order of its steps. Its metadata holds one summary for each chunk of `CHUNK` points
of a name: first, last, least and greatest point. A long history is drawn from the summaries alone; none
of its points is read. What was written does not change: a segment that is not wanted any more is replaced.
"""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.experiments.facts import Summary
from noria.store import arrays
from noria.store.objects import Objects

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = lazy("numpy")

__all__ = [
    "CHUNK",
    "Chunk",
    "Curve",
    "chunks",
    "curve",
    "downsample",
    "every",
    "joined",
    "live",
    "merge",
    "names",
    "of_columns",
    "ordered",
    "read",
    "some",
    "split",
    "summaries",
    "summarize",
    "thin",
    "write",
]

pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pq = lazy("pyarrow.parquet")

CHUNK = 4096
ROW_GROUP = 1 << 16
PACKED_BYTES = 64 << 10
"""A smaller segment is stored as many small objects are: in a pack, where the store has packs."""
_KEY = b"noria.chunks"
Point = tuple[int, int, float]
"""(step, at in µs UTC, value)"""


@frozen
class Curve:
    """Points of one metric in the order of step, then time; arrays of shape (n_points,), at in µs UTC."""

    steps: npt.NDArray[np.int64]
    at_us: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.steps)

    def take(self, places: npt.NDArray[np.int64]) -> Curve:
        """The points at these places."""
        return Curve(self.steps[places], self.at_us[places], self.values[places])


@frozen
class Chunk:
    """The summary of up to `CHUNK` points of a name: how many, from which row on, and the points that show."""

    name: str
    offset: int
    points: int
    shown: tuple[Point, ...]


def curve(points: Sequence[Point]) -> Curve:
    """A curve of single points, brought into order."""
    steps, at_us, values = zip(*points, strict=True) if points else ((), (), ())
    return of_columns(steps, at_us, values)


def of_columns(steps: Sequence[int], at_us: Sequence[int], values: Sequence[float]) -> Curve:
    """A curve of the columns of its points, brought into order."""
    return ordered(Curve(np.array(steps, np.int64), np.array(at_us, np.int64), np.array(values, np.float64)))


def ordered(found: Curve) -> Curve:
    """The same points in the order of step, then time, then value (NaN as 0)."""
    return found.take(np.lexsort((np.nan_to_num(found.values, nan=0.0), found.at_us, found.steps)))


def write(objects: Objects, curves: dict[str, Curve]) -> str:
    """Store the points of each name as a segment; gives its digest. The same points give the same."""
    names = sorted(curves)
    chunks: list[list[Any]] = []
    offset = 0
    for name in names:
        whole = curves[name]
        for start in range(0, len(whole), CHUNK):
            part = whole.take(np.arange(start, min(start + CHUNK, len(whole))))
            chunks.append([name, offset + start, len(part), [_point(part, each) for each in _showing(part)]])
        offset += len(whole)
    places = np.repeat(np.arange(len(names), dtype=np.int32), [len(curves[name]) for name in names])
    whole = joined([curves[name] for name in names])
    columns = {
        "name": arrays.named(names, places),
        "step": arrays.numbers(whole.steps, pa.int64()),
        "at": arrays.numbers(whole.at_us, pa.timestamp("us", tz="UTC")),
        "value": arrays.numbers(whole.values, pa.float64()),
    }
    table = pa.Table.from_arrays(list(columns.values()), list(columns)).replace_schema_metadata(
        {_KEY: json.dumps(chunks)}
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", version="2.6", row_group_size=ROW_GROUP)
    content = sink.getvalue()
    # Of a small one a pack takes one sync, a file of its own two.
    return objects.put_many([content])[0] if len(content) < PACKED_BYTES else objects.put_bytes(content)


def summaries(objects: Objects, segment: str, name: str) -> list[Chunk] | None:
    """The summaries of a name in a segment; None if the segment has none at all (it is of another writer)."""
    found = _told(objects, segment)
    return None if found is None else [_chunk(item) for item in found if item[0] == name]


def chunks(objects: Objects, segment: str) -> list[Chunk]:
    """The summaries of all names in a segment; none if it is of another writer."""
    return [_chunk(item) for item in _told(objects, segment) or ()]


def split(table: Any) -> dict[str, Curve]:
    """The points of each name in a table, in the order of the table: names may come in any."""
    told = pc.dictionary_encode(table["name"].combine_chunks())
    places = arrays.values_of(pa.chunked_array([told.indices]), np.int32)
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(np.bincount(places, minlength=len(told.dictionary)))
    whole = _of(table)
    starts = [0, *ends.tolist()]
    return {
        str(name): whole.take(order[start:end])
        for name, (start, end) in zip(told.dictionary.to_pylist(), itertools.pairwise(starts), strict=True)
    }


def some(objects: Objects, segment: str, wanted: Collection[str]) -> dict[str, Curve]:
    """The points of these names in a segment, whoever wrote it; parts of it that hold none of them are not read."""
    with objects.open(segment) as stream:
        file = pq.ParquetFile(stream)
        groups = [
            group
            for group in range(file.num_row_groups)
            if any(_may_hold(file.metadata.row_group(group), name) for name in wanted)
        ]
        table = file.read_row_groups(groups) if groups else None
    if table is None:
        return {}
    return split(table.filter(pc.is_in(table["name"], value_set=arrays.texts(sorted(wanted)))))


def names(table: Any) -> set[str]:
    """The names in a table of the series port."""
    return set(pc.unique(table["name"]).to_pylist())


def _told(objects: Objects, segment: str) -> list[Any] | None:
    with objects.open(segment) as stream:
        found = (pq.read_schema(stream).metadata or {}).get(_KEY)
    return None if found is None else list(json.loads(found))


def _chunk(item: Sequence[Any]) -> Chunk:
    return Chunk(item[0], item[1], item[2], tuple((step, at_us, value) for step, at_us, value in item[3]))


def read(objects: Objects, segment: str, name: str) -> Curve:
    """The points of a name in a segment, in order."""
    with objects.open(segment) as stream:
        file = pq.ParquetFile(stream)
        groups = [group for group in range(file.num_row_groups) if _may_hold(file.metadata.row_group(group), name)]
        return ordered(live(file.read_row_groups(groups), name)) if groups else curve([])


def _may_hold(group: Any, name: str) -> bool:
    columns = [group.column(place) for place in range(group.num_columns)]
    known = next(each for each in columns if each.path_in_schema == "name").statistics
    return known is None or not known.has_min_max or known.min <= name <= known.max


def live(table: Any, name: str) -> Curve:
    """The points of a name in a table of the series port."""
    return _of(table.filter(pc.equal(table["name"], arrays.texts([name])[0])))


def merge(objects: Objects, segments: Sequence[str]) -> tuple[str, int]:
    """One segment with the points of several, and how many they are."""
    curves: dict[str, list[Curve]] = {}
    for segment in segments:
        for name, found in every(objects, segment):
            curves.setdefault(name, []).append(found)
    whole = {name: ordered(joined(parts)) for name, parts in curves.items()}
    return write(objects, whole), sum(len(found) for found in whole.values())


def joined(parts: Sequence[Curve]) -> Curve:
    """The points of several curves, one after the other."""
    if not parts:
        return curve([])
    return Curve(
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.at_us for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def thin(chunks: Sequence[Chunk]) -> Curve | None:
    """What the summaries alone show of a history; None if the chunks overlap in their steps.

    The first, last, least and greatest point of each chunk are points of the history itself, in order.
    """
    spans = sorted((chunk.shown[0][0], chunk.shown[-1][0]) for chunk in chunks if chunk.shown)
    if any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans)):
        return None
    return curve([point for chunk in chunks for point in chunk.shown])


def downsample(whole: Curve, limit: int) -> Curve:
    """At most `limit` (4 or more) of the points, in order: first, last, and of equal parts the least and greatest.

    The least and the greatest value of the whole are always among them, infinite ones included. NaN shows
    only where a part has nothing else.
    """
    assert limit >= 4, "first, last, least and greatest are four points"
    n = len(whole)
    if n <= limit:
        return whole
    edges = np.linspace(1, n - 1, (limit - 2) // 2 + 1).astype(np.int64)
    places = {0, n - 1}
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        places.update(start + each for each in _extremes(whole.values[start:end]))
    return whole.take(np.array(sorted(places), np.int64))


def summarize(found: Curve) -> Summary:
    """What a batch's fact says of one metric."""
    finite = found.values[np.isfinite(found.values)]
    last = float(found.values[-1])
    return Summary(
        points=len(found),
        step=int(found.steps[-1]),
        at_us=int(found.at_us[-1]),
        last=last if math.isfinite(last) else None,
        low=float(finite.min()) if len(finite) else None,
        high=float(finite.max()) if len(finite) else None,
        special="" if math.isfinite(last) else repr(last),
    )


def every(objects: Objects, segment: str) -> Iterator[tuple[str, Curve]]:
    """Each name of a segment with its points, by name."""
    with objects.open(segment) as stream:
        table = pq.ParquetFile(stream).read()
    names = np.asarray(table["name"].to_pylist(), dtype=object)
    whole = _of(table)
    starts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)] if len(names) else [0]
    for start, end in itertools.pairwise(starts):
        yield str(names[start]), whole.take(np.arange(start, end))


def _of(table: Any) -> Curve:
    return Curve(
        arrays.values_of(table["step"], np.int64),
        arrays.values_of(table["at"], np.int64),
        arrays.values_of(table["value"], np.float64),
    )


def _extremes(values: npt.NDArray[np.float64]) -> set[int]:
    """The places of the least and the greatest value that is a number; the first place if there is none."""
    if not len(values):
        return set()
    is_nan = np.isnan(values)
    if is_nan.all():
        return {0}
    return {int(np.nanargmin(values)), int(np.nanargmax(values))}


def _showing(part: Curve) -> list[int]:
    return sorted({0, len(part) - 1, *_extremes(part.values)})


def _point(part: Curve, place: int) -> list[Any]:
    return [int(part.steps[place]), int(part.at_us[place]), float(part.values[place])]
