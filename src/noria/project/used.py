"""What a run took: time, processors, memory, and the estimates of energy and cost, step by step and in all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.pipeline.records import StepRecord

__all__ = ["steps", "used"]

_MB = 1e6
_WH_J = 3600.0


def steps(found: Sequence[StepRecord], currency: str) -> list[dict[str, Any]]:
    """Each step with its key's document, which holds its parameters; what it took if it ran."""
    return [
        {
            "step": each.step,
            "status": each.status,
            "because": each.because,
            "document": each.document,
            **_taken(each, currency),
        }
        for each in found
    ]


def used(found: Sequence[StepRecord], currency: str) -> str:
    """The sum of a run's steps as a sentence, a cost in that currency; empty if none ran, as with all in the cache."""
    ran = [each for each in found if each.seconds > 0]
    if not ran:
        return ""
    costs = [each.cost for each in ran if each.cost is not None]
    parts = [
        f"{sum(each.seconds for each in ran):.1f} s",
        f"{sum(each.cpu_seconds for each in ran):.1f} s of processors",
        f"{max(each.memory_peak_bytes for each in ran) / _MB:,.0f} MB of memory at most",
        f"{sum(each.read_bytes for each in ran) / _MB:,.1f} MB read",
        f"{sum(each.written_bytes for each in ran) / _MB:,.1f} MB written",
        f"about {sum(each.energy_joules for each in ran) / _WH_J:.2g} Wh",
    ]
    return ", ".join([*parts, f"cost {sum(costs):.2g} {currency}"] if costs else parts)


def _taken(step: StepRecord, currency: str) -> dict[str, Any]:
    return {"took": used([step], currency)} if step.seconds > 0 else {}
