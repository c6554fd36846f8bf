"""Each expectation becomes a rule or is refused by name; nothing is dropped on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from noria.checks.adapters.gx import KNOWN, read
from noria.checks.adapters.imported import Refused
from noria.checks.adapters.rowconditions import sql
from noria.checks.scanning.expression import read as read_expression
from noria.checks.suites.rules import Rule
from noria.core.errors import UsageError


def one(kind: str, **kwargs: Any) -> Any:
    found = read(json.dumps({"expectations": [{"type": kind, "kwargs": kwargs}]}))
    assert len(found) == 1
    return found[0]


def rule(kind: str, **kwargs: Any) -> Rule:
    found = one(kind, **kwargs)
    assert found.refused == "", found.refused
    assert len(found.rules) == 1
    made: Rule = found.rules[0]
    assert made.source == f"gx: {kind}"
    return made


def test_the_forms_of_both_ages_are_read() -> None:
    new = {"name": "s", "expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "a"}, "id": "1"}]}
    old = {
        "expectation_suite_name": "s",
        "data_asset_type": None,
        "expectations": [{"expectation_type": "expect_column_to_exist", "kwargs": {"column": "a"}, "meta": {}}],
        "meta": {"great_expectations_version": "0.18.19"},
    }
    bare = old["expectations"]
    for document in (new, old, bare):
        assert read(json.dumps(document))[0].rules[0].columns == ("a",)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"expectations": 3}', '{"a": 1}', '"x"'])
def test_what_is_no_suite_is_said(text: str) -> None:
    with pytest.raises(UsageError):
        read(text)


def test_tolerance_severity_and_row_condition_are_kept() -> None:
    text = json.dumps(
        [
            {
                "type": "expect_column_values_to_be_between",
                "kwargs": {"column": "a", "min_value": 1, "mostly": 0.95, "row_condition": 'col("b") > 3'},
                "severity": "warning",
            }
        ]
    )
    made = read(text)[0].rules[0]
    assert (made.rule, made.min, made.share, made.severity, made.where) == ("range", 1.0, 0.05, "warn", '("b" > 3)')


@pytest.mark.parametrize(
    ("kind", "kwargs", "why"),
    [
        ("expect_column_kl_divergence_to_be_less_than", {"column": "a", "threshold": 0.1}, "no rule here"),
        ("expect_my_own_thing", {"column": "a"}, "no rule here"),
        ("expect_column_values_to_be_between", {"column": "a"}, "neither min_value nor max_value"),
        ("expect_column_values_to_be_between", {"column": "a", "min_value": {"$PARAMETER": "p"}}, "a parameter"),
        ("expect_column_values_to_be_between", {"min_value": 1}, "column is missing"),
        ("expect_column_values_to_match_regex", {"column": "a", "regex": "(?=x)"}, "RE2"),
        ("expect_column_values_to_be_in_set", {"column": "a", "value_set": []}, "not a list"),
        ("expect_column_values_to_be_in_set", {"column": "a", "value_set": [{"x": 1}]}, "plain values"),
        ("expect_column_values_to_be_of_type", {"column": "a", "type_": "MONEY"}, "MONEY"),
        ("expect_column_values_to_be_unique", {"column": "a", "row_condition": "b > 3"}, "row condition"),
        (
            "expect_column_mean_to_be_between",
            {"column": "a", "min_value": 1, "row_condition": "b > 3"},
            "row condition",
        ),
        ("expect_column_to_exist", {"column": "a", "column_index": 2}, "column_index"),
        ("expect_column_values_to_not_be_null", {"column": "a", "row_condition": "f(b) > 3"}, "row condition"),
        ("expect_column_values_to_not_be_null", {"column": "a", "new_argument": 3}, "new_argument has no equal"),
        ("expect_column_values_to_match_like_pattern", {"column": "a", "like_pattern": "x", "escape": "!"}, "escape"),
        (
            "expect_column_pair_values_to_be_equal",
            {"column_A": "a", "column_B": "b", "ignore_row_if": "no"},
            "ignore_row",
        ),
    ],
)
def test_what_has_no_equal_is_refused_by_name(kind: str, kwargs: dict[str, Any], why: str) -> None:
    found = one(kind, **kwargs)
    assert found.rules == ()
    assert (found.source, why in found.refused) == (kind, True), found.refused


def test_an_unknown_severity_and_missing_arguments_are_refused() -> None:
    found = read(
        json.dumps([{"type": "expect_column_to_exist", "kwargs": {"column": "a"}, "severity": "fatal"}, {"type": "x"}])
    )
    assert [each.refused for each in found] == ["severity 'fatal'", "it has no kwargs"]


def test_patterns_lists_and_pairs() -> None:
    like = rule("expect_column_values_to_match_like_pattern", column="a", like_pattern="a%b_c.")
    assert like.patterns == ("^a(?s:.*)b(?s:.)c\\.$",)
    many = rule("expect_column_values_to_match_regex_list", column="a", regex_list=["x", "y"], match_on="all")
    assert (many.patterns, many.match) == (("x", "y"), "all")
    pair = rule("expect_column_pair_values_a_to_be_greater_than_b", column_A="a", column_B='b"c', or_equal=True)
    assert pair.condition == 'coalesce("a" >= "b""c", false)'
    assert pair.where == 'not ("a" is null and "b""c" is null)'
    for text in (pair.condition, pair.where):
        assert read_expression(text).columns == {"a", 'b"c'}
    quantiles = one(
        "expect_column_quantile_values_to_be_between",
        column="a",
        quantile_ranges={"quantiles": [0.1, 0.9], "value_ranges": [[1, None], [None, 9]]},
    )
    assert [(each.at, each.min, each.max) for each in quantiles.rules] == [(0.1, 1.0, None), (0.9, None, 9.0)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a > 3 and b == 'x'", "(\"a\" > 3 and \"b\" = 'x')"),
        ("(a > 3) & ~(b != -1)", '("a" > 3 and (not "b" <> -1))'),
        ('col("my col").notNull()', '"my col" is not null'),
        ("a in ['x', 'o''k'] or not b.isnull()", "(\"a\" in ('x', 'ok') or (not \"b\" is null))"),
        ("1 < a <= 5", '(1 < "a" and "a" <= 5)'),
        ({"type": "comparison", "column": {"name": "a"}, "operator": "==", "parameter": "it's"}, "\"a\" = 'it''s'"),
        ({"type": "comparison", "column": {"name": "a"}, "operator": "NOT_IN", "parameter": [1]}, '"a" not in (1)'),
        (
            {"type": "and", "conditions": [
                {"type": "nullity", "column": {"name": "a"}, "is_null": False},
                {"type": "pass_through", "pass_through_filter": "b >= 2"},
            ]},
            '("a" is not null and "b" >= 2)',
        ),
    ],
)  # fmt: skip
def test_row_conditions_become_sql_that_is_safe(condition: Any, expected: str) -> None:
    assert sql(condition) == expected
    read_expression(expected)


@pytest.mark.parametrize(
    "condition",
    ["__import__('os').system('x')", "a.b.c > 1", "a >", "f(a)", "a @ b", "lambda: 1", 3, {"type": "?"},
     "[x for x in a]",
     {"type": "comparison", "column": {"name": "a"}, "operator": "; drop", "parameter": 1}, "a > b'x'"],
)  # fmt: skip
def test_a_row_condition_that_is_more_than_a_comparison_is_refused(condition: Any) -> None:
    with pytest.raises(Refused):
        sql(condition)


def test_there_are_as_many_expectations_as_the_documents_say() -> None:
    assert len(KNOWN) >= 45
