"""Metrics by name: numpy only, each with its interval, undefined as NaN rather than as a flattering number.

A metric is a function of labels and scores; those that are means of a per-row value say so, which
gives them an exact standard error and a paired comparison for nothing. All are checked in the
tests against scikit-learn. `y` is 0/1 for binary models; `score` the positive class's probability.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array: TypeAlias = npt.NDArray[np.float64]
else:
    np = lazy("numpy")

__all__ = [
    "METRICS",
    "CustomMetric",
    "Measure",
    "Metric",
    "Totals",
    "measure",
    "placements",
    "resolve",
    "why_absent",
    "wilson",
    "z_of",
]

REPLICATES = 200
"""Bootstrap replicates where no closed form is used; seeded, so the same rows give the same interval."""
FINITE_SHARE = 0.95
"""The least share of replicates that must be defined for an interval to be given."""
_EPS = 2.220446049250313e-16


class CustomMetric(Protocol):
    """A metric of the project's own: `function(y, score)` or `function(y, score, rows) -> float`."""

    name: str
    better: str
    function: Callable[..., float]
    takes_rows: bool


@frozen
class Totals:
    """A metric as a function of totals over rows, so that a resample needs no more than how often each row is in it.

    `of` gives each row's columns, shape (n_rows, n_totals), from y, score and threshold; `value` the metric from
    totals of shape (…, n_totals), NaN where it is undefined.
    """

    of: Callable[[Array, Array, float], Array]
    value: Callable[[Array], Array]


@frozen
class Metric:
    """One metric. `per_row` gives each row's value if the metric is their mean; `needs_rows` if it reads columns.

    `counts` gives (successes, trials) if the metric is a share; `is_own` if the project declares it. `is_of_calls` if
    scores count only by the side of the threshold on which they are. `totals` if it is a function of column totals.
    """

    name: str
    better: str
    task: str
    value: Callable[..., float]
    per_row: Callable[..., Array] | None = None
    counts: Callable[..., tuple[float, float]] | None = None
    needs_rows: bool = False
    is_own: bool = False
    is_of_calls: bool = False
    totals: Totals | None = None

    def of(self, y: Array, score: Array, *, threshold: float = 0.5, rows: pd.DataFrame | None = None) -> float:
        """The metric's value; NaN where it is undefined."""
        if self.needs_rows:
            return float(self.value(y, score, rows))
        if self.is_own:
            return float(self.value(y, score))
        return float(self.value(y, score, threshold)) if len(y) else math.nan


@frozen(kw_only=True)
class Measure:
    """A metric's value with its interval over n rows. None where it is undefined or not finite."""

    name: str
    better: str
    value: float | None
    low: float | None
    high: float | None
    n: int


def resolve(names: Iterable[str | CustomMetric], task: str) -> dict[str, Metric]:
    """The metrics of those names, in order. Raises: UsageError naming the nearest for an unknown one."""
    found: dict[str, Metric] = {}
    for item in names:
        if isinstance(item, str):
            metric = METRICS.get(item)
            if metric is None or metric.task != task:
                known = ", ".join(sorted(name for name, m in METRICS.items() if m.task == task))
                raise UsageError(f"there is no metric {item!r} for a {task} model", hint=f"one of: {known}")
            found[item] = metric
        else:
            found[item.name] = Metric(
                item.name, item.better, task, item.function, needs_rows=item.takes_rows, is_own=True
            )
    return found


def why_absent(name: str, declared: Iterable[str], task: str) -> str:
    """Why a metric that a policy names was not measured, with the name that was perhaps meant."""
    other = METRICS.get(name)
    if other is not None and other.task == task:
        return f"{name} was not measured: pipeline.py declares {', '.join(sorted(declared)) or 'no metric'}"
    if other is not None:
        return f"{name} was not measured: it is a metric of {other.task} models, and this one is {task}"
    known = {*declared, *(each for each, metric in METRICS.items() if metric.task == task)}
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    return f"{name} was not measured: no metric has that name; {meant}"


