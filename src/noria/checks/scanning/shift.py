"""How far a column's distribution is from its reference, and how far chance alone would take it.

Numbers: the Kolmogorov-Smirnov distance at the edges of the reference's 512 quantile bins, which errs
by at most one bin. Texts: the total variation over the levels of the reference and one tail.
"""

from __future__ import annotations

import math

from noria.checks.scanning.accumulate import NumberState, TextState
from noria.checks.scanning.summary import ColumnProfile
from noria.core.lazy import lazy

np = lazy("numpy")

__all__ = ["distance"]

_KS_ONE_IN_THOUSAND = 1.95
"""P(sqrt(nm / (n + m)) D > 1.95) = 0.001 for continuous columns. Source: Smirnov (1948), the limit law."""


def distance(reference: ColumnProfile, state: NumberState | TextState) -> tuple[float, float]:
    """(distance, what chance exceeds about once in a thousand), both from 0 to 1. Both sides have values."""
    if isinstance(state, NumberState):
        return _numbers(reference, state)
    return _texts(reference, state)


def _numbers(reference: ColumnProfile, state: NumberState) -> tuple[float, float]:
    points, weights = state.ranks.all()
    upto = np.concatenate(([0.0], np.cumsum(weights)))
    here = upto[np.searchsorted(points, np.array(reference.edges), "right")] / upto[-1]
    there = np.cumsum(reference.counts) / sum(reference.counts)
    n, m = float(upto[-1]), float(sum(reference.counts))
    return float(np.abs(here - there).max()), _KS_ONE_IN_THOUSAND * math.sqrt((n + m) / (n * m))


def _texts(reference: ColumnProfile, state: TextState) -> tuple[float, float]:
    known = dict(reference.levels)
    n, m = state.rows - state.nulls, sum(known.values()) + reference.other
    here = {level: state.counts.get(level, 0) for level in known}
    pairs = [(here[level] / n, known[level] / m) for level in known]
    pairs.append((1 - sum(a for a, _ in pairs), reference.other / m))
    expected = sum(math.sqrt(b * (1 - b) * (1 / n + 1 / m)) for _, b in pairs if 0 < b < 1) / 2 * math.sqrt(2 / math.pi)
    return sum(abs(a - b) for a, b in pairs) / 2, expected + math.sqrt(math.log(1000) / 2 * (1 / n + 1 / m))
