"""What a model may cost: `cost = { per_core_hour = 0.04, training = 5.0, per_million = 0.5 }`.

The price stands in the rule, so that who trains cannot lower it. Training is every step of the run that made the
model, those that were taken from the cache as they were when they ran; predictions are of one row each, of the
model alone. Both are processor seconds times the price.
"""

from __future__ import annotations

import math

from noria.registry.evidence import Evidence
from noria.registry.facts import Verdict

__all__ = ["judge"]

HOUR_S = 3600.0
MILLION = 1e6


def judge(evidence: Evidence) -> list[Verdict]:
    """A verdict for each limit of the rule."""
    rule = evidence.policy.cost
    if rule is None:
        return []
    found = []
    if rule.training is not None:
        spent = evidence.spent_s() if evidence.spent_s is not None else math.nan
        found.append(_verdict("training cost", spent, 1.0, rule.per_core_hour, rule.training, "of training"))
    if rule.per_million is not None:
        work = evidence.work_s() if evidence.work_s is not None else ()
        each = math.fsum(work) / len(work) if work else math.nan
        found.append(
            _verdict("prediction cost", each, MILLION, rule.per_core_hour, rule.per_million, "of a million predictions")
        )
    return found


def _verdict(gate: str, seconds: float, times: float, price: float, limit: float, what: str) -> Verdict:
    cost = seconds * times / HOUR_S * price
    if not math.isfinite(cost):
        return Verdict(gate=gate, passed=False, text=f"the processor time {what} is not known", limit=limit)
    text = f"{cost:.4g} for {seconds * times:,.4g} core-seconds {what} at {price:.4g} an hour, max {limit:.4g}"
    return Verdict(gate=gate, passed=cost <= limit, text=text, value=cost, limit=limit)
