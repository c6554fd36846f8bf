"""Profiles: exact, mergeable, and indifferent to the order of rows."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from noria.core.errors import UsageError
from noria.core.schema import Column
from noria.monitoring.profile import BINS, EmptyWindow, Profile, measured, merge, shape_of, values_of

RNG = np.random.default_rng(7)
NUMBER = Column("x", "float64", nullable=True)
TEXT = Column("x", "category", nullable=True)


def numbers(values: Any) -> Any:
    return values_of(pa.chunked_array([pa.array(values, from_pandas=True)]), NUMBER)


def texts(values: list[str | None]) -> Any:
    return values_of(pa.array(values), TEXT)


def test_counts_are_those_of_the_bins_between_the_edges() -> None:
    values = numbers(RNG.normal(size=5_000))
    shape = shape_of(values, "numeric")
    profile = measured(values, shape)
    cumulative = np.cumsum(profile.counts)[:-1]
    assert [int((values <= edge).sum()) for edge in shape.edges] == cumulative.tolist()
    assert profile.n == 5_000
    assert len(shape.edges) == BINS - 1


def test_null_and_nan_are_nulls_and_an_infinite_value_is_in_the_last_bin() -> None:
    shape = shape_of(numbers([1.0, 2.0, 3.0]), "numeric")
    profile = measured(numbers([1.0, None, math.nan, math.inf]), shape)
    assert profile.nulls == 2
    assert profile.counts[-1] == 1
    assert profile.mean == 1.0


def test_the_profile_of_a_whole_is_the_merge_of_its_parts() -> None:
    values = numbers(np.where(RNG.uniform(size=3_000) < 0.1, np.nan, RNG.gamma(2, size=3_000)))
    shape = shape_of(values, "numeric")
    parts = merge([measured(part, shape) for part in np.array_split(values, 7)])
    whole = measured(values, shape)
    assert parts.counts.tolist() == whole.counts.tolist()
    assert parts.nulls == whole.nulls
    assert parts.mean == pytest.approx(whole.mean, rel=1e-12)
    assert parts.deviation == pytest.approx(np.nanstd(values), rel=1e-9)
    assert (parts.low, parts.high) == (whole.low, whole.high)


def test_a_part_without_values_changes_nothing_but_the_nulls() -> None:
    shape = shape_of(numbers([1.0, 2.0]), "numeric")
    some, none = measured(numbers([1.0, 5.0]), shape), measured(numbers(np.full(3, np.nan)), shape)
    for found in (merge([some, none]), merge([none, some])):
        assert (found.mean, found.low, found.high, found.nulls, found.n) == (3.0, 1.0, 5.0, 3, 2)


def test_levels_are_counted_and_unknown_ones_are_others() -> None:
    shape = shape_of(texts(["a", "b", "a", None]), "levels")
    profile = measured(texts(["a", "c", "c", None, "b"]), shape)
    assert shape.levels == ("a", "b")
    assert profile.counts.tolist() == [1, 1, 2]
    assert profile.nulls == 1


def test_only_the_most_frequent_levels_are_kept() -> None:
    many = [f"l{i % 700:03d}" for i in range(7_000)] + ["top"] * 50
    shape = shape_of(texts(many), "levels")
    assert len(shape.levels) == 512
    assert "top" in shape.levels


@pytest.mark.parametrize(
    ("data", "column"),
    [
        (pa.array([True, False, None]), Column("x", "bool")),
        (pa.array([1, 2, None]), Column("x", "int64")),
        (pa.array([None, None, None]), Column("x", "float64")),
        (pa.array(["1.5", "2", None]), Column("x", "float64")),
        (pa.array(["2013-01-01T00:00:00Z", None, "2013-02-01T00:00:00Z"]), Column("x", "timestamp")),
        (pa.array(["a", None, "b"]).dictionary_encode(), Column("x", "category")),
        (pa.array([1, 2, None]), Column("x", "category")),
    ],
)
def test_every_kind_of_column_has_a_profile(data: Any, column: Column) -> None:
    for form in (data, pa.chunked_array([data, data])):
        values = values_of(form, column)
        kind = "levels" if column.type in ("bool", "category") else "numeric"
        shape = shape_of(values, kind)  # type: ignore[arg-type]  # one of the two
        assert measured(values, shape).rows == len(form)


def test_data_of_another_type_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'x'"):
        values_of(pa.array(["soon", "later"]), NUMBER)


@pytest.mark.parametrize("huge", [1e200, 1.7e308])
def test_numbers_whose_squares_no_double_holds_have_a_profile_without_a_deviation(huge: float) -> None:
    values = numbers([-huge, 1.0, 2.0, huge, huge])
    shape = shape_of(values, "numeric")
    found = measured(values, shape)
    assert (found.n, found.low, found.high) == (5, -huge, huge)
    assert math.isnan(found.deviation)
    read = Profile.read(shape, json.loads(json.dumps(found.document(), allow_nan=False)))
    whole = merge([read, measured(numbers([3.0]), shape)])
    assert (whole.n, whole.low, whole.high) == (6, -huge, huge)
    assert math.isnan(whole.deviation)


def test_a_profile_reads_back_as_it_was_written() -> None:
    values = numbers([1.0, 2.0, None, 2.0])
    shape = shape_of(values, "numeric")
    profile = measured(values, shape)
    again = Profile.read(shape, profile.document())
    assert again.document() == profile.document()
    empty = measured(numbers(np.full(2, np.nan)), shape)
    assert Profile.read(shape, empty.document()).document() == empty.document()


def test_nothing_has_no_shares() -> None:
    shape = shape_of(numbers([1.0]), "numeric")
    with pytest.raises(EmptyWindow):
        measured(numbers([]), shape).shares()
    with pytest.raises(EmptyWindow):
        merge([])
