"""Checks in Python: loaded from the project, asked once a file, and failing closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import noria as nr
from noria.checks.functions import CheckFunction, FunctionCheck, check, load_functions
from noria.checks.scanning.summary import TableProfile
from noria.checks.scanning.tally import Rows
from noria.core.errors import ProjectError, UsageError

TABLE = pa.table({"a": [1, 2, 3, 4], "b": ["x", None, "z", "x"]})
PROFILE = TableProfile(file="f", digest="", rows=4, time_min="", time_max="", columns={})


def ask(function: Any, columns: tuple[str, ...] = (), severity: str = "error") -> Any:
    made = CheckFunction(name="mine", dataset="d", columns=columns, severity=severity, function=function)
    watcher = FunctionCheck(made, TABLE.schema, is_keeping=True)
    for first in (0, 2):
        watcher.look(Rows(TABLE.slice(first, 2), first))
    found = watcher.findings(PROFILE, {})[0]
    return found, [place for part in watcher.broken() for place in part.tolist()]


def pandas_rows(rows: pd.DataFrame) -> Any:
    assert isinstance(rows, pd.DataFrame)
    return rows["a"] < 3


def polars_rows(rows: pl.DataFrame) -> Any:
    assert isinstance(rows, pl.DataFrame)
    return rows["a"] < 3


def arrow_rows(rows: pa.Table) -> Any:
    assert isinstance(rows, pa.Table)
    return pa.array([True, True, None, False])


@pytest.mark.parametrize("function", [pandas_rows, polars_rows, arrow_rows, lambda rows: [True, True, False, False]])
def test_a_mask_names_the_rows_that_fail(function: Any) -> None:
    found, broken = ask(function)
    assert (found.passed, found.count, found.rows, broken) == (False, 2, (2, 3), [2, 3])


@pytest.mark.parametrize(
    "answer",
    [
        pa.array([True, None, False, None]),
        pd.array([True, None, False, None], "boolean"),
        pl.Series([True, None, False, None]),
        [True, None, False, None],
    ],
)
def test_a_null_answer_is_no_yes_and_is_told(answer: Any) -> None:
    found, broken = ask(lambda rows: answer)
    assert (found.passed, found.count, broken) == (False, 3, [1, 2, 3])
    assert found.message == "3 rows break mine, 2 of them because the answer is null"


def test_true_false_and_words() -> None:
    assert ask(lambda rows: True)[0].passed
    assert ask(lambda rows: np.bool_(True))[0].passed
    assert ask(lambda rows: "")[0].passed
    assert ask(lambda rows: False)[0].message == "mine says no"
    assert ask(lambda rows: "too few")[0].message == "too few"
    assert ask(lambda rows: False, severity="warn")[0].severity == "warn"


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda rows: 1 / 0, "ZeroDivisionError"),
        (lambda rows: None, "NoneType, not true"),
        (lambda rows: 3, "int, not true"),
        (lambda rows: [True], "list, not true"),
        (lambda rows: np.ones(4), "ndarray, not true"),
        (lambda rows: pa.array([1, 2, 3, 4]), "Array, not true"),
        (lambda: True, "TypeError"),
    ],
)
def test_a_function_that_raises_or_answers_nonsense_fails(function: Any, why: str) -> None:
    found, _ = ask(function)
    assert not found.passed
    assert found.message.startswith("cannot be evaluated")
    assert why in found.message


def test_only_the_columns_that_were_asked_for_are_there() -> None:
    assert ask(lambda rows: rows.column_names == ["b"], ("b",))[0].passed
    assert "no column 'z'" in ask(lambda rows: True, ("z",))[0].message


def test_functions_are_loaded_by_data_set_from_every_file_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(
        "import noria as nr\n@nr.check('d', columns=['a'], severity='warn')\ndef two(rows): return True\n"
    )
    (tmp_path / "a.py").write_text(
        "import noria as nr\n@nr.check('d', name='first')\ndef one(rows): return True\n"
        "@nr.check('other')\ndef three(rows): return True\ndef four(rows): return True\n"
    )
    found = load_functions(tmp_path, "d")
    assert [(each.name, each.file, each.columns, each.severity) for each in found] == [
        ("first", "a.py", (), "error"), ("two", "b.py", ("a",), "warn"),
    ]  # fmt: skip
    assert load_functions(tmp_path / "nosuch", "d") == []


@pytest.mark.parametrize(("text", "line"), [("x = 1\n1 / 0\n", 2), ("def f(:\n", 1), ("import nosuch_module\n", 1)])
def test_a_file_that_cannot_be_run_is_named_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(ProjectError) as caught:
        load_functions(tmp_path, "d")
    assert f"bad.py, line {line}" in str(caught.value)


def test_the_mark_wraps_nothing_and_knows_two_severities() -> None:
    def function(rows: Any) -> bool:
        return True

    assert check("d")(function) is function
    assert nr.check is check
    with pytest.raises(UsageError):
        check("d", severity="fatal")


@pytest.mark.parametrize("function", [lambda rows: rows["a"] < 3, lambda rows: rows.a < 3])
def test_a_function_that_takes_a_table_for_a_frame_is_told_how_it_gets_one(function: Any) -> None:
    found, _ = ask(function)
    assert not found.passed
    assert found.message.startswith("cannot be evaluated: ")
    assert "the annotation `: pd.DataFrame` on its argument gives a frame" in found.message
    assert "annotation" not in ask(lambda rows: 1 / 0)[0].message
    assert "annotation" not in ask(framed)[0].message


def framed(rows: pd.DataFrame) -> Any:
    return rows.nothing
