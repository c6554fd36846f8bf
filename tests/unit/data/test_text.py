from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.data.forms import text


def kind(*values: str) -> str:
    return text.kind_of(pa.array(values, pa.string()))


def cast(kind: str, *values: str) -> list[object]:
    return text.cast(pa.chunked_array([pa.array(values, pa.string())]), kind).to_pylist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1", "-2", "0"), "int64"),
        (("02139", "10001"), "string"),
        (("007",), "string"),
        (("+5",), "string"),
        (("1e5",), "string"),
        (("1E5",), "string"),
        (("1.5", "2", "-0.25", "1e-05", "1.5e3"), "double"),
        ((".5", "-.5", "1."), "double"),
        (("00.5",), "string"),
        (("1,5",), "string"),
        (("99999999999999999999", "NA", "7"), "decimal128(20, 0)"),
        (("9223372036854775809", "-123456789012345678901234567890"), "decimal128(30, 0)"),
        (("10000000000000000000000",), "double"),
        (("9" * 39,), "string"),
        (("09223372036854775809",), "string"),
        (("true", "False"), "bool"),
        (("true", "1"), "string"),
        (("2013-01-31",), "date32[day]"),
        (("2013-02-30",), "string"),
        (("2013-01-31T05:00", "2013-01-31 05:00:00.25"), "timestamp[us]"),
        (("2013-01-31T05:00:00Z", "2013-01-31 05:00:00+02:00"), "timestamp[us, tz=UTC]"),
        (("2013-01-31T05:00:00Z", "2013-01-31T05:00:00"), "string"),
        (("", "NA", "null"), "null"),
        (("1", "NA", ""), "int64"),
        (("NA", "DE"), "string"),
        (("1", "x"), "string"),
        (("0x10",), "string"),
        (("inf",), "string"),
    ],
)
def test_the_type_is_the_narrowest_that_loses_nothing(values: tuple[str, ...], expected: str) -> None:
    assert kind(*values) == expected


def test_a_word_for_missing_is_text_in_a_text_column_and_null_in_a_typed_one() -> None:
    assert cast("string", "NA", "DE", "") == ["NA", "DE", None]
    assert cast("int64", "NA", "7", "") == [None, 7, None]
    assert cast("null", "NA", "") == [None, None]


def test_times_with_an_offset_become_utc() -> None:
    found = cast("timestamp[us, tz=UTC]", "2013-01-31T05:00:00+02:00")
    assert found == [datetime.datetime(2013, 1, 31, 3, tzinfo=datetime.UTC)]


def test_what_is_no_number_in_one_file_makes_the_column_text_in_all() -> None:
    assert text.join(["int64", "string"]) == "string"
    assert text.join(["int64", "null", "double"]) == "double"
    assert text.join(["date32[day]", "timestamp[us]"]) == "timestamp[us]"
    assert text.join(["timestamp[us]", "timestamp[us, tz=UTC]"]) == "string"
    assert text.join([]) == "null"


@given(st.lists(st.sampled_from(text.KINDS), max_size=6))
def test_the_join_does_not_depend_on_the_order_of_files(kinds: list[str]) -> None:
    assert text.join(kinds) == text.join(kinds[::-1]) == text.join([*kinds, *kinds])


@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1).map(str), st.just("")), min_size=1))
def test_whole_numbers_survive_exactly(values: list[str]) -> None:
    found = kind(*values)
    assert found in ("int64", "null")
    assert cast(found, *values) == [int(value) if value else None for value in values]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).map(repr), min_size=1))
def test_numbers_written_by_python_survive_exactly(values: list[str]) -> None:
    assert kind(*values) == "double"
    assert cast("double", *values) == [float(value) for value in values]


@given(st.lists(st.text(alphabet="0123456789abc-+.eE NA:TZ", min_size=1), min_size=1))
def test_text_is_never_changed_unless_it_says_the_same_again(values: list[str]) -> None:
    """A whole number is read as a number only if writing it gives the same text (but for padding)."""
    if kind(*values) == "int64":
        for value, found in zip(values, cast("int64", *values), strict=True):
            assert found is None or str(found) == value.strip() or (value.strip() == "-0" and found == 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("31/12/2020", "01/02/2021"), True),
        (("12/31/20",), True),
        (("1.2.2021", "NA", ""), True),
        (("31-12-2020 17:30", "31-12-2020, 17:30"), True),
        (("31/12/2020", "soon"), False),
        (("2020/12/31",), False),
        (("2020-12-31",), False),
        (("1/2",), False),
        (("192.168.1.1",), False),
        (("1.2.3",), False),
        (("", "NA"), False),
        ((), False),
    ],
)
def test_dates_as_people_write_them_are_told(values: tuple[str, ...], expected: bool) -> None:
    assert text.is_day_or_month_first(pa.array(values, pa.string())) is expected
    assert kind(*values) in ("string", "null") or values == ("2020-12-31",)
