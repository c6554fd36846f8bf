"""Two models on the same labelled rows, in figures: every metric of both, what lies between them, and where.

Differences are b less a in the metric's own sign, each with the interval of the paired test, never with what two
separate intervals would suggest. What a group of rows adds to a difference is the mean of what changing its rows alone
does, from either side. The parts of a column sum to the whole for a mean over rows, and for the AUC, which is a mean
over pairs (Shapley's value for two); of any other metric they need not. Pure: reads and loads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.registry.evidence import Champion
from noria.registry.flips import flips_of
from noria.registry.metrics import METRICS, Metric, as_value, measure, placements
from noria.registry.paired import Paired, compare, too_few
from noria.registry.scored import Sample
from noria.registry.sliced import Group, compared, groups_by, widened

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Array: TypeAlias = npt.NDArray[np.float64]
    Blocks: TypeAlias = npt.NDArray[np.int64]
else:
    np, pd = lazy("numpy"), lazy("pandas")
special = lazy("scipy.special")

__all__ = ["Contrast", "Flipped", "Gap", "Part", "contrast", "row_parts"]

TOLD = 0.05
"""The chance, over all columns together, at which groups of one must differ for the column to tell anything."""
NOTHING = 1e-12
"""A difference below this is one of rounding."""
SHOWN_COLUMNS = 3
"""Of columns that nobody declared so many are looked at group by group: those that tell the most."""


@frozen(kw_only=True)
class Gap:
    """One metric of both, each with its interval, and the difference b less a with the paired interval.

    `is_beyond_chance` is None where there is no interval; `note` then says why. `p` is that of "no difference".
    """

    metric: str
    better: str
    a: float | None
    a_low: float | None = None
    a_high: float | None = None
    b: float | None
    b_low: float | None = None
    b_high: float | None = None
    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    is_beyond_chance: bool | None = None
    note: str = ""


@frozen(kw_only=True)
class Part:
    """The difference of a metric on the rows where `column` is `level`: `n` of them.

    The interval holds with probability `confidence`, for as many groups as were looked at at once. `share` is what the
    group adds to the difference over all rows, as a part of it: 1 is all, below 0 it takes away. None where that
    difference is within chance: there is nothing to share.
    """

    metric: str
    column: str
    level: str
    n: int
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    confidence: float
    is_beyond_chance: bool | None
    share: float | None
    note: str = ""


@frozen(kw_only=True)
class Flipped:
    """The rows on which both part: of `n` rows `same` did not. Each way with its rows and those on which b is right.

    Binary: called positive by b alone ("called now"), by a alone ("called no more"). Regression: b is "nearer" to the
    outcome, or "farther".
    """

    n: int
    same: int
    ways: tuple[tuple[str, int, int], ...]
    note: str = ""

    @property
    def count(self) -> int:
        """How many flipped."""
        return self.n - self.same


@frozen(kw_only=True)
class Contrast:
    """Everything that the same rows say of a and b. `column` is the one that tells best where they differ, "" if none.

    `is_exact` says whether shares are parts that sum to the whole difference of the first metric.
    """

    n: int
    positives: int
    level: float
    gaps: tuple[Gap, ...]
    parts: tuple[Part, ...]
    column: str
    is_exact: bool
    flips: Flipped


def contrast(
    sample: Sample,
    other: Champion,
    metrics: Mapping[str, Metric],
    *,
    declared: Sequence[str] = (),
    columns: Sequence[str] = (),
    level: float = 0.95,
    min_rows: Mapping[str, int],
    blocks: Blocks | None = None,
) -> Contrast:
    """Compare b, whose scores are the sample's, with a, the other.

    Args:
        metrics: the first is the one that shares are of.
        declared: columns of the rows in whose groups every metric that is quickly resampled is compared.
        columns: further ones, of which those that tell the most are compared by the first metric.
        min_rows: by metric, the rows that a group needs to have an interval.
        blocks: as `paired.compare` takes them.
    """
    few = too_few(sample.y, sample.task) if len(sample.y) else "there is no labelled row"
    gaps = tuple(_gap(metric, sample, other, level, blocks, few) for metric in metrics.values())
    main = next(iter(metrics.values()))
    each = row_parts(main, sample, other)
    every = groups_by(sample, (*declared, *columns))
    told = _told(each, every)
    shown = [*declared, *sorted((name for name in columns if name in told), key=told.__getitem__)[:SHOWN_COLUMNS]]
    parts: list[Part] = []
    for metric in metrics.values():
        if metric is not main and not _is_quick(metric):
            continue
        kept = shown if metric is main else list(declared)
        # What was only looked at counts too: it might have been the one.
        looked = every if metric is main else [group for group in every if group.column in declared]
        groups = [group for group in looked if group.column in kept]
        enough = min_rows[metric.name]
        confidence = widened(level, sum(group.n >= enough for group in looked))
        is_real = next(gap.is_beyond_chance for gap in gaps if gap.metric == metric.name)
        found = _shares(metric, sample, other, groups) if is_real else [None] * len(groups)
        parts += _parts(metric, sample, other, groups, found, confidence=confidence, min_rows=enough, blocks=blocks)
    best = min(told, key=told.__getitem__, default="")
    return Contrast(
        n=len(sample.y),
        positives=int((sample.y == 1).sum()) if sample.task == "binary" else 0,
        level=level,
        gaps=gaps,
        parts=tuple(parts),
        column=best if best and told[best] <= TOLD / max(len(told), 1) else "",
        is_exact=main.name == "auc" or main.per_row is not None,
        flips=_flips(sample, other),
    )


def _gap(metric: Metric, sample: Sample, other: Champion, level: float, blocks: Blocks | None, few: str) -> Gap:
    rows = sample.rows if metric.needs_rows else None
    first = measure(metric, sample.y, other.score, threshold=other.threshold, level=level, rows=rows)
    second = measure(metric, sample.y, sample.score, threshold=sample.threshold, level=level, rows=rows)
    paired = compare(
        metric,
        sample.y,
        other.score,
        sample.score,
        level=level,
        thresholds=(other.threshold, sample.threshold),
        rows=rows,
        blocks=blocks,
    )
    difference, low, high = _signed(metric, paired, is_enough=not few)
    undefined = "" if paired.is_defined else "undefined on these rows: one class, or a score that is not finite"
    return Gap(
        metric=metric.name,
        better=metric.better,
        a=first.value,
        a_low=first.low,
        a_high=first.high,
        b=second.value,
        b_low=second.low,
        b_high=second.high,
        difference=difference,
        low=low,
        high=high,
        p=as_value(paired.p) if low is not None else None,
        is_beyond_chance=_is_beyond(low, high),
        note=few or undefined,
    )


def _signed(metric: Metric, paired: Paired, *, is_enough: bool) -> tuple[float | None, float | None, float | None]:
    """A gain as b less a, with its interval; None for what is not defined or rests on too few rows."""
    sign = 1.0 if metric.better == "higher" else -1.0
    difference = as_value(paired.challenger - paired.champion)
    if not is_enough or not paired.is_defined:
        return difference, None, None
    low, high = sorted((sign * paired.low, sign * paired.high))
    return difference, low, high


def _is_beyond(low: float | None, high: float | None) -> bool | None:
    return None if low is None or high is None else low > NOTHING or high < -NOTHING


def _parts(
    metric: Metric,
    sample: Sample,
    other: Champion,
    groups: Sequence[Group],
    shares: Sequence[float | None],
    *,
    confidence: float,
    min_rows: int,
    blocks: Blocks | None,
) -> list[Part]:
    large = [group for group in groups if group.n >= max(min_rows, 1)]
    tested = compared(metric, sample, other, large, level=confidence, blocks=blocks)
    known = {(group.column, group.level): paired for group, paired in zip(large, tested, strict=True)}
    found = []
    for group, share in zip(groups, shares, strict=True):
        paired = known.get((group.column, group.level))
        y = sample.y[group.mask]
        few = too_few(y, sample.task) if paired is not None else f"fewer than {min_rows} rows"
        if paired is None:
            ends = [
                as_value(metric.of(y, scores[group.mask], threshold=threshold, rows=sample.rows[group.mask]))
                for scores, threshold in ((other.score, other.threshold), (sample.score, sample.threshold))
            ]
            difference, low, high = (None if None in ends else as_value((ends[1] or 0) - (ends[0] or 0))), None, None
        else:
            ends = [as_value(paired.champion), as_value(paired.challenger)]
            difference, low, high = _signed(metric, paired, is_enough=not few)
        undefined = "" if paired is None or paired.is_defined else "undefined: one class, or a score that is not finite"
        found.append(
            Part(
                metric=metric.name,
                column=group.column,
                level=group.level,
                n=group.n,
                a=ends[0],
                b=ends[1],
                difference=difference,
                low=low,
                high=high,
                confidence=confidence,
                is_beyond_chance=_is_beyond(low, high),
                share=share,
                note=few or undefined,
            )
        )
    return found


def row_parts(metric: Metric, sample: Sample, other: Champion) -> Array:
    """What each row adds to the difference b less a, shape (n_rows,): what columns are ranked by.

    Of the AUC it is what the row adds as one of a pair; of a metric that is no mean, the row's squared error.
    """
    y, a, b = sample.y, other.score, sample.score
    n = max(len(y), 1)
    if metric.name == "auc" and 0 < (y == 1).sum() < len(y):
        found = np.zeros(len(y))
        (pos_a, neg_a), (pos_b, neg_b) = placements(y, a), placements(y, b)
        found[y == 1] = (pos_b - pos_a) / (2 * len(pos_a))
        found[y != 1] = (neg_b - neg_a) / (2 * len(neg_a))
        return found
    rowwise = metric.per_row or METRICS["brier" if sample.task == "binary" else "mse"].per_row
    assert rowwise is not None, "squared errors are a mean over rows"
    parts: Array = np.asarray(rowwise(y, b, sample.threshold) - rowwise(y, a, other.threshold), np.float64) / n
    return parts


def _sums(each: Array, groups: Sequence[Group]) -> list[float | None]:
    """The share of the whole that the rows of each group add; None if the whole is nothing."""
    whole = float(each.sum())
    if not math.isfinite(whole) or abs(whole) < NOTHING:
        return [None] * len(groups)
    return [as_value(float(each[group.mask].sum()) / whole) for group in groups]


def _shares(metric: Metric, sample: Sample, other: Champion, groups: Sequence[Group]) -> list[float | None]:
    """The part of the whole difference that the rows of each group make; None if there is no difference to share."""
    if metric.per_row is not None:
        return _sums(row_parts(metric, sample, other), groups)
    a, b, threshold = other.score, sample.score, sample.threshold
    if metric.is_of_calls:  # each model calls by its own threshold
        a, b = (a >= other.threshold).astype(np.float64), (b >= sample.threshold).astype(np.float64)
        threshold = 0.5

    def of(scores: Array) -> float:
        return metric.of(sample.y, scores, threshold=threshold, rows=sample.rows)

    first, second = of(a), of(b)
    if not math.isfinite(second - first) or abs(second - first) < NOTHING:
        return [None] * len(groups)
    found = []
    for group in groups:
        into, without = of(np.where(group.mask, b, a)) - first, second - of(np.where(group.mask, a, b))
        found.append(as_value((into + without) / 2 / (second - first)))
    return found


def _told(each: Array, groups: Sequence[Group]) -> dict[str, float]:
    """By column, the chance that its groups differ so much in what their rows add, were they all alike: the F test.

    Columns of one group, or of groups that are all but single rows, tell nothing and are left out.
    Source: Fisher (1925), Statistical Methods for Research Workers, chapter 7.
    """
    found: dict[str, float] = {}
    n = len(each)
    for column in dict.fromkeys(group.column for group in groups):
        masks = [group.mask for group in groups if group.column == column and group.n]
        if len(masks) < 2 or n - len(masks) < 2 or not np.isfinite(each).all():
            continue
        mean = each.mean()
        between = sum(float(mask.sum()) * float(each[mask].mean() - mean) ** 2 for mask in masks)
        within = float(((each - mean) ** 2).sum()) - between
        if within <= 0:
            continue
        ratio = (between / (len(masks) - 1)) / (within / (n - len(masks)))
        found[column] = float(special.fdtrc(len(masks) - 1, n - len(masks), ratio))
    return found


def _is_quick(metric: Metric) -> bool:
    """Whether a group costs next to nothing: no rows have to be put together again and again."""
    return metric.name == "auc" or metric.per_row is not None or metric.totals is not None


def _flips(sample: Sample, other: Champion) -> Flipped:
    try:
        found = flips_of(sample, other, places=range(len(sample.y)))
    except UsageError as error:
        return Flipped(n=len(sample.y), same=len(sample.y), ways=(), note=error.message)
    return Flipped(n=found.n, same=found.same, ways=tuple((turn.way, turn.n, turn.right) for turn in found.turns))
