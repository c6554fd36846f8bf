"""Profiles: what a window of a column looks like, small, exact, and summable.

A numeric column becomes counts in bins whose edges are the reference's quantiles; a column of
levels becomes a count for each level of the reference and one for all others. A window is one
vectorised pass; the profile of a month is the sum of the profiles of its days. Every drift test
reads profiles only. With 511 edges the Kolmogorov distance of two profiles is at most 1/512 below
that of the rows themselves, well under any floor that counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.core.lazy import lazy
from noria.core.schema import Column, ColumnType

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Floats: TypeAlias = npt.NDArray[np.float64]
    Counts: TypeAlias = npt.NDArray[np.int64]
else:
    np, pa = lazy("numpy"), lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = [
    "BINS",
    "MAX_LEVELS",
    "EmptyWindow",
    "Profile",
    "Score",
    "Shape",
    "binned",
    "kind_of",
    "measured",
    "merge",
    "shape_of",
    "values_of",
]

BINS = 512
MAX_LEVELS = 512
"""Levels that are counted one by one, the reference's most frequent; the others are one bin."""
EDGE_ROWS = 100_000
"""Edges are quantiles of at most so many rows, evenly spaced through the reference."""

Kind = Literal["numeric", "levels"]


class EmptyWindow(UsageError):
    """A window without rows has no distribution: nothing is compared with nothing."""

    code = "empty-window"


@frozen(kw_only=True)
class Score:
    """What one test said of one column: its effect size, its p-value, and over how many rows.

    `effect` is 0 for equal profiles and grows with the difference; `p` is None for tests that only
    describe. `n` is 1 / (1/n1 + 1/n2) of the two sides.
    """

    test: str
    effect: float
    p: float | None
    n: float


@frozen(eq=False)
class Shape:
    """The bins of a column, fixed by the reference: edges of a numeric one, or names of levels.

    Numeric bin i holds edges[i-1] < x <= edges[i]; there is one more bin than edges. The last bin
    of levels is "all others".
    """

    kind: Kind
    edges: Floats
    levels: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of bins."""
        return (len(self.edges) if self.kind == "numeric" else len(self.levels)) + 1


@frozen(eq=False)
class Profile:
    """One column over some rows: counts (n_bins,), nulls, and for numbers mean, squared deviations, range.

    `square` is the sum of squared deviations from the mean. NaN counts as null; an infinite value
    is in the outermost bin and in no moment. A moment that no double holds (squares do not beyond 1e154) is NaN.
    """

    shape: Shape
    counts: Counts
    nulls: int
    mean: float = math.nan
    square: float = 0.0
    low: float = math.nan
    high: float = math.nan

    @property
    def n(self) -> int:
        """Rows with a value."""
        return int(self.counts.sum())

    @property
    def rows(self) -> int:
        """Rows, null or not."""
        return self.n + self.nulls

    @property
    def deviation(self) -> float:
        """The standard deviation of the values; NaN without values."""
        return math.sqrt(self.square / self.n) if self.n else math.nan

    def shares(self) -> Floats:
        """The share of the values in each bin. Raises: EmptyWindow without values."""
        total = self.counts.sum()
        if not total:
            raise EmptyWindow("a column without any value cannot be compared")
        found: Floats = self.counts / total
        return found

    def document(self) -> dict[str, JSON]:
        """The profile as JSON, without its shape."""
        return {
            "counts": [int(count) for count in self.counts],
            "nulls": self.nulls,
            "mean": _finite(self.mean),
            "square": _finite(self.square),
            "low": _finite(self.low),
            "high": _finite(self.high),
        }

    @classmethod
    def read(cls, shape: Shape, document: Mapping[str, Any]) -> Profile:
        """The profile that `document` gave."""
        return cls(
            shape,
            np.asarray(document["counts"], dtype=np.int64),
            int(document["nulls"]),
            *(math.nan if document[key] is None else float(document[key]) for key in ("mean", "square", "low", "high")),
        )


def kind_of(column: ColumnType) -> Kind | None:
    """How a column of a type is profiled; None for bytes, which are not."""
    if column in ("text", "category", "bool"):
        return "levels"
    return None if column == "bytes" else "numeric"


def values_of(data: pa.ChunkedArray[Any] | pa.Array[Any], column: Column) -> Any:
    """A column ready for binning: float64 with NaN for null, or an Arrow dictionary of texts.

    Times become microseconds. Raises: UsageError for data that is not of the column's type.
    """
    try:
        if kind_of(column.type) == "levels":
            return _encoded(data)
        if not isinstance(data, pa.ChunkedArray):
            data = pa.chunked_array([data])
        kind = data.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            if column.type in ("timestamp", "date"):
                data = pc.cast(data, pa.timestamp("us", tz="UTC") if column.type == "timestamp" else pa.date32())
                kind = data.type
            else:
                data = pc.cast(data, pa.float64())
        if pa.types.is_timestamp(kind):
            data = pc.cast(pc.cast(data, pa.timestamp("us", tz=kind.tz), safe=False), pa.int64())
        elif pa.types.is_date(kind):
            data = pc.cast(pc.cast(data, pa.date32()), pa.int32())
        elif pa.types.is_dictionary(kind):
            data = pc.cast(data, kind.value_type)
        elif pa.types.is_null(kind):
            return np.full(len(data), math.nan)
        return pc.cast(data, pa.float64(), safe=False).to_numpy().astype(np.float64, copy=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(f"column {column.name!r} holds {data.type}, which is not {column.type}") from error


def shape_of(values: Any, kind: Kind) -> Shape:
    """The bins that a reference's values fix: quantile edges, or the most frequent levels by name."""
    if kind == "levels":
        names, counts = _level_counts(values)
        order = sorted(range(len(names)), key=lambda i: (-counts[i], names[i]))[:MAX_LEVELS]
        return Shape("levels", np.empty(0), tuple(sorted(names[i] for i in order)))
    known = values[np.isfinite(values)]
    if not len(known):
        return Shape("numeric", np.empty(0))
    if len(known) > EDGE_ROWS:
        known = known[np.linspace(0, len(known) - 1, EDGE_ROWS).astype(np.int64)]
    edges = np.quantile(known, np.arange(1, BINS) / BINS, method="inverted_cdf")
    return Shape("numeric", np.unique(edges))


