"""Two models on the same rows: how much better is the challenger, and how sure is that.

Gains are signed so that positive means the challenger is better, whatever the metric. Every test
here is paired: rows that both models find hard cancel out, which is what lets a few thousand rows
tell a gain of 0.002 from noise. Rows that share an hour share its weather, so rows are not
independent: with `blocks` the errors are those of block sums, and the interval is as wide as it is.
"""

from __future__ import annotations

import math
from statistics import NormalDist
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
else:
    np = lazy("numpy")
special = lazy("scipy.special")

__all__ = ["Paired", "bootstrap", "compare", "delong", "log_loss_gain", "mean_gain"]

REPLICATES = 400


@frozen(kw_only=True)
class Paired:
    """The gain of b over a, its interval at `level`, and the two-sided p-value of "no gain", over n rows.

    `champion` and `challenger` are the two values of the metric. Numbers are NaN where undefined
    (one class, no rows, a score that is not finite): a comparison with NaN is False, so it never passes.
    `blocks` is how many blocks of rows were taken as independent; 0: each row was.
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

    @property
    def is_defined(self) -> bool:
        """Whether gain and interval are finite."""
        return math.isfinite(self.gain) and math.isfinite(self.low) and math.isfinite(self.high)


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
    first, second = METRICS["auc"].of(y, a), METRICS["auc"].of(y, b)
    if not (math.isfinite(first) and math.isfinite(second)):
        return _undefined("auc", first, second, len(y), level)
    (pos_a, neg_a), (pos_b, neg_b) = placements(y, a), placements(y, b)
    positive, negative = pos_b - pos_a, neg_b - neg_a
    if blocks is None:
        error, freedom = math.sqrt(_mean_variance(positive) + _mean_variance(negative)), 0
    else:
        share = np.empty(len(y))
        share[y == 1] = (positive - positive.mean()) / len(positive)
        share[y != 1] = (negative - negative.mean()) / len(negative)
        error, freedom = _block_error(share, blocks)
    return _normal("auc", first, second, second - first, error, len(y), level, freedom)


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
    """The gain in a metric that is a mean of per-row values: normal over rows, or t over blocks of rows.

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
    if blocks is None:
        error, freedom = math.sqrt(_mean_variance(gains)), 0
    else:
        error, freedom = _block_error((gains - gain) / n, blocks)
    return _normal(metric.name, *values, gain, error, n, level, freedom)


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

    Seeded, so the same rows give the same interval. Source: Efron & Tibshirani (1993), chapter 13.
    """
    sign = 1.0 if metric.better == "higher" else -1.0
    n = len(y)
    first = metric.of(y, a, threshold=thresholds[0], rows=rows) if n else math.nan
    second = metric.of(y, b, threshold=thresholds[1], rows=rows) if n else math.nan
    if not (math.isfinite(first) and math.isfinite(second)):
        return _undefined(metric.name, first, second, n, level)
    generator = np.random.default_rng(0)
    gains = np.empty(replicates)
    groups = None if blocks is None else _groups(blocks)
    for index in range(replicates):
        if groups is None:
            pick = generator.integers(0, n, n)
        else:
            pick = np.concatenate([groups[g] for g in generator.integers(0, len(groups), len(groups))])
        taken = rows.iloc[pick] if metric.needs_rows and rows is not None else None
        gains[index] = sign * (
            metric.of(y[pick], b[pick], threshold=thresholds[1], rows=taken)
            - metric.of(y[pick], a[pick], threshold=thresholds[0], rows=taken)
        )
    if not np.isfinite(gains).all():
        return _undefined(metric.name, first, second, n, level)
    tail = (1 - level) / 2
    low, high = (float(value) for value in np.quantile(gains, [tail, 1 - tail]))
    beyond = min((gains <= 0).mean(), (gains >= 0).mean())
    return Paired(
        metric=metric.name,
        champion=first,
        challenger=second,
        gain=sign * (second - first),
        low=low,
        high=high,
        n=n,
        p=min(1.0, 2 * float(beyond)),
        level=level,
        blocks=0 if groups is None else len(groups),
    )


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


def _normal(
    metric: str, first: float, second: float, gain: float, error: float, n: int, level: float, blocks: int = 0
) -> Paired:
    """The interval of a gain: Student's with one degree less than there are blocks, normal without blocks."""
    if not math.isfinite(error):
        return _undefined(metric, first, second, n, level)
    width, score = z_of(level), -abs(gain) / error if error > 0 else 0.0
    tail = NormalDist().cdf(score)
    if blocks:
        width = float(special.stdtrit(blocks - 1, 0.5 + level / 2))
        tail = float(special.stdtr(blocks - 1, score))
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
