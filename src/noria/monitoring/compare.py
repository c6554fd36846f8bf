"""One window of requests against the reference: every column tested, the few that count named. Pure.

A column has drifted when its test survives the Benjamini-Hochberg rule over all columns *and* its
effect reaches the column's floor. A difference that is only provable is not drift, and neither is
one that is only large. What else is known of a column (stability index, distance in standard
deviations, unseen levels, values out of range) is shown and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.monitoring.budget import budget_of
from noria.monitoring.dependence import least_effect, p_value
from noria.monitoring.drift.chi2 import chi2
from noria.monitoring.drift.ks import ks
from noria.monitoring.drift.psi import psi
from noria.monitoring.drift.wasserstein import wasserstein
from noria.monitoring.profile import EmptyWindow, Profile, measured, values_of
from noria.monitoring.reference import Reference, ReferenceColumn
from noria.policies import MIN_COMPARED_ROWS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Floats: TypeAlias = npt.NDArray[np.float64]
else:
    np = lazy("numpy")

__all__ = ["ColumnDrift", "Q", "alert_rate", "benjamini_hochberg", "compare", "profiles_of", "rate_for"]

Q = 0.01
"""The false discovery rate over the columns of one window; less if the budget of false alarms asks for it."""
MIN_ROWS = MIN_COMPARED_ROWS
"""A window with fewer rows is not compared."""


@frozen(kw_only=True)
class ColumnDrift:
    """What one column did in a window.

    `effect` is the Kolmogorov distance or the total variation, `floor` the least that counts; the
    `null_…` figures are of the share of nulls. `detectable` is the smallest effect that would have
    been flagged; `detectable_sd` the same as a shift in standard deviations of a normal column.
    `unseen` is the share of values outside the reference's range or among no level of it.
    """

    column: str
    kind: str
    drifted: bool
    reason: str
    effect: float | None
    floor: float
    p: float | None
    nulls: float
    nulls_before: float
    null_floor: float
    null_p: float | None
    psi: float | None
    shift_sd: float | None
    unseen: float | None
    mean: float | None
    mean_before: float | None
    detectable: float
    detectable_sd: float | None
    n: int


def compare(
    reference: Reference, current: Sequence[Profile | None], prediction: Profile | None, *, q: float = Q
) -> list[ColumnDrift]:
    """Every column's drift: the prediction first, then as in the reference.

    Args:
        current: profiles in the order of `reference.columns`; None for a column that the window lacks.
        q: the false discovery rate over all tests of the window.
    Raises: EmptyWindow if the window has no rows.
    """
    pairs: list[tuple[ReferenceColumn, Profile | None]] = []
    if reference.prediction is not None and prediction is not None:
        pairs.append((reference.prediction, prediction))
    pairs.extend(zip(reference.columns, current, strict=True))
    if not any(profile is not None and profile.rows for _, profile in pairs):
        raise EmptyWindow("the window has no rows, so there is nothing to compare")
    tests = [_tests(column, profile) for column, profile in pairs]
    flat = [p for pair in tests for p in (pair.p, pair.null_p) if p is not None]
    limit = benjamini_hochberg(flat, q)
    strictest = q / max(1, len(flat))
    return [
        _judged(column, profile, found, limit, strictest) for (column, profile), found in zip(pairs, tests, strict=True)
    ]


def profiles_of(reference: Reference, table: pa.Table, *, prefix: str = "x_") -> list[Profile | None]:
    """The profiles of a table of requests, in the order of the reference's columns."""
    return [
        measured(values_of(table[prefix + item.column.name], item.column), item.profile.shape)
        if prefix + item.column.name in table.column_names
        else None
        for item in reference.columns
    ]


def benjamini_hochberg(p_values: Sequence[float], q: float) -> float:
    """The largest p-value that is rejected at false discovery rate q; below 0 if none is.

    Source: Benjamini & Hochberg (1995), J. R. Statist. Soc. B 57, 289-300.
    """
    ordered = sorted(p_values)
    limit = -1.0
    for rank, p in enumerate(ordered, start=1):
        if p <= q * rank / len(ordered):
            limit = p
    return limit


def rate_for(budget: str, days: float) -> float:
    """The false discovery rate that keeps false alerts within a budget such as "1 per 365d".

    If nothing changed, a window flags any column with probability at most q, and an alert needs a
    flag; so windows x q bounds the expected false alerts, whatever else is required of an alert.
    Raises: UsageError for a text that states no budget.
    """
    count, period = budget_of(budget)
    return min(Q, count * days / period)


