"""The reference of a release: profiles of what it was trained on, and how much those data differ from themselves.

Made once, when the release is made, and pinned in it. The reference is cut by time into windows that
are compared with each other: their own spread says how large a difference is ordinary for each column
(its floor), and how many rows are worth one independent row (its block factor). A season that the
reference has seen is thereby no drift, and rows that come in runs do not count as many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core.errors import Corrupt
from noria.core.identity import JSON, Digest
from noria.core.lazy import lazy
from noria.core.schema import Column
from noria.monitoring.drift.chi2 import g_statistic
from noria.monitoring.profile import Profile, Shape, binned, kind_of, measured, shape_of, values_of
from noria.store.objects import Objects

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Floats: TypeAlias = npt.NDArray[np.float64]
    Counts: TypeAlias = npt.NDArray[np.int64]
else:
    np, pa = lazy("numpy"), lazy("pyarrow")

__all__ = ["MIN_EFFECT", "PREDICTION", "Reference", "ReferenceColumn", "build", "prediction_column", "read", "write"]

MIN_EFFECT = 0.03
"""No difference of distributions below this is drift, however many rows prove it."""
PREDICTION = "prediction"
"""The name of the score among the columns."""
QUANTILE = 0.99
"""The floor is this quantile of the reference's own differences."""
CHUNKS = 4
"""Windows that a reference without enough time of its own is cut into."""
MAX_CHUNKS = 26
MIN_CHUNK_ROWS = 50
_FORMAT = "noria.reference/1"
_KOLMOGOROV_MEDIAN = 0.8275735551899077
_CHI2_1_MEDIAN = 0.454936423119572


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceColumn:
    """One column of a reference: its profile, and what is ordinary for it.

    `floor` and `null_floor` are the least effect that counts, of values and of the share of nulls;
    `block` and `null_block` are rows per independent row.
    """

    column: Column
    profile: Profile
    floor: float = MIN_EFFECT
    block: float = 1.0
    null_floor: float = MIN_EFFECT
    null_block: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What a model was trained on, as profiles. `source` names the data; `windows` were compared with each other.

    `prediction` is the profile of the model's own scores on rows it had not seen, if there were any.
    """

    source: str
    rows: int
    windows: int
    columns: tuple[ReferenceColumn, ...]
    prediction: ReferenceColumn | None = None


def build(
    table: pa.Table, columns: Sequence[Column], *, source: str, time: Counts | None = None, days: float | None = None
) -> Reference:
    """The reference that a table of training rows gives.

    Args:
        columns: the model's inputs; those that the table lacks, and bytes, are left out.
        source: the data's name, such as `flights@1`.
        time: the rows' times in µs, shape (n_rows,); without them the rows count as being in time order.
        days: length of the windows that will be compared with it, to cut the reference alike.
    """
    chunks = _chunks(table.num_rows, time, days)
    found = []
    for column in columns:
        if column.name in table.column_names and kind_of(column.type) is not None:
            found.append(_column(column, values_of(table[column.name], column), chunks))
    return Reference(source, table.num_rows, int(chunks.max()) + 1 if len(chunks) else 0, tuple(found))


def prediction_column(scores: Floats, time: Counts | None = None) -> ReferenceColumn:
    """The model's scores on its holdout, in time order or with their times, as a column of the reference."""
    column = Column(PREDICTION, "float64")
    return _column(column, np.asarray(scores, dtype=np.float64), _chunks(len(scores), time, None))


def write(objects: Objects, reference: Reference) -> Digest:
    """Store a reference; the same reference has the same digest."""
    return objects.put_json(
        {
            "format": _FORMAT,
            "source": reference.source,
            "rows": reference.rows,
            "windows": reference.windows,
            "columns": [_document(column) for column in reference.columns],
            "prediction": None if reference.prediction is None else _document(reference.prediction),
        }
    )


def read(objects: Objects, digest: str) -> Reference:
    """The reference with a digest. Raises: NotFound; Corrupt if the object is something else."""
    document = objects.get_json(digest)
    if not isinstance(document, Mapping) or document.get("format") != _FORMAT:
        raise Corrupt(f"{digest} is not a reference of {_FORMAT}", hint="make a new release: noria run")
    prediction = document["prediction"]
    return Reference(
        document["source"],
        document["rows"],
        document["windows"],
        tuple(_read_column(item) for item in document["columns"]),
        None if prediction is None else _read_column(prediction),
    )


