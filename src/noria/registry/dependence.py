"""Partial dependence: the mean score when one column has the same value in every row, and how that column is spread.

The line says what the model makes of a column, the rest being as it is; the band holds the middle half of the rows'
own lines, so that a flat mean of opposite effects is seen. Values that the column never has are not asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.schema import ColumnType
from noria.registry.asking import Asked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array: TypeAlias = npt.NDArray[np.float64]
    Places: TypeAlias = npt.NDArray[np.int64]
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["Curve", "Dependence", "Grid", "Point", "curves_of", "grid_of"]

COLUMNS_SHOWN = 6
ROWS_MAX = 120
POINTS = 12
LEVELS_MAX = 8
BINS = 24
TEXT_MAX = 40
ENDS = (0.05, 0.95)
"""The quantiles between which a number is asked about."""
_ORDERED: frozenset[ColumnType] = frozenset({"int64", "float64", "decimal", "timestamp", "date"})


@frozen(kw_only=True)
class Point:
    """A value of the column as text, its place on the axis (a number, or 0, 1, … for levels), and what rows get there.

    `score` is the mean, `low` and `high` hold the middle half of the rows; `share` is that of the column's rows with
    this level, of a number's grid None.
    """

    value: str
    at: float
    score: float
    low: float
    high: float
    share: float | None = None


@frozen(kw_only=True)
class Curve:
    """The dependence on one column, or the `reason` why there is none.

    `kind` is "ordered" or "levels". `edges` and `counts` are the histogram of an ordered column between its outermost
    percentiles; `rest` is the share of rows with a level that is not shown. `missing` is the point of null.
    """

    column: str
    reason: str = ""
    kind: str = ""
    points: tuple[Point, ...] = ()
    missing: Point | None = None
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    rest: float = 0.0


@frozen(kw_only=True)
class Dependence:
    """Curves of the most important columns over `n` rows; `mean` is the mean score of those rows as they are."""

    reason: str = ""
    n: int = 0
    mean: float = 0.0
    curves: tuple[Curve, ...] = ()


@frozen
class Grid:
    """Where a column is asked: a row that has each value, the values as texts and on the axis, and its spread."""

    kind: str
    places: tuple[int, ...]
    values: tuple[str, ...]
    at: tuple[float, ...]
    shares: tuple[float, ...]
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    rest: float = 0.0
    missing: tuple[int, float] | None = None


def grid_of(values: pd.Series[Any], kind: ColumnType) -> Grid:
    """The values of a column to ask about: quantiles of what has an order, else the commonest levels. None is made up.

    Raises: ValueError for a column of a type that has neither, or that holds nothing.
    """
    if kind == "bytes":
        raise ValueError("bytes have neither an order nor levels to show")
    gone = values.isna().to_numpy()
    missing = (int(np.flatnonzero(gone)[0]), float(gone.mean())) if gone.any() else None
    if gone.all():
        raise ValueError("every value is null")
    if kind in _ORDERED:
        return _ordered(values, _numbers(values, kind), missing)
    return _levels(values, gone, missing)


def curves_of(asked: Asked, grids: Sequence[tuple[str, Grid]], rows: int) -> tuple[float, list[Curve]]:
    """The mean score of the first `rows` rows as they are, and the curve of each column.

    Raises: ModelFailed; UsageError for a score that is not finite.
    Source: Friedman (2001), Annals of Statistics 29, section 8.2; the rows' own lines are those of Goldstein et al.
        (2015), JCGS 24. Checked against scikit-learn's partial_dependence (method "brute") on the same grid.
    """
    taken = [(name, [*grid.places, *([grid.missing[0]] if grid.missing else [])]) for name, grid in grids]
    count = sum(len(places) for _, places in taken)
    whole = np.tile(np.arange(rows), count + 1)
    put: dict[str, tuple[int, Places]] = {}
    start = rows
    for name, places in taken:
        put[name] = (start, np.repeat(np.asarray(places, dtype=np.int64), rows))
        start += len(places) * rows

    def place_of(name: str, low: int, high: int) -> Places:
        places = whole[low:high].copy()
        first, values = put.get(name, (high, whole[:0]))
        begin, end = max(first, low), min(first + len(values), high)
        if begin < end:
            places[begin - low : end - low] = values[begin - first : end - first]
        return places

    scores = asked.scores(len(whole), place_of).reshape(count + 1, rows)
    found, at = [], 1
    for (name, grid), (_, places) in zip(grids, taken, strict=True):
        found.append(_curve(name, grid, scores[at : at + len(places)]))
        at += len(places)
    return float(scores[0].mean()), found


def _curve(name: str, grid: Grid, scores: Array) -> Curve:
    means = scores.mean(axis=1)
    low, high = np.quantile(scores, [0.25, 0.75], axis=1)
    shares: list[float | None] = list(grid.shares) if grid.shares else [None] * len(grid.places)

    def point(index: int, value: str, at: float, share: float | None) -> Point:
        return Point(
            value=value,
            at=at,
            score=float(means[index]),
            low=float(low[index]),
            high=float(high[index]),
            share=share,
        )

    points = [point(i, grid.values[i], grid.at[i], shares[i]) for i in range(len(grid.places))]
    return Curve(
        column=name,
        kind=grid.kind,
        points=tuple(points),
        missing=None if grid.missing is None else point(len(points), "null", 0.0, grid.missing[1]),
        edges=grid.edges,
        counts=grid.counts,
        rest=grid.rest,
    )


def _ordered(values: pd.Series[Any], numbers: Array, missing: tuple[int, float] | None) -> Grid:
    known = np.flatnonzero(np.isfinite(numbers))
    if not len(known):
        raise ValueError("no value is finite")
    order = known[np.argsort(numbers[known], kind="stable")]
    _, firsts = np.unique(numbers[order], return_index=True)
    if len(firsts) > POINTS:
        low, high = ENDS[0] * (len(order) - 1), ENDS[1] * (len(order) - 1)
        picks = np.round(np.linspace(low, high, POINTS)).astype(int)
        _, places = np.unique(numbers[order[picks]], return_index=True)
        chosen = order[picks][places]
    else:
        chosen = order[firsts]
    counts, edges = _spread(numbers[order], numbers[chosen])
    return Grid(
        kind="ordered",
        places=tuple(int(place) for place in chosen),
        values=tuple(_text(values.iloc[int(place)]) for place in chosen),
        at=tuple(float(numbers[place]) for place in chosen),
        shares=(),
        edges=tuple(float(edge) for edge in edges),
        counts=tuple(int(count) for count in counts),
        missing=missing,
    )


def _spread(numbers: Array, asked: Array) -> tuple[Any, Any]:
    """The histogram of sorted numbers between their outermost percentiles, or of each value if there are few."""
    values = np.unique(numbers)
    if len(values) == 1:
        return (), ()
    if len(values) <= BINS:
        middles = (values[:-1] + values[1:]) / 2
        first, last = 2 * values[0] - middles[0], 2 * values[-1] - middles[-1]
        return np.histogram(numbers, bins=np.concatenate([[first], middles, [last]]))
    low, high = np.quantile(numbers, [0.01, 0.99]).tolist()
    low, high = min(low, float(asked[0])), max(high, float(asked[-1]))
    return np.histogram(numbers, bins=BINS, range=(low, high)) if high > low else ((), ())


def _levels(values: pd.Series[Any], gone: npt.NDArray[np.bool_], missing: tuple[int, float] | None) -> Grid:
    texts = values.astype("object").map(str).to_numpy(dtype=object)
    known = np.flatnonzero(~gone)
    names, firsts, counts = np.unique(texts[known].astype(str), return_index=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:LEVELS_MAX]
    share = counts / len(values)
    return Grid(
        kind="levels",
        places=tuple(int(known[firsts[index]]) for index in order),
        values=tuple(str(names[index])[:TEXT_MAX] for index in order),
        at=tuple(float(place) for place in range(len(order))),
        shares=tuple(float(share[index]) for index in order),
        rest=max(0.0, float(share.sum() - share[order].sum())) if len(names) > LEVELS_MAX else 0.0,
        missing=missing,
    )


def _numbers(values: pd.Series[Any], kind: ColumnType) -> Array:
    """A column as float64, NaN where it is null; times as seconds."""
    if kind in ("timestamp", "date"):
        moments = pd.to_datetime(values, utc=True)
        seconds = moments.to_numpy(dtype="datetime64[us]").astype(np.int64) / 1e6
        return np.where(moments.isna().to_numpy(), np.nan, seconds)
    if kind == "decimal":
        return np.array([np.nan if value is None else float(value) for value in values.tolist()])
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    return str(value)[:TEXT_MAX]
