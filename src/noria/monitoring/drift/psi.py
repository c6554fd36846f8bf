"""The population stability index, corrected for its bias. It describes; it never decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from noria.core.lazy import lazy
from noria.monitoring.profile import Profile, Score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]
else:
    np = lazy("numpy")

__all__ = ["psi"]

GROUPS = 10
FLOOR = 1e-4


def psi(reference: Profile, current: Profile) -> Score:
    """The index over ten groups of the reference's bins (or over its levels), less its expected value under no change.

    Shares under 1e-4 are raised to it. The uncorrected index has mean (B-1)(1/n+1/m) when nothing
    changed, so its usual cuts at 0.1 and 0.25 mean nothing without n; the corrected one is cut at 0.
    Raises: EmptyWindow if either side has no value.
    Source: Siddiqi, Credit Risk Scorecards (2006); bias: Yurdakul & Naranjo (2020), J. Risk Model Validation.
    """
    a, b = reference.shares(), current.shares()
    if reference.shape.kind == "numeric":
        group = np.minimum((np.cumsum(a) - a / 2) * GROUPS, GROUPS - 1).astype(np.int64)
        a, b = (np.bincount(group, weights=side).astype(np.float64) for side in (a, b))
    used = (a > 0) | (b > 0)
    a, b = np.maximum(a[used], FLOOR), np.maximum(b[used], FLOOR)
    value = float(((b - a) * np.log(b / a)).sum())
    bias = (int(used.sum()) - 1) * (1 / reference.n + 1 / current.n)
    return Score(test="psi", effect=max(0.0, value - bias), p=None, n=current.n)
