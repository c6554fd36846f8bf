"""Two models on the same rows: how much better is the challenger, and how sure is that.

Gains are signed so that positive means the challenger is better, whatever the metric. Every test
here is paired: rows that both models find hard cancel out, which is what lets a few thousand rows
tell a gain of 0.002 from noise. Rows that share an hour share its weather, so rows are not
independent: with `blocks` the errors are those of block sums, and the interval is as wide as it is.
Rows of which both models say the same tell nothing of the spread, so quantiles are Student's with the
degrees of freedom of the rows that differ: two models that differ on four rows prove next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.registry.metrics import METRICS, Metric, placements, z_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array: TypeAlias = npt.NDArray[np.float64]
    Blocks: TypeAlias = npt.NDArray[np.int64]
    Bools: TypeAlias = npt.NDArray[np.bool_]
else:
    np = lazy("numpy")
special = lazy("scipy.special")

__all__ = ["FEWEST", "POWER", "Paired", "bootstrap", "compare", "delong", "log_loss_gain", "mean_gain", "too_few"]

REPLICATES = 400
COUNTED = 1_000
"""Resamples of rows that need only be counted by pattern, which costs next to nothing."""
POWER = 0.8
"""How often a gain of the detectable size is seen."""
MOST_BITS = 16
"""Columns of zeros and ones up to which rows are counted by pattern."""
FEWEST = 10
"""Fewer rows (of a binary model: of either class) decide nothing: no formula here holds for them."""


@frozen(kw_only=True)
class Paired:
    """The gain of b over a, its interval at `level`, and the two-sided p-value of "no gain", over n rows.

    `champion` and `challenger` are the two values of the metric. Numbers are NaN where undefined
    (one class, no rows, a score that is not finite): a comparison with NaN is False, so it never passes.
    `blocks` is how many blocks of rows were taken as independent; 0: each row was. `error` is the standard error of
    the gain, `freedom` its degrees of freedom.
    """

    metric: str
    champion: float
    challenger: float
    gain: float
    low: float
    high: float
    n: int
    p: float
    level: float
    blocks: int = 0
    error: float = math.nan
    freedom: float = math.inf

    @property
    def is_defined(self) -> bool:
        """Whether gain and interval are finite."""
        return math.isfinite(self.gain) and math.isfinite(self.low) and math.isfinite(self.high)

    def detectable(self, limit: float = 0.0) -> float | None:
        """The smallest true gain whose lower bound is above `limit` with probability POWER, as far as these rows tell.

        It is limit + (gain - low) + t * error, with t the POWER quantile of Student's distribution; a limit below 0
        may give a loss. None where the rows show no spread.
        Source: Bloom (1995), Evaluation Review 19, 547-556.
        """
        if not self.is_defined or not math.isfinite(self.error) or self.error <= 0:
            return None
        found = limit + (self.gain - self.low) + _student(self.freedom, POWER) * self.error
        return found if math.isfinite(found) else None


def too_few(y: Array, task: str) -> str:
    """Why so few labelled rows decide nothing between two models; empty if they are enough."""
    if task != "binary":
        return "" if len(y) >= FEWEST else f"{len(y)} rows decide nothing, at least {FEWEST} are needed"
    least = int(min((y == 1).sum(), (y != 1).sum()))
    if least >= FEWEST:
        return ""
    return f"{least} rows of one class decide nothing, at least {FEWEST} of each are needed"


def compare(
    metric: Metric,
    y: Array,
    a: Array,
    b: Array,
    *,
    level: float = 0.95,
    thresholds: tuple[float, float] = (0.5, 0.5),
    rows: pd.DataFrame | None = None,
    blocks: Blocks | None = None,
) -> Paired:
    """The paired test that fits a metric: DeLong for AUC, a mean of differences, else the bootstrap.

    Args:
        a: the champion's scores, `b` the challenger's, on the same rows as `y`.
        thresholds: of a and of b, for metrics of labels.
        blocks: a code for each row, shape (n_rows,): rows of one code may depend on each other.
    """
    if not len(y) == len(a) == len(b):
        raise UsageError(f"a paired test needs the same rows: {len(y)} labels, {len(a)} and {len(b)} scores")
    if metric.is_of_calls and not np.array_equal(a, b):
        calls = a >= thresholds[0]
        if len(y) and np.array_equal(calls, b >= thresholds[1]) and np.isfinite(a).all() and np.isfinite(b).all():
            return _unflipped(metric, y, a, calls, level, thresholds[0], blocks)
    if metric.name == "auc":
        return delong(y, a, b, level=level, blocks=blocks)
    if metric.per_row is not None:
        return mean_gain(metric, y, a, b, level=level, thresholds=thresholds, blocks=blocks)
    return bootstrap(metric, y, a, b, level=level, thresholds=thresholds, rows=rows, blocks=blocks)


def delong(y: Array, a: Array, b: Array, *, level: float = 0.95, blocks: Blocks | None = None) -> Paired:
    """The gain in AUC of b over a with DeLong's covariance; of block sums if there are blocks.

    Source: DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44, 837-845; with blocks Obuchowski
    (1997), Biometrics 53, 567-578.
    """
    positives = int((y == 1).sum())
    if positives in (0, len(y)) or np.isnan(a).any() or np.isnan(b).any():
        return _undefined("auc", METRICS["auc"].of(y, a), METRICS["auc"].of(y, b), len(y), level)
    (pos_a, neg_a), (pos_b, neg_b) = placements(y, a), placements(y, b)
    first, second = float(np.mean(pos_a)), float(np.mean(pos_b))
    positive, negative = pos_b - pos_a, neg_b - neg_a
    count, freedom = 0, _freedom(positive, negative)
    if blocks is None:
        error = math.sqrt(_mean_variance(positive) + _mean_variance(negative))
    else:
        share = np.empty(len(y))
        share[y == 1] = (positive - positive.mean()) / len(positive)
        share[y != 1] = (negative - negative.mean()) / len(negative)
        error, count = _block_error(share, blocks)
    return _interval("auc", first, second, second - first, error, len(y), level, freedom, count)


def log_loss_gain(y: Array, a: Array, b: Array, level: float = 0.95, *, blocks: Blocks | None = None) -> Paired:
    """How much mean log loss b saves over a, with the interval of the per-row differences."""
    return mean_gain(METRICS["log_loss"], y, a, b, level=level, blocks=blocks)


def mean_gain(
    metric: Metric,
    y: Array,
    a: Array,
    b: Array,
    *,
    level: float = 0.95,
    thresholds: tuple[float, float] = (0.5, 0.5),
    blocks: Blocks | None = None,
) -> Paired:
    """The gain in a metric that is a mean of per-row values: Student's t over rows that differ, or over blocks of rows.

    With blocks, the variance of the mean is that of the block sums (Liang & Zeger 1986, Biometrika
    73, with the factor G/(G-1)) and the quantile is Student's with G-1 degrees of freedom.
    """
    assert metric.per_row is not None, f"{metric.name} is not a mean of rows"
    if not len(y):
        return _undefined(metric.name, math.nan, math.nan, 0, level)
    first, second = metric.per_row(y, a, thresholds[0]), metric.per_row(y, b, thresholds[1])
    values = float(np.mean(first)), float(np.mean(second))
    gains = second - first if metric.better == "higher" else first - second
    if not np.isfinite(gains).all():
        return _undefined(metric.name, *values, len(y), level)
    gain, n = float(np.mean(gains)), len(gains)
    count = 0
    if blocks is None:
        error = math.sqrt(_mean_variance(gains))
    else:
        error, count = _block_error((gains - gain) / n, blocks)
    return _interval(metric.name, *values, gain, error, n, level, _freedom(gains), count)


def bootstrap(
    metric: Metric,
    y: Array,
    a: Array,
    b: Array,
    *,
    level: float = 0.95,
    thresholds: tuple[float, float] = (0.5, 0.5),
    rows: pd.DataFrame | None = None,
    blocks: Blocks | None = None,
    replicates: int = REPLICATES,
) -> Paired:
    """The gain in any metric, by the percentile interval of resampled rows (or whole blocks), both models on each.

    The interval is widened about the gain by Student's quantile over the normal one and sqrt(k / (k - 1)), for the k
    rows that differ or the k blocks. Seeded, so the same rows give the same interval.
    Source: Efron & Tibshirani (1993), chapter 13; the widening is Hesterberg (2015), American Statistician 69, 3.3.
    """
    sign = 1.0 if metric.better == "higher" else -1.0
    n = len(y)
    first = metric.of(y, a, threshold=thresholds[0], rows=rows) if n else math.nan
    second = metric.of(y, b, threshold=thresholds[1], rows=rows) if n else math.nan
    if not (math.isfinite(first) and math.isfinite(second)):
        return _undefined(metric.name, first, second, n, level)
    count = 0 if blocks is None else len(np.unique(blocks))
    if metric.totals is not None:
        parts = metric.totals.of(y, a, thresholds[0]), metric.totals.of(y, b, thresholds[1])
        differing = int((parts[0] != parts[1]).any(axis=1).sum())
        gains = sign * _summed(metric.totals.value, *parts, blocks, replicates)
    else:
        differing = int((a != b).sum())
        gains = sign * _resampled(metric, y, a, b, thresholds, rows, blocks, replicates)
    if not np.isfinite(gains).all() or count == 1:
        return _undefined(metric.name, first, second, n, level)
    units = max(count or differing, 2)
    tail, gain = (1 - level) / 2, sign * (second - first)
    wider = math.sqrt(units / (units - 1))
    stretch = wider * _student(units - 1, 0.5 + level / 2) / z_of(level)
    low, high = (gain + stretch * (float(end) - gain) for end in np.quantile(gains, [tail, 1 - tail], method="weibull"))
    beyond = min((gains <= 0).mean(), (gains >= 0).mean())
    return Paired(
        metric=metric.name,
        champion=first,
        challenger=second,
        gain=gain,
        low=low,
        high=high,
        n=n,
        p=min(1.0, 2 * float(beyond)),
        level=level,
        blocks=count,
        error=wider * float(np.std(gains)),
        freedom=units - 1,
    )


def _resampled(
    metric: Metric,
    y: Array,
    a: Array,
    b: Array,
    thresholds: tuple[float, float],
    rows: pd.DataFrame | None,
    blocks: Blocks | None,
    replicates: int,
) -> Array:
    """The metric of b less that of a on each of the resamples, shape (replicates,): for metrics of any form."""
    generator = np.random.default_rng(0)
    found = np.empty(replicates)
    groups = None if blocks is None else _groups(blocks)
    for index in range(replicates):
        if groups is None:
            pick = generator.integers(0, len(y), len(y))
        else:
            pick = np.concatenate([groups[g] for g in generator.integers(0, len(groups), len(groups))])
        taken = rows.iloc[pick] if metric.needs_rows and rows is not None else None
        found[index] = metric.of(y[pick], b[pick], threshold=thresholds[1], rows=taken) - metric.of(
            y[pick], a[pick], threshold=thresholds[0], rows=taken
        )
    return found


def _summed(
    value: Callable[[Array], Array], ours: Array, theirs: Array, blocks: Blocks | None, replicates: int
) -> Array:
    """The same of a metric that is a function of column totals, from how often each row (or block) is drawn.

    Rows of zeros and ones have few patterns, and which of the rows of a pattern is drawn makes no difference.
    Args:
        ours: the champion's columns, shape (n_rows, n_totals); `theirs` the challenger's.
    """
    generator = np.random.default_rng(0)
    totals: Array
    both, width = np.concatenate([ours, theirs], axis=1), ours.shape[1]
    if blocks is not None:
        _, codes = np.unique(blocks, return_inverse=True)
        sums = np.stack([np.bincount(codes.reshape(-1), weights=column) for column in both.T], axis=1)
        drawn = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=replicates)
        totals = drawn.astype(np.float64) @ sums
    elif both.shape[1] <= MOST_BITS and ((both == 0) | (both == 1)).all():
        bits = np.arange(both.shape[1])
        counts = np.bincount((both @ 2**bits).astype(np.int64))
        patterns = np.flatnonzero(counts)
        drawn = generator.multinomial(len(both), counts[patterns] / len(both), size=max(replicates, COUNTED))
        totals = drawn.astype(np.float64) @ (patterns[:, None] >> bits & 1)
    else:
        totals = np.empty((replicates, both.shape[1]))
        for index in range(replicates):
            counts = np.bincount(generator.integers(0, len(both), len(both)), minlength=len(both))
            totals[index] = counts.astype(np.float64) @ both
    with np.errstate(divide="ignore", invalid="ignore"):  # an undefined replicate is NaN, and told as such
        return value(totals[:, width:]) - value(totals[:, :width])


def _unflipped(
    metric: Metric, y: Array, a: Array, calls: Bools, level: float, threshold: float, blocks: Blocks | None
) -> Paired:
    """The comparison of two models with different scores that call every row alike: equal here, and perhaps elsewhere.

    The share of rows that they would call otherwise may be as large as -ln((1 - level) / 2) / k, if none of k does;
    k counts the rows of the smallest part that the metric is a share of, or the blocks.
    Source: Hanley & Lippman-Hand (1983), JAMA 249, 1743-1745.
    """
    value, n = metric.of(y, a, threshold=threshold), len(y)
    if not math.isfinite(value):
        return _undefined(metric.name, value, value, n, level)
    parts = (y == 1).sum(), (y != 1).sum(), calls.sum()
    units = n if metric.per_row is not None else max(int(min(parts)), 1)
    count = 0 if blocks is None else len(np.unique(blocks))
    most = min(1.0, -math.log((1 - level) / 2) / min(units, count or units))
    return Paired(
        metric=metric.name,
        champion=value,
        challenger=value,
        gain=0.0,
        low=-most,
        high=most,
        n=n,
        p=1.0,
        level=level,
        blocks=count,
    )


def _student(freedom: float, share: float) -> float:
    """Student's quantile; the normal one for infinitely many degrees of freedom."""
    return float(special.stdtrit(freedom, share) if math.isfinite(freedom) else special.ndtri(share))


