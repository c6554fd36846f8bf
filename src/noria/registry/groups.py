"""How differently a binary model treats groups of rows: rates by group, and the widest gap between two of them.

Rates are shares, each with Wilson's interval: of rows called positive (demographic parity), of positives called so
(equal opportunity), of negatives called positive (with the one before: equalized odds). Names and values are those of
Fairlearn, checked against it in the tests. Source: Hardt, Price, Srebro (2016), NeurIPS 29.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.registry.levels import levels_of
from noria.registry.metrics import wilson, z_of
from noria.registry.scored import Sample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = lazy("numpy")

__all__ = ["MEASURES", "Gap", "Group", "Share", "gap_of", "groups_of", "share_of"]

MEASURES: Mapping[str, tuple[str, ...]] = {
    "demographic_parity": ("called",),
    "equal_opportunity": ("hits",),
    "equalized_odds": ("hits", "false_alarms"),
}
"""The rates of a group that each measure compares; with several the worst of them counts."""


@frozen(kw_only=True)
class Share:
    """`successes` of `trials` rows, with Wilson's interval; None without a trial."""

    successes: int
    trials: int
    value: float | None
    low: float | None
    high: float | None


@frozen(kw_only=True)
class Group:
    """The rows where `column` is `level`: how many were called positive, of all, of the positives, of the negatives."""

    column: str
    level: str
    n: int
    called: Share
    hits: Share
    false_alarms: Share


@frozen(kw_only=True)
class Gap:
    """The two groups that a measure sets furthest apart.

    `value` is the lower rate divided by the higher, or with `is_difference` the higher less the lower; NaN where it is
    undefined: fewer than two groups, or no group with any success to divide by. `low` and `high` are its interval,
    widened for the number of pairs it was the widest of. `left_out` groups have too few rows for their rate.
    """

    rate: str
    lower: Group | None
    higher: Group | None
    value: float
    low: float
    high: float
    compared: int
    left_out: tuple[Group, ...]


def groups_of(sample: Sample, column: str, level: float = 0.95) -> list[Group]:
    """The groups of a column of the rows, the largest first; rows without a value are one of their own.

    Args:
        level: of the intervals of each rate.
    """
    called, positive = sample.score >= sample.threshold, sample.y == 1
    return [
        Group(
            column=column,
            level=name,
            n=int(mask.sum()),
            called=_share(called, mask, level),
            hits=_share(called, mask & positive, level),
            false_alarms=_share(called, mask & ~positive, level),
        )
        for name, mask in levels_of(sample.rows[column])
    ]


def gap_of(groups: Sequence[Group], measure: str, *, is_difference: bool, min_rows: int, level: float = 0.95) -> Gap:
    """The widest gap of a measure of `MEASURES`, over the groups whose rate is a share of `min_rows` or more."""
    gaps = [_widest(groups, rate, is_difference, min_rows, level) for rate in MEASURES[measure]]
    undefined = next((gap for gap in gaps if math.isnan(gap.value)), None)
    if undefined is not None:
        return undefined
    return max(gaps, key=lambda gap: gap.value if is_difference else -gap.value)


def _share(called: npt.NDArray[np.bool_], mask: npt.NDArray[np.bool_], level: float) -> Share:
    return share_of(int((called & mask).sum()), int(mask.sum()), level)


def share_of(successes: int, trials: int, level: float = 0.95) -> Share:
    """A share with Wilson's interval at `level`."""
    if not trials:
        return Share(successes=0, trials=0, value=None, low=None, high=None)
    low, high = wilson(successes, trials, z_of(level))
    return Share(successes=successes, trials=trials, value=successes / trials, low=low, high=high)


def _widest(groups: Sequence[Group], rate: str, is_difference: bool, min_rows: int, level: float) -> Gap:
    def share(group: Group) -> Share:
        found: Share = getattr(group, rate)
        return found

    judged = [group for group in groups if share(group).trials >= max(min_rows, 1)]
    left_out = tuple(group for group in groups if group not in judged)
    if len(judged) < 2:
        nothing = math.nan
        return Gap(
            rate=rate,
            lower=None,
            higher=None,
            value=nothing,
            low=nothing,
            high=nothing,
            compared=len(judged),
            left_out=left_out,
        )
    lower = min(judged, key=lambda group: share(group).successes / share(group).trials)
    higher = max(judged, key=lambda group: share(group).successes / share(group).trials)
    z = z_of(1 - (1 - level) / (len(judged) * (len(judged) - 1) / 2))
    value, low, high = (_difference if is_difference else _ratio)(share(lower), share(higher), z)
    return Gap(
        rate=rate,
        lower=lower,
        higher=higher,
        value=value,
        low=low,
        high=high,
        compared=len(judged),
        left_out=left_out,
    )


def _ratio(lower: Share, higher: Share, z: float) -> tuple[float, float, float]:
    """The ratio with its interval on the logarithm, never above 1: which group is lower is not given beforehand.

    Source: Katz et al. (1978), Biometrics 34; half a success is added where there is none (Walter 1975, Biometrika 62).
    """
    if not higher.successes:
        return math.nan, math.nan, math.nan
    add = 0.0 if lower.successes else 0.5
    a, n, b, m = lower.successes + add, lower.trials + add, higher.successes + add, higher.trials + add
    error = z * math.sqrt(max(1 / a - 1 / n + 1 / b - 1 / m, 0.0))
    middle = math.log((a / n) / (b / m))
    value = (lower.successes / lower.trials) / (higher.successes / higher.trials)
    return value, min(math.exp(middle - error), value), min(math.exp(middle + error), 1.0)


def _difference(lower: Share, higher: Share, z: float) -> tuple[float, float, float]:
    """The difference with the interval of Newcombe (1998), Statistics in Medicine 17, method 10; never below 0."""
    p, q = lower.successes / lower.trials, higher.successes / higher.trials
    (p_low, p_high), (q_low, q_high) = (wilson(each.successes, each.trials, z) for each in (lower, higher))
    value = q - p
    low = value - math.hypot(q - q_low, p_high - p)
    return value, max(low, 0.0), min(value + math.hypot(q_high - q, p - p_low), 1.0)
