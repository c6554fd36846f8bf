"""The reference of a release: profiles of what it was trained on, and how much those data differ from themselves.

Made once, when the release is made, and pinned in it. The reference is cut by time into windows that
are compared with each other: their own spread, less what chance alone would give, says how large a
difference is ordinary for each column (its floor), and how far rows of one time depend on each other
(its spread). A season that the reference has seen is thereby no drift, and rows that come in runs
prove no more than they do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core.errors import Corrupt
from noria.core.frozen import frozen
from noria.core.identity import JSON, Digest
from noria.core.lazy import lazy
from noria.core.schema import Column
from noria.monitoring.dependence import INDEPENDENT, Spread, combined, spread_of
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
SCALES = (32, 16, 8)
"""Dependence of rows is looked for between so many parts of the reference, in time order."""
_FORMAT = "noria.reference/1"
_KOLMOGOROV_99 = 1.6276236115189503
_NORMAL_98 = 2.3263478740408408
_NORMAL_99 = 2.5758293035489004
_NORMAL_MEDIAN = 0.6744897501960817
_KOLMOGOROV_MEDIAN = 0.8275735551899077


@frozen(eq=False)
class ReferenceColumn:
    """One column of a reference: its profile, and what is ordinary for it.

    `floor` and `null_floor` are the least effect that counts, of values and of the share of nulls;
    `spread` and `null_spread` say how far rows of one time depend on each other.
    """

    column: Column
    profile: Profile
    floor: float = MIN_EFFECT
    spread: Spread = INDEPENDENT
    null_floor: float = MIN_EFFECT
    null_spread: Spread = INDEPENDENT


@frozen(eq=False)
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
    cut = _cut(table.num_rows, time, days)
    found = []
    for column in columns:
        if column.name in table.column_names and kind_of(column.type) is not None:
            found.append(_column(column, values_of(table[column.name], column), cut))
    return Reference(source, table.num_rows, cut.windows, tuple(found))


def prediction_column(scores: Floats, time: Counts | None = None) -> ReferenceColumn:
    """The model's scores on its holdout, in time order or with their times, as a column of the reference."""
    column = Column(PREDICTION, "float64")
    return _column(column, np.asarray(scores, dtype=np.float64), _cut(len(scores), time, None))


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


@frozen(eq=False)
class _Cut:
    """The window of each row (-1: of none), from 0, and its part of `parts` equal parts in time order."""

    window: Counts
    windows: int
    part: Counts
    parts: int


