"""Permutation importance: how much worse a metric gets on the holdout when one column is shuffled between rows.

It is model-agnostic and needs no label of training. Of columns that say the same each looks unimportant, for the other
still tells; and a column matters here as far as this model uses it, not as far as the world does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.registry.asking import Asked
from noria.registry.metrics import METRICS, Metric, placements, z_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.float64]
    Places: TypeAlias = npt.NDArray[np.int64]
else:
    np = lazy("numpy")

__all__ = ["Importance", "Weight", "importance_of", "metric_for", "orders", "size_for"]

ROWS_MAX = 1_000
REPEATS = 2
COLUMNS_MAX = 200
ASKED_MAX = 28_000
"""Rows that the model is asked about at most, if there are at least `ROWS_MIN` for each column."""
ROWS_MIN = 200
_FALLBACK = {"binary": "log_loss", "regression": "mae"}


@frozen(kw_only=True)
class Weight:
    """How much worse the metric is without a column, with its interval over the rows; 0 is a column that it ignores."""

    column: str
    drop: float
    low: float
    high: float


@frozen(kw_only=True)
class Importance:
    """Columns by how much the metric `drops` when each is shuffled, the most important first.

    `value` is the metric on the same `n` rows as they are, `repeats` how often each column was shuffled; the orders
    are the same for every column. `left_out` columns were not asked about.
    """

    reason: str = ""
    metric: str = ""
    better: str = ""
    value: float = 0.0
    n: int = 0
    repeats: int = 0
    level: float = 0.95
    left_out: int = 0
    weights: tuple[Weight, ...] = ()


def metric_for(declared: Mapping[str, Metric], task: str) -> Metric:
    """The first metric that the gates judge by whose drop has an interval of its own, else log loss or MAE."""
    for metric in declared.values():
        if not metric.is_own and (metric.name == "auc" or metric.per_row is not None):
            return metric
    return METRICS[_FALLBACK[task]]


def size_for(rows: int, columns: int) -> tuple[int, int, int]:
    """(rows, repeats, columns) that are asked about: fewer where there are many columns."""
    asked = min(columns, COLUMNS_MAX)
    each = ASKED_MAX // max(asked, 1)
    repeats = REPEATS if each // REPEATS >= ROWS_MIN else 1
    return min(rows, ROWS_MAX, max(each // repeats, ROWS_MIN)), repeats, asked


def orders(rows: int, repeats: int) -> Places:
    """The seeded permutations of so many rows, shape (repeats, rows): the same for the same numbers."""
    generator = np.random.default_rng(0)
    return np.stack([generator.permutation(rows) for _ in range(repeats)])


def importance_of(
    asked: Asked,
    y: Array,
    metric: Metric,
    order: Places,
    *,
    columns: Sequence[str] = (),
    threshold: float = 0.5,
    level: float = 0.95,
) -> Importance:
    """The drop of a metric for each column of the first rows of `asked`, whose labels are `y`, shape (n,).

    Args:
        metric: AUC, or one that is a mean over rows.
        order: permutations of the rows, shape (repeats, n), used for every column.
        columns: those that are shuffled; all by default.
    Raises: ModelFailed; UsageError if the metric is not defined on these rows, as with one class.
    Source: Breiman (2001), Machine Learning 45, section 10; Fisher, Rudin, Dominici (2019), JMLR 20(177). The interval
        of AUC is DeLong's of the structural components, averaged over the repeats. Checked against scikit-learn's
        permutation_importance with the same permutations.
    """
    names, (repeats, n) = tuple(columns) or asked.names, order.shape
    rows = np.arange(n)
    plain = asked.scores(n, lambda name, start, stop: rows[start:stop])
    value = metric.of(y, plain, threshold=threshold)
    if not math.isfinite(value):
        raise UsageError(f"{metric.name} is not defined on these {n} rows: {int((y == 1).sum())} of them are positive")
    size, flat = repeats * n, order.reshape(-1)
    whole = np.tile(rows, repeats * len(names))
    first = {name: index * size for index, name in enumerate(names)}

    def place_of(name: str, start: int, stop: int) -> Places:
        places = whole[start:stop].copy()
        low, high = max(first.get(name, stop), start), min(first.get(name, stop) + size, stop)
        if low < high:
            places[low - start : high - start] = flat[low - first[name] : high - first[name]]
        return places

    scores = asked.scores(len(whole), place_of).reshape(len(names), repeats, n)
    z, found = z_of(level), []
    for name, shuffled in zip(names, scores, strict=True):
        drop, error = _drop(metric, y, plain, shuffled, threshold)
        found.append(Weight(column=name, drop=drop, low=drop - z * error, high=drop + z * error))
    return Importance(
        metric=metric.name,
        better=metric.better,
        value=value,
        n=n,
        repeats=repeats,
        level=level,
        left_out=len(asked.names) - len(names),
        weights=tuple(sorted(found, key=lambda weight: (-weight.drop, names.index(weight.column)))),
    )


def _drop(metric: Metric, y: Array, plain: Array, shuffled: Array, threshold: float) -> tuple[float, float]:
    """How much worse the metric is on shuffled scores, shape (repeats, n), in the mean; and its standard error."""
    if metric.name == "auc":
        positive, negative = placements(y, plain)
        parts = [placements(y, each) for each in shuffled]
        lost = positive - np.mean([part[0] for part in parts], axis=0)
        spared = negative - np.mean([part[1] for part in parts], axis=0)
        return float(lost.mean()), math.sqrt(_of_mean(lost) + _of_mean(spared))
    assert metric.per_row is not None, "metric_for gives no other"
    sign = 1.0 if metric.better == "higher" else -1.0
    each = np.mean([metric.per_row(y, row, threshold) for row in shuffled], axis=0)
    lost = sign * (metric.per_row(y, plain, threshold) - each)
    return float(lost.mean()), math.sqrt(_of_mean(lost))


def _of_mean(values: Array) -> float:
    """The variance of the mean; that of a single value is not known, and taken as 0."""
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
