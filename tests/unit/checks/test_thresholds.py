"""Every number of a suite file, found by its type: none may be nan or infinite, and no threshold below 0."""

from __future__ import annotations

import dataclasses
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.checks.suites.rules import KINDS, ColumnRules, Leakage, RowRule, Rule, TableRules
from noria.checks.suites.suitefile import parse, read_text
from noria.core.errors import ConfigError

VALUES = {
    "min", "max", "floor", "offset", "typical", "typical_nonzero", "seen", "usual", "allowed", "forbidden", "values",
    "strict",
}  # fmt: skip
"""What may be below 0: values of the data themselves. Everything else is a share, a count or a width."""
REQUIRED: dict[str, object] = {
    "column": "x",
    "columns": ["x", "y"],
    "values": [1.0],
    "format": "%Y",
    "dataset": "d.x",
    "condition": "x > 1",
    "types": ["number"],
    "statistic": "mean",
    "pattern": "x",
}
COUNTED = ("length", "rows", "columns")
Where = tuple[str, object]


def numeric(kind: type) -> dict[str, bool]:
    """The fields that hold numbers, and whether they hold many."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        inner = {hint, *typing.get_args(hint), *(a for arg in typing.get_args(hint) for a in typing.get_args(arg))}
        if inner & {int, float}:
            found[name] = typing.get_origin(hint) is tuple
    return found


def every() -> list[tuple[str, str, dict[str, object], bool]]:
    """(section, key, the rest of its table, whether it is a list) for each numeric option there is."""
    found: list[tuple[str, str, dict[str, object], bool]] = []
    for section, kind, rest in (
        ("table", TableRules, {}),
        ("columns", ColumnRules, {}),
        ("rows", RowRule, {"name": "r", "where": "x > 1"}),
        ("leakage", Leakage, {"label": "y"}),
    ):
        found += [(section, key, dict(rest), many) for key, many in numeric(kind).items()]
    for name, rule in KINDS.items():
        given_keys = {key: REQUIRED[key] for key in rule.needs}
        if name in ("pattern", "not_pattern"):
            given_keys["pattern"] = "x"
        if name == "unique":
            given_keys["column"] = "x"
        for key, many in numeric(Rule).items():
            if key in rule.fields():
                found.append(("rules", key, {"rule": name, **given_keys}, many))
    return found


def document(section: str, key: str, rest: dict[str, object], value: object) -> dict[str, object]:
    made = rest | {key: value}
    return {"dataset": "d"} | {
        "table": {"table": made},
        "columns": {"columns": {"x": made}},
        "leakage": {"leakage": made},
        "rows": {"rows": [made]},
        "rules": {"rules": [made]},
    }[section]


def test_the_list_of_numbers_is_the_whole_of_them() -> None:
    found = {(section, key) for section, key, _, _ in every()}
    for item in ("keep", "grow", "min_rows", "max_rows"):
        assert ("table", item) in found
    for item in ("nulls", "nulls_when", "drift", "clump", "usual_shares", "shift", "length", "null_run", "step"):
        assert ("columns", item) in found
    for item in ("min", "max", "at", "share", "values"):
        assert ("rules", item) in found
    assert {("rows", "share"), ("leakage", "copies"), ("leakage", "duplicates")} <= found
    names = {
        field.name for kind in (TableRules, ColumnRules, RowRule, Rule, Leakage) for field in dataclasses.fields(kind)
    }
    assert {key for _, key in found} <= names


@given(st.sampled_from(every()), st.sampled_from([float("nan"), float("inf"), float("-inf")]))
def test_no_number_is_nan_or_infinite(option: tuple[str, str, dict[str, object], bool], value: float) -> None:
    section, key, rest, many = option
    with pytest.raises(ConfigError) as caught:
        parse(document(section, key, rest, [value, value] if many else value), "checks/d.toml")
    assert key in str(caught.value)
    assert "checks/d.toml" in str(caught.value)


@given(st.sampled_from(every()), st.floats(max_value=-1e-9, min_value=-1e12), st.integers(-(10**9), -1))
def test_no_threshold_is_below_0(option: tuple[str, str, dict[str, object], bool], small: float, whole: int) -> None:
    section, key, rest, many = option
    is_count = section == "rules" and key in ("min", "max") and rest["rule"] in COUNTED
    if key in VALUES and not is_count:
        return
    for value in (small, whole):
        with pytest.raises(ConfigError) as caught:
            parse(document(section, key, rest, [value, value] if many else value), "checks/d.toml")
        assert key in str(caught.value)
        assert "checks/d.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[table]\nkeep = nan", 3, "table.keep is nan"),
        ("[table]\nkeep = inf", 3, "table.keep is inf"),
        ("[table]\nkeep = -0.1", 3, "table.keep is a share from 0 to 1"),
        ("[table]\nkeep = 2", 3, "table.keep is a share from 0 to 1"),
        ("[table]\nmin_rows = 9\nmax_rows = 8", 4, "below min_rows"),
        ("[columns.x]\nmin = 3\nmax = 2", 3, "above max"),
        ("[columns.x]\nlength = [3, 2]", 3, "length"),
        ("[columns.x]\nwhen = 'y >= nan'\nnulls_when = 0.1", 3, "compares with nan"),
        ("[columns.x]\nallowed = [1.0, nan]", 3, "columns.x.allowed is nan"),
        ("[[rules]]\nrule = 'range'\ncolumn = 'x'\nmin = 2\nmax = 1", 5, "above max"),
        ("[[rules]]\nrule = 'range'\ncolumn = 'x'\nmin = '2024'\nmax = '2023'", 5, "above max"),
    ],
)
def test_the_file_the_line_and_the_key_are_named(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_text(f"dataset = 'd'\n{text}\n", "checks/d.toml")
    said = str(caught.value)
    assert words in said, said
    assert f"checks/d.toml, line {line}" in said
    assert len(said.splitlines()) <= 6
