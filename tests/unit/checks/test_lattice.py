from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.checks.scanning.lattice import Lattice, find_lattice, off_lattice


def lattice_of(values: object) -> Lattice | None:
    return find_lattice(np.unique(np.asarray(values, dtype=float)))


def test_whole_numbers_have_a_step_of_one_and_tens_of_ten() -> None:
    assert lattice_of([3, 7, 12]) == Lattice(1.0, 0.0)
    assert lattice_of([0, 10, 250, 360]) == Lattice(10.0, 0.0)
    assert lattice_of([1, 2]) == Lattice(1.0, 0.0)


def test_tenths_of_a_degree_celsius_show_in_fahrenheit() -> None:
    celsius = np.arange(-200, 400) / 10
    assert lattice_of(celsius * 1.8 + 32) == Lattice(0.18, 0.14)
    assert lattice_of(np.round(celsius * 1.8 + 32, 2)) == Lattice(0.18, 0.14)


def test_knots_show_in_miles_an_hour() -> None:
    assert lattice_of(np.arange(0, 40) * 1.15078) == Lattice(1.15078, 0.0)


def test_real_numbers_have_none() -> None:
    random = np.random.default_rng(0)
    assert lattice_of(random.normal(size=5000)) is None
    assert lattice_of(random.lognormal(size=50)) is None
    assert lattice_of([]) is None
    assert lattice_of([0.5, 0.7]) is None


@given(
    st.sampled_from([0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 1.15078, 0.18]),
    st.lists(st.integers(-2000, 2000), min_size=40, max_size=300, unique=True),
)
def test_every_value_is_on_the_lattice_that_was_found_and_its_step_is_a_multiple_of_the_true_one(
    step: float, steps: list[int]
) -> None:
    values = np.unique(np.array(steps) * step)
    found = find_lattice(values)
    assert found is not None
    assert not off_lattice(values, found).any()
    ratio = found.step / step
    assert ratio >= 0.999
    assert abs(ratio - round(ratio)) < 1e-6
    assert round(ratio) == np.gcd.reduce(np.diff(np.sort(steps)))


@pytest.mark.parametrize("factor", [1.609344, 0.44704, 0.868976, 1 / 60, 0.01, 1e-6, 25.4])
def test_a_conversion_leaves_the_lattice(factor: float) -> None:
    values = np.arange(100, 5000, 7.0)
    assert off_lattice(values * factor, Lattice(1.0, 0.0)).mean() > 0.7


def test_rounding_of_floats_does_not_leave_it_and_nan_is_not_off() -> None:
    values = np.array([0.1 + 0.2, 0.3, 1e6 + 0.1, np.nan, -0.1 * 3])
    assert off_lattice(values, Lattice(0.1, 0.0)).tolist() == [False] * 5
    assert off_lattice(np.array([0.0026, 0.0]), Lattice(1.0, 0.0)).tolist() == [True, False]


def test_a_value_too_large_to_count_its_steps_is_not_off() -> None:
    tiny = Lattice(2.7e-207, 0.0)
    assert off_lattice(np.array([1e300, -1e300, np.nan]), tiny).tolist() == [False, False, False]
