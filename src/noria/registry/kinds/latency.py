"""How long one row takes: `latency_p99_ms = 10`, of the model alone, in this process."""

from __future__ import annotations

import math

from noria.core.lazy import lazy
from noria.registry.evidence import Evidence
from noria.registry.facts import Verdict

np = lazy("numpy")

__all__ = ["judge"]


def judge(evidence: Evidence) -> list[Verdict]:
    """One verdict if the policy bounds the p99 of single-row predictions."""
    limit = evidence.policy.latency_p99_ms
    if limit is None:
        return []
    times = list(evidence.latencies_ms())
    if not times:
        return [Verdict(gate="latency", passed=False, text="no prediction could be timed", limit=limit)]
    p50, p99 = (float(value) for value in np.quantile(times, [0.5, 0.99]))
    return [
        Verdict(
            gate="latency",
            passed=math.isfinite(p99) and p99 <= limit,
            text=f"p99 {p99:.2f} ms (p50 {p50:.2f}) for one row, max {limit:.4g} ms",
            value=p99,
            limit=limit,
            n=len(times),
        )
    ]
