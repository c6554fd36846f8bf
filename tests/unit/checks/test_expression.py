"""Conditions compute on one row and do nothing else, whatever is written into them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from noria.checks.scanning.expression import BROKEN, HOLDS, SILENT, Conditions, Unreadable, read, read_all

TABLE = pa.table({"a": [1, 2, 3, None], "b": [3, 2, 1, 1], "c": ["x", "y", None, "z"], "my col": [1.0, 2.0, 3.0, 4.0]})


def said(text: str, table: Any = TABLE) -> list[int]:
    conditions = Conditions([read(text, table.column_names)], table.schema)
    found = conditions.evaluate(table)
    assert conditions.faults == {}
    conditions.close()
    return [int(code) for code in found[text]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b", [HOLDS, BROKEN, BROKEN, SILENT]),
        ("c in ('x', 'y')", [HOLDS, HOLDS, SILENT, BROKEN]),
        ("a is not null and length(coalesce(c, 'none')) = 1", [HOLDS, HOLDS, BROKEN, BROKEN]),
        ('"my col" between 2 and 3', [BROKEN, HOLDS, HOLDS, BROKEN]),
        ("case when a = 1 then b = 3 else true end", [HOLDS] * 4),
        ("A < B", [HOLDS, BROKEN, BROKEN, SILENT]),
        ("c ~ '[xy]'", [HOLDS, HOLDS, SILENT, BROKEN]),
        ("true", [HOLDS] * 4),
    ],
)
def test_an_expression_says_true_false_or_nothing_of_each_row(text: str, expected: list[int]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(select count(*) from read_csv('/etc/passwd')) > 0", "a subquery"),
        ("exists (select 1)", "a subquery"),
        ("a > 1) from rows; drop table rows; select (1", "SELECT"),
        ("a > 1); copy (select 1) to '/tmp/x'; select (1", "SELECT"),
        ("a > 1), (b > 1", "more than one expression"),
        ("a > 1) from rows union select (1", ""),
        ("a > 1 group by a", "syntax error"),
        ("a > 1 --", ""),
        ("sum(a) > 3", "'sum' is not allowed"),
        ("row_number() over () > 1", "window function"),
        ("random() > 0.5", "'random' is not allowed"),
        ("now() > '2020-01-01'", "'now' is not allowed"),
        ("getenv('HOME') = 'x'", "'getenv' is not allowed"),
        ("current_setting('threads') = 'x'", "'current_setting' is not allowed"),
        ("read_text('/etc/passwd') = 'x'", "not allowed"),
        ("rows.a > 1", "not a column of the row"),
        ("list_filter([a], lambda x: x > 1) is null", "lambda is not allowed"),
        ("lenght(c) > 1", "did you mean 'length'?"),
        ("aa > 1 and bogus", "no column"),
        ("$1 > 2", ""),
        ("count(*) > 1", "not allowed"),
        ("", ""),
    ],
)
def test_what_does_more_than_compute_is_refused_before_anything_runs(text: str, why: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(text, TABLE.column_names)
    assert why in str(caught.value)


def test_the_nearest_column_is_named() -> None:
    with pytest.raises(Unreadable, match="no column 'my_col', did you mean 'my col'"):
        read("my_col > 1", TABLE.column_names)


def test_one_that_fails_on_a_value_is_named_and_the_others_go_on() -> None:
    conditions = Conditions([read("c::int > 0"), read("b > 1")], TABLE.schema)
    found = conditions.evaluate(TABLE)
    assert list(found) == ["b > 1"]
    assert "Conversion" in conditions.faults["c::int > 0"]
    assert list(conditions.evaluate(TABLE)) == ["b > 1"], "a fault stays a fault"


@pytest.mark.parametrize("text", ["a", "a + b", "length(c)", "case when a > 1 then 1 else 0 end", "c", "null"])
def test_what_is_neither_true_nor_false_cannot_be_evaluated(text: str) -> None:
    """A condition without its comparison held wherever the number was not 0."""
    conditions = Conditions([read(text), read("b > 0")], TABLE.schema)
    assert list(conditions.evaluate(TABLE)) == ["b > 0"]
    assert "not true or false: a comparison is missing" in conditions.faults[text]
    conditions.close()


def test_many_are_read_at_once_each_with_its_own_answer() -> None:
    found = read_all(["a > 1", "nosuch > 1", "a >"], ["a"])
    assert found["a > 1"].columns == frozenset({"a"})  # type: ignore[union-attr]
    assert isinstance(found["nosuch > 1"], Unreadable)
    assert isinstance(found["a >"], Unreadable)


def test_a_condition_without_columns_is_asked_of_every_row() -> None:
    assert said("1 > 2", pa.table({"x": np.arange(3)})) == [BROKEN] * 3