def measure(
    metric: Metric,
    y: Array,
    score: Array,
    *,
    threshold: float = 0.5,
    level: float = 0.95,
    rows: pd.DataFrame | None = None,
) -> Measure:
    """A metric with its interval at `level`: DeLong for AUC, normal for means, Wilson for shares, else bootstrap."""
    n = len(y)
    value = metric.of(y, score, threshold=threshold, rows=rows)
    if not math.isfinite(value):
        return Measure(name=metric.name, better=metric.better, value=None, low=None, high=None, n=n)
    low, high = _interval(metric, y, score, value, threshold=threshold, z=z_of(level), rows=rows)
    known = math.isfinite(low) and math.isfinite(high)
    return Measure(
        name=metric.name,
        better=metric.better,
        value=value,
        low=low if known else None,
        high=high if known else None,
        n=n,
    )


def z_of(level: float) -> float:
    """The two-sided normal quantile of a level: 1.96 for 0.95."""
    if not 0 < level < 1:
        raise UsageError(f"a level is between 0 and 1, not {level}")
    return NormalDist().inv_cdf(0.5 + level / 2)


def _interval(
    metric: Metric, y: Array, score: Array, value: float, *, threshold: float, z: float, rows: pd.DataFrame | None
) -> tuple[float, float]:
    if metric.name == "auc":
        positive, negative = placements(y, score)
        error = math.sqrt(_variance(positive) / len(positive) + _variance(negative) / len(negative))
        return max(0.0, value - z * error), min(1.0, value + z * error)
    if metric.counts is not None:
        return wilson(*metric.counts(y, score, threshold), z)
    if metric.per_row is not None:
        each = metric.per_row(y, score, threshold)
        error = math.sqrt(_variance(each) / len(each))
        return value - z * error, value + z * error
    if metric.name == "rmse":
        error = math.sqrt(_variance(_squares(y, score, threshold)) / len(y))
        low, high = max(0.0, value**2 - z * error), value**2 + z * error
        return math.sqrt(low), math.sqrt(high)
    return _bootstrapped(metric, y, score, threshold=threshold, z=z, rows=rows)


def _bootstrapped(
    metric: Metric, y: Array, score: Array, *, threshold: float, z: float, rows: pd.DataFrame | None
) -> tuple[float, float]:
    """The percentile interval of seeded resamples of whole rows. NaN if too many are undefined."""
    generator = np.random.default_rng(0)
    found = np.empty(REPLICATES)
    for index in range(REPLICATES):
        pick = generator.integers(0, len(y), len(y))
        taken = rows.iloc[pick] if metric.needs_rows and rows is not None else None
        found[index] = metric.of(y[pick], score[pick], threshold=threshold, rows=taken)
    finite = found[np.isfinite(found)]
    if len(finite) < FINITE_SHARE * REPLICATES:
        return math.nan, math.nan
    tail = 1 - NormalDist().cdf(z)
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def wilson(successes: float, trials: float, z: float) -> tuple[float, float]:
    """Source: Wilson (1927), JASA 22; score interval of a binomial share."""
    if trials <= 0:
        return math.nan, math.nan
    share, square = successes / trials, z * z / trials
    centre = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def _variance(values: Array) -> float:
    """The unbiased variance; 0 for a single value is not known, so NaN."""
    return float(np.var(values, ddof=1)) if len(values) > 1 else math.nan


