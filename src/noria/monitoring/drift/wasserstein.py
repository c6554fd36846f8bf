"""The first Wasserstein distance in the reference's standard deviations. It describes; it never decides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from noria.core.lazy import lazy
from noria.monitoring.profile import Profile, Score

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

__all__ = ["wasserstein"]


def wasserstein(reference: Profile, current: Profile) -> Score:
    """The area between the two distribution functions, in standard deviations of the reference.

    Between two edges both functions are taken as straight lines; beyond the outermost edges up to the
    extreme values of either side. Levels have no distance: their score is 0. NaN-free.
    Raises: EmptyWindow if either side has no value.
    """
    if reference.shape.kind != "numeric" or not reference.deviation > 0 or math.isnan(current.low):
        reference.shares(), current.shares()
        return Score(test="wasserstein", effect=0.0, p=None, n=current.n)
    edges = reference.shape.edges
    low, high = min(reference.low, current.low, edges[0]), max(reference.high, current.high, edges[-1])
    points = np.concatenate([[low], edges, [high]])
    gaps = np.concatenate([[0.0], np.cumsum(reference.shares() - current.shares())])
    widths, left, right = np.diff(points), gaps[:-1], gaps[1:]
    same_sign = left * right >= 0
    size = np.abs(left) + np.abs(right)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(size > 0, (left**2 + right**2) / (2 * size), 0.0)
    area = float((widths * np.where(same_sign, size / 2, crossing)).sum())
    return Score(test="wasserstein", effect=area / reference.deviation, p=None, n=current.n)
