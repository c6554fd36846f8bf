"""A window against the reference: what counts as drift, and what does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from noria.core.errors import UsageError
from noria.core.schema import Column
from noria.monitoring.compare import (
    ColumnDrift,
    Q,
    alert_rate,
    benjamini_hochberg,
    compare,
    profiles_of,
    rate_for,
)
from noria.monitoring.profile import EmptyWindow, measured
from noria.monitoring.reference import Reference, build, prediction_column

COLUMNS = (Column("a", "float64", nullable=True), Column("b", "category"), Column("c", "float64"))


def table(rng: np.random.Generator, n: int, *, shift: float = 0.0, nulls: float = 0.0, extra: float = 0.0) -> pa.Table:
    a = rng.normal(shift, size=n)
    b = rng.choice(["x", "y", "z"], size=n, p=[0.5 - extra, 0.3, 0.2 + extra])
    masked = pa.array(a, mask=rng.uniform(size=n) < nulls)
    return pa.table({"a": masked, "b": b, "c": rng.uniform(size=n)})


def requests(found: pa.Table) -> pa.Table:
    return found.rename_columns([f"x_{name}" for name in found.column_names])


def drift(reference: Reference, window: pa.Table, q: float = Q) -> dict[str, ColumnDrift]:
    return {item.column: item for item in compare(reference, profiles_of(reference, requests(window)), None, q=q)}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def reference(rng: np.random.Generator) -> Reference:
    return build(table(rng, 20_000), COLUMNS, source="d@1")


def test_a_shifted_column_is_named_and_the_others_are_not(reference: Reference, rng: np.random.Generator) -> None:
    found = drift(reference, table(rng, 10_000, shift=0.3))
    assert [name for name, item in found.items() if item.drifted] == ["a"]
    assert found["a"].reason == "values"
    assert found["a"].mean == pytest.approx(0.3, abs=0.05)


def test_more_nulls_are_drift_of_nulls(reference: Reference, rng: np.random.Generator) -> None:
    found = drift(reference, table(rng, 10_000, nulls=0.1))
    assert found["a"].drifted
    assert found["a"].reason == "nulls"
    assert found["a"].nulls == pytest.approx(0.1, abs=0.02)


def test_a_change_of_levels_is_drift(reference: Reference, rng: np.random.Generator) -> None:
    assert drift(reference, table(rng, 10_000, extra=0.1))["b"].drifted


def test_a_proven_but_tiny_change_is_no_drift(rng: np.random.Generator) -> None:
    large = build(table(rng, 300_000), COLUMNS, source="d@1")
    item = drift(large, table(rng, 300_000, shift=0.04))["a"]
    assert item.p is not None
    assert item.p < 1e-6
    assert item.effect is not None
    assert item.effect < item.floor
    assert not item.drifted


def test_a_column_that_a_window_lacks_says_so(reference: Reference, rng: np.random.Generator) -> None:
    item = drift(reference, table(rng, 1_000).drop_columns(["c"]))["c"]
    assert not item.drifted
    assert item.reason == "the window lacks this column"


def test_the_prediction_comes_first(reference: Reference, rng: np.random.Generator) -> None:
    column = prediction_column(rng.uniform(size=6_000))
    whole = Reference(reference.source, reference.rows, reference.windows, reference.columns, column)
    shifted = measured(rng.beta(2, 5, size=5_000), column.profile.shape)
    found = compare(whole, profiles_of(whole, requests(table(rng, 5_000))), shifted)
    assert [item.column for item in found] == ["prediction", "a", "b", "c"]
    assert found[0].drifted


def test_an_empty_window_cannot_be_compared(reference: Reference, rng: np.random.Generator) -> None:
    with pytest.raises(EmptyWindow):
        drift(reference, table(rng, 0))


def test_the_smallest_effect_that_is_seen_is_really_seen(reference: Reference, rng: np.random.Generator) -> None:
    item = drift(reference, table(rng, 2_000))["a"]
    assert item.detectable_sd is not None
    assert item.detectable > item.floor  # 2,000 rows prove less than the floor asks for
    hits = sum(
        drift(reference, table(np.random.default_rng(seed), 2_000, shift=1.6 * item.detectable_sd))["a"].drifted
        for seed in range(20)
    )
    assert hits >= 18


def test_the_step_up_rule_is_that_of_scipy() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        p = np.concatenate([rng.uniform(size=20), rng.uniform(size=5) * 1e-3])
        limit = benjamini_hochberg(p.tolist(), 0.05)
        assert (p <= limit).tolist() == (stats.false_discovery_control(p) <= 0.05).tolist()


def test_nothing_is_rejected_where_nothing_was_tested() -> None:
    assert benjamini_hochberg([], 0.01) < 0


@pytest.mark.parametrize(
    ("budget", "days", "rate"), [("1 per 365d", 30.4, Q), ("1 per 365d", 1.0, 1 / 365), ("2 per 90d", 7.0, Q)]
)
def test_the_budget_of_false_alarms_sets_the_rate(budget: str, days: float, rate: float) -> None:
    assert rate_for(budget, days) == pytest.approx(rate)
    assert alert_rate(rate_for("1 per 365d", 1.0), 1.0) == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["", "often", "1 per year", "0 per 365d", "1 per 0d"])
def test_a_text_that_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        rate_for(text, 7.0)


def test_every_figure_is_plain(reference: Reference, rng: np.random.Generator) -> None:
    for item in drift(reference, table(rng, 500)).values():
        for name in item.__slots__:
            value: Any = getattr(item, name)
            assert value is None or type(value) in (bool, int, float, str), name
