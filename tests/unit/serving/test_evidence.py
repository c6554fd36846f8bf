"""The formulas of the e-processes against independent ways to compute them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noria.serving.evidence import (
    BETTER,
    EITHER,
    MEAN_RATES,
    WORSE,
    Counts,
    Shares,
    log_mean,
    log_ratio,
    risk_interval,
    theta,
    upper_bound,
)

EVENTS = st.lists(st.tuples(st.sampled_from([0.05, 0.25, 0.5]), st.booleans()), max_size=60)


def shares(events: list[tuple[float, bool]]) -> Shares:
    found = Shares()
    for share, is_candidate in events:
        found = found.plus(share, is_candidate=is_candidate)
    return found


@given(EVENTS, st.sampled_from([1.0, 1.5, 3.0]), st.sampled_from([WORSE, BETTER, EITHER]))
def test_the_e_process_is_the_mean_of_products_of_likelihood_ratios(
    events: list[tuple[float, bool]], null: float, alternatives: tuple[float, ...]
) -> None:
    def probability(share: float, ratio: float, is_candidate: bool) -> float:
        chance = share * ratio / (share * ratio + (1 - share))
        return chance if is_candidate else 1 - chance

    products = [
        math.prod(probability(s, null * a, c) / probability(s, null, c) for s, c in events) for a in alternatives
    ]
    assert log_ratio(shares(events), null, alternatives) == pytest.approx(math.log(sum(products) / len(products)))


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("null", [1.0, 1.5])
def test_one_more_event_multiplies_by_a_mean_of_1_under_the_null_and_at_most_1_below_it(
    share: float, null: float
) -> None:
    for alternative in WORSE:
        up = theta(share, null * alternative) / theta(share, null)
        down = (1 - theta(share, null * alternative)) / (1 - theta(share, null))
        for truth in (0.2 * null, 0.7 * null, null):
            mean = theta(share, truth) * up + (1 - theta(share, truth)) * down
            assert mean <= 1 + 1e-12
            if truth == null:
                assert mean == pytest.approx(1)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_non_inferiority_has_a_mean_of_at_most_1_at_and_above_the_margin(share: float) -> None:
    for alternative in BETTER:
        up = theta(share, 1.5 * alternative) / theta(share, 1.5)
        down = (1 - theta(share, 1.5 * alternative)) / (1 - theta(share, 1.5))
        for truth in (1.5, 2.0, 10.0):
            assert theta(share, truth) * up + (1 - theta(share, truth)) * down <= 1 + 1e-12


@given(st.integers(0, 300), st.floats(0.001, 0.5), st.data())
def test_the_mean_process_is_the_product_of_its_bets(count: int, limit: float, data: st.DataObject) -> None:
    events = data.draw(st.integers(0, count))
    rates = [rate for rate in MEAN_RATES if rate * limit < 1]
    if not rates:
        return
    products = []
    for rate in rates:
        bet = (rate - 1) / (1 - limit)
        products.append(events * math.log(1 + bet * (1 - limit)) + (count - events) * math.log(1 - bet * limit))
    expected = np.logaddexp.reduce(products) - math.log(len(products))
    assert log_mean(count, events, limit) == pytest.approx(float(expected), abs=1e-9)


def test_the_mean_process_is_fair_at_the_limit() -> None:
    for limit in (0.005, 0.02, 0.3, 0.9):
        one = math.exp(log_mean(1, 1, limit)) * limit + math.exp(log_mean(1, 0, limit)) * (1 - limit)
        assert one == pytest.approx(1)


@pytest.mark.parametrize(("events", "count"), [(0, 59), (0, 200), (3, 200), (7, 87), (20, 10_000), (199, 200)])
def test_the_upper_bound_is_clopper_and_pearson(events: int, count: int) -> None:
    assert upper_bound(events, count, 0.05) == pytest.approx(stats.beta.ppf(0.95, events + 1, count - events), rel=1e-9)


def test_the_upper_bound_of_nothing_is_1() -> None:
    assert upper_bound(0, 0, 0.05) == 1.0
    assert upper_bound(5, 5, 0.05) == 1.0


def test_the_interval_of_the_ratio_holds_the_truth_and_narrows() -> None:
    truth, share = 2.0, 0.5
    rng = np.random.default_rng(1)
    wide = None
    for count in (30, 300, 3000):
        hits = int(rng.binomial(count, theta(share, truth)))
        low, high = risk_interval(Shares({share: Counts(hits, count - hits)}), 0.05)
        assert low <= truth <= high
        if wide is not None and math.isfinite(wide):
            assert high - low < wide
        wide = high - low
    assert risk_interval(Shares(), 0.05) == (0.0, math.inf)


def test_shares_of_0_and_1_say_nothing() -> None:
    assert log_ratio(Shares({1.0: Counts(10, 0), 0.0: Counts(0, 10)}), 1.0, WORSE) == 0.0