def binned(values: Any, shape: Shape) -> Counts:
    """The bin of each row, shape (n_rows,); -1 for null."""
    if shape.kind == "levels":
        index = {name: place for place, name in enumerate(shape.levels)}
        names = values.dictionary.to_pylist()
        table = np.array([*(index.get(name, len(shape.levels)) for name in names), -1], dtype=np.int64)
        codes = pc.fill_null(values.indices, len(names)).to_numpy(zero_copy_only=False)
        placed: Counts = table[codes]
        return placed
    found: Counts = np.searchsorted(shape.edges, values, side="left").astype(np.int64)
    found[np.isnan(values)] = -1
    return found


def measured(values: Any, shape: Shape) -> Profile:
    """The profile of some rows in the reference's bins."""
    places = binned(values, shape)
    known = places >= 0
    counts = np.bincount(places[known], minlength=shape.size).astype(np.int64)
    nulls = int(len(places) - known.sum())
    if shape.kind == "levels":
        return Profile(shape, counts, nulls)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Profile(shape, counts, nulls)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(finite.mean())
        square = float(((finite - mean) ** 2).sum())
    mean, square = (each if math.isfinite(each) else math.nan for each in (mean, square))
    return Profile(shape, counts, nulls, mean, square, float(finite.min()), float(finite.max()))


def merge(parts: Sequence[Profile]) -> Profile:
    """The profile of all rows together; the parts must share one shape.

    Source: Chan, Golub, LeVeque (1979), for the moments.
    """
    if not parts:
        raise EmptyWindow("there is no profile to merge")
    whole = parts[0]
    for part in parts[1:]:
        assert part.shape is whole.shape or part.shape.size == whole.shape.size, "profiles share the reference's bins"
        whole = _pair(whole, part)
    return whole


def _pair(a: Profile, b: Profile) -> Profile:
    counts, nulls = a.counts + b.counts, a.nulls + b.nulls
    if math.isnan(a.low) or math.isnan(b.low):
        known = b if math.isnan(a.low) else a
        return Profile(a.shape, counts, nulls, known.mean, known.square, known.low, known.high)
    delta, n = b.mean - a.mean, a.n + b.n
    mean = a.mean + delta * b.n / n
    square = a.square + b.square + delta * delta * a.n * b.n / n
    return Profile(a.shape, counts, nulls, mean, square, min(a.low, b.low), max(a.high, b.high))


def _encoded(data: pa.ChunkedArray[Any] | pa.Array[Any]) -> Any:
    if isinstance(data, pa.ChunkedArray):
        data = data.combine_chunks() if not pa.types.is_dictionary(data.type) else pc.cast(data, data.type.value_type)
        if isinstance(data, pa.ChunkedArray):
            data = data.combine_chunks()
    elif pa.types.is_dictionary(data.type):
        data = pc.cast(data, data.type.value_type)
    if isinstance(data, pa.ChunkedArray):
        data = pa.concat_arrays(data.chunks) if data.num_chunks else pa.array([], data.type)
    if not pa.types.is_string(data.type):
        data = pc.cast(data, pa.string())
    return pc.dictionary_encode(data)


def _level_counts(values: Any) -> tuple[list[str], list[int]]:
    names = values.dictionary.to_pylist()
    codes = values.indices.drop_null().to_numpy(zero_copy_only=False)
    counts = np.bincount(codes, minlength=len(names)) if len(names) else np.empty(0, dtype=np.int64)
    return names, [int(count) for count in counts]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
