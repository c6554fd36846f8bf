from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from noria.checks.scanning.profile import QUANTILES, profile_column


def column(values: list[Any], kind: Any = None) -> pa.ChunkedArray[Any]:
    return pa.chunked_array([pa.array(values, kind)])


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=200))
def test_counts_and_quantiles_agree_with_numpy(values: list[float | None]) -> None:
    found = profile_column(column(values, pa.float64()))
    present = np.array([value for value in values if value is not None])
    assert (found.rows, found.nulls, found.values) == (len(values), len(values) - len(present), len(present))
    if len(present):
        expected = np.quantile(present, QUANTILES, method="inverted_cdf")
        assert np.allclose(found.quantiles, expected)
        assert (found.low, found.high, found.distinct) == (present.min(), present.max(), len(np.unique(present)))


def test_zeros_are_counted_and_the_rest_is_the_body() -> None:
    found = profile_column(column([0.0] * 90 + [1.0, 2.0, 3.0, 4.0, 5.0] * 2))
    assert (found.zeros, found.is_sparse, found.body) == (0.9, True, (1.0, 2.0, 3.0, 4.0, 5.0))


def test_every_family_has_a_profile() -> None:
    assert profile_column(column(["b", "a", "b", None])).levels == (("b", 2), ("a", 1))
    assert profile_column(column(["b", "a"]).dictionary_encode()).family == "text"
    assert profile_column(column([True, None])).family == "bool"
    assert profile_column(column([None, None])).family == "null"
    assert profile_column(column([[1], [2]])).family == "other"
    assert profile_column(column([0], pa.timestamp("us", "UTC"))).family == "time"
    found = profile_column(column([decimal.Decimal("1.10"), None]))
    assert (found.family, found.low, found.nulls) == ("number", 1.1, 1)


def test_infinite_values_are_counted_apart() -> None:
    found = profile_column(column([1.0, float("inf"), float("nan")]))
    assert (found.nulls, found.infinite, found.high) == (1, 1, 1.0)
