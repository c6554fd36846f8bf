"""Routing: sticky, replayable, and in the shares that were asked for."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.serving.facts import Arm
from noria.serving.router import arm, unit


def arms(*weights: float) -> tuple[Arm, ...]:
    return tuple(Arm(name=f"a{i}", release=i, content="", weight=weight) for i, weight in enumerate(weights))


def test_the_unit_is_the_first_53_bits_of_the_hash() -> None:
    whole = int(hashlib.sha256(b"seed|key").hexdigest()[:16], 16)
    assert unit("seed", "key") == (whole >> 11) / 2**53


@given(st.text(), st.text())
def test_the_same_key_always_meets_the_same_arm(seed: str, key: str) -> None:
    split = arms(0.75, 0.25)
    assert arm(seed, key, split) is arm(seed, key, split)
    assert 0.0 <= unit(seed, key) < 1.0


@given(st.text(), st.floats(0.01, 0.98), st.floats(0.0, 1.0))
def test_a_growing_candidate_keeps_the_keys_that_it_had(key: str, share: float, growth: float) -> None:
    larger = share + (0.99 - share) * growth
    if arm("s", key, arms(1 - share, share)).name == "a1":
        assert arm("s", key, arms(1 - larger, larger)).name == "a1"


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5])
def test_shares_are_kept(share: float) -> None:
    count = 40_000
    hits = sum(arm("rollout_1", f"key{i}", arms(1 - share, share)).name == "a1" for i in range(count))
    # Five standard deviations of the binomial.
    assert abs(hits - count * share) < 5 * (count * share * (1 - share)) ** 0.5


def test_another_seed_draws_another_split() -> None:
    split = arms(0.5, 0.5)
    same = sum(arm("one", f"k{i}", split) is arm("two", f"k{i}", split) for i in range(2000))
    assert 850 < same < 1150


def test_an_arm_of_weight_0_is_never_chosen_and_rounding_leaves_no_gap() -> None:
    assert {arm("s", f"k{i}", arms(0.0, 1.0, 0.0)).name for i in range(500)} == {"a1"}
    thirds = arms(*[1 / 3] * 3)
    assert {arm("s", f"k{i}", thirds).name for i in range(500)} == {"a0", "a1", "a2"}
