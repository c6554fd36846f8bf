"""Two versions whose columns hold anything that Arrow has: what changed is told of each."""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import noria as nr
from noria.bootstrap import open_workspace
from noria.data import diff
from noria.store.workspace import Workspace

STRUCT = pa.struct([("a", pa.int64())])
COLUMNS: dict[str, tuple[Any, Any, pa.DataType]] = {
    "struct": ({"a": 1}, {"a": 2}, STRUCT),
    "map": ([("k", 1)], [("k", 2)], pa.map_(pa.string(), pa.int64())),
    "fixed": ([1, 2], [1, 3], pa.list_(pa.int64(), 2)),
    "list": ([1, 2], [1], pa.list_(pa.int64())),
    "large list": ([1], [], pa.large_list(pa.int64())),
    "list of structs": ([{"a": 1}], [{"a": 2}], pa.list_(STRUCT)),
    "bytes": (b"\xff", b"\xfe", pa.binary()),
    "two bytes": (b"\xff1", b"\xfe1", pa.binary(2)),
    "decimal": (decimal.Decimal("1.5"), decimal.Decimal("1.7"), pa.decimal256(60, 2)),
    "duration": (1, 3, pa.duration("s")),
    "time": (1, 3, pa.time64("us")),
    "nanoseconds": (1, 3, pa.timestamp("ns", "Europe/Berlin")),
    "unsigned": (2**64 - 1, 2**64 - 2, pa.uint64()),
}


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    (tmp_path / "noria.toml").write_text("[project]\nname = 'x'\n")
    monkeypatch.chdir(tmp_path)
    made = open_workspace(tmp_path)
    yield made
    made.ledger.database.close()


@pytest.mark.parametrize("key", ["id", ""])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_changed_value_of_any_type_is_told(ws: Workspace, name: str, key: str) -> None:
    before, after, kind = COLUMNS[name]
    for value in (before, after):
        table = pa.table({"id": [1, 2], "c": pa.array([value, None], kind)})
        nr.add_data(table, name="t", key=key)
    found = diff.diff(ws, "t@1", "t@2")
    assert found.rows is not None
    if key:
        assert (found.rows.changed, found.rows.changed_columns) == (1, (("c", 1),))
        ((row, column, was, now),) = found.rows.changed_values
        assert (row, column) == ("1", "c")
        assert was != now
    else:
        assert (found.rows.added, found.rows.removed) == (1, 1)
    assert [shift.column for shift in found.shifts] == (["c"] if key else ["c", "id"])
