"""Conditions: what a hostile or careless one gives is an error that says where and what to do."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from noria.core.errors import UsageError
from noria.data.forms.where import DEPTH_MAX, parse

TABLE = pa.table(
    {
        "id": [1, 2, 3],
        "day": [datetime.date(2013, 1, 1)] * 3,
        "at": pa.array([datetime.datetime(2013, 1, 1)] * 3, pa.timestamp("us")),
        "zoned": pa.array([datetime.datetime(2013, 1, 1)] * 3, pa.timestamp("us", "UTC")),
        "span": pa.array([1, 2, 3], pa.duration("us")),
    }
)


def fitting(condition: str) -> list[int]:
    found: list[int] = TABLE.filter(parse(condition, TABLE.schema).expression)["id"].to_pylist()
    return found


@pytest.mark.parametrize("column", ["day", "at", "zoned", "span"])
def test_a_number_is_no_time(column: str) -> None:
    """Arrow takes 2013 for a day in July 1975, and a deletion by it went through every row."""
    with pytest.raises(UsageError, match=f"2013 is a number, and column '{column}' is") as caught:
        parse(f"{column} > 2013", TABLE.schema)
    assert "quotes" in caught.value.hint


def test_a_time_in_quotes_is_one() -> None:
    assert fitting("day > '2012-12-31' and at = '2013-01-01' and zoned < '2014-01-01'") == [1, 2, 3]


@pytest.mark.parametrize("number", ["99999999999999999999", "-99999999999999999999"])
def test_a_whole_number_that_the_column_cannot_hold_is_refused(number: str) -> None:
    with pytest.raises(UsageError, match="cannot be compared with column 'id', which is int64"):
        parse(f"id = {number}", TABLE.schema)


def test_a_number_beyond_all_doubles_is_refused_for_whole_numbers() -> None:
    with pytest.raises(UsageError, match="cannot be compared with column 'id'"):
        parse("id < 1e999", TABLE.schema)


@pytest.mark.parametrize(("before", "after"), [("(", ")"), ("not ", "")])
def test_depth_has_a_limit(before: str, after: str) -> None:
    deepest = DEPTH_MAX - 2
    assert fitting(f"{before * deepest}id = 1{after * deepest}") == [1]
    with pytest.raises(UsageError, match=f"more than {DEPTH_MAX} deep"):
        parse(f"{before * 2000}id = 1{after * 2000}", TABLE.schema)


def test_many_conditions_beside_each_other_are_not_deep() -> None:
    assert fitting(" or ".join(["(id = 1)"] * 500)) == [1]
