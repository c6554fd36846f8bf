"""Frames go into a data set and come out of it as they were, and growing tables work from the command line."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import noria as nr
from noria.core.errors import UsageError
from noria.data import versions
from noria.faces.cli.main import run

ROWS = {
    "id": pd.array([1, 2, None], dtype="Int64"),
    "zip": ["02139", "10001", None],
    "level": pd.Categorical(["b", "a", None], categories=["z", "b", "a"], ordered=True),
    "kind": pd.Categorical(["b", "a", "b"], categories=["unused", "b", "a"]),
    "at": pd.to_datetime(np.array(["2020-01-01", "2020-06-01", "NaT"], "datetime64[us]")).tz_localize("Europe/Paris"),
    "price": [decimal.Decimal("1.10"), None, decimal.Decimal("3")],
    "f": [1.5, np.nan, -0.0],
    "flag": pd.array([True, None, False], dtype="boolean"),
    "f32": np.array([1, 2, 3], "f4"),
    "i8": np.array([1, 2, 3], "i1"),
    "s": pd.array(["a", None, "c"], dtype="string"),
    "span": pd.to_timedelta([1, 2, None], unit="s"),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "noria.toml").write_text('[project]\nname = "t"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_frame_of_pandas_comes_back_as_it_was(project: Path) -> None:
    frame = pd.DataFrame(ROWS)
    version = nr.add_data(frame, name="x")
    pd.testing.assert_frame_equal(nr.read_data("x").to_pandas(), frame)
    assert nr.add_data(frame.copy(), name="x") == version
    indexed = pd.DataFrame({"v": [1, 2]}, index=pd.Index(["p", "q"], name="who"))
    nr.add_data(indexed, name="y")
    pd.testing.assert_frame_equal(nr.read_data("y").to_pandas(), indexed)
    assert nr.read_data("y").column_names == ["v", "who"]


def test_a_frame_that_replaces_a_table_which_grew_says_so(project: Path) -> None:
    nr.add_data(pd.DataFrame({"id": [1, 2]}), name="x", key="id")
    nr.append_data(pd.DataFrame({"id": [3]}), name="x", watermark="id")
    made = nr.add_data(pd.DataFrame({"id": [1, 2]}), name="x")
    assert made.version == 1
    assert isinstance(made, versions.Added)
    assert made.takes_back.startswith("takes back the append since x@1; x@2 has them")


def test_a_frame_of_polars_comes_back_as_it_was(project: Path) -> None:
    frame = pl.DataFrame(
        {
            "a": [1, 2],
            "zip": ["02139", None],
            "c": pl.Series(["x", "y"], dtype=pl.Categorical),
            "e": pl.Series(["x", "y"], dtype=pl.Enum(["y", "x"])),
            "n": [float("nan"), None],
            "l": [["p"], ["q", None]],
            "s": [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
            "d": [datetime.timedelta(seconds=1)] * 2,
            "dec": pl.Series([decimal.Decimal("1.1"), None]),
            "z": pl.Series([datetime.datetime(2020, 1, 1)] * 2).dt.replace_time_zone("Europe/Paris"),
        }
    )
    nr.add_data(frame, name="p")
    back = pl.from_arrow(nr.read_data("p"))
    assert isinstance(back, pl.DataFrame)
    assert back.schema == frame.schema
    assert back.equals(frame)


def test_the_same_table_is_one_version_from_any_library(project: Path) -> None:
    version = nr.add_data(pa.table({"a": [1, 2], "s": ["02139", None]}), name="t")
    assert nr.add_data(pl.DataFrame({"a": [1, 2], "s": ["02139", None]}), name="t") == version
    assert nr.add_data(pd.DataFrame({"a": [1, 2], "s": ["02139", None]}), name="t") == version
    assert nr.add_data([{"a": 1, "s": "02139"}, {"a": 2, "s": None}], name="t") == version
    assert nr.add_data({"a": [1, 2], "s": ["02139", None]}, name="t") == version
    stream = pa.RecordBatchReader.from_batches(
        pa.schema([pa.field("a", pa.int64()), pa.field("s", pa.string())]),
        iter(pa.table({"a": [1, 2], "s": ["02139", None]}).to_batches(max_chunksize=1)),
    )
    assert nr.add_data(stream, name="t") == version


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"a": [1, 2, 3]})[1:], "the index of the frame has no name"),
        (pd.DataFrame({"m": [1, "a"]}), "column 'm' holds values of several types: int, str"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are named 'a'"),
        (pd.DataFrame({1: [2]}), "a column is named 1"),
        (pl.LazyFrame({"a": [1]}), "a LazyFrame is no table"),
        (5, "a int is no table"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])}), "column 'a' is sparse"),
        (pd.DataFrame({"a": []}), "y has no rows"),
    ],
)
def test_what_could_not_come_back_is_refused_by_name(project: Path, frame: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        nr.add_data(frame, name="y")


def test_a_frame_needs_a_name_and_a_path_may_have_its_own(project: Path) -> None:
    with pytest.raises(UsageError, match="a frame has no name of its own"):
        nr.add_data(pd.DataFrame({"a": [1]}))
    (project / "rows.csv").write_text("a\n1\n")
    assert nr.add_data(project / "rows.csv").name == "rows"


def test_tables_grow_and_are_read_in_part_from_python(project: Path) -> None:
    nr.append_data(pd.DataFrame({"id": [1, 2], "x": ["a", "b"]}), name="t", watermark="id")
    nr.append_data(pl.DataFrame({"id": [2, 3], "x": ["b", "c"]}), name="t")
    done = nr.upsert_data(pa.table({"id": [1], "x": ["z"]}), name="t", key="id")
    assert (done.updated, done.key, done.ref) == (1, "id", "t@3")
    assert nr.read_data("t", columns=["x"], rows=(0, 2)).to_pydict() == {"x": ["z", "b"]}
    assert nr.read_data("t@1", where="x = 'a' or id = 2")["id"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("first", "second", "third"),
    [
        (["2024-01-01", "2024-01-02"], ["2024-01-02", "2024-01-03"], ["2024-01-04"]),
        (pd.Categorical(["a", "b"]), pd.Categorical(["c", "b"], categories=["c", "b"]), ["d"]),
        (pa.array(["a", "b"], pa.large_string()), pa.array(["c", "b"]), pa.array(["d"], pa.string_view())),
    ],
)
def test_texts_of_frames_are_watermarks_in_every_append(project: Path, first: Any, second: Any, third: Any) -> None:
    """pandas' texts are Arrow's large ones: the first append took them, and each later one refused."""
    rows: Any = [
        pa.table({"w": each, "n": list(range(len(each)))}) if isinstance(each, pa.Array) else pd.DataFrame({"w": each})
        for each in (first, second, third)
    ]
    assert nr.append_data(rows[0], name="t", watermark="w").appended == 2
    assert nr.append_data(rows[1], name="t").appended == 1
    assert nr.append_data(rows[2], name="t").appended == 1
    assert nr.read_data("t").num_rows == 4


@pytest.mark.parametrize(
    "values", [[[1]], [True], [b"x"], pa.array([1], pa.duration("s")), [{"a": 1}]], ids=lambda values: str(values)[:12]
)
def test_what_has_no_order_is_no_watermark_from_the_first_append_on(project: Path, values: Any) -> None:
    with pytest.raises(UsageError, match=r"column 'w' is .* and cannot be a watermark"):
        nr.append_data(pa.table({"w": values}), name="t", watermark="w")


def test_dates_of_frames_that_begin_with_a_day_are_no_watermark(project: Path) -> None:
    with pytest.raises(UsageError, match="dates of 'w' begin with a day or a month"):
        nr.append_data(pd.DataFrame({"w": ["31/12/2020", "30/12/2020"]}), name="t", watermark="w")


def test_an_upsert_of_no_rows_changes_nothing_and_nested_values_are_no_key(project: Path) -> None:
    nr.add_data(pd.DataFrame({"id": [1], "x": ["a"]}), name="t", key="id")
    done = nr.upsert_data(pd.DataFrame({"id": [1], "x": ["a"]}).iloc[:0], name="t")
    assert (done.ref, done.inserted, done.updated, done.unchanged) == ("t@1", 0, 0, 0)
    nr.add_data(pa.table({"id": [{"a": 1}], "x": [1]}), name="nested")
    with pytest.raises(UsageError, match="column 'id' is struct<a: int64> and cannot be a key"):
        nr.upsert_data(pa.table({"id": [{"a": 1}], "x": [2]}), name="nested", key="id")


def test_a_key_may_have_a_comma_in_its_name(project: Path) -> None:
    nr.add_data(pd.DataFrame({"a,b": [1, 2], "x": ["p", "q"]}), name="t")
    assert nr.upsert_data(pd.DataFrame({"a,b": [2], "x": ["z"]}), name="t", key="a,b").updated == 1


def test_columns_are_a_list_in_which_each_stands_once(project: Path) -> None:
    nr.add_data(pd.DataFrame({"ab": [1], "a": [2]}), name="t")
    with pytest.raises(UsageError, match="columns is the text 'ab', not a list"):
        nr.read_data("t", columns="ab")
    with pytest.raises(UsageError, match="the column 'a' is asked for twice"):
        nr.read_data("t", columns=["a", "a"])


def test_growing_tables_from_the_command_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "a.csv").write_text("id,x\n1,a\n2,b\n")
    (project / "b.csv").write_text("id,x\n2,b\n0,late\n3,c\n")
    (project / "c.csv").write_text("id,x\n1,z\n4,d\n")
    assert run(["data", "append", "t", "a.csv", "--watermark", "id"]) == 0
    assert run(["data", "append", "t", "b.csv"]) == 0
    assert "+1 row  1 known  watermark id=3" in capsys.readouterr().out
    assert run(["data", "upsert", "t", "c.csv", "--key", "id"]) == 0
    assert "+1 row  1 changed  0 as they were" in capsys.readouterr().out
    assert run(["data", "delete", "t", "--key-values", "2", "--key-values", "99"]) == 0
    assert "−1 row  1 key named no row" in capsys.readouterr().out
    assert run(["data", "delete", "t", "--where", "x = 'c' and id > 2"]) == 0
    assert run(["data", "compact", "t"]) == 0
    assert "the same rows" in capsys.readouterr().out
    assert run(["data", "blame", "t", "--key", "1"]) == 0
    told = capsys.readouterr().out
    assert "upsert c.csv" in told
    assert [line.split() for line in told.splitlines() if "→" in line][-1] == ["x", "a", "→", "z"]
    assert run(["data", "diff", "t@1", "t@6"]) == 0
    assert run(["data", "delete", "t"]) == 2
    assert run(["data", "append", "t", "b.csv", "--watermark", "nosuch"]) == 2
    assert nr.read_data("t").to_pydict() == {"id": [1, 4], "x": ["z", "d"]}