def alert_rate(q: float, days: float) -> float:
    """The bound on expected false alerts in 365 days at false discovery rate q with windows of so many days."""
    return q * 365.0 / days


@frozen
class _Tests:
    effect: float | None
    p: float | None
    n: float
    null_effect: float
    null_p: float | None


def _tests(reference: ReferenceColumn, current: Profile | None) -> _Tests:
    if current is None or current.rows < MIN_ROWS:
        return _Tests(None, None, 0.0, 0.0, None)
    null_effect, null_p = _null_test(reference, current)
    if not reference.profile.n or current.n < MIN_ROWS:
        return _Tests(None, None, 0.0, null_effect, null_p)
    test = ks if reference.profile.shape.kind == "numeric" else chi2
    score = test(reference.profile, current, spread=reference.spread)
    return _Tests(score.effect, score.p, score.n, null_effect, null_p)


def _null_test(reference: ReferenceColumn, current: Profile) -> tuple[float, float | None]:
    """The change in the share of nulls, and the two-proportion test's p-value."""
    before = reference.profile
    if not before.rows or not (before.nulls or current.nulls):
        return 0.0, None
    gap = abs(current.nulls / current.rows - before.nulls / before.rows)
    pooled = (current.nulls + before.nulls) / (current.rows + before.rows)
    inverse = 1 / current.rows + 1 / before.rows
    variance = pooled * (1 - pooled) * inverse
    if variance <= 0:
        return gap, 1.0
    p = 2 * NormalDist().cdf(-gap / math.sqrt(variance))
    return gap, max(p, p_value(gap, 1 / inverse, reference.null_spread))


def _judged(
    reference: ReferenceColumn, current: Profile | None, tests: _Tests, limit: float, strictest: float
) -> ColumnDrift:
    before = reference.profile
    is_numeric = before.shape.kind == "numeric"
    reasons = []
    if tests.p is not None and tests.p <= limit and tests.effect is not None and tests.effect >= reference.floor:
        reasons.append("values")
    if tests.null_p is not None and tests.null_p <= limit and tests.null_effect >= reference.null_floor:
        reasons.append("nulls")
    has_values = current is not None and tests.effect is not None
    detectable = reference.floor
    if tests.n > 0:
        by_chance = math.sqrt(-math.log(strictest / 2) / 2 / tests.n)
        detectable = max(reference.floor, by_chance, least_effect(strictest, tests.n, reference.spread))
    return ColumnDrift(
        column=reference.column.name,
        kind=before.shape.kind,
        drifted=bool(reasons),
        reason=" and ".join(reasons) if current is not None else "the window lacks this column",
        effect=tests.effect,
        floor=reference.floor,
        p=tests.p,
        nulls=current.nulls / current.rows if current is not None and current.rows else 0.0,
        nulls_before=before.nulls / before.rows if before.rows else 0.0,
        null_floor=reference.null_floor,
        null_p=tests.null_p,
        psi=psi(before, current).effect if has_values and current is not None else None,
        shift_sd=wasserstein(before, current).effect if has_values and is_numeric and current is not None else None,
        unseen=_unseen(before, current) if has_values and current is not None else None,
        mean=_finite(current.mean) if is_numeric and current is not None else None,
        mean_before=_finite(before.mean) if is_numeric else None,
        detectable=min(1.0, detectable),
        detectable_sd=_as_shift(detectable) if is_numeric else None,
        n=current.n if current is not None else 0,
    )


def _unseen(before: Profile, current: Profile) -> float | None:
    """The share of values that the reference never had; None where its tail of rare levels hides it."""
    if before.shape.kind == "levels":
        return None if before.counts[-1] else float(current.counts[-1] / current.n)
    if math.isnan(before.low) or math.isnan(current.low):
        return None
    if current.low >= before.low and current.high <= before.high:
        return 0.0
    above = float(current.counts[-1] / current.n) if current.high > before.high else 0.0
    below = float(current.counts[0] / current.n) if current.low < before.low else 0.0
    return above + below


def _as_shift(distance: float) -> float | None:
    """The shift of a normal column, in its standard deviations, whose distance D is this: D = 2 Φ(δ/2) - 1."""
    return 2 * NormalDist().inv_cdf((1 + distance) / 2) if distance < 1 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
