"""The two-sample Kolmogorov-Smirnov test on profiles of a numeric column."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from noria.core.lazy import lazy
from noria.monitoring.dependence import INDEPENDENT, Spread, p_value
from noria.monitoring.profile import Profile, Score

if TYPE_CHECKING:
    import numpy as np
    import scipy.special as special
else:
    np, special = lazy("numpy"), lazy("scipy.special")

__all__ = ["ks"]


def ks(reference: Profile, current: Profile, *, spread: Spread = INDEPENDENT) -> Score:
    """The greatest distance D of the two distribution functions, at the edges of the reference.

    Also right for levels in any order only as a distance of their shares in name order; use chi2.

    Args:
        spread: how much parts of the reference differ from each other, if rows depend on their time.
    Raises: EmptyWindow if either side has no value.
    Source: Kolmogorov's limit law with n = n1 n2 / (n1 + n2); conservative for ties.
    """
    distance = float(np.abs(np.cumsum(reference.shares() - current.shares())).max())
    n = reference.n * current.n / (reference.n + current.n)
    p = max(float(special.kolmogorov(math.sqrt(n) * distance)), p_value(distance, n, spread))
    return Score(test="ks", effect=distance, p=p, n=n)
