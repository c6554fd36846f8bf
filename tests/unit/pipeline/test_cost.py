"""Estimates of energy and cost against sums done by hand."""

from __future__ import annotations

import pytest

from noria.config import CostConfig
from noria.pipeline.driving.cost import cost_of, energy_joules
from noria.pipeline.executor import Usage

HOUR = Usage(seconds=3600.0, cpu_seconds=7200.0, memory_peak_bytes=4 * 2**30)


def test_energy_is_cores_memory_and_devices_with_what_stands_around_them() -> None:
    prices = CostConfig(core_watts=10, memory_watts_per_gib=0.5, gpu_watts=200, overhead=1.5)
    assert energy_joules(HOUR, 1.0, prices) == pytest.approx((7200 * 10 + 3600 * 4 * 0.5 + 3600 * 200) * 1.5)


def test_cost_is_the_sum_of_the_prices_that_are_set() -> None:
    assert cost_of(HOUR, 0.0, CostConfig()) is None
    prices = CostConfig(per_core_hour=0.03, per_gib_hour=0.01, per_gpu_hour=2.0)
    assert cost_of(HOUR, 0.5, prices) == pytest.approx(2 * 0.03 + 4 * 0.01 + 1.0)
    only_energy = CostConfig(core_watts=1000, memory_watts_per_gib=0, overhead=1, per_kwh=0.25)
    assert cost_of(HOUR, 0.0, only_energy) == pytest.approx(2 * 0.25)
