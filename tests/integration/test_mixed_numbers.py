"""Files of one data set with numbers of different types: what one type cannot hold of another is refused by name."""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import UsageError
from noria.data import versions
from noria.data.forms import formats
from noria.data.rows import read
from noria.store.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    made = open_workspace(project=Project(name="test", root=root), actor="user:test")
    yield made
    made.ledger.database.close()


LONG = decimal.Decimal("12345678901234567.89")
EXACT: list[tuple[pa.Array[Any], pa.Array[Any]]] = [
    (pa.array([LONG]), pa.array([1.5])),
    (pa.array([LONG]), pa.array([1.5], pa.float32())),
    (pa.array([{"y": LONG}]), pa.array([{"y": 1.5}])),
    (pa.array([[LONG]]), pa.array([[1.5]])),
    (
        pa.array([[("k", LONG)]], pa.map_(pa.string(), pa.decimal128(19, 2))),
        pa.array([[("k", 1.5)]], pa.map_(pa.string(), pa.float64())),
    ),
]


@pytest.mark.parametrize("pair", range(len(EXACT)))
@pytest.mark.parametrize("is_turned", [False, True])
def test_decimals_beside_doubles_are_refused_by_name(ws: Workspace, pair: int, is_turned: bool) -> None:
    one, other = EXACT[pair][::-1] if is_turned else EXACT[pair]
    parquet(ws, a=one, b=other)
    with pytest.raises(
        UsageError, match=r"'x' is .* in b\.parquet but .* in a\.parquet: a double would round decimals"
    ):
        versions.add(ws, "d")


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.int64(), pa.uint64()])
def test_decimals_beside_whole_numbers_are_decimals_with_room_for_both(
    ws: Workspace, kind: pa.DataType, is_turned: bool
) -> None:
    most = {"int8": 127, "int32": 2**31 - 1, "int64": 2**63 - 1, "uint64": 2**64 - 1}[str(kind)]
    both = [pa.array([LONG]), pa.array([most], kind)]
    first, second = reversed(both) if is_turned else both
    parquet(ws, a=first, b=second)
    found = read.table(ws, versions.add(ws, "d"))["x"].to_pylist()
    assert sorted(found) == sorted([LONG, decimal.Decimal(most)])


def test_whole_numbers_that_a_double_rounds_are_refused_beside_doubles(ws: Workspace) -> None:
    parquet(ws, a=pa.array([2**53]), b=pa.array([1.5]))
    assert read.table(ws, versions.add(ws, "d"))["x"].to_pylist() == [2.0**53, 1.5], "this one holds them"
    said = "holds whole numbers that a double would round, and another file doubles"
    for number in (2**53 + 1, -(2**53) - 1, 2**63 - 1):
        parquet(ws, a=pa.array([1, number]), b=pa.array([1.5]))
        with pytest.raises(UsageError, match=f"'x' of a.parquet {said}"):
            versions.add(ws, "d")
    parquet(ws, a=pa.array([1]), b=pa.array([1.5]))
    for name, text in (("c.csv", "x\n9007199254740993\n"), ("c.jsonl", '{"x": 9007199254740993}\n')):
        place = ws.project.root / "d" / name
        place.write_text(text)
        with pytest.raises(UsageError, match=f"'x' of {name} {said}"):
            versions.add(ws, "d")
        place.unlink()


def test_a_version_that_was_added_when_doubles_took_decimals_is_still_read(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet(ws, a=pa.array([LONG]), b=pa.array([1.5]))
    with monkeypatch.context() as patch:
        patch.setattr(formats, "_is_rounded", lambda one, other: False)
        version = versions.add(ws, "d")
    assert read.table(ws, version)["x"].to_pylist() == [float(LONG), 1.5]


def parquet(ws: Workspace, **files: pa.Array[Any]) -> None:
    """Files of one column each."""
    (ws.project.root / "d").mkdir(exist_ok=True)
    for name, values in files.items():
        pq.write_table(pa.table({"x": values}), ws.project.root / "d" / f"{name}.parquet")


@pytest.mark.parametrize("number", ["1e309", "-1e400"])
def test_a_json_number_that_no_double_holds_is_refused_in_words(ws: Workspace, number: str) -> None:
    (ws.project.root / "big.jsonl").write_text('{"x": 1}\n{"x": ' + number + "}\n")
    with pytest.raises(
        UsageError, match=r"big\.jsonl holds a number of 1\.8e308 or more, which no double holds"
    ) as error:
        versions.add(ws, "big.jsonl")
    assert "as text" in error.value.hint
    (ws.project.root / "big.jsonl").write_text('{"x": "1"}\n{"x": "' + number + '"}\n')
    assert read.table(ws, versions.add(ws, "big.jsonl"))["x"].to_pylist() == ["1", number]