def _freedom(*parts: Array) -> float:
    """The degrees of freedom of a sum of means of differences, each of one less than its rows that differ.

    Source: Satterthwaite (1946), Biometrics Bulletin 2, 110-114.
    """
    variances = [_mean_variance(part) for part in parts]
    below = sum(v**2 / max(int(np.count_nonzero(part)) - 1, 1) for v, part in zip(variances, parts, strict=True))
    return sum(variances) ** 2 / below if below > 0 else math.inf


def _mean_variance(values: Array) -> float:
    """The variance of the mean of some values; unknown (NaN) from fewer than two."""
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else math.nan


def _block_error(shares: Array, blocks: Blocks) -> tuple[float, int]:
    """The standard error of a sum of centred shares whose blocks are independent, and how many blocks."""
    _, codes = np.unique(blocks, return_inverse=True)
    sums = np.bincount(codes.reshape(-1), weights=shares)
    count = len(sums)
    if count < 2:
        return math.nan, count
    return math.sqrt(count / (count - 1) * float(np.sum(sums**2))), count


def _groups(blocks: Blocks) -> list[Blocks]:
    """The places of each block's rows."""
    order = np.argsort(blocks, kind="stable")
    _, starts = np.unique(blocks[order], return_index=True)
    return [np.asarray(group) for group in np.split(order, starts[1:])]


