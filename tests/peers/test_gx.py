"""The verdicts of the real Great Expectations and of the rules that its suite was imported as, one by one.

The data are good and broken in many ways, with nulls, texts, dates, NaN and duplicates; every
expectation that can be imported is in the suite, at least twice. GX runs in an environment of its
own (`make peers`).
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.bootstrap import open_workspace
from noria.checks import suite
from noria.checks.adapters.gx import KNOWN, read
from noria.checks.suites.rules import Suite
from noria.checks.suites.suitefile import text_of
from noria.config import Project
from noria.data import versions

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-peers" / "gx" / "bin" / "python"

pytestmark = pytest.mark.peers

ROWS = 60


def good() -> dict[str, Any]:
    dice = np.random.default_rng(9)
    days = np.datetime64("2024-03-01") + np.sort(dice.integers(0, 300, ROWS)).astype("timedelta64[D]")
    low = np.round(dice.uniform(0, 50, ROWS), 1)
    return {
        "id": [f"id{i:03d}" for i in range(ROWS)],
        "n": list(range(ROWS)),
        "x": [None if i % 12 == 5 else float(v) for i, v in enumerate(np.round(dice.normal(10, 2, ROWS), 3))],
        "low": low.tolist(),
        "high": (low + np.round(dice.uniform(0, 9, ROWS), 1)).tolist(),
        "text": [None if i % 15 == 3 else f"{'ab'[i % 2]}-{i % 7}" for i in range(ROWS)],
        "word": [["red", "green", "blue"][i % 3] for i in range(ROWS)],
        "day": [str(day) for day in days],
        "at": pa.array(days.astype("datetime64[ns]")),
        "flag": [i % 2 == 0 for i in range(ROWS)],
        "json": [json.dumps({"i": i}) for i in range(ROWS)],
        "empty": pa.nulls(ROWS, pa.float64()),
        "a": [i % 4 for i in range(ROWS)],
        "b": [3 - i % 4 for i in range(ROWS)],
    }


def changed(**columns: Any) -> dict[str, Any]:
    made = good()
    for name, change in columns.items():
        made[name] = change(list(made[name])) if callable(change) else change
    return made


def put(at: int, value: Any, *, times: int = 1) -> Any:
    def change(values: list[Any]) -> list[Any]:
        for row in range(at, at + times):
            values[row] = value
        return values

    return change


TABLES: Mapping[str, dict[str, Any]] = {
    "good": good(),
    "nulls": changed(
        id=put(3, None, times=9), text=put(0, None, times=40), low=put(5, None, times=6), word=put(1, None)
    ),
    "ranges": changed(x=put(0, 99.0, times=4), n=put(30, 5), low=put(7, -3.0), high=put(9, -50.0)),
    "texts": changed(
        text=put(2, "ZZ!", times=5), word=put(4, "purple", times=2), day=put(6, "2024-13-45"), json=put(1, "{")
    ),
    "repeats": changed(
        id=put(10, "id003", times=3), a=put(0, 1, times=30), b=put(0, 2, times=30), flag=put(0, True, times=60)
    ),
    "pairs": changed(high=put(0, None, times=3), low=put(2, None, times=3), a=put(8, 7), b=put(8, 7)),
    "all null": changed(text=[None] * ROWS, x=[None] * ROWS),
    "few": {name: values[:4] for name, values in good().items()},
}


def e(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{kind}", "kwargs": kwargs}


SUITE = [
    e("column_values_to_not_be_null", column="id"),
    e("column_values_to_not_be_null", column="text", mostly=0.9),
    e("column_values_to_not_be_null", column="low", mostly=0.9),
    e("column_values_to_be_null", column="empty"),
    e("column_values_to_be_null", column="text", mostly=0.5),
    e("column_values_to_be_between", column="x", min_value=0, max_value=20),
    e("column_values_to_be_between", column="x", min_value=0, max_value=20, mostly=0.9),
    e("column_values_to_be_between", column="low", min_value=0, strict_min=True),
    e("column_values_to_be_between", column="n", max_value=59),
    e("column_values_to_be_between", column="n", max_value=59, strict_max=True),
    e("column_values_to_be_between", column="at", min_value="2024-01-01T00:00:00", max_value="2025-12-31T00:00:00"),
    e("column_values_to_be_between", column="at", min_value="2024-06-01T00:00:00"),
    e("column_values_to_be_between", column="x", max_value=14, row_condition="n > 10", condition_parser="pandas"),
    e("column_values_to_be_between", column="x", max_value=20, row_condition='word == "red" and n < 30',
      condition_parser="pandas"),
    e("column_value_lengths_to_be_between", column="text", min_value=3, max_value=3),
    e("column_value_lengths_to_be_between", column="word", min_value=3, max_value=5),
    e("column_value_lengths_to_equal", column="id", value=5),
    e("column_values_to_be_in_set", column="word", value_set=["red", "green", "blue"]),
    e("column_values_to_be_in_set", column="word", value_set=["red", "green"], mostly=0.6),
    e("column_values_to_be_in_set", column="a", value_set=[0, 1, 2, 3]),
    e("column_values_to_be_in_set", column="flag", value_set=[True, False]),
    e("column_values_to_not_be_in_set", column="word", value_set=["purple"]),
    e("column_values_to_not_be_in_set", column="text", value_set=["a-0", "b-1"], mostly=0.7),
    e("column_values_to_match_regex", column="text", regex="^[ab]-[0-9]$"),
    e("column_values_to_match_regex", column="id", regex="d0"),
    e("column_values_to_match_regex", column="text", regex="a", mostly=0.4),
    e("column_values_to_not_match_regex", column="text", regex="Z"),
    e("column_values_to_match_regex_list", column="text", regex_list=["^a", "^b"], match_on="any"),
    e("column_values_to_match_regex_list", column="text", regex_list=["^a", "1$"], match_on="all"),
    e("column_values_to_not_match_regex_list", column="text", regex_list=["Z", "!"]),
    e("column_values_to_match_strftime_format", column="day", strftime_format="%Y-%m-%d"),
    e("column_values_to_match_strftime_format", column="word", strftime_format="%Y"),
    e("column_values_to_be_json_parseable", column="json"),
    e("column_values_to_be_json_parseable", column="word"),
    e("column_values_to_be_increasing", column="n"),
    e("column_values_to_be_increasing", column="n", strictly=True),
    e("column_values_to_be_increasing", column="at"),
    e("column_values_to_be_decreasing", column="x"),
    e("column_values_to_be_decreasing", column="n", mostly=0.1),
    e("column_values_to_be_unique", column="id"),
    e("column_values_to_be_unique", column="id", mostly=0.9),
    e("column_values_to_be_unique", column="x"),
    e("column_values_to_be_unique", column="word"),
    e("column_values_to_be_unique", column="empty"),
    e("compound_columns_to_be_unique", column_list=["id", "n"]),
    e("compound_columns_to_be_unique", column_list=["a", "b"]),
    e("column_values_to_be_of_type", column="n", type_="int64"),
    e("column_values_to_be_of_type", column="n", type_="float64"),
    e("column_values_to_be_of_type", column="low", type_="float64"),
    e("column_values_to_be_of_type", column="word", type_="str"),
    e("column_values_to_be_in_type_list", column="n", type_list=["float64", "int64"]),
    e("column_values_to_be_in_type_list", column="word", type_list=["float64", "int64"]),
    e("column_values_to_be_in_type_list", column="flag", type_list=["bool"]),
    e("column_distinct_values_to_be_in_set", column="word", value_set=["red", "green", "blue", "black"]),
    e("column_distinct_values_to_contain_set", column="word", value_set=["red", "purple"]),
    e("column_distinct_values_to_contain_set", column="a", value_set=[0, 3]),
    e("column_distinct_values_to_equal_set", column="word", value_set=["red", "green", "blue"]),
    e("column_distinct_values_to_equal_set", column="a", value_set=[0, 1, 2, 3]),
    e("column_mean_to_be_between", column="x", min_value=9, max_value=11),
    e("column_mean_to_be_between", column="n", max_value=29.5, strict_max=True),
    e("column_median_to_be_between", column="n", min_value=29.5, max_value=29.5),
    e("column_median_to_be_between", column="x", min_value=8, max_value=12),
    e("column_stdev_to_be_between", column="x", min_value=1, max_value=3),
    e("column_sum_to_be_between", column="n", min_value=1770, max_value=1770),
    e("column_sum_to_be_between", column="x", max_value=700),
    e("column_min_to_be_between", column="low", min_value=0),
    e("column_max_to_be_between", column="n", min_value=50, max_value=59),
    e("column_max_to_be_between", column="x", max_value=20),
    e("column_unique_value_count_to_be_between", column="word", min_value=3, max_value=3),
    e("column_proportion_of_unique_values_to_be_between", column="id", min_value=1.0),
    e("column_proportion_of_unique_values_to_be_between", column="a", max_value=0.1),
    e("column_proportion_of_non_null_values_to_be_between", column="text", min_value=0.9),
    e("column_quantile_values_to_be_between", column="n",
      quantile_ranges={"quantiles": [0.25, 0.5, 0.9], "value_ranges": [[14, 16], [29, 30], [None, 54]]}),
    e("column_quantile_values_to_be_between", column="x",
      quantile_ranges={"quantiles": [0.1, 0.9], "value_ranges": [[5, 9], [11, 14]]}),
    e("column_pair_values_a_to_be_greater_than_b", column_A="high", column_B="low", or_equal=True),
    e("column_pair_values_a_to_be_greater_than_b", column_A="high", column_B="low", or_equal=True,
      ignore_row_if="either_value_is_missing"),
    e("column_pair_values_a_to_be_greater_than_b", column_A="high", column_B="low", or_equal=True, mostly=0.9),
    e("column_pair_values_to_be_equal", column_A="a", column_B="b"),
    e("column_pair_values_to_be_equal", column_A="a", column_B="b", mostly=0.01),
    e("column_pair_values_to_be_in_set", column_A="a", column_B="b", value_pairs_set=[[0, 3], [1, 2], [2, 1], [3, 0]]),
    e("multicolumn_sum_to_equal", column_list=["a", "b"], sum_total=3),
    e("multicolumn_sum_to_equal", column_list=["a", "b", "n"], sum_total=3, mostly=0.01),
    e("multicolumn_values_to_be_equal", column_list=["a", "b"]),
    e("select_column_values_to_be_unique_within_record", column_list=["a", "b"]),
    e("select_column_values_to_be_unique_within_record", column_list=["low", "high"]),
    e("column_to_exist", column="word"),
    e("column_to_exist", column="nosuch"),
    e("table_columns_to_match_ordered_list", column_list=list(good())),
    e("table_columns_to_match_ordered_list", column_list=list(good())[::-1]),
    e("table_columns_to_match_set", column_set=list(good())[::-1]),
    e("table_columns_to_match_set", column_set=["id", "n"]),
    e("table_columns_to_match_set", column_set=["id", "n"], exact_match=False),
    e("table_column_count_to_equal", value=14),
    e("table_column_count_to_be_between", min_value=15),
    e("table_row_count_to_equal", value=60),
    e("table_row_count_to_be_between", min_value=50, max_value=70),
    # a column that is not there, and rules that do not fit a column's type, fail in both
    e("column_values_to_not_be_null", column="nosuch"),
    e("column_values_to_be_between", column="word", min_value=1, max_value=3),
    e("column_mean_to_be_between", column="word", min_value=1, max_value=3),
    e("column_value_lengths_to_be_between", column="n", min_value=1),
]  # fmt: skip


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[Any]]:
    """GX's verdicts by table, in the suite's order."""
    if not PYTHON.is_file():
        pytest.fail(f"{PYTHON.relative_to(ROOT)} is not there: make peers")
    folder = tmp_path_factory.mktemp("gx")
    (folder / "suite.json").write_text(json.dumps({"name": "s", "expectations": SUITE}))
    (folder / "tables").mkdir()
    for name, columns in TABLES.items():
        pq.write_table(pa.table(columns), folder / "tables" / f"{name}.parquet")
    script = Path(__file__).with_name("gx_verdicts.py")
    done = subprocess.run(
        [str(PYTHON), str(script), str(folder / "suite.json"), str(folder / "tables")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    verdicts: Mapping[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])["verdicts"]
    return verdicts


def judged(root: Path, name: str) -> list[tuple[bool, str]]:
    """Our verdict on each expectation, through the import, the suite's file and a version of a data set."""
    ws = open_workspace(project=Project(name="t", root=root), actor="user:test")
    version = versions.add(ws, str(root / "tables" / f"{name}.parquet"), "table")
    rules = [
        dataclasses.replace(rule, name=f"{index}:")
        for index, imported in enumerate(read(json.dumps(SUITE)))
        for rule in imported.rules
    ]
    path = root / "checks" / "table.toml"
    path.parent.mkdir()
    path.write_text(text_of(Suite(dataset="table", rules=tuple(rules)), ""))
    bad: dict[str, str] = {}
    for finding in suite.run(ws, version.ref).findings:
        bad[finding.rule] = f"{bad.get(finding.rule, '')} {finding.message}"
    assert set(bad) <= {f"{index}:" for index in range(len(SUITE))}
    return [(f"{index}:" not in bad, bad.get(f"{index}:", "")) for index in range(len(SUITE))]