def _chunks(rows: int, time: Counts | None, days: float | None) -> Counts:
    """The window of each row, from 0: by time if that gives enough windows, else equal parts in time order."""
    if time is not None and days is not None and rows:
        width = days * 86_400e6
        count = math.floor((int(time.max()) - int(time.min())) / width)
        if count >= CHUNKS:
            per = math.ceil(count / MAX_CHUNKS)
            place = ((time - time.min()) / (width * per)).astype(np.int64)
            kept = np.bincount(place) >= MIN_CHUNK_ROWS
            if kept.sum() >= CHUNKS:
                numbers = np.where(kept, np.cumsum(kept) - 1, -1)
                found: Counts = numbers[place]
                return found
    order = np.arange(rows) if time is None else np.argsort(time, kind="stable")
    parts = min(CHUNKS, rows // MIN_CHUNK_ROWS)
    place = np.zeros(rows, dtype=np.int64)
    if parts > 1:
        place[order] = np.arange(rows) * parts // rows
    return place


def _column(column: Column, values: Any, chunks: Counts) -> ReferenceColumn:
    kind = kind_of(column.type)
    assert kind is not None, "bytes have no profile"
    shape = shape_of(values, kind)
    whole = measured(values, shape)
    count = int(chunks.max()) + 1 if len(chunks) else 0
    if count < 2:
        return ReferenceColumn(column, whole)
    places = binned(values, shape)
    inside = chunks >= 0
    flat = chunks[inside] * (shape.size + 1) + places[inside] + 1
    table = np.bincount(flat, minlength=count * (shape.size + 1)).reshape(count, shape.size + 1)
    nulls, counts = table[:, 0], table[:, 1:]
    floor, block = _numeric_spread(counts) if kind == "numeric" else _level_spread(shape, counts)
    null_floor, null_block = _null_spread(nulls, counts.sum(axis=1))
    return ReferenceColumn(column, whole, floor, block, null_floor, null_block)


def _numeric_spread(counts: Counts) -> tuple[float, float]:
    sizes = counts.sum(axis=1)
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    if len(sizes) < 2:
        return MIN_EFFECT, 1.0
    cumulative = np.cumsum(counts / sizes[:, None], axis=1)
    first, second = np.triu_indices(len(sizes), 1)
    distance = np.abs(cumulative[first] - cumulative[second]).max(axis=1)
    n = sizes[first] * sizes[second] / (sizes[first] + sizes[second])
    block = float(np.median(np.sqrt(n) * distance)) / _KOLMOGOROV_MEDIAN
    return _floor(distance), max(1.0, block * block)


def _level_spread(shape: Shape, counts: Counts) -> tuple[float, float]:
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) < 2:
        return MIN_EFFECT, 1.0
    shares = counts / counts.sum(axis=1, keepdims=True)
    first, second = np.triu_indices(len(counts), 1)
    variation = np.abs(shares[first] - shares[second]).sum(axis=1) / 2
    ratios = []
    for a, b in zip(first, second, strict=True):
        statistic, freedom = g_statistic(Profile(shape, counts[a], 0), Profile(shape, counts[b], 0))
        if freedom:
            ratios.append(statistic / freedom)
    return _floor(variation), max(1.0, float(np.median(ratios))) if ratios else 1.0


def _null_spread(nulls: Counts, known: Counts) -> tuple[float, float]:
    sizes = nulls + known
    nulls, sizes = nulls[sizes > 0], sizes[sizes > 0]
    if len(sizes) < 2 or not nulls.any():
        return MIN_EFFECT, 1.0
    shares = nulls / sizes
    first, second = np.triu_indices(len(sizes), 1)
    gap = np.abs(shares[first] - shares[second])
    pooled = (nulls[first] + nulls[second]) / (sizes[first] + sizes[second])
    variance = pooled * (1 - pooled) * (1 / sizes[first] + 1 / sizes[second])
    squares = gap[variance > 0] ** 2 / variance[variance > 0]
    return _floor(gap), max(1.0, float(np.median(squares)) / _CHI2_1_MEDIAN) if len(squares) else 1.0


def _floor(effects: Floats) -> float:
    return max(MIN_EFFECT, float(np.quantile(effects, QUANTILE)))


def _document(item: ReferenceColumn) -> dict[str, JSON]:
    shape = item.profile.shape
    return {
        "name": item.column.name,
        "type": item.column.type,
        "unit": item.column.unit,
        "kind": shape.kind,
        "edges": [float(edge) for edge in shape.edges],
        "levels": list(shape.levels),
        "profile": item.profile.document(),
        "floor": item.floor,
        "block": item.block,
        "null_floor": item.null_floor,
        "null_block": item.null_block,
    }


def _read_column(item: Mapping[str, Any]) -> ReferenceColumn:
    shape = Shape(item["kind"], np.asarray(item["edges"], dtype=np.float64), tuple(item["levels"]))
    return ReferenceColumn(
        Column(item["name"], item["type"], unit=item["unit"]),
        Profile.read(shape, item["profile"]),
        *(float(item[key]) for key in ("floor", "block", "null_floor", "null_block")),
    )