def _cut(rows: int, time: Counts | None, days: float | None) -> _Cut:
    order = np.arange(rows) if time is None else np.argsort(time, kind="stable")
    parts = next((scale for scale in SCALES if rows // scale >= MIN_CHUNK_ROWS), 1)
    part = np.zeros(rows, dtype=np.int64)
    part[order] = np.arange(rows) * parts // max(rows, 1)
    window = _windows(time, days) if time is not None and days is not None and rows else None
    if window is None:
        window = part * min(CHUNKS, parts) // parts
    return _Cut(window, int(window.max()) + 1 if rows else 0, part, parts)


def _windows(time: Counts, days: float) -> Counts | None:
    """Windows as long as those that will be compared, if the reference has enough of them; else None."""
    width = days * 86_400e6
    count = math.floor((int(time.max()) - int(time.min())) / width)
    if count < CHUNKS:
        return None
    place = ((time - time.min()) / (width * math.ceil(count / MAX_CHUNKS))).astype(np.int64)
    kept = np.bincount(place) >= MIN_CHUNK_ROWS
    if kept.sum() < CHUNKS:
        return None
    numbers = np.where(kept, np.cumsum(kept) - 1, -1)
    found: Counts = numbers[place]
    return found


def _column(column: Column, values: Any, cut: _Cut) -> ReferenceColumn:
    kind = kind_of(column.type)
    assert kind is not None, "bytes have no profile"
    shape = shape_of(values, kind)
    whole = measured(values, shape)
    if cut.windows < 2:
        return ReferenceColumn(column, whole)
    places = binned(values, shape)
    windows = _table(cut.window, cut.windows, places, shape)
    scales = [_table(cut.part * scale // cut.parts, scale, places, shape) for scale in SCALES if scale <= cut.parts]
    floor = _numeric_floor(windows[:, 1:]) if kind == "numeric" else _level_floor(windows[:, 1:])
    pairs = _numeric_pairs if kind == "numeric" else _level_pairs
    chance = _KOLMOGOROV_MEDIAN if kind == "numeric" else _level_chance(whole.counts)[0]
    spread = combined([spread_of(*pairs(table[:, 1:]), len(table)) for table in scales], chance)
    nulls = windows[:, 0], windows[:, 1:].sum(axis=1)
    return ReferenceColumn(column, whole, floor, spread, _null_floor(*nulls), _null_spread(scales))


def _table(chunk: Counts, count: int, places: Counts, shape: Shape) -> Counts:
    """Rows of each chunk in each bin, shape (n_chunks, 1 + n_bins); the first column counts nulls."""
    inside = chunk >= 0
    flat = chunk[inside] * (shape.size + 1) + places[inside] + 1
    return np.bincount(flat, minlength=count * (shape.size + 1)).reshape(count, shape.size + 1)


def _pairs(sizes: Counts) -> tuple[Counts, Counts, Floats]:
    """Each pair of chunks, and 1/n + 1/m of their sizes."""
    first, second = np.triu_indices(len(sizes), 1)
    return first, second, 1 / sizes[first] + 1 / sizes[second]


def _numeric_pairs(counts: Counts) -> tuple[Floats, Floats]:
    """The Kolmogorov distance of each pair of chunks, and 1/n + 1/m."""
    sizes = counts.sum(axis=1)
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    first, second, inverse = _pairs(sizes)
    cumulative = np.cumsum(counts / sizes[:, None], axis=1)
    if not len(first):
        return np.empty(0), np.empty(0)
    return np.abs(cumulative[first] - cumulative[second]).max(axis=1), inverse


def _numeric_floor(counts: Counts) -> float:
    distance, inverse = _numeric_pairs(counts)
    return _floor(distance, _KOLMOGOROV_99 * np.sqrt(inverse))


def _level_pairs(counts: Counts) -> tuple[Floats, Floats]:
    """The total variation of each pair of chunks, and 1/n + 1/m."""
    counts = counts[counts.sum(axis=1) > 0]
    first, second, inverse = _pairs(counts.sum(axis=1))
    shares = counts / counts.sum(axis=1, keepdims=True)
    return np.abs(shares[first] - shares[second]).sum(axis=1) / 2, inverse


def _level_chance(counts: Counts) -> tuple[float, float]:
    """Mean and deviation of sqrt(n) times the total variation of independent samples (levels as if independent)."""
    pooled = counts / max(1, counts.sum())
    spread = pooled * (1 - pooled)
    mean = math.sqrt(2 / math.pi) / 2 * float(np.sqrt(spread).sum())
    return mean, math.sqrt((1 - 2 / math.pi) / 4 * float(spread.sum()))


def _level_floor(counts: Counts) -> float:
    variation, inverse = _level_pairs(counts)
    mean, deviation = _level_chance(counts.sum(axis=0))
    return _floor(variation, (mean + _NORMAL_98 * deviation) * np.sqrt(inverse))


def _null_pairs(nulls: Counts, known: Counts) -> tuple[Floats, Floats]:
    """The difference of the shares of nulls of each pair of chunks, and its variance if rows were independent."""
    sizes = nulls + known
    nulls, sizes = nulls[sizes > 0], sizes[sizes > 0]
    first, second, inverse = _pairs(sizes)
    shares = nulls / sizes
    pooled = nulls.sum() / max(1, sizes.sum())
    return np.abs(shares[first] - shares[second]), pooled * (1 - pooled) * inverse


def _null_floor(nulls: Counts, known: Counts) -> float:
    gap, variance = _null_pairs(nulls, known)
    return _floor(gap, _NORMAL_99 * np.sqrt(variance))


def _null_spread(scales: Sequence[Counts]) -> Spread:
    """The same for the share of nulls; nothing is known of a column that had none, or only some in a few rows."""
    nulls, rows = int(scales[0][:, 0].sum()), int(scales[0].sum())
    if min(nulls, rows - nulls) < MIN_CHUNK_ROWS:
        return INDEPENDENT
    share = nulls / rows
    found = []
    for table in scales:
        gap, _ = _null_pairs(table[:, 0], table[:, 1:].sum(axis=1))
        _, _, inverse = _pairs(table.sum(axis=1))
        found.append(spread_of(gap, inverse, len(table)))
    return combined(found, _NORMAL_MEDIAN * math.sqrt(share * (1 - share)))


def _floor(effects: Floats, chance: Floats) -> float:
    """The 0.99 quantile of the effects beyond chance: both are distances, so they subtract in squares."""
    if not len(effects):
        return MIN_EFFECT
    beyond = np.sqrt(np.maximum(effects**2 - chance**2, 0.0))
    return max(MIN_EFFECT, float(np.quantile(beyond, QUANTILE)))


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
        "spread": [item.spread.scale, item.spread.freedom],
        "null_floor": item.null_floor,
        "null_spread": [item.null_spread.scale, item.null_spread.freedom],
    }


def _read_column(item: Mapping[str, Any]) -> ReferenceColumn:
    shape = Shape(item["kind"], np.asarray(item["edges"], dtype=np.float64), tuple(item["levels"]))
    return ReferenceColumn(
        Column(item["name"], item["type"], unit=item["unit"]),
        Profile.read(shape, item["profile"]),
        floor=float(item["floor"]),
        spread=Spread(float(item["spread"][0]), int(item["spread"][1])),
        null_floor=float(item["null_floor"]),
        null_spread=Spread(float(item["null_spread"][0]), int(item["null_spread"][1])),
    )
