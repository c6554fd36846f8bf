"""Request rows: what is accepted, what is refused and how, and that frames have the dtypes of training."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from noria.core.errors import UsageError
from noria.packaging.rows import RowRefused, Rows, fields_of
from noria.testing.samples import flights

FRAME = flights(200, seed=0)
ROWS = Rows(fields_of(FRAME, names=list(FRAME.columns)))
GOOD: dict[str, Any] = json.loads(json.dumps(ROWS.plain(FRAME.head(1))))[0]


def refusal(row: Any) -> RowRefused:
    with pytest.raises(RowRefused) as caught:
        ROWS.check(row)
    assert len(str(caught.value).splitlines()) <= 6
    return caught.value


def test_a_frame_survives_the_way_through_json_with_every_dtype() -> None:
    wire = json.loads(json.dumps(ROWS.plain(FRAME)))
    back = ROWS.frame(ROWS.columns(wire))
    pd.testing.assert_frame_equal(back, FRAME, check_exact=True)


def test_types_are_told_from_dtypes() -> None:
    types = {f.name: (f.column.type, f.column.nullable) for f in ROWS.fields}
    assert types == {
        "carrier": ("text", True),
        "maker": ("text", True),
        "dest": ("category", True),
        "hour": ("int64", False),
        "distance": ("int64", False),
        "wind": ("float64", True),
        "seats": ("float64", True),
        "gust": ("float64", True),
        "engines": ("int64", True),
        "weekend": ("bool", False),
        "at": ("timestamp", True),
    }


@pytest.mark.parametrize("name", list(GOOD))
def test_a_missing_column_is_named(name: str) -> None:
    error = refusal({key: value for key, value in GOOD.items() if key != name})
    assert error.column == name
    assert f"column {name} is missing: expected a" in error.message or "expected true or false" in error.message


def test_an_extra_column_is_named_and_cut() -> None:
    assert refusal({**GOOD, "tail": 1}).column == "tail"
    assert len(refusal({**GOOD, "x" * 5000: 1}).message) < 200


WRONG = [
    ("carrier", 5, "a text or null, not a whole number"),
    ("carrier", True, "a text or null, not a boolean"),
    ("dest", ["ORD"], "a text or null, not a list"),
    ("hour", "9", "a whole number, not a text"),
    ("hour", True, "a whole number, not a boolean"),
    ("hour", 9.5, "a whole number, not a number"),
    ("hour", None, "a whole number, not null"),
    ("wind", "fast", "a number or null, not a text"),
    ("wind", False, "a number or null, not a boolean"),
    ("wind", {"speed": 3}, "a number or null, not an object"),
    ("weekend", 1, "true or false, not a whole number"),
    ("weekend", None, "true or false, not null"),
    ("engines", 1.5, "a whole number or null, not a number"),
    ("at", 20130101, "an ISO 8601 time or null, not a whole number"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG)
def test_a_wrong_type_names_the_column_and_what_was_expected(name: str, value: Any, words: str) -> None:
    error = refusal({**GOOD, name: value})
    assert error.column == name
    assert words in error.message
    assert error.status == 400


def test_whole_numbers_do_for_floats_and_whole_floats_for_whole_numbers() -> None:
    found = ROWS.columns([{**GOOD, "wind": 7, "hour": 9.0}])
    assert found["wind"] == [7]
    assert found["hour"] == [9]
    assert type(found["hour"][0]) is int


@pytest.mark.parametrize("value", [10**400, -(10**400), math.inf, -math.inf])
def test_a_number_that_no_float_holds_is_refused(value: float) -> None:
    assert "finite" in refusal({**GOOD, "wind": value}).message


def test_a_number_beyond_the_type_of_training_is_refused() -> None:
    assert "int64 can hold" in refusal({**GOOD, "hour": 2**63}).message
    assert "float32 can hold" in refusal({**GOOD, "seats": 1e39}).message
    ROWS.check({**GOOD, "hour": 2**63 - 1, "seats": 3e38})
    frame = pd.DataFrame({"small": np.array([1], dtype="uint8"), "null": pd.array([1], dtype="Int16")})
    rows = Rows(fields_of(frame, names=["small", "null"]))
    for row in ({"small": 256, "null": 1}, {"small": -1, "null": 1}, {"small": 1, "null": 2**15}):
        with pytest.raises(RowRefused):
            rows.check(row)


def test_nan_stands_for_null() -> None:
    assert ROWS.columns([{**GOOD, "wind": math.nan}])["wind"] == [None]


def test_text_that_is_no_time_is_refused_by_name() -> None:
    assert refusal({**GOOD, "at": "yesterday"}).column == "at"


def test_times_with_and_without_an_offset_are_utc() -> None:
    rows = [{**GOOD, "at": text} for text in ("2013-03-01T05:00:00", "2013-03-01T00:00:00-05:00")]
    frame = ROWS.frame(ROWS.columns(rows))
    assert frame["at"].tolist() == [pd.Timestamp("2013-03-01T05:00:00Z")] * 2


def test_the_row_that_is_wrong_is_counted() -> None:
    with pytest.raises(RowRefused) as caught:
        ROWS.columns([GOOD, GOOD, {**GOOD, "wind": "x"}])
    assert caught.value.row == 2


@pytest.mark.parametrize("row", [[], "row", 3, None, [1, 2]])
def test_what_is_no_object_is_refused(row: Any) -> None:
    assert "must be an object" in refusal(row).message


def test_values_never_enter_messages() -> None:
    assert "secret" not in str(refusal({**GOOD, "wind": "secret"}))
    assert "secret" not in str(refusal({**GOOD, "at": "secret"}))


def test_an_unseen_category_is_missing_and_an_unseen_text_is_itself() -> None:
    frame = ROWS.frame(ROWS.columns([{**GOOD, "dest": "ZZZ", "carrier": "ZZ"}]))
    assert frame["dest"].isna().all()
    assert frame["dest"].dtype == FRAME["dest"].dtype
    assert frame["carrier"].tolist() == ["ZZ"]


def test_numpy_and_pandas_scalars_are_taken() -> None:
    row = {**GOOD, "wind": np.float32(1.5), "hour": np.int8(3), "weekend": np.bool_(True), "engines": pd.NA}
    found = ROWS.columns([{**row, "at": pd.NaT, "maker": np.str_("BOEING")}])
    assert (found["wind"], found["hour"], found["weekend"]) == ([1.5], [3], [True])
    assert found["engines"] == found["at"] == [None]


def test_dates_decimals_naive_times_and_number_categories_come_through() -> None:
    frame = pd.DataFrame(
        {
            "day": pd.Series([date(2024, 2, 29), None], dtype="object"),
            "price": pd.Series([Decimal("1.10"), Decimal("2.20")], dtype="object"),
            "then": pd.Series([datetime(2024, 1, 1, 5), datetime(2024, 1, 2)]),
            "grade": pd.Categorical([2, 1], categories=[1, 2], ordered=True),
            "flag": pd.array([True, None], dtype="boolean"),
            "small": np.array([1.1, 2.2], dtype="float32"),
        }
    )
    rows = Rows(fields_of(frame, names=list(frame.columns)))
    back = rows.frame(rows.columns(json.loads(json.dumps(rows.plain(frame)))))
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert rows.columns([rows.plain(frame)[0]])["then"] == [datetime(2024, 1, 1, 5, tzinfo=UTC)]


def test_a_column_that_no_request_can_carry_is_an_error_at_once() -> None:
    frame = pd.DataFrame({"blob": pd.Series([b"x", b"y"], dtype="object")})
    with pytest.raises(UsageError, match="blob"):
        fields_of(frame, names=["blob"])


def test_a_frame_with_other_dtypes_is_conformed_or_refused() -> None:
    other = FRAME.astype({"hour": "float64", "dest": "object", "carrier": "category", "seats": "float64"})
    pd.testing.assert_frame_equal(ROWS.conformed(other), FRAME, check_exact=True)
    with pytest.raises(RowRefused, match="column wind is missing"):
        ROWS.conformed(FRAME.drop(columns="wind"))
    with pytest.raises(RowRefused, match="column hour"):
        ROWS.conformed(FRAME.assign(hour=FRAME["hour"] + 0.5))


def test_every_column_that_does_not_fit_is_named_at_once() -> None:
    frame = pd.DataFrame({"fee": [1.5], "plan": ["a"], "age": [3]})
    rows = Rows(fields_of(frame, names=["fee", "plan", "age"]))
    with pytest.raises(RowRefused) as error:
        rows.columns([{"fee": 1.5, "customer_id": 7, "joined_at": "2026-01-01"}])
    assert error.value.message == (
        "columns plan, age are missing; columns customer_id, joined_at are no inputs of this model"
    )
    assert error.value.hint == "inputs: fee, plan, age; the request's id, key and time (at) stand beside the row"
