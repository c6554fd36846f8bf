"""Rows that come in runs: how much of a difference is ordinary when rows of one time depend on each other.

Weather, queues and campaigns move whole stretches of rows together, so tests that count rows as
independent find drift in every window. The reference tells better: its own parts, cut by time at
several scales, differ by so much. A difference is then measured in units of that, with Student's
law of as few degrees of freedom as there were parts. Whole stretches that move together make
distances of distributions behave like the absolute value of one normal number, whose tail is
longer than Kolmogorov's; so this law is used for all of them. No input or output here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import scipy.special as special

    Floats: TypeAlias = npt.NDArray[np.float64]
else:
    np, special = lazy("numpy"), lazy("scipy.special")

__all__ = ["INDEPENDENT", "Spread", "combined", "least_effect", "p_value", "spread_of"]

_HALF_NORMAL_MEDIAN = 0.6744897501960817
_DEPENDENT = 1.3


@frozen
class Spread:
    """The ordinary size of sqrt(n) times an effect between parts of the reference, n = 1 / (1/n1 + 1/n2).

    `scale` is that of one normal number whose absolute value it is like; 0 if rows are independent.
    `freedom` is one less than the number of parts that it was estimated from.
    """

    scale: float = 0.0
    freedom: int = 0


INDEPENDENT = Spread()


def spread_of(effects: Floats, inverse: Floats, parts: int) -> Spread:
    """The spread of the effects between pairs of parts; `inverse` is 1/n1 + 1/n2 of each pair."""
    if not len(effects):
        return INDEPENDENT
    return Spread(float(np.median(effects / np.sqrt(inverse))) / _HALF_NORMAL_MEDIAN, parts - 1)


def combined(by_scale: Sequence[Spread], chance: float) -> Spread:
    """The widest spread over the scales; that of independent rows if the finest scale shows no more than chance.

    Args:
        by_scale: finest first: it has the most pairs and so the least noise; coarser ones see longer runs.
        chance: the median of sqrt(n) times the effect between parts of independent rows.
    """
    if not by_scale or not chance > 0:
        return INDEPENDENT
    excess = by_scale[0].scale * _HALF_NORMAL_MEDIAN / chance
    return max(by_scale, key=lambda spread: spread.scale) if excess * excess >= _DEPENDENT else INDEPENDENT


def p_value(effect: float, n: float, spread: Spread) -> float:
    """How often parts as large as these differ by as much, by the reference's own spread; 0 for independent rows."""
    if not spread.scale:
        return 0.0
    return 2.0 * float(special.stdtr(spread.freedom, -math.sqrt(n) * effect / spread.scale))


def least_effect(level: float, n: float, spread: Spread) -> float:
    """The smallest effect whose `p_value` is below a level; 0 for independent rows."""
    if not spread.scale:
        return 0.0
    return -float(special.stdtrit(spread.freedom, level / 2)) * spread.scale / math.sqrt(n)