def test_the_suite_holds_every_expectation_that_can_be_imported() -> None:
    patterns = {"expect_column_values_to_match_like_pattern", "expect_column_values_to_not_match_like_pattern"}
    asked = {each["type"] for each in SUITE}
    assert set(KNOWN) - asked == patterns, "GX has no LIKE on pandas; the others are held against it"
    assert [each.refused for each in read(json.dumps(SUITE))] == [""] * len(SUITE)


@pytest.mark.parametrize("name", TABLES)
def test_both_say_the_same_rule_by_rule(name: str, peer: Mapping[str, list[Any]], tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.table(TABLES[name]), tmp_path / "tables" / f"{name}.parquet")
    differ = []
    ours = judged(tmp_path, name)
    for expectation, (kind, kwargs, theirs, raised), (mine, words) in zip(SUITE, peer[name], ours, strict=True):
        assert (kind, kwargs) == (expectation["type"], expectation["kwargs"])
        if mine != theirs:
            differ.append((kind, kwargs, f"gx {theirs}{' (raised)' if raised else ''}, noria {mine}: {words}"))
    assert differ == [], "\n".join(map(str, differ))


def test_good_and_broken_data_are_told_apart(peer: Mapping[str, list[Any]]) -> None:
    """The comparison would be worth little if nearly everything passed or failed."""
    passed = [success for verdicts in peer.values() for _, _, success, _ in verdicts]
    assert 0.3 < np.mean(passed) < 0.85
    alike = [len({verdicts[index][2] for verdicts in peer.values()}) == 1 for index in range(len(SUITE))]
    assert np.mean(alike) < 0.5, "most expectations pass on one table and fail on another"
