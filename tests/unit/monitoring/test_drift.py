"""Every drift test of the plug-in table, held against scipy and against what any of them must do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from noria import plugins
from noria.monitoring.dependence import Spread
from noria.monitoring.drift.chi2 import chi2
from noria.monitoring.drift.ks import ks
from noria.monitoring.drift.psi import psi
from noria.monitoring.drift.wasserstein import wasserstein
from noria.monitoring.profile import EmptyWindow, Profile, Shape, measured, shape_of

RNG = np.random.default_rng(11)


def pair(a: Any, b: Any) -> tuple[Profile, Profile]:
    shape = shape_of(a, "numeric")
    return measured(a, shape), measured(b, shape)


def levels(*counts: list[int]) -> list[Profile]:
    shape = Shape("levels", np.empty(0), tuple("abcdefgh"[: len(counts[0]) - 1]))
    return [Profile(shape, np.array(item), 0) for item in counts]


@pytest.mark.parametrize("name", plugins.names("drift"))
def test_equal_samples_score_least_and_the_order_of_rows_is_nothing(name: str) -> None:
    test = plugins.load("drift", name)
    a = RNG.normal(size=4_000)
    near, far = a + 0.05, a + 1.0
    same, there, further = (test(*pair(a, b)).effect for b in (a, near, far))
    assert same == 0.0 <= there < further
    assert test(*pair(a, RNG.permutation(far))).effect == further


@pytest.mark.parametrize("name", plugins.names("drift"))
def test_a_window_without_values_cannot_be_compared(name: str) -> None:
    reference, empty = pair(RNG.normal(size=100), np.full(10, math.nan))
    with pytest.raises(EmptyWindow):
        plugins.load("drift", name)(reference, empty)


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.3])
def test_the_distance_is_that_of_the_rows_within_a_bin(shift: float) -> None:
    a, b = RNG.normal(size=20_000), RNG.normal(shift, size=9_000)
    found, oracle = ks(*pair(a, b)), stats.ks_2samp(a, b, method="asymp")
    assert oracle.statistic - 1 / 512 - 1e-4 <= found.effect <= oracle.statistic + 1e-12
    n = len(a) * len(b) / (len(a) + len(b))
    assert found.p == pytest.approx(stats.kstwobign.sf(math.sqrt(n) * found.effect), rel=1e-9)


def test_few_distinct_values_are_compared_exactly() -> None:
    a, b = RNG.integers(0, 12, 5_000).astype(float), RNG.integers(1, 13, 3_000).astype(float)
    assert ks(*pair(a, b)).effect == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-12)


def test_the_likelihood_ratio_is_that_of_scipy() -> None:
    a, b = levels([400, 300, 200, 100, 0], [150, 150, 120, 80, 0])
    oracle = stats.chi2_contingency(np.stack([a.counts[:4], b.counts[:4]]), correction=False, lambda_="log-likelihood")
    found = chi2(a, b)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-9)
    assert found.effect == pytest.approx(np.abs(a.shares() - b.shares()).sum() / 2)


def test_rare_levels_are_pooled_before_they_are_tested() -> None:
    a, b = levels([1000, 1000, 1, 0, 2], [1000, 1000, 0, 3, 0])
    pooled_a, pooled_b = levels([1000, 1000, 3], [1000, 1000, 3])
    assert chi2(a, b).p == pytest.approx(chi2(pooled_a, pooled_b).p)


def test_one_level_is_no_evidence() -> None:
    assert chi2(*levels([500, 0], [300, 0])).p == 1.0


def test_dependent_rows_make_a_p_value_larger() -> None:
    a, b = pair(RNG.normal(size=5_000), RNG.normal(0.1, size=5_000))
    assert ks(a, b, spread=Spread(1.0, 9)).p > ks(a, b).p  # type: ignore[operator]  # both are numbers
    x, y = levels([500, 500, 0], [550, 450, 0])
    assert chi2(x, y, spread=Spread(1.0, 9)).p > chi2(x, y).p  # type: ignore[operator]  # both are numbers


def test_without_a_change_the_stability_index_is_about_nothing() -> None:
    found = [psi(*pair(RNG.normal(size=2_000), RNG.normal(size=500))).effect for _ in range(200)]
    assert np.mean(found) < 0.012  # the uncorrected index has mean 9 (1/2000 + 1/500) = 0.0225


def test_the_distance_in_deviations_is_that_of_scipy() -> None:
    a, b = RNG.normal(size=20_000), RNG.normal(0.4, 1.2, size=20_000)
    oracle = stats.wasserstein_distance(a, b) / a.std()
    assert wasserstein(*pair(a, b)).effect == pytest.approx(oracle, abs=0.02)


def test_a_constant_column_has_no_distance() -> None:
    assert wasserstein(*pair(np.ones(100), np.full(100, 2.0))).effect == 0.0
    assert ks(*pair(np.ones(100), np.full(100, 2.0))).effect == 1.0
