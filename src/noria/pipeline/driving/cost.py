"""What an attempt is estimated to have taken of energy, and cost: by the coefficients of `[run.cost]`. Pure.

An estimate from processor time and peak memory, not a measurement at the plug.
"""

from __future__ import annotations

from noria.config import CostConfig
from noria.pipeline.executor import Usage

__all__ = ["cost_of", "energy_joules"]

_HOUR_S = 3600.0
_KWH_J = 3.6e6
_GIB = 2.0**30


def energy_joules(usage: Usage, gpu: float, prices: CostConfig) -> float:
    """Joules of processors, held memory and reserved devices, with the overhead of what stands around them."""
    gib_seconds = usage.memory_peak_bytes / _GIB * usage.seconds
    watts_s = (
        usage.cpu_seconds * prices.core_watts
        + gib_seconds * prices.memory_watts_per_gib
        + usage.seconds * gpu * prices.gpu_watts
    )
    return watts_s * prices.overhead


def cost_of(usage: Usage, gpu: float, prices: CostConfig) -> float | None:
    """Money in the prices' currency; None if no price is set."""
    if not (prices.per_kwh or prices.per_core_hour or prices.per_gib_hour or prices.per_gpu_hour):
        return None
    hours = usage.seconds / _HOUR_S
    return (
        energy_joules(usage, gpu, prices) / _KWH_J * prices.per_kwh
        + usage.cpu_seconds / _HOUR_S * prices.per_core_hour
        + usage.memory_peak_bytes / _GIB * hours * prices.per_gib_hour
        + gpu * hours * prices.per_gpu_hour
    )
