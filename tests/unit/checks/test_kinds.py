"""Every kind of rule on rows against the plainest way to say the same in Python."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.checks.kinds.files import FILE_KINDS, FileCheck
from noria.checks.rulecheck import RuleCheck
from noria.checks.scanning.expression import Conditions, Expression, read_all
from noria.checks.scanning.summary import TableProfile
from noria.checks.scanning.tally import Rows
from noria.checks.suites.rules import Rule


def judge(rule: Rule, table: pa.Table, *, size: int = 7, known: Any = None) -> Any:
    """The finding of a rule that watches a table in small batches."""
    read = read_all([text for text in (rule.where, rule.condition) if text], table.column_names)
    made: Any
    if rule.rule in FILE_KINDS:
        made = FileCheck(rule, table.schema, is_keeping=True)
    else:
        made = RuleCheck(rule, table.schema, read, known=known, is_keeping=True)
    good = [each for each in read.values() if isinstance(each, Expression)]
    conditions = Conditions(good, table.schema) if good else None
    first = 0
    for batch in table.to_batches(max_chunksize=size):
        rows = Rows(batch, first)
        if conditions is not None:
            rows.said = conditions.evaluate(rows.table())
        made.look(rows)
        first += batch.num_rows
    profile = TableProfile(file="f", digest="", rows=table.num_rows, time_min="", time_max="", columns={})
    found = made.findings(profile, conditions.faults if conditions else {})[0]
    places = np.concatenate([part for part in made.broken() if len(part)] or [np.zeros(0, int)])
    if not found.passed and found.rows:
        assert list(found.rows) == list(places[:10])
        assert found.count == len(places)
    return found


def broken(rule: Rule, values: list[Any], kind: Any = None, **known: Any) -> list[int]:
    """The rows that break a rule on one column `x`, whatever the batches and the encoding."""
    plain = pa.table({"x": pa.array(values, kind)})
    found = judge(rule, plain, **known)
    if plain["x"].type == pa.string():
        again = judge(rule, pa.table({"x": plain["x"].dictionary_encode()}), size=1000, **known)
        assert (again.count, again.passed, again.rows) == (found.count, found.passed, found.rows)
    if rule.rule not in ("not_null", "null") and all(value is None for value in values):
        assert not found.passed, "a rule that no value was asked of"
        assert "cannot be evaluated: the column has no values (allow_empty = true" in found.message
        found = judge(dataclasses.replace(rule, allow_empty=True), plain, **known)
    assert "cannot be evaluated" not in found.message, found.message
    return [] if found.passed else list(found.rows) if found.count <= 10 else list(range(found.count))


texts = st.lists(st.one_of(st.none(), st.text("ab1", max_size=3)), min_size=1, max_size=10)
numbers = st.lists(st.one_of(st.none(), st.integers(-3, 3).map(float)), min_size=1, max_size=10)


def plainly(values: list[Any], is_bad: Callable[[Any], bool]) -> list[int]:
    return [row for row, value in enumerate(values) if value is not None and is_bad(value)]


@given(numbers, st.booleans(), st.booleans())
def test_a_range_of_numbers(values: list[float | None], strict_min: bool, strict_max: bool) -> None:
    rule = Rule(rule="range", column="x", min=-1.0, max=2.0, strict_min=strict_min, strict_max=strict_max)
    low: Callable[[Any], bool] = (lambda v: v <= -1) if strict_min else (lambda v: v < -1)
    high: Callable[[Any], bool] = (lambda v: v >= 2) if strict_max else (lambda v: v > 2)
    assert broken(rule, values, pa.float64()) == plainly(values, lambda v: low(v) or high(v))


@given(texts)
def test_rules_on_texts(values: list[str | None]) -> None:
    string = pa.string()
    assert broken(Rule(rule="range", column="x", min="a", max="b"), values, string) == plainly(
        values, lambda v: v < "a" or v > "b"
    )
    assert broken(Rule(rule="length", column="x", min=1.0, max=2.0), values, string) == plainly(
        values, lambda v: not 1 <= len(v) <= 2
    )
    assert broken(Rule(rule="in", column="x", values=("a", "b1")), values, string) == plainly(
        values, lambda v: v not in ("a", "b1")
    )
    assert broken(Rule(rule="not_in", column="x", values=("a", "")), values, string) == plainly(
        values, lambda v: v in ("a", "")
    )
    assert broken(Rule(rule="pattern", column="x", pattern="^a"), values, string) == plainly(
        values, lambda v: not re.search("^a", v)
    )
    assert broken(Rule(rule="pattern", column="x", patterns=("a", "1$"), match="any"), values, string) == plainly(
        values, lambda v: not re.search("a", v) and not re.search("1$", v)
    )
    assert broken(Rule(rule="pattern", column="x", patterns=("a", "1$")), values, string) == plainly(
        values, lambda v: not (re.search("a", v) and re.search("1$", v))
    )
    assert broken(Rule(rule="not_pattern", column="x", pattern="b"), values, string) == plainly(
        values, lambda v: bool(re.search("b", v))
    )
    assert broken(Rule(rule="not_null", column="x"), values, string) == [i for i, v in enumerate(values) if v is None]
    assert broken(Rule(rule="null", column="x"), values, string) == [i for i, v in enumerate(values) if v is not None]


def test_texts_that_are_times_or_json() -> None:
    days = ["2020-01-31", "2020-02-30", None, "x"]
    assert broken(Rule(rule="format", column="x", format="%Y-%m-%d"), days) == [1, 3]
    documents = ['{"a": 1}', "[1,", None, "3"]
    assert broken(Rule(rule="json", column="x"), documents) == plainly(documents, lambda v: not _is_json(v)) == [1]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "kind", [pa.timestamp("s"), pa.timestamp("us", "UTC"), pa.timestamp("ms"), pa.date32(), pa.timestamp("ns")], ids=str
)
def test_times_are_compared_as_moments(kind: pa.DataType) -> None:
    days = [dt.date(2020, 1, 1), dt.date(2021, 6, 1), None, dt.date(2023, 1, 1)]
    values: list[Any] = days if kind == pa.date32() else [d and dt.datetime(d.year, d.month, d.day) for d in days]
    assert broken(Rule(rule="range", column="x", min="2020-06-01", max="2022-01-01T00:00:00"), values, kind) == [0, 3]
    assert broken(Rule(rule="in", column="x", values=("2020-01-01", "2023-01-01")), values, kind) == [1]


def test_numbers_and_bools_in_a_set() -> None:
    assert broken(Rule(rule="in", column="x", values=(1.0, 2.0)), [1, 2, 3, None], pa.int32()) == [2]
    assert broken(Rule(rule="not_in", column="x", values=(3.0,)), [1, None, 3], pa.float32()) == [2]
    assert broken(Rule(rule="in", column="x", values=(True,)), [True, False, None]) == [1]


def test_values_of_another_data_set_are_known() -> None:
    known = pa.array([1, 2, 3], pa.int64())
    assert broken(Rule(rule="references", column="x", dataset="c.id"), [1, 4, None, 3], pa.int32(), known=known) == [1]
    assert broken(Rule(rule="references", column="x", dataset="c.id"), ["a", "b"], known=pa.array(["a"])) == [1]


@pytest.mark.parametrize(
    ("rule", "kind", "why"),
    [
        (Rule(rule="pattern", column="x", pattern="a"), pa.bool_(), "not text"),
        (Rule(rule="length", column="x", min=1.0), pa.float64(), "not text"),
        (Rule(rule="range", column="x", min="a"), pa.int64(), "cannot be compared"),
        (Rule(rule="range", column="x", min=1.0), pa.string(), "cannot be compared"),
        (Rule(rule="range", column="x", min=1.0), pa.timestamp("us"), "cannot be compared"),
        (Rule(rule="range", column="x", min="monday"), pa.timestamp("us"), "not a time"),
        (Rule(rule="range", column="x", min="2020-01-01"), pa.time64("us"), "not a moment"),
        (Rule(rule="range", column="x", min=1.0), pa.bool_(), "no range"),
        (Rule(rule="in", column="x", values=("a",)), pa.int64(), "cannot be compared"),
        (Rule(rule="in", column="x", values=(1.0,)), pa.list_(pa.int64()), "cannot be compared"),
        (Rule(rule="not_null", column="y"), pa.int64(), "no column 'y'"),
        (Rule(rule="row", condition="y > 1"), pa.int64(), "no column 'y'"),
        (Rule(rule="row", condition="x::date > date '2020-01-01'"), pa.bool_(), ""),
        (Rule(rule="not_null", column="x", where="x like 3"), pa.int64(), ""),
        (Rule(rule="statistic", column="x", statistic="mean", min=1.0), pa.string(), "not a number"),
        (Rule(rule="statistic", column="x", statistic="quantile", min=1.0), pa.int64(), "needs at"),
        (Rule(rule="order", column="x", order="increasing"), pa.list_(pa.int64()), "no order"),
        (Rule(rule="distinct", column="x", values=(1.0,), match="some"), pa.int64(), "not subset"),
        (Rule(rule="type", column="z", types=("text",)), pa.int64(), "no column 'z'"),
        (Rule(rule="unique_within_row", columns=("x", "s")), pa.list_(pa.int64()), "cannot be compared"),
    ],
)
def test_a_rule_that_cannot_be_evaluated_fails_with_its_reason(rule: Rule, kind: pa.DataType, why: str) -> None:
    values = {
        pa.string(): ["a"], pa.bool_(): [True], pa.timestamp("us"): [dt.datetime(2020, 1, 1)],
        pa.time64("us"): [dt.time(1)],
    }.get(kind, [[1]] if pa.types.is_list(kind) else [1])  # fmt: skip
    found = judge(rule, pa.table({"x": pa.array(values, kind), "s": ["t"]}))
    assert not found.passed
    assert found.message.startswith("cannot be evaluated: "), found.message
    assert why in found.message
    assert found.count == 1


def test_a_tolerance_is_of_the_rows_that_the_rule_is_about() -> None:
    table = pa.table({"x": [1.0, 9.0, None, None, 2.0, 3.0], "g": ["a", "a", "a", "a", "b", "b"]})
    third = Rule(rule="range", column="x", max=5.0, share=0.25)
    assert judge(third, table).passed, "one of four values"
    only_a = Rule(rule="range", column="x", max=5.0, share=0.25, where="g = 'a'")
    found = judge(only_a, table)
    assert (found.passed, found.count, found.total, found.rows) == (False, 1, 2, (1,))
    assert "50.0 %, at most 25.0 %" in found.message
    assert judge(Rule(rule="not_null", column="x", share=1 / 3), table).passed
    assert judge(Rule(rule="not_null", column="x", share=0.3), table).total == 6


def test_conditions_across_columns() -> None:
    table = pa.table({"a": [1, 2, None, 3], "b": [2, 1, 1, None], "c": [1, 5, 1, 3]})
    found = judge(Rule(rule="row", condition="a < b"), table)
    assert found.rows == (1, 2, 3)
    assert "2 of them because it is null" in found.message
    assert judge(Rule(rule="row", condition="a < b", allow_nulls=True), table).rows == (1,)
    assert judge(Rule(rule="unique_within_row", columns=("a", "b", "c")), table).rows == (0, 2, 3)
    assert judge(Rule(rule="row", condition="1 > 2"), table).count == 4


@given(numbers, st.sampled_from(["increasing", "decreasing"]), st.booleans(), st.integers(1, 5))
def test_order_is_kept_across_batches(values: list[float | None], order: str, strict: bool, size: int) -> None:
    there = [value for value in values if value is not None]
    sign = 1 if order == "increasing" else -1
    bad = sum(sign * (b - a) < 0 or (strict and a == b) for a, b in itertools.pairwise(there))
    table = pa.table({"x": pa.array(values, pa.float64())})
    if not there:
        assert "no values" in judge(Rule(rule="order", column="x", order=order, strict=strict), table).message
    found = judge(Rule(rule="order", column="x", order=order, strict=strict, allow_empty=True), table, size=size)
    assert (found.passed, 0 if found.passed else found.count) == (bad == 0, bad)
    words = pa.table({"x": pa.array([None if v is None else f"{v + 5:.0f}" for v in values], pa.string())})
    rule = Rule(rule="order", column="x", order=order, strict=strict, allow_empty=True)
    assert judge(rule, words, size=size).passed == (bad == 0)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (Rule(rule="range", column="x", min=0.0, where="g = 'z'"), "there is no row with a value where g = 'z'"),
        (Rule(rule="range", column="x", min=0.0, where="g = 'b'"), "there is no row with a value where g = 'b'"),
        (Rule(rule="not_null", column="x", where="g = 'z'"), "there is no row where g = 'z'"),
        (Rule(rule="not_null", column="x", where="n > 3"), "there is no row where n > 3"),
        (Rule(rule="row", condition="x > 0", where="g = 'z'"), "there is no row where g = 'z'"),
        (Rule(rule="unique_within_row", columns=("x", "n"), where="g = 'z'"), "there is no row where g = 'z'"),
        (Rule(rule="in", column="n", values=(1.0,)), "the column has no values"),
        (Rule(rule="order", column="n"), "the column has no values"),
        (Rule(rule="distinct", column="n", values=(1.0,)), "the column has no values"),
    ],
)
def test_a_rule_that_nothing_was_asked_of_fails_unless_it_allows_that(rule: Rule, why: str) -> None:
    table = pa.table({"x": [1.0, None], "g": ["a", "b"], "n": pa.array([None, float("nan")], pa.float64())})
    for size in (1, 2):
        found = judge(rule, table, size=size)
        assert not found.passed
        assert found.message == f"cannot be evaluated: {why} (allow_empty = true lets that pass)"
        assert judge(dataclasses.replace(rule, allow_empty=True), table, size=size).passed


def test_nan_is_no_value_in_a_condition_either() -> None:
    table = pa.table({"x": [1.0, float("nan"), None, 5.0], "y": [0.0, 0.0, 0.0, 9.0]})
    assert judge(Rule(rule="row", condition="x > y"), table).rows == (1, 2, 3)
    assert judge(Rule(rule="row", condition="x > y", where="x is not null"), table).rows == (3,)


@given(st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=1, max_size=30), st.integers(1, 9))
def test_statistics_are_those_of_numpy(values: list[int | None], size: int) -> None:
    table = pa.table({"x": pa.array(values, pa.int64())})
    there = np.array([value for value in values if value is not None], float)
    told = {
        "mean": np.mean, "median": np.median, "sum": np.sum, "min": np.min, "max": np.max,
        "distinct": lambda v: len(np.unique(v)), "distinct share": lambda v: len(np.unique(v)) / len(v),
        "filled share": lambda v: len(v) / len(values),
        "stdev": lambda v: np.std(v, ddof=1) if len(v) > 1 else np.nan,
    }  # fmt: skip
    for statistic, made in told.items():
        truth = float(made(there)) if len(there) or statistic in ("filled share", "sum") else float("nan")
        around = Rule(rule="statistic", column="x", statistic=statistic, min=truth - 1e-6, max=truth + 1e-6)
        if np.isnan(truth):
            if statistic not in ("distinct", "distinct share"):
                assert "cannot be evaluated" in judge(around, table, size=size).message
            continue
        assert judge(around, table, size=size).passed, statistic
        above = Rule(rule="statistic", column="x", statistic=statistic, min=truth + 1e-3)
        assert not judge(above, table, size=size).passed, statistic
    if len(there):
        for method in ("linear", "nearest"):
            truth = float(np.quantile(there, 0.3, method=method))  # type: ignore[call-overload]  # a name at run time
            rule = Rule(
                rule="statistic",
                column="x",
                statistic="quantile",
                at=0.3,
                match=method,
                min=truth - 1e-9,
                max=truth + 1e-9,
            )
            assert judge(rule, table, size=size).passed


def test_distinct_values_as_a_subset_a_superset_or_equal() -> None:
    table = pa.table({"x": ["a", "b", "a", None]})
    asked = {
        ("subset", ("a", "b", "c")): True, ("subset", ("a",)): False, ("superset", ("a",)): True,
        ("superset", ("a", "c")): False, ("equal", ("a", "b")): True, ("equal", ("a", "b", "c")): False,
    }  # fmt: skip
    for (match, values), expected in asked.items():
        assert judge(Rule(rule="distinct", column="x", values=values, match=match), table).passed == expected


def test_types_and_columns() -> None:
    table = pa.table({"x": pa.array([1], pa.int32()), "y": ["a"]})
    assert judge(Rule(rule="type", column="x", types=("number",)), table).passed
    assert judge(Rule(rule="type", column="x", types=("int32", "int64")), table).passed
    assert "int32, not double" in judge(Rule(rule="type", column="x", types=("double",)), table).message
    assert judge(Rule(rule="columns", columns=("x", "y")), table).passed
    assert "another order" in judge(Rule(rule="columns", columns=("y", "x")), table).message
    assert judge(Rule(rule="columns", columns=("y", "x"), match="set"), table).passed
    assert judge(Rule(rule="columns", columns=("y",), match="superset"), table).passed
    assert "unexpected: x" in judge(Rule(rule="columns", columns=("y",), match="set"), table).message
    assert "missing: z" in judge(Rule(rule="columns", columns=("z",), match="superset"), table).message
    assert "2 columns, not at least 3" in judge(Rule(rule="columns", min=3.0), table).message


def test_a_plug_in_that_raises_or_answers_nonsense_fails() -> None:
    table = pa.table({"x": [1, 2]})
    check = RuleCheck(Rule(rule="range", column="x", min=1.0), table.schema, {})
    for ask, why in ((lambda rule, rows: 1 / 0, "ZeroDivisionError"), (lambda rule, rows: "no", "str, not a mask")):
        check._ask, check.fault = ask, ""
        check.look(Rows(table, 0))
        profile = TableProfile(file="f", digest="", rows=2, time_min="", time_max="", columns={})
        found = check.findings(profile, {})[0]
        assert not found.passed
        assert why in found.message
