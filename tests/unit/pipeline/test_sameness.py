"""Values are compared within a tolerance; what differs is told by place, and by what sort of difference it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from noria.pipeline.outputs.sameness import compared

TABLE = pd.DataFrame({"a": [1.0, math.nan, 3.0], "b": ["x", None, "z"], "c": [1, 2, 3]})


@pytest.mark.parametrize(
    "value",
    [
        TABLE,
        TABLE["a"],
        pl.from_pandas(TABLE),
        pa.Table.from_pandas(TABLE),
        np.arange(6.0).reshape(2, 3),
        {"a": [1, (2.0, None)], "b": {"x"}},
        LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]),
        datetime(2020, 1, 1),
        math.nan,
        "text",
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_the_same_as_its_copy(value: Any) -> None:
    import copy

    assert compared(value, copy.deepcopy(value)).is_same


@given(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(min_value=-1e-3, max_value=1e-3),
    st.sampled_from([0.0, 1e-12, 1e-6, 1e-3]),
)
def test_the_tolerance_is_relative_and_absolute_near_zero(a: float, change: float, tolerance: float) -> None:
    b = a + a * change + change
    is_within = a == b or abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))
    assert compared(a, b, tolerance).is_same == is_within
    assert compared(np.array([a, 1.0]), np.array([b, 1.0]), tolerance).is_same == is_within
    assert compared(pd.DataFrame({"x": [a]}), pd.DataFrame({"x": [b]}), tolerance).is_same == is_within


@pytest.mark.parametrize(
    ("a", "b", "where"),
    [
        (1, 1.0, "the value"),
        (True, 1, "the value"),
        ("1", 1, "the value"),
        (None, math.nan, "the value"),
        (math.inf, -math.inf, "the value"),
        (math.nan, 0.0, "the value"),
        ([1, 2], [1, 2, 3], "the value"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "a[1]"),
        (np.zeros(3, "float32"), np.zeros(3, "float64"), "the value"),
        (TABLE, TABLE.astype({"c": "float64"}), "column c[0]"),
        (TABLE, TABLE.drop(columns="c"), "the value"),
        (TABLE, TABLE.set_index([[5, 6, 7]]), "index[1][0]"),
    ],
)
def test_what_no_tolerance_covers_is_told_with_its_place(a: Any, b: Any, where: str) -> None:
    found = compared(a, b, 0.5)
    assert not found.is_same
    assert found.where == where
    assert found.text


def test_an_estimator_is_compared_by_what_it_has_learnt() -> None:
    x = np.arange(20.0).reshape(10, 2)
    one = LinearRegression().fit(x, x[:, 0])
    other = LinearRegression().fit(x, x[:, 0])
    other.coef_ = other.coef_ + 1e-12
    assert not compared(one, other).is_same
    found = compared(one, other, 1e-9)
    assert found.is_same
    assert 0 < found.largest < 1e-9
    other.coef_ = other.coef_ + 1.0
    assert "coef_" in compared(one, other, 1e-9).where


@pytest.mark.parametrize(
    ("a", "b", "is_reordered", "is_near"),
    [
        ([1, 2, 3], [3, 1, 2], True, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True, False),
        (TABLE, TABLE.iloc[::-1], True, False),
        ([0.1, 0.2], [0.1, 0.2 + 1e-12], False, True),
        ([0.1, 0.2], [0.1, 0.3], False, False),
        ([1, 2], [1, 5], False, False),
        ("abc", "abd", False, False),
    ],
)
def test_the_sort_of_a_difference_is_told(a: Any, b: Any, is_reordered: bool, is_near: bool) -> None:
    found = compared(a, b)
    assert (found.is_reordered, found.is_near) == (is_reordered, is_near)


class Thing:
    """Makes its state when asked."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __getstate__(self) -> dict[str, Any]:
        return {"value": {"of": self.value}}


@pytest.mark.parametrize(
    "made",
    [Thing, lambda value: np.array([value], dtype=object)],
    ids=["a state made when asked", "items made when asked"],
)
def test_what_is_made_to_be_looked_at_is_not_taken_for_what_was_looked_at_before(made: Callable[[float], Any]) -> None:
    """What was asked of two values is gone when the next two are asked: theirs may come to lie in the same places."""
    found = compared([made(0.0) for _ in range(50)], [made(0.0), *(made(float(each)) for each in range(1, 50))])
    assert not found.is_same
    assert found.where.startswith("[1]")
