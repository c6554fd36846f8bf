"""The likelihood-ratio (G) test of two columns of levels, with total variation as the effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noria.core.lazy import lazy
from noria.monitoring.dependence import INDEPENDENT, Spread, p_value
from noria.monitoring.profile import Profile, Score

if TYPE_CHECKING:
    import numpy as np
    import scipy.special as special
else:
    np, special = lazy("numpy"), lazy("scipy.special")

__all__ = ["MIN_EXPECTED", "chi2", "g_statistic"]

MIN_EXPECTED = 5.0
"""Levels that are expected fewer times than this in either sample are pooled into one."""


def chi2(reference: Profile, current: Profile, *, spread: Spread = INDEPENDENT) -> Score:
    """Half the sum of the absolute differences of the shares, and the G test's p-value.

    Args:
        spread: how much parts of the reference differ from each other, if rows depend on their time.
    Raises: EmptyWindow if either side has no value.
    Source: Sokal & Rohlf, Biometry, chapter 17 (G test); chi-squared limit with k - 1 degrees of freedom.
    """
    variation = float(np.abs(reference.shares() - current.shares()).sum() / 2)
    statistic, freedom = g_statistic(reference, current)
    n = reference.n * current.n / (reference.n + current.n)
    p = max(float(special.chdtrc(freedom, statistic)), p_value(variation, n, spread)) if freedom else 1.0
    return Score(test="chi2", effect=variation, p=p, n=n)


def g_statistic(reference: Profile, current: Profile) -> tuple[float, int]:
    """G and its degrees of freedom after pooling rare levels; (0, 0) if one pooled level is left."""
    table = np.stack([reference.counts, current.counts]).astype(np.float64)
    totals = table.sum(axis=1, keepdims=True)
    least = table.sum(axis=0) * float(totals.min() / totals.sum())
    rare = least < MIN_EXPECTED
    if rare.any():
        pooled = table[:, rare].sum(axis=1, keepdims=True)
        table = np.concatenate([table[:, ~rare], pooled], axis=1) if pooled.any() else table[:, ~rare]
    if table.shape[1] < 2:
        return 0.0, 0
    expected = table.sum(axis=0, keepdims=True) * totals / totals.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(table > 0, table * np.log(table / expected), 0.0)
    return max(0.0, 2.0 * float(terms.sum())), table.shape[1] - 1