def _interval(
    metric: str,
    first: float,
    second: float,
    gain: float,
    error: float,
    n: int,
    level: float,
    freedom: float,
    blocks: int = 0,
) -> Paired:
    """Student's interval of a gain; with blocks of one degree of freedom less than there are blocks."""
    if not math.isfinite(error):
        return _undefined(metric, first, second, n, level)
    freedom = blocks - 1.0 if blocks else freedom
    width = _student(freedom, 0.5 + level / 2)
    score = -abs(gain) / error if error > 0 else 0.0
    tail = float(special.stdtr(freedom, score) if math.isfinite(freedom) else special.ndtr(score))
    certain = 1.0 if gain == 0 else 0.0
    return Paired(
        metric=metric,
        champion=first,
        challenger=second,
        gain=gain,
        low=gain - width * error,
        high=gain + width * error,
        n=n,
        p=2 * tail if error > 0 else certain,
        level=level,
        blocks=blocks,
        error=error,
        freedom=freedom,
    )


def _undefined(metric: str, first: float, second: float, n: int, level: float) -> Paired:
    return Paired(
        metric=metric,
        champion=first,
        challenger=second,
        gain=math.nan,
        low=math.nan,
        high=math.nan,
        n=n,
        p=math.nan,
        level=level,
    )