def placements(y: Array, score: Array) -> tuple[Array, Array]:
    """DeLong's structural components of the AUC: of each positive (n_pos,), and of each negative (n_neg,).

    Both have the AUC as their mean. Source: DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44;
    from ranks as in Sun & Xu (2014), IEEE Signal Processing Letters 21(11), here by one sort.
    """
    is_positive = y == 1
    order = np.argsort(score)
    ordered, hits = score[order], np.append(0, np.cumsum(is_positive[order]))
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(score))  # of runs of equal scores
    begins = np.append(0, ends[:-1])
    positives_below = (hits[begins] + hits[ends]) / 2.0  # an equal score counts half
    negatives_below = (begins + ends) / 2.0 - positives_below
    run = np.empty(len(score), dtype=np.int64)
    run[order] = np.repeat(np.arange(len(ends)), ends - begins)
    of_positive: Array = negatives_below[run[is_positive]] / max(len(y) - int(hits[-1]), 1)
    of_negative: Array = 1.0 - positives_below[run[~is_positive]] / max(int(hits[-1]), 1)
    return of_positive, of_negative


def _auc(y: Array, score: Array, threshold: float) -> float:
    """Area under the ROC curve, ties count half. NaN with one class or a score that is NaN."""
    positives = float((y == 1).sum())
    if positives == 0 or positives == len(y) or np.isnan(score).any():
        return math.nan
    return float(np.mean(placements(y, score)[0]))


def _average_precision(y: Array, score: Array, threshold: float) -> float:
    """Sum over thresholds of (recall step) x precision; NaN without positives."""
    if not (y == 1).any() or np.isnan(score).any():
        return math.nan
    order = np.argsort(-score, kind="stable")
    hits, ranked = np.cumsum(y[order] == 1), score[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(y) - 1)
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def _log_losses(y: Array, score: Array, threshold: float) -> Array:
    bounded = np.clip(score, _EPS, 1 - _EPS)
    losses: Array = -np.where(y == 1, np.log(bounded), np.log1p(-bounded))
    return losses


def _squares(y: Array, score: Array, threshold: float) -> Array:
    with np.errstate(over="ignore"):  # what is infinite is told as not finite, not by a warning
        squares: Array = (y - score) ** 2
    return squares


def _hits(y: Array, score: Array, threshold: float) -> Array:
    return np.where(np.isnan(score), math.nan, ((score >= threshold) == (y == 1)).astype(np.float64))


def _errors(y: Array, score: Array, threshold: float) -> Array:
    errors: Array = np.abs(y - score)
    return errors


def _mean_of(per_row: Callable[..., Array]) -> Callable[..., float]:
    return lambda y, score, threshold: float(np.mean(per_row(y, score, threshold)))


def _share_of(counts: Callable[..., tuple[float, float]]) -> Callable[..., float]:
    def value(y: Array, score: Array, threshold: float) -> float:
        successes, trials = counts(y, score, threshold)
        return successes / trials if trials > 0 and not np.isnan(score).any() else math.nan

    return value


def _precision(y: Array, score: Array, threshold: float) -> tuple[float, float]:
    called = score >= threshold
    return float((called & (y == 1)).sum()), float(called.sum())


def _recall(y: Array, score: Array, threshold: float) -> tuple[float, float]:
    return float(((score >= threshold) & (y == 1)).sum()), float((y == 1).sum())


def _correct(y: Array, score: Array, threshold: float) -> tuple[float, float]:
    return float(((score >= threshold) == (y == 1)).sum()), float(len(y))


def _f1(y: Array, score: Array, threshold: float) -> float:
    hits, called = _precision(y, score, threshold)
    _, positives = _recall(y, score, threshold)
    return 2 * hits / (called + positives) if called + positives > 0 and not np.isnan(score).any() else math.nan


def _balanced(y: Array, score: Array, threshold: float) -> float:
    positive = y == 1
    if positive.all() or not positive.any() or np.isnan(score).any():
        return math.nan
    called = score >= threshold
    return float((called[positive].mean() + (~called[~positive]).mean()) / 2)


def _calibration_error(y: Array, score: Array, threshold: float) -> float:
    """Expected calibration error over 10 bins of equal width. Source: Naeini, Cooper, Hauskrecht (2015), AAAI."""
    if np.isnan(score).any():
        return math.nan
    bins = np.minimum((score * 10).astype(int), 9)
    gaps = np.abs(np.bincount(bins, weights=score - (y == 1), minlength=10))
    return float(gaps.sum() / len(y))


