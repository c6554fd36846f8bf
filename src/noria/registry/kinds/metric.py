"""Absolute floors and ceilings: `auc = { min = 0.78 }`."""

from __future__ import annotations

import math

from noria.config import GateRule
from noria.registry.evidence import Evidence
from noria.registry.facts import Verdict
from noria.registry.metrics import Metric, why_absent

__all__ = ["judge"]


def judge(evidence: Evidence) -> list[Verdict]:
    """One verdict for each metric with `min` or `max`; NaN and a metric that does not exist say no."""
    found = []
    for name, rule in evidence.policy.metrics.items():
        metric = evidence.metrics.get(name)
        if metric is None:
            text = why_absent(name, evidence.metrics, evidence.sample.task)
            found.append(Verdict(gate=f"metric {name}", passed=False, text=text))
        elif rule.min is not None or rule.max is not None:
            found.extend(_limits(name, rule, metric, evidence))
    return found


def _limits(name: str, rule: GateRule, metric: Metric, evidence: Evidence) -> list[Verdict]:
    sample = evidence.sample
    value = metric.of(sample.y, sample.score, threshold=sample.threshold, rows=sample.rows)
    found = []
    for word, limit in (("min", rule.min), ("max", rule.max)):
        if limit is None:
            continue
        is_known = math.isfinite(value)
        passed = is_known and (value >= limit if word == "min" else value <= limit)
        shown = f"{value:.4g}" if is_known else "undefined (NaN)"
        found.append(
            Verdict(
                gate=f"metric {name}",
                passed=passed,
                text=f"{name} {shown}, {word} {limit:.4g}",
                value=value if is_known else None,
                limit=limit,
                n=len(sample.y),
            )
        )
    return found
