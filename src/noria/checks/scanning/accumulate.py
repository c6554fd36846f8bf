"""Profiles that add up: a column's state over batches, files and versions, and its profile at the end.

Adding the state of two parts gives the state of the whole: counts, nulls, moments (Chan, Golub and
LeVeque), kept levels and the extremes exactly; ranks exactly up to 65,536 distinct values, beyond
that from weighted summaries of 8,192 points that are merged like the digits of a binary counter, so
that a rank is off by at most log2(batches) / 16,384 of the rows. Nothing is random, so the same
rows give the same profile.

Source: Chan, Golub, LeVeque (1979) and Pébay (2008) for the moments; Munro and Paterson (1980) for
the merging of summaries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noria.checks.scanning.arrays import whole
from noria.checks.scanning.chunk import Chunk
from noria.checks.scanning.lattice import find_lattice
from noria.checks.scanning.summary import BINS, QUANTILES, ColumnProfile
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
    Floats = Any
pc = lazy("pyarrow.compute")

__all__ = ["ColumnState", "Moments", "NumberState", "PlainState", "Ranks", "TextState", "state_of"]

EXACT_DISTINCT = 65_536
SUMMARY = 8_192
LEVELS_MAX = 4_096
LEVELS_KEPT = 512
_SHOWN_LEVELS = 200
BARS = 24
_SAMPLED, _SAMPLED_BATCHES = 1_024, 64
"""Where ranks are not asked for, so many values of so many batches make the small histogram."""
_OPEN_SHARE = 0.1
"""Once there are too many texts: if the most frequent ones cover less than this, none is kept."""


class Moments:
    """Count, mean and the central sums of the second to fourth power; they add up exactly but for rounding."""

    __slots__ = ("count", "m2", "m3", "m4", "mean")

    def __init__(
        self, count: float = 0.0, mean: float = 0.0, m2: float = 0.0, m3: float = 0.0, m4: float = 0.0
    ) -> None:
        self.count, self.mean, self.m2, self.m3, self.m4 = count, mean, m2, m3, m4

    @staticmethod
    def of(values: Floats, weights: Any = None, *, is_short: bool = False, total: float | None = None) -> Moments:
        """The moments of finite values, each counted `weights` times; the first two only if `is_short`.

        Args:
            total: the sum of the values, where it is known.
        """
        if not len(values):
            return Moments()
        with np.errstate(over="ignore", invalid="ignore"):
            # sums and products, never np.dot: its threads wait for each other on a busy machine (20 ms a call)
            count = float(len(values)) if weights is None else float(weights.sum())
            if weights is None:
                mean = (values.sum() if total is None else total) / count
            else:
                mean = (values * weights).sum() / count
            gap = values - mean
            if is_short:
                return Moments(count, mean, np.square(gap, out=gap).sum(), np.nan, np.nan)
            square = gap * gap
            weighted = square if weights is None else square * weights
            return Moments(count, mean, weighted.sum(), (weighted * gap).sum(), (weighted * square).sum())

    def add(self, other: Moments) -> None:
        """Take in the moments of other rows. Source: Pébay (2008), equations 2.1 to 2.4."""
        if not other.count:
            return
        a, b = self.count, other.count
        total = a + b
        with np.errstate(over="ignore", invalid="ignore"):
            gap = np.float64(other.mean) - self.mean
            step = gap / total
            m2 = self.m2 + other.m2 + gap * step * a * b
            m3 = self.m3 + other.m3 + gap * step * step * a * b * (a - b) + 3 * step * (a * other.m2 - b * self.m2)
            m4 = self.m4 + other.m4 + gap * step * step * step * a * b * (a * a - a * b + b * b)
            m4 += 6 * step * step * (a * a * other.m2 + b * b * self.m2) + 4 * step * (a * other.m3 - b * self.m3)
            self.count, self.mean, self.m2, self.m3, self.m4 = total, self.mean + step * b, m2, m3, m4

    def told(self) -> tuple[float, ...]:
        """(mean, standard deviation, skewness, excess kurtosis), as far as known; empty where they overflow."""
        if not self.count:
            return ()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            variance = np.float64(self.m2) / self.count
            if variance <= 0:
                return (float(self.mean), 0.0)
            spread = np.sqrt(self.m2 / max(self.count - 1, 1))
            lean, tails = self.m3 / self.count / variance**1.5, self.m4 / self.count / variance**2 - 3
        found: tuple[float, ...] = (float(self.mean), float(spread))
        if np.isfinite(lean) and np.isfinite(tails):
            found = (*found, float(lean), float(tails))
        return found if np.isfinite(found).all() else ()


class Ranks:
    """Distinct values with their counts, exactly while they are few, as summaries when they are many."""

    __slots__ = ("digits", "is_exact")

    def __init__(self) -> None:
        self.digits: list[tuple[Floats, Floats] | None] = []
        self.is_exact = True

    def add(self, points: Floats, weights: Any) -> None:
        """Take in distinct ascending values and how often each is there."""
        if not len(points):
            return
        part = (points, np.asarray(weights, np.float64))
        if self.is_exact:
            whole = _merged(self.digits[0], part) if self.digits and self.digits[0] is not None else part
            if len(whole[0]) <= EXACT_DISTINCT:
                self.digits = [whole]
                return
            self.is_exact = False
            self.digits = []
            part = whole
        self._carry(_thinned(*part), 0)

    def merge(self, other: Ranks) -> None:
        """Take in the ranks of other rows."""
        for level, digit in enumerate(other.digits):
            if digit is None:
                continue
            if other.is_exact:
                self.add(*digit)
            else:
                self._to_summaries()
                self._carry(digit, level)

    def all(self) -> tuple[Floats, Floats]:
        """Every point that is kept, ascending, and its weight in rows."""
        found: tuple[Floats, Floats] = (np.zeros(0), np.zeros(0))
        for digit in self.digits:
            if digit is not None:
                found = _merged(found, digit) if len(found[0]) else digit
        return found

    def _to_summaries(self) -> None:
        if self.is_exact:
            self.is_exact = False
            self.digits = [_thinned(*digit) for digit in self.digits if digit is not None]

    def _carry(self, part: tuple[Floats, Floats], level: int) -> None:
        while True:
            self.digits += [None] * (level + 1 - len(self.digits))
            held = self.digits[level]
            if held is None:
                self.digits[level] = part
                return
            part, self.digits[level] = _thinned(*_merged(held, part)), None
            level += 1


def _merged(a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    points = np.concatenate((a[0], b[0]))
    weights = np.concatenate((a[1], b[1]))
    order = np.argsort(points, kind="stable")
    points, weights = points[order], weights[order]
    starts = np.flatnonzero(np.concatenate(([True], points[1:] != points[:-1])))
    return points[starts], np.add.reduceat(weights, starts)


def _thinned(points: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """At most `SUMMARY` of the points, each standing for the same weight; the ends stay."""
    if len(points) <= SUMMARY:
        return points, weights
    upto = np.cumsum(weights)
    at = np.unique(np.searchsorted(upto, (np.arange(SUMMARY) + 0.5) * (upto[-1] / SUMMARY)))
    at = np.unique(np.concatenate(([0], at, [len(points) - 1])))
    bounds = np.concatenate(([0.0], (upto[at[:-1]] + upto[at[1:]] - weights[at[1:]]) / 2, [upto[-1]]))
    return points[at], np.diff(bounds)


class PlainState:
    """Counts only: for bools, times and whatever has no order that rules could use."""

    __slots__ = ("family", "high", "low", "nulls", "rows", "trues", "type")

    def __init__(self, kind: str, of: str) -> None:
        self.type, self.family = kind, of
        self.rows = self.nulls = self.trues = 0
        self.low: Any = None
        self.high: Any = None

    def add(self, chunk: Chunk) -> None:
        """Take in one batch."""
        self.rows += chunk.rows
        self.nulls += chunk.nulls
        if self.family == "bool":
            self.trues += int(pc.sum(chunk.array).as_py() or 0)
        elif self.family == "time" and chunk.rows > chunk.nulls and pa.types.is_integer(_storage(chunk.array.type)):
            ends = pc.min_max(chunk.array.view(_storage(chunk.array.type)))
            self._reach(ends["min"].as_py(), ends["max"].as_py())

    def merge(self, other: PlainState) -> None:
        """Take in other rows."""
        self.rows, self.nulls, self.trues = self.rows + other.rows, self.nulls + other.nulls, self.trues + other.trues
        if other.low is not None:
            self._reach(other.low, other.high)

    def profile(self, *, is_full: bool = False) -> ColumnProfile:
        """The profile of what was taken in."""
        levels: tuple[tuple[str, int], ...] = ()
        if self.family == "bool":
            levels = tuple(
                (name, count)
                for name, count in (("true", self.trues), ("false", self.rows - self.nulls - self.trues))
                if count
            )
        return ColumnProfile(
            family=self.family,
            type=self.type,
            rows=self.rows,
            nulls=self.nulls,
            levels=levels,
            ends=(float(self.low), float(self.high)) if self.low is not None else (),
        )

    def _reach(self, low: Any, high: Any) -> None:
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)


def _storage(kind: pa.DataType) -> pa.DataType:
    if (
        pa.types.is_timestamp(kind)
        or pa.types.is_time64(kind)
        or pa.types.is_date64(kind)
        or pa.types.is_duration(kind)
    ):
        return pa.int64()
    return pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else kind


class TextState:
    """Exact counts of levels, and how many rows hold any other text.

    Beyond 4,096 distinct texts the 512 most frequent ones stay (none, if they are rare too). What is
    kept is always counted exactly: a level that one part did not keep is not kept by the whole.
    """

    __slots__ = ("counts", "is_open", "nulls", "other", "rows", "type")
    family = "text"

    def __init__(self, kind: str) -> None:
        self.type = kind
        self.rows = self.nulls = self.other = 0
        self.counts: dict[str, int] = {}
        self.is_open = False

    def add(self, chunk: Chunk) -> None:
        """Take in one batch."""
        self.rows += chunk.rows
        nulls = chunk.nulls
        self.nulls += nulls
        if self.is_open and not self.counts:
            self.other += chunk.rows - nulls
            return
        words, counts = chunk.levels
        there = np.flatnonzero(counts)
        if len(there) > LEVELS_MAX and not self.counts:
            top = np.partition(counts, -LEVELS_KEPT)[-LEVELS_KEPT:]
            if top.sum() < _OPEN_SHARE * counts.sum():
                self.is_open = True
                self.other += int(counts.sum())
                return
        if len(there) < len(words):
            words, counts = words.take(whole(there)), counts[there]
        for word, count in zip(map(str, words.to_pylist()), counts.tolist(), strict=True):
            if word in self.counts:
                self.counts[word] += count
            elif self.is_open:
                self.other += count
            else:
                self.counts[word] = count
        self._limit()

    def merge(self, other: TextState) -> None:
        """Take in other rows; levels that either part no longer counts exactly go to the tail."""
        self.rows, self.nulls = self.rows + other.rows, self.nulls + other.nulls
        self.other += other.other
        kept = {**self.counts}
        for word, count in other.counts.items():
            kept[word] = kept.get(word, 0) + count
        for side in (self, other):
            if side.is_open:
                gone = [word for word in kept if word not in side.counts]
                self.other += sum(kept.pop(word) for word in gone)
        self.is_open = self.is_open or other.is_open
        self.counts = kept
        self._limit()

    def profile(self, *, is_full: bool = False) -> ColumnProfile:
        """The profile of what was taken in; `distinct` is a lower bound once texts went to the tail."""
        most = LEVELS_KEPT if is_full else _SHOWN_LEVELS
        levels: tuple[tuple[str, int], ...] = ()
        if not self.is_open and len(self.counts) <= most:
            levels = tuple(sorted(self.counts.items(), key=lambda level: (-level[1], level[0])))
        return ColumnProfile(
            family="text",
            type=self.type,
            rows=self.rows,
            nulls=self.nulls,
            distinct=len(self.counts) if not self.is_open else LEVELS_MAX + 1,
            levels=levels,
            other=self.rows - self.nulls - sum(count for _, count in levels),
        )

    def _limit(self) -> None:
        if self.is_open or len(self.counts) <= LEVELS_MAX:
            return
        self.is_open = True
        top = sorted(self.counts.items(), key=lambda level: (-level[1], level[0]))[:LEVELS_KEPT]
        covered, total = sum(count for _, count in top), sum(self.counts.values())
        kept = dict(top) if covered >= _OPEN_SHARE * total else {}
        self.other += total - sum(kept.values())
        self.counts = kept


class NumberState:
    """Numbers. With `is_ranked` one sort a batch gives ranks, distinct values and the resolution."""

    __slots__ = (
        "at_high", "at_low", "high", "infinite", "is_ranked", "low", "moments", "nulls", "ranks", "rows", "sample",
        "type", "zeros",
    )  # fmt: skip
    family = "number"

    def __init__(self, kind: str, *, is_ranked: bool = True) -> None:
        self.type, self.is_ranked = kind, is_ranked
        self.rows = self.nulls = self.infinite = self.zeros = self.at_low = self.at_high = 0
        self.low, self.high = float("inf"), float("-inf")
        self.moments, self.ranks = Moments(), Ranks()
        self.sample: list[Floats] = []

    def add(self, chunk: Chunk) -> None:
        """Take in one batch."""
        self.rows += chunk.rows
        nulls = chunk.nulls
        self.nulls += nulls
        if self.is_ranked:
            points, weights = chunk.points
            count = int(weights.sum())
            self.infinite += chunk.rows - nulls - count
            if not count:
                return
            self.ranks.add(points, weights)
            self.moments.add(Moments.of(points, weights))
            zero = int(np.searchsorted(points, 0.0))
            self.zeros += int(weights[zero]) if zero < len(points) and points[zero] == 0.0 else 0
            self._reach(float(points[0]), int(weights[0]), float(points[-1]), int(weights[-1]))
            return
        if nulls == chunk.rows:
            return
        values = chunk.floats
        low, high = chunk.ends
        if low == -np.inf or high == np.inf:
            finite = values[np.isfinite(values)]
            self.infinite += len(values) - nulls - len(finite)
            values = finite
            if not len(values):
                return
            low, high = float(values.min()), float(values.max())
        elif nulls:
            values = values[~np.isnan(values)]
        total = None if nulls or len(values) < chunk.rows else chunk.total
        self.moments.add(Moments.of(values, is_short=True, total=total))
        if len(self.sample) < _SAMPLED_BATCHES:
            self.sample.append(values[:: max(1, len(values) // _SAMPLED)].copy())
        self._reach(low, 0, high, 0)

    def merge(self, other: NumberState) -> None:
        """Take in other rows."""
        self.is_ranked = self.is_ranked and other.is_ranked
        self.rows, self.nulls, self.infinite = (
            self.rows + other.rows,
            self.nulls + other.nulls,
            self.infinite + other.infinite,
        )
        self.zeros += other.zeros
        self.moments.add(other.moments)
        self.ranks.merge(other.ranks)
        self.sample += other.sample[: _SAMPLED_BATCHES - len(self.sample)]
        if other.moments.count:
            self._reach(other.low, other.at_low, other.high, other.at_high)

    def profile(self, *, is_full: bool = False) -> ColumnProfile:
        """The profile of what was taken in; with `is_full` also the 512-quantile histogram."""
        count = int(self.moments.count)
        if not count:
            return ColumnProfile(
                family="number", type=self.type, rows=self.rows, nulls=self.nulls, infinite=self.infinite
            )
        values: dict[str, Any] = {"low": self.low, "high": self.high, "moments": self.moments.told()}
        if self.is_ranked:
            points, weights = self.ranks.all()
            is_body = points != 0.0
            values |= {
                "distinct": len(points) if self.ranks.is_exact else EXACT_DISTINCT + 1,
                "at_low": self.at_low / count,
                "at_high": self.at_high / count,
                "zeros": self.zeros / count,
                "quantiles": _quantiles(points, weights, QUANTILES),
                "body": _quantiles(points[is_body], weights[is_body], QUANTILES),
                "lattice": find_lattice(points),
            }
            if is_full:
                edges, counts = _histogram(points, weights)
                values |= {"edges": edges, "counts": counts}
            values |= _bars(points, weights)
        elif self.sample:
            sample = np.sort(np.concatenate(self.sample))
            values |= _bars(sample, np.ones(len(sample)))
        return ColumnProfile(
            family="number", type=self.type, rows=self.rows, nulls=self.nulls, infinite=self.infinite, **values
        )

    def _reach(self, low: float, at_low: int, high: float, at_high: int) -> None:
        if low <= self.low:
            self.at_low = at_low + (self.at_low if low == self.low else 0)
            self.low = low
        if high >= self.high:
            self.at_high = at_high + (self.at_high if high == self.high else 0)
            self.high = high


def _quantiles(points: Floats, weights: Floats, at: tuple[float, ...]) -> tuple[float, ...]:
    """Quantiles of weighted ascending points, each an observed value: the nearest rank."""
    if not len(points):
        return ()
    upto = np.cumsum(weights)
    ranks = np.ceil(np.array(at) * upto[-1] - 1e-9)
    places = np.searchsorted(upto, np.maximum(ranks, 1.0) - 1e-9)
    return tuple(float(value) for value in points[np.clip(places, 0, len(points) - 1)])


def _histogram(points: Floats, weights: Floats) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """At most 512 bins that hold about as many rows each: upper edges (inclusive) and counts."""
    edges = np.unique(np.array(_quantiles(points, weights, tuple((np.arange(BINS) + 1) / BINS))))
    upto = np.concatenate(([0.0], np.cumsum(weights)))
    at = upto[np.searchsorted(points, edges, "right")]
    counts = np.diff(np.round(at), prepend=0.0)
    return tuple(float(edge) for edge in edges), tuple(int(count) for count in counts)


def _bars(points: Floats, weights: Floats) -> dict[str, Any]:
    """A small histogram for the eye, of ascending points: bins of one width over the middle 99 %."""
    low, high = _quantiles(points, weights, (0.005, 0.995))
    if not np.isfinite(high - low):
        return {}
    width = (high - low) / BARS or 1.0
    at = np.clip(((points - low) / width).astype(np.int64), 0, BARS - 1)
    inside = (points >= low) & (points <= high)
    counts = np.bincount(at[inside], weights=weights[inside], minlength=BARS)
    shares = tuple(round(float(count), 5) for count in counts / weights.sum())
    return {"bars": shares, "bars_low": low, "bars_high": high}


ColumnState = NumberState | TextState | PlainState


def state_of(kind: pa.DataType, of: str, *, is_ranked: bool = True) -> ColumnState:
    """An empty state for a column of this type and family."""
    if of == "number":
        return NumberState(str(kind), is_ranked=is_ranked)
    return TextState(str(kind)) if of == "text" else PlainState(str(kind), of)