def _rmse(y: Array, score: Array, threshold: float) -> float:
    return math.sqrt(float(np.mean(_squares(y, score, threshold))))


def _r2(y: Array, score: Array, threshold: float) -> float:
    total = float(np.sum(_squares(y, y.mean(), threshold)))
    rest = float(np.sum(_squares(y, score, threshold)))
    return 1 - rest / total if 0 < total < math.inf else math.nan


def _calls(y: Array, score: Array, threshold: float) -> Array:
    """Columns of zeros and ones: positive and called, called, positive, any row."""
    called, positive = score >= threshold, y == 1
    return np.stack([called & positive, called, positive, np.ones(len(y), dtype=bool)], axis=1).astype(np.float64)


def _balanced_of(totals: Array) -> Array:
    hits, called, positive, rows = np.moveaxis(totals, -1, 0)
    rest = rows - positive
    share: Array = (hits / positive + (rest - called + hits) / rest) / 2
    return share


def _gaps(y: Array, score: Array, threshold: float) -> Array:
    """Score less label in the column of the score's bin, and a column of ones."""
    found = np.zeros((len(y), 11))
    found[np.arange(len(y)), np.minimum((score * 10).astype(int), 9)] = score - (y == 1)
    found[:, 10] = 1
    return found


def _squared(y: Array, score: Array, threshold: float) -> Array:
    """Squared errors, labels about their mean, their squares, and ones."""
    about = y - y.mean()
    return np.stack([_squares(y, score, threshold), about, about**2, np.ones(len(y))], axis=1)


_PRECISION = Totals(_calls, lambda t: t[..., 0] / t[..., 1])
_RECALL = Totals(_calls, lambda t: t[..., 0] / t[..., 2])
_F1 = Totals(_calls, lambda t: 2 * t[..., 0] / (t[..., 1] + t[..., 2]))
_BALANCED = Totals(_calls, _balanced_of)
_CALIBRATION = Totals(_gaps, lambda t: np.abs(t[..., :10]).sum(axis=-1) / t[..., 10])
_RMSE = Totals(_squared, lambda t: np.sqrt(t[..., 0] / t[..., 3]))
_R2 = Totals(_squared, lambda t: 1 - t[..., 0] / (t[..., 2] - t[..., 1] ** 2 / t[..., 3]))


def _table(*metrics: Metric) -> Mapping[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS: Mapping[str, Metric] = _table(
    Metric("auc", "higher", "binary", _auc),
    Metric("average_precision", "higher", "binary", _average_precision),
    Metric("log_loss", "lower", "binary", _mean_of(_log_losses), per_row=_log_losses),
    Metric("brier", "lower", "binary", _mean_of(_squares), per_row=_squares),
    Metric("accuracy", "higher", "binary", _share_of(_correct), per_row=_hits, counts=_correct, is_of_calls=True),
    Metric("balanced_accuracy", "higher", "binary", _balanced, is_of_calls=True, totals=_BALANCED),
    Metric(
        "precision", "higher", "binary", _share_of(_precision), counts=_precision, is_of_calls=True, totals=_PRECISION
    ),
    Metric("recall", "higher", "binary", _share_of(_recall), counts=_recall, is_of_calls=True, totals=_RECALL),
    Metric("f1", "higher", "binary", _f1, is_of_calls=True, totals=_F1),
    Metric("calibration_error", "lower", "binary", _calibration_error, totals=_CALIBRATION),
    Metric("mae", "lower", "regression", _mean_of(_errors), per_row=_errors),
    Metric("mse", "lower", "regression", _mean_of(_squares), per_row=_squares),
    Metric("rmse", "lower", "regression", _rmse, totals=_RMSE),
    Metric("r2", "higher", "regression", _r2, totals=_R2),
)
"""Every built-in metric by name."""


def as_value(number: Any) -> float | None:
    """A number for a fact: None if it is not finite."""
    return float(number) if number is not None and math.isfinite(number) else None
