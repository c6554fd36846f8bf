"""Pins of two branches become one: tables as Parquet, tables in segments, roles, and columns of two types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.core.errors import ConfigError
from noria.data import pins, records, versions
from noria.data.git.merge import Unmerged, merge_pins
from noria.data.pins import Pin, parse_pin, pin_text
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.data.tabular import incremental
from noria.store.workspace import Workspace
from noria.testing.workspace import open_memory


@pytest.fixture
def ws() -> Workspace:
    return open_memory()


def pin(version: DatasetVersion) -> Pin:
    return parse_pin(pin_text(version).encode(), "test")


def rows(**columns: list[Any]) -> pa.Table:
    return pa.table(columns)


def add(ws: Workspace, folder: Path, files: dict[str, pa.Table], **roles: str) -> DatasetVersion:
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, table in files.items():
        pq.write_table(table, folder / name)
    return versions.add(ws, str(folder), "t", **roles)


def merged(ws: Workspace, *three: DatasetVersion) -> DatasetVersion:
    text = merge_pins(ws, *map(pin, three))
    assert isinstance(text, str), text
    with ws.ledger.read() as tx:
        found = records.by_tree(tx, "t", parse_pin(text.encode(), "test").tree)
    assert found is not None
    return found


def by_id(ws: Workspace, version: DatasetVersion) -> dict[int, Any]:
    return {row["id"]: row["x"] for row in read.table(ws, version).to_pylist()}


def test_parquet_is_merged_by_the_rows_of_its_key(ws: Workspace, tmp_path: Path) -> None:
    base = add(ws, tmp_path / "d", {"a.parquet": rows(id=[1, 2, 3, 4], x=["a", "b", "c", "d"])}, key="id")
    ours = add(ws, tmp_path / "d", {"a.parquet": rows(id=[1, 2, 3, 4, 9], x=["a", "B", "c", "d", "n"])})
    theirs = add(ws, tmp_path / "d", {"a.parquet": rows(id=[1, 2, 4, 8], x=["A", "b", "d", "m"])})
    made = merged(ws, base, ours, theirs)
    assert by_id(ws, made) == {1: "A", 2: "B", 4: "d", 8: "m", 9: "n"}
    assert (made.rows, made.operation, made.key) == (5, "merge", "id")
    assert merged(ws, base, ours, theirs).version == made.version


def test_a_row_of_parquet_that_both_changed_is_named_by_its_key(ws: Workspace, tmp_path: Path) -> None:
    base = add(ws, tmp_path / "d", {"a.parquet": rows(id=[1, 2], x=["a", "b"])}, key="id")
    ours = add(ws, tmp_path / "d", {"a.parquet": rows(id=[1, 2], x=["a", "B"])})
    theirs = add(ws, tmp_path / "d", {"a.parquet": rows(id=[1, 2], x=["a", "X"])})
    found = merge_pins(ws, pin(base), pin(ours), pin(theirs))
    assert isinstance(found, Unmerged)
    assert found.conflicts == ("a.parquet: id = 2",)
    assert len(versions.log(ws, "t")) == 3


def test_tables_that_grew_by_segments_are_merged_by_row(ws: Workspace, tmp_path: Path) -> None:
    place = tmp_path / "t.parquet"

    def written(table: pa.Table) -> str:
        pq.write_table(table, place)
        return str(place)

    base = versions.add(ws, written(rows(id=[1, 2, 3], x=["a", "b", "c"])), "t", key="id")
    incremental.upsert(ws, "t", written(rows(id=[2, 7], x=["B", "g"])))
    ours = versions.resolve(ws, "t")
    again = versions.add(ws, written(rows(id=[1, 2, 3], x=["A", "b", "c"])), "t", key="id")
    made = merged(ws, base, ours, again)
    assert by_id(ws, made) == {1: "A", 2: "B", 3: "c", 7: "g"}


def test_a_type_that_widened_on_one_side_is_read_anew_and_one_that_does_not_fit_is_told(
    ws: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()

    def csv(**files: str) -> DatasetVersion:
        for old in folder.iterdir():
            old.unlink()
        for name, text in files.items():
            (folder / f"{name}.csv").write_text(text)
        return versions.add(ws, str(folder), "t", key="id")

    base = csv(a="id,x\n1,1\n2,2\n", b="id,x\n3,3\n")
    ours = csv(a="id,x\n1,1\n2,2.5\n", b="id,x\n3,3\n")
    theirs = csv(a="id,x\n1,1\n2,2\n", b="id,x\n3,3\n4,4\n")
    made = merged(ws, base, ours, theirs)
    assert {name: kind for name, kind, _ in made.columns}["x"] == "double"
    assert made.rows == 4


def test_roles_are_merged_and_clash_by_name(ws: Workspace, tmp_path: Path) -> None:
    base = add(ws, tmp_path / "d", {"a.parquet": rows(id=[1, 2], x=["a", "b"])})
    first = pin(base)
    keyed = parse_pin(pin_text(versions.describe(ws, base.ref, key="id")).encode(), "test")
    labelled = parse_pin(pin_text(versions.describe(ws, base.ref, key="x")).encode(), "test")
    text = merge_pins(ws, first, keyed, first)
    assert isinstance(text, str)
    assert parse_pin(text.encode(), "test").key == "id"
    found = merge_pins(ws, first, keyed, labelled)
    assert isinstance(found, Unmerged)
    assert found.conflicts == ("the key is 'id' here and 'x' there",)


def test_pins_of_two_data_sets_are_refused(ws: Workspace, tmp_path: Path) -> None:
    one = pin(add(ws, tmp_path / "d", {"a.parquet": rows(id=[1], x=["a"])}))
    other = pins.Pin(name="other", version=1, tree=one.tree)
    with pytest.raises(ConfigError, match="two data sets"):
        merge_pins(ws, None, one, other)


def appended(ws: Workspace, base: DatasetVersion, table: pa.Table) -> DatasetVersion:
    """What an append on a branch that stands on `base` makes."""
    pins.write_pin(ws.project.root, "t", pin_text(base))
    return incremental.append_rows(ws, "t", table.to_reader(), "id").dataset


def test_two_branches_that_only_appended_are_merged_without_a_key(ws: Workspace, tmp_path: Path) -> None:
    base = add(ws, tmp_path / "d", {"a.parquet": rows(id=[1, 1], x=["a", "a"])})
    ours = appended(ws, base, rows(id=[2, 3, 3, 5], x=["b", None, None, "e"]))
    theirs = appended(ws, base, rows(id=[2, 3, 3, 3, 9], x=["B", None, None, None, "n"]))
    found = merged(ws, base, ours, theirs)
    told = read.table(ws, found).to_pydict()
    assert told == {
        "id": [1, 1, 2, 3, 3, 5, 2, 3, 9],
        "x": ["a", "a", "b", None, None, "e", "B", None, "n"],
    }, "rows that both have came from one source; the third of its kind is theirs alone"
    assert found.watermark == "id=9"
    pins.write_pin(ws.project.root, "t", pin_text(found))
    again = incremental.append_rows(ws, "t", rows(id=[10], x=["z"]).to_reader(), "")
    assert (again.appended, again.watermark) == (1, "id=10"), "the column is remembered"


def test_branches_without_a_key_that_did_more_than_append_are_not_merged(ws: Workspace, tmp_path: Path) -> None:
    base = add(ws, tmp_path / "d", {"a.parquet": rows(id=[1, 2], x=["a", "b"])})
    ours = appended(ws, base, rows(id=[3], x=["c"]))
    pins.write_pin(ws.project.root, "t", pin_text(base))
    theirs = incremental.delete(ws, "t", condition="id = 1").dataset
    assert merge_pins(ws, *map(pin, (base, ours, theirs))) == Unmerged("t", ("the rows, which have no key",))
    nested = add(ws, tmp_path / "d", {"a.parquet": rows(id=[1], x=[[1]])})
    sides = [appended(ws, nested, rows(id=[number], x=[[number]])) for number in (2, 3)]
    assert merge_pins(ws, *map(pin, (nested, *sides))) == Unmerged("t", ("the rows, which have no key",))
