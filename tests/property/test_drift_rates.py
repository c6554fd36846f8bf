"""How often drift is seen where there is none, and where there is some: measured, not assumed.

Every simulated world has twenty columns, as wide as the flights. Rates are counted over independent
pairs of reference and windows, and compared with what is promised by a bound of the binomial law, so
a test fails for a wrong rate and not for bad luck (its own error is below one in a million).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from noria.core.schema import Column
from noria.monitoring.compare import Q, compare, profiles_of
from noria.monitoring.reference import Reference, build

NUMERIC = [f"n{i}" for i in range(14)]
LEVELS = [f"l{i}" for i in range(6)]
COLUMNS = [*(Column(name, "float64") for name in NUMERIC), *(Column(name, "category") for name in LEVELS)]


def world(rng: np.random.Generator, n: int, *, shift: float = 0.0, shifted: int = 0, mass: float = 0.0) -> pa.Table:
    columns = {}
    for index, name in enumerate(NUMERIC):
        moved = shift if index < shifted else 0.0
        columns[name] = rng.normal(moved, size=n) if index % 2 else rng.gamma(2.0, size=n) + moved
    for index, name in enumerate(LEVELS):
        size = 2 + 6 * index
        shares = np.full(size, 1 / size)
        if mass and index == 1:
            shares = shares * (1 - mass)
            shares[0] += mass
        columns[name] = np.array([f"v{i}" for i in range(size)])[rng.choice(size, size=n, p=shares)]
    return pa.table(columns)


def flagged(reference: Reference, window: pa.Table) -> set[str]:
    renamed = window.rename_columns([f"x_{name}" for name in window.column_names])
    return {item.column for item in compare(reference, profiles_of(reference, renamed), None) if item.drifted}


def at_most(count: int, trials: int, rate: float) -> bool:
    """Whether so many hits are possible at this rate, but for one time in a million."""
    return bool(stats.binom.sf(count - 1, trials, rate) > 1e-6)


@pytest.mark.parametrize(("n", "trials"), [(500, 150), (5_000, 60)])
def test_without_a_change_a_window_flags_anything_less_often_than_promised(n: int, trials: int) -> None:
    rng = np.random.default_rng(n)
    hits = sum(bool(flagged(build(world(rng, n), COLUMNS, source="d"), world(rng, n))) for _ in range(trials))
    assert at_most(hits, trials, Q), f"{hits} of {trials}"


def test_an_alert_needs_two_windows_and_hardly_ever_comes_without_a_cause() -> None:
    rng = np.random.default_rng(99)
    years, weeks, alerts = 6, 52, 0
    for _ in range(years):
        reference = build(world(rng, 2_000), COLUMNS, source="d")
        before: set[str] = set()
        for _ in range(weeks):
            now = flagged(reference, world(rng, 2_000))
            alerts += bool(now & before)
            before = now
    assert at_most(alerts, years, 0.1), f"{alerts} in {years} years"


def test_rows_that_come_in_runs_do_not_raise_false_alarms() -> None:
    """Days have weather: an AR(1) level per day shared by its rows. Tests that trust rows flag every window."""
    rng = np.random.default_rng(17)

    def weather(days: int) -> pa.Table:
        found = {}
        for name in NUMERIC:
            level, levels = 0.0, []
            for _ in range(days):
                level = 0.6 * level + rng.normal(0, 0.5)
                levels.append(level)
            found[name] = rng.normal(np.repeat(levels, 200))
        return pa.table(found)

    columns = [Column(name, "float64") for name in NUMERIC]
    hits, trials = 0, 40
    for _ in range(trials):
        reference = build(weather(90), columns, source="d")
        hits += bool(flagged(reference, weather(30)))
    assert at_most(hits, trials, 3 * Q), f"{hits} of {trials}"


@pytest.mark.parametrize(("n", "shift", "least"), [(5_000, 0.15, 0.95), (50_000, 0.15, 1.0), (500, 0.5, 0.9)], ids=str)
def test_three_shifted_columns_are_seen(n: int, shift: float, least: float) -> None:
    rng = np.random.default_rng(n + 1)
    trials = 8 if n > 10_000 else 40
    hits = 0
    for _ in range(trials):
        reference = build(world(rng, n), COLUMNS, source="d")
        hits += bool(flagged(reference, world(rng, n, shift=shift, shifted=3)) & set(NUMERIC[:3]))
    assert hits >= least * trials - 3 * np.sqrt(trials * least * (1 - least)), f"{hits} of {trials}"


def test_a_tenth_of_the_mass_of_one_category_is_seen() -> None:
    rng = np.random.default_rng(23)
    hits = sum(
        "l1" in flagged(build(world(rng, 5_000), COLUMNS, source="d"), world(rng, 5_000, mass=0.1)) for _ in range(40)
    )
    assert hits >= 38
