"""States add up: any way of cutting rows into batches and files gives the profile of the whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from noria.checks.scanning.accumulate import (
    EXACT_DISTINCT,
    LEVELS_KEPT,
    LEVELS_MAX,
    Moments,
    NumberState,
    PlainState,
    TextState,
)
from noria.checks.scanning.chunk import Chunk, family
from noria.checks.scanning.shift import distance

numbers = st.lists(st.one_of(st.none(), st.integers(-50, 50).map(float), st.floats(-1e6, 1e6)), max_size=60)


def filled(parts: list[list[Any]], kind: Any = None) -> NumberState:
    state = NumberState("double")
    for part in parts:
        state.add(Chunk(pa.array(part, kind or pa.float64())))
    return state


@given(st.lists(numbers, min_size=1, max_size=6))
def test_batches_one_by_one_and_merged_states_give_the_profile_of_the_whole(parts: list[list[float | None]]) -> None:
    whole = filled([[value for part in parts for value in part]]).profile(is_full=True)
    streamed = filled(parts).profile(is_full=True)
    added = NumberState("double")
    for part in parts:
        added.merge(filled([part]))
    for found in (streamed, added.profile(is_full=True)):
        for name in ("rows", "nulls", "distinct", "low", "high", "zeros", "quantiles", "body", "edges", "counts"):
            assert getattr(found, name) == getattr(whole, name), name
        assert (found.at_low, found.at_high) == pytest.approx((whole.at_low, whole.at_high))
        assert found.moments == pytest.approx(whole.moments, rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(-1e3, 1e3), min_size=8, max_size=200), st.integers(1, 199))
def test_moments_are_those_of_scipy_however_they_are_cut(values: list[float], at: int) -> None:
    array = np.array(values)
    one, other = Moments.of(array[:at]), Moments.of(array[at:])
    one.add(other)
    mean, sd, *tails = one.told()
    assert (mean, sd) == pytest.approx((array.mean(), array.std(ddof=1)), rel=1e-6, abs=1e-9)
    if tails and array.std() > 1e-3:
        assert tails[0] == pytest.approx(float(stats.skew(array)), rel=1e-4, abs=1e-4)
        assert tails[1] == pytest.approx(float(stats.kurtosis(array)), rel=1e-4, abs=1e-4)


def test_many_distinct_values_are_summed_up_within_a_512th_of_a_rank() -> None:
    dice = np.random.default_rng(5)
    values = dice.lognormal(3, 2, 600_000)
    state = NumberState("double")
    halves = (NumberState("double"), NumberState("double"))
    for index, part in enumerate(np.array_split(values, 40)):
        state.add(Chunk(pa.array(part)))
        halves[index % 2].add(Chunk(pa.array(part)))
    halves[0].merge(halves[1])
    for made in (state, halves[0]):
        profile = made.profile(is_full=True)
        assert profile.distinct == EXACT_DISTINCT + 1
        ordered = np.sort(values)
        ranks = np.searchsorted(ordered, profile.quantiles) / len(ordered)
        assert np.abs(ranks - [0.05, 0.25, 0.5, 0.75, 0.95]).max() < 1 / 512
        assert (profile.low, profile.high) == (ordered[0], ordered[-1])
        assert sum(profile.counts) == pytest.approx(len(values), abs=2)
        assert len(profile.edges) == 512
        edges = np.searchsorted(ordered, profile.edges, "right") / len(ordered)
        assert np.abs(edges - np.cumsum(profile.counts) / len(values)).max() < 1 / 512
        points, weights = made.ranks.all()
        assert weights.sum() == pytest.approx(len(values))
        assert len(points) < 60_000, "bounded"


levels = st.lists(st.one_of(st.none(), st.sampled_from("abcdefg")), max_size=40)


@given(st.lists(levels, min_size=1, max_size=5))
def test_levels_add_up_exactly(parts: list[list[str | None]]) -> None:
    whole = TextState("string")
    whole.add(Chunk(pa.array([v for part in parts for v in part], pa.string())))
    added = TextState("string")
    for part in parts:
        one = TextState("string")
        one.add(Chunk(pa.array(part, pa.string()).dictionary_encode()))
        added.merge(one)
    assert added.profile() == whole.profile()


def test_too_many_levels_keep_the_frequent_ones_exactly_and_count_the_rest() -> None:
    names = [f"n{i}" for i in range(LEVELS_MAX + 500)]
    texts = names + ["AA"] * 5000 + ["BB"] * 4000
    halves = []
    for part in (texts[::2], texts[1::2]):
        state = TextState("string")
        for at in range(0, len(part), 1000):
            state.add(Chunk(pa.array(part[at : at + 1000])))
        halves.append(state)
    halves[0].merge(halves[1])
    both = halves[0]
    assert both.rows == len(texts)
    assert sum(both.counts.values()) + both.other == len(texts)
    assert all(count == texts.count(level) for level, count in both.counts.items() if level in ("AA", "BB"))
    assert both.profile().other == len(texts)
    ids = [f"id{i}" for i in range(LEVELS_MAX + 2000)]
    names_only = TextState("string")
    names_only.add(Chunk(pa.array(ids * 2)))
    assert (names_only.is_open, names_only.counts, names_only.other) == (True, {}, 2 * len(ids))
    assert LEVELS_KEPT < LEVELS_MAX


def test_infinite_and_missing_values_are_counted_apart_with_and_without_ranks() -> None:
    values = pa.array([1.0, None, float("nan"), float("inf"), float("-inf"), 3.0])
    for is_ranked in (True, False):
        state = NumberState("double", is_ranked=is_ranked)
        state.add(Chunk(values))
        found = state.profile()
        assert (found.rows, found.nulls, found.infinite, found.low, found.high) == (6, 2, 2, 1.0, 3.0)
        assert found.moments[:2] == pytest.approx((2.0, math.sqrt(2)))


def test_huge_values_overflow_to_no_moments_and_never_raise() -> None:
    state = filled([[1e300, -1e300], [1e308, 5.0]])
    assert state.profile().moments == ()
    assert state.profile().high == 1e308


def test_times_and_bools_have_ends_and_counts() -> None:
    times = pa.array([3, 1, None, 2], pa.timestamp("us"))
    state = PlainState("timestamp[us]", "time")
    state.add(Chunk(times))
    assert (state.profile().ends, state.profile().nulls) == ((1.0, 3.0), 1)
    flags = PlainState("bool", "bool")
    flags.add(Chunk(pa.array([True, False, True, None])))
    assert flags.profile().levels == (("true", 2), ("false", 1))
    assert family(pa.bool_()) == "bool"


@settings(max_examples=30)
@given(st.floats(0, 3), st.integers(200, 4000))
def test_the_distance_of_numbers_is_that_of_scipy_within_a_bin(shift: float, rows: int) -> None:
    dice = np.random.default_rng(int(shift * 100) + rows)
    reference, now = dice.normal(0, 1, 20_000), dice.normal(shift, 1, rows)
    state = NumberState("double")
    state.add(Chunk(pa.array(reference)))
    here = NumberState("double")
    here.add(Chunk(pa.array(now)))
    far, _ = distance(state.profile(is_full=True), here)
    assert far == pytest.approx(stats.ks_2samp(reference, now).statistic, abs=1 / 512 + 1e-9)


def test_chance_alone_exceeds_its_distance_about_once_in_a_thousand() -> None:
    dice = np.random.default_rng(11)
    beyond = 0
    for _ in range(800):
        reference, here = NumberState("double"), NumberState("double")
        reference.add(Chunk(pa.array(dice.normal(size=1500))))
        here.add(Chunk(pa.array(dice.normal(size=700))))
        far, chance = distance(reference.profile(is_full=True), here)
        texts, others = TextState("string"), TextState("string")
        texts.add(Chunk(pa.array(dice.choice(list("abcdefgh"), 1500))))
        others.add(Chunk(pa.array(dice.choice(list("abcdefgh"), 700))))
        apart, by_chance = distance(texts.profile(is_full=True), others)
        beyond += (far > chance) + (apart > by_chance)
    assert beyond <= 8, "0.1 % of 1600 is 1.6"
