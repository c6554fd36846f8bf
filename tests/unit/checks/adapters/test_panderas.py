"""Pandera schemas are run completely, read as rules, and written from rules."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pap
import pandera.polars as pal
import polars as pl
import pyarrow as pa
import pytest

from noria.checks.adapters import pandera_text, panderas
from noria.checks.suites.rules import ColumnRules, Rule, Suite, TableRules
from noria.core.errors import NotFound, ProjectError, UsageError

GOOD = pa.table({"a": [1, 2, 3], "s": ["x1", "x2", None]})
BAD = pa.table({"a": [1, 200, -3], "s": ["x1", "y2", None]})
PANDAS = pap.DataFrameSchema(
    {
        "a": pap.Column("int64", pap.Check.in_range(0, 10), unique=True),
        "s": pap.Column(str, pap.Check.str_startswith("x"), nullable=True),
    }
)
POLARS = pal.DataFrameSchema(
    {
        "a": pal.Column(pl.Int64, pal.Check.in_range(0, 10), unique=True),
        "s": pal.Column(pl.String, pal.Check.str_startswith("x"), nullable=True),
    }
)


@pytest.mark.parametrize("schema", [PANDAS, POLARS], ids=["pandas", "polars"])
@pytest.mark.parametrize(
    "environment", [{}, {"PANDERA_VALIDATION_ENABLED": "False"}, {"PANDERA_VALIDATION_DEPTH": "SCHEMA_ONLY"}]
)
def test_data_are_checked_whatever_the_environment_says(
    schema: Any, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pandera import config

    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    depth = config.ValidationDepth.SCHEMA_ONLY if "PANDERA_VALIDATION_DEPTH" in environment else None
    with config.config_context(
        validation_enabled="PANDERA_VALIDATION_ENABLED" not in environment, validation_depth=depth
    ):
        assert [finding.passed for finding in panderas.validate(schema, GOOD, file="f")] == [True]
        found = {(f.column, f.rule): f for f in panderas.validate(schema, BAD, file="f") if not f.passed}
    assert {column for column, _ in found} == {"a", "s"}
    first = next(f for (column, _), f in found.items() if column == "a")
    assert (first.count, first.rows, first.total) == (2, (1, 2), 3)
    assert set(first.examples) == {"200", "-3"}


def test_a_schema_that_raises_fails_and_a_warning_warns() -> None:
    def crash(values: Any) -> bool:
        raise RuntimeError("boom")

    broken = pap.DataFrameSchema({"a": pap.Column(int, pap.Check(crash, name="mine"))})
    found = [f for f in panderas.validate(broken, GOOD, file="f") if not f.passed]
    assert found
    assert "mine" in found[0].rule or "boom" in found[0].message
    soft = pap.DataFrameSchema({"a": pap.Column(int, pap.Check.le(1, raise_warning=True))})
    assert [(f.passed, f.severity) for f in panderas.validate(soft, GOOD, file="f")] == [
        (False, "warn"),
        (True, "error"),
    ]
    gone = panderas.validate(pap.DataFrameSchema({"z": pap.Column(int)}), GOOD, file="f")
    assert not all(f.passed for f in gone)


def test_a_schema_becomes_rules_or_is_refused_part_by_part() -> None:
    schema = pap.DataFrameSchema(
        {
            "a": pap.Column(
                "int64", [pap.Check.in_range(0, 10, include_max=False), pap.Check.isin([1, 2])], coerce=True
            ),
            "s": pap.Column(
                str, [pap.Check.str_matches("a|b"), pap.Check.str_length(1, 3)], nullable=True, unique=True
            ),
            "t": pap.Column("datetime64[ns]", pap.Check(lambda s: s > 0, name="mine"), required=False),
        },
        checks=[pap.Check(lambda d: True, name="whole")],
        unique=["a", "s"],
        strict=True,
    )
    found = panderas.read(schema)
    rules = [(rule.rule, rule.column) for each in found for rule in each.rules]
    assert rules == [
        ("columns", ""), ("type", "a"), ("not_null", "a"), ("range", "a"), ("in", "a"),
        ("type", "s"), ("unique", "s"), ("pattern", "s"), ("length", "s"),
        ("type", "t"), ("not_null", "t"), ("unique", ""),
    ]  # fmt: skip
    by_rule = {(r.rule, r.column): r for each in found for r in each.rules}
    assert (by_rule["range", "a"].min, by_rule["range", "a"].max, by_rule["range", "a"].strict_max) == (0, 10, True)
    assert by_rule["pattern", "s"].pattern == "^(?:a|b)"
    refused = {(each.source, each.column): each.refused for each in found if each.refused}
    assert set(refused) == {("coerce", "a"), ("mine", "t"), ("whole", "")}


def test_only_modules_of_the_project_are_imported(tmp_path: Path) -> None:
    (tmp_path / "schemas.py").write_text(
        "import pandera.pandas as pa\nclass Flights(pa.DataFrameModel):\n    a: int = pa.Field(ge=0)\nx = 3\n"
    )
    (tmp_path / "broken.py").write_text("1 / 0\n")
    assert list(panderas.load_schema(tmp_path, "schemas:Flights").columns) == ["a"]
    (tmp_path / "schemas.py").write_text(
        "import pandera.pandas as pa\nFlights = pa.DataFrameSchema({'b': pa.Column(int)})\n" + "#" * 50
    )
    assert list(panderas.load_schema(tmp_path, "schemas:Flights").columns) == ["b"], "read again when it changed"
    for place, kind in (
        ("antigravity:x", NotFound), ("os:system", NotFound), ("schemas", UsageError), ("schemas:x", UsageError),
        ("schemas:nosuch", NotFound), ("broken:x", ProjectError), ("../etc:x", UsageError),
    ):  # fmt: skip
        with pytest.raises(kind):
            panderas.load_schema(tmp_path, place)


SUITE = Suite(
    dataset="d",
    table=TableRules(key="id"),
    columns={
        "id": ColumnRules(type="text", nulls=0.0),
        "x": ColumnRules(type="number", nulls=0.25, min=0.0, max=10.0, unit=False),
        "c": ColumnRules(type="text", levels=("a", "b"), new_levels=0.5, severity="warn"),
        "n": ColumnRules(type="number", step=0.5, order="increasing"),
    },
    rules=(
        Rule(rule="pattern", column="id", pattern="^i"),
        Rule(rule="in", column="c", values=("a", "b", "z"), share=0.3),
        Rule(rule="row", condition="x < n"),
    ),
)
ROWS: dict[str, list[Any]] = {
    "id": ["i1", "i2", "i3", "i4"], "x": [1.0, 2.5, None, 10.0], "c": ["a", "b", "a", "z"], "n": [0.5, 1.0, 1.5, 2.0],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({}, ""),
        ({"id": ["i1", "i2", "i2", "i4"]}, "id"),
        ({"id": ["i1", "j2", "i3", "i4"]}, "id"),
        ({"id": ["i1", None, "i3", "i4"]}, "id"),
        ({"x": [1.0, 2.5, None, 10.1]}, "x"),
        ({"x": [None, None, 3.0, 4.0]}, "x"),
        ({"x": ["1", "2", "3", "4"]}, "x"),
        ({"c": ["q", "q", "a", "z"]}, "c"),
        ({"n": [0.5, 1.0, 1.25, 2.0]}, "n"),
        ({"n": [0.5, 2.0, 1.5, 2.0]}, "n"),
    ],
)
def test_an_exported_schema_says_the_same_and_names_what_it_leaves(change: dict[str, list[Any]], column: str) -> None:
    from pandera.errors import SchemaErrors

    text, left = pandera_text.text_of(SUITE, "checks/d.toml")
    assert left == ["row", "table: keep"]
    assert "# Not held by this schema:\n#   row\n" in text
    place: dict[str, Any] = {}
    exec(compile(text, "schema.py", "exec"), place)
    frame = pd.DataFrame({**ROWS, **change})
    if not column:
        place["check"](frame)
        place["check"](pl.from_pandas(frame).lazy())
        return
    with pytest.raises(SchemaErrors) as caught:
        place["check"](frame)
    assert set(caught.value.failure_cases["column"].dropna()) == {column}
    if column not in ("id", "c") or change != {"id": ["i1", None, "i3", "i4"]}:
        return
    with pytest.raises(SchemaErrors):
        place["check"](pl.from_pandas(frame).lazy())


@pytest.mark.parametrize(
    "rules",
    [
        {"rules": (Rule(rule="in", column="a", values=("x",)),)},
        {"rules": (Rule(rule="range", column="a", min=0.0, share=0.5),)},
        {"rules": (Rule(rule="order", column="a"),)},
        {"rules": (Rule(rule="unique", column="a"),)},
        {"rules": (Rule(rule="unique", columns=("a", "b")),)},
        {"columns": {"a": ColumnRules(pattern="^x")}},
        {"columns": {"a": ColumnRules(unique=True)}},
        {"columns": {"a": ColumnRules(min=0.0)}},
    ],
)
def test_an_exported_rule_that_can_be_asked_of_nothing_fails_unless_it_may_be_empty(rules: dict[str, Any]) -> None:
    from pandera.errors import SchemaErrors

    frame = pd.DataFrame({"a": pd.Series([None] * 3, dtype=object), "b": pd.Series([None] * 3, dtype=object)})
    with pytest.raises(SchemaErrors):
        _exported(Suite(dataset="d", **rules))(frame)
    if "rules" in rules:
        allowed = {"rules": tuple(dataclasses.replace(rule, allow_empty=True) for rule in rules["rules"])}
    else:
        allowed = {"columns": {"a": dataclasses.replace(rules["columns"]["a"], nulls=1.0)}}
    _exported(Suite(dataset="d", **allowed))(frame)


def test_an_exported_schema_counts_no_null_as_a_repeated_value_and_fails_on_no_rows() -> None:
    from pandera.errors import SchemaErrors

    rules = (Rule(rule="unique", column="a"), Rule(rule="unique", columns=("a", "b")))
    check = _exported(Suite(dataset="d", rules=rules))
    check(pd.DataFrame({"a": ["x", None, None], "b": ["x", None, None]}))
    with pytest.raises(SchemaErrors):
        check(pd.DataFrame({"a": ["x", "x", None], "b": ["x", "y", None]}))
    with pytest.raises(SchemaErrors):
        check(pd.DataFrame({"a": ["x", "y", None], "b": ["x", "y", None]}).head(0))
    with pytest.raises(SchemaErrors):
        _exported(Suite(dataset="d", table=TableRules(key="a")))(pd.DataFrame({"a": ["x", None]}))


def _exported(suite: Suite) -> Any:
    place: dict[str, Any] = {}
    exec(compile(pandera_text.text_of(suite, "checks/d.toml")[0], "schema.py", "exec"), place)
    return place["check"]
