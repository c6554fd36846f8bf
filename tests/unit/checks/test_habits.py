"""How long a column is silent, and what it usually says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from noria.checks import habits


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 9), st.booleans())
def test_the_longest_silence_is_the_same_in_any_batches(flags: list[bool], size: int, is_keeping: bool) -> None:
    silent = np.array(flags, bool)
    numbers = np.arange(len(flags)) * 2 + 100
    made = habits.Silence(is_keeping=is_keeping)
    for first in range(0, len(flags), size):
        made.add(silent[first : first + size], numbers[first : first + size])
    runs = "".join("1" if flag else "0" for flag in flags).split("0")
    most = max(map(len, runs), default=0)
    rows = made.rows()
    assert made.length == most
    if is_keeping:
        assert len(rows) == most
    assert len(rows) >= min(most, 1)
    assert all(silent[(row - 100) // 2] for row in rows)
    if most:
        at = "".join("1" if flag else "0" for flag in flags).index("1" * most)
        assert rows[0] == numbers[at], "the first of the longest"


def test_a_silence_is_looked_for_where_a_column_usually_speaks() -> None:
    dice = np.random.default_rng(3)
    speaks = np.repeat(dice.random(400) < 0.4, 10)
    missing = ~speaks | (dice.random(4000) < 0.1)
    found = habits.silence(missing, [("loud", speaks), ("same", dice.random(4000) < 0.5)], step=1, least=0.15)
    assert found == (100, "loud")
    rows, among = habits.silence(missing, [], step=3, least=0.15) or (0, "none")
    assert (among, rows >= 300) == ("", True), "one row of three was looked at"


def test_no_silence_is_learned_from_few_nulls_few_rows_or_nothing_else() -> None:
    assert habits.silence(np.arange(4000) % 10 == 0, [], step=1, least=0.15) is None
    assert habits.silence(np.arange(400) % 2 == 0, [], step=1, least=0.15) is None
    assert habits.silence(np.ones(4000, bool), [], step=1, least=0.15) is None


def test_values_that_come_back_are_usual_and_those_of_a_season_are_not() -> None:
    dice = np.random.default_rng(4)
    codes = dice.choice([5.0, 7.0, 9.0, 11.0], 4000, p=[0.5, 0.3, 0.19, 0.01])
    found = habits.usual(codes, is_sparse=False, step=1)
    assert found is not None
    assert (found.values, found.clump < 2) == ((5.0, 7.0, 9.0), True)
    assert habits.usual(np.round(np.linspace(0, 30, 4000)), is_sparse=False, step=1) is None
    assert habits.usual(codes[:500], is_sparse=False, step=1) is None


def test_of_a_column_that_is_mostly_zero_the_least_values_are_usual_and_clumps_are_told() -> None:
    dice = np.random.default_rng(6)
    hours = np.where(dice.random(3000) < 0.2, np.round(dice.gamma(1.0, 0.03, 3000) + 0.01, 2), 0.0)
    single = habits.usual(hours, is_sparse=True, step=1)
    assert single is None, "600 values are few"
    rain = np.repeat(hours, 20)
    found = habits.usual(rain, is_sparse=True, step=1)
    assert found is not None
    assert found.values == (0.01, 0.02, 0.03, 0.04)
    assert 8 < found.clump < 40, "twenty rows share their hour"


def test_usual_values_are_gone_by_chance_as_seldom_as_is_said() -> None:
    """Clumps of ten, three usual values at half of their shares: at most one file in a thousand alarms."""
    dice = np.random.default_rng(8)
    shares = (0.3, 0.2, 0.1)
    alarms = 0
    for _ in range(4000):
        rows = int(dice.integers(50, 1500))
        seen = dice.choice(4, max(rows // 10, 1), p=[0.15, 0.1, 0.05, 0.7])
        gone = [share for place, share in enumerate(shares) if not (seen == place).any()]
        alarms += habits.is_gone(gone, 3, rows, 10.0)
    assert alarms <= 8
    assert habits.is_gone([0.3], 3, 2000, 10.0)
    assert not habits.is_gone([0.3], 3, 2000, 100.0)
    assert not habits.is_gone([], 3, 10**9, 1.0)
