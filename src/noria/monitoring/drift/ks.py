"""The two-sample Kolmogorov-Smirnov test on profiles of a numeric column."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from noria.core.lazy import lazy
from noria.monitoring.profile import Profile, Score

if TYPE_CHECKING:
    import numpy as np
    import scipy.special as special
else:
    np, special = lazy("numpy"), lazy("scipy.special")

__all__ = ["ks"]


def ks(reference: Profile, current: Profile, *, block: float = 1.0) -> Score:
    """The greatest distance D of the two distribution functions, at the edges of the reference.

    Also right for levels in any order only as a distance of their shares in name order; use chi2.

    Args:
        block: how many rows of these data are worth one independent row (1: rows are independent).
    Raises: EmptyWindow if either side has no value.
    Source: Kolmogorov's limit law with n = n1 n2 / (n1 + n2); conservative for ties.
    """
    distance = float(np.abs(np.cumsum(reference.shares() - current.shares())).max())
    n = reference.n * current.n / (reference.n + current.n) / block
    return Score(test="ks", effect=distance, p=float(special.kolmogorov(math.sqrt(n) * distance)), n=n)
