"""Evidence that may be looked at after every request: e-processes for ratios and means.

Under the null hypothesis each process below is a non-negative supermartingale that starts at 1,
so the chance that it ever reaches 1/alpha is at most alpha (Ville's inequality), however often
and whenever one looks. All state is counts; each process is computed again from them, so nothing
drifts and a log replayed in other portions gives the same numbers.

Sources: Lindon and Malek, Anytime-valid inference for multinomial count data (NeurIPS 2022);
Ramdas, Grünwald, Vovk and Shafer, Game-theoretic statistics and safe anytime-valid inference
(Statistical Science 38(4), 2023); Waudby-Smith and Ramdas, Estimating means of bounded random
variables by betting (JRSS-B 86(1), 2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field

from noria.core.frozen import frozen

__all__ = [
    "BETTER",
    "EITHER",
    "WORSE",
    "Counts",
    "Shares",
    "as_number",
    "log_mean",
    "log_ratio",
    "risk_interval",
    "theta",
    "upper_bound",
]

WORSE: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Alternatives of an alarm, times the largest ratio that is still fine."""
BETTER: tuple[float, ...] = (0.9, 0.75, 0.5, 0.25)
"""Alternatives of non-inferiority, times the ratio that is not acceptable."""
EITHER: tuple[float, ...] = (1 / 3, 1 / 2, 1 / 1.5, 1.5, 2.0, 3.0)
"""Alternatives of a two-sided test, as of the sample ratio."""
MEAN_RATES: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)


@frozen
class Counts:
    """Bad events of both arms, seen at one probability of the candidate arm."""

    candidate: int = 0
    stable: int = 0


@frozen
class Shares:
    """Events by the probability with which each could have been the candidate's. A value."""

    by_share: Mapping[float, Counts] = field(default_factory=dict)

    def plus(self, share: float, *, is_candidate: bool) -> Shares:
        """One event more."""
        old = self.by_share.get(share, Counts())
        new = Counts(old.candidate + is_candidate, old.stable + (not is_candidate))
        return Shares({**self.by_share, share: new})

    @property
    def candidate(self) -> int:
        """Events of the candidate arm."""
        return sum(counts.candidate for counts in self.by_share.values())

    @property
    def stable(self) -> int:
        """Events of the stable arm."""
        return sum(counts.stable for counts in self.by_share.values())

    @property
    def total(self) -> int:
        """Events of both arms."""
        return self.candidate + self.stable


def theta(share: float, ratio: float) -> float:
    """The probability that a bad event is the candidate's, if its risk is `ratio` times the other's.

    It holds whatever the rate of the moment is, so a drifting baseline does no harm.
    Source: Lindon and Malek (2022).
    """
    return share * ratio / (1.0 - share + share * ratio)


def log_ratio(events: Shares, null: float, alternatives: Sequence[float]) -> float:
    """The logarithm of the e-process against `risk ratio = null`, mixed evenly over null * alternatives.

    With alternatives above 1 it is also valid against every ratio below `null`, with alternatives
    below 1 against every ratio above, since each factor then has a mean of at most 1.
    """
    products = []
    for alternative in alternatives:
        total = 0.0
        for share, counts in events.by_share.items():
            if not 0.0 < share < 1.0:
                continue
            was, would = theta(share, null), theta(share, null * alternative)
            total += counts.candidate * math.log(would / was)
            total += counts.stable * math.log((1.0 - would) / (1.0 - was))
        products.append(total)
    return _log_average(products)


def log_mean(count: int, events: int, limit: float) -> float:
    """The logarithm of the e-process against `mean of the 0/1 values <= limit`.

    K = mean over r of prod(1 + lambda_r (d - limit)), lambda_r = (r - 1) / (1 - limit), over the
    r with r * limit < 1, so each factor stays positive. It grows only at an event.
    Source: Waudby-Smith and Ramdas (2024), with bets that do not depend on the data.
    """
    assert 0.0 < limit < 1.0, "a limit of a share is between 0 and 1"
    rates = [rate for rate in MEAN_RATES if rate * limit < 1.0]
    if not rates:
        rates = [(1.0 + 1.0 / limit) / 2.0]
    products = []
    for rate in rates:
        bet = (rate - 1.0) / (1.0 - limit)
        up, down = math.log1p(bet * (1.0 - limit)), math.log1p(-bet * limit)
        products.append(events * up + (count - events) * down)
    return _log_average(products)


def risk_interval(events: Shares, alpha: float) -> tuple[float, float]:
    """The confidence sequence of the risk ratio: every ratio that is not rejected, at all times at once.

    Two one-sided processes at alpha / 2 each; a bound is 0 or infinite while nothing is excluded.
    """
    if events.total == 0:
        return 0.0, math.inf
    limit = math.log(2.0 / alpha)
    grid = [math.exp(math.log(1e-3) + step * math.log(1e6) / 600) for step in range(601)]
    low = [ratio for ratio in grid if log_ratio(events, ratio, WORSE) >= limit]
    high = [ratio for ratio in grid if log_ratio(events, ratio, [1.0 / a for a in WORSE]) >= limit]
    return (max(low) if low else 0.0, min(high) if high else math.inf)


def upper_bound(events: int, count: int, alpha: float) -> float:
    """The largest share that is not excluded at `alpha` by `events` in `count` tries; 1 for no tries.

    Source: Clopper and Pearson (Biometrika 26, 1934), one-sided, by bisection of the binomial tail.
    """
    if count == 0 or events >= count:
        return 1.0
    low, high = events / count, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if _tail(events, count, middle) > alpha:
            low = middle
        else:
            high = middle
    return high


def as_number(value: float) -> float:
    """exp of a log e-value, bounded so that it can be written as JSON."""
    return math.exp(min(value, 700.0))


def _tail(events: int, count: int, share: float) -> float:
    """P(X <= events) for X ~ Binomial(count, share), summed from the largest term down."""
    if share >= 1.0:
        return 0.0
    total = 0.0
    for k in range(events, -1, -1):
        log_term = (
            math.lgamma(count + 1)
            - math.lgamma(k + 1)
            - math.lgamma(count - k + 1)
            + k * math.log(share)
            + (count - k) * math.log1p(-share)
            if k
            else count * math.log1p(-share)
        )
        term = math.exp(log_term)
        total += term
        if term < total * 1e-15:
            break
    return total


def _log_average(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values) / len(values))
