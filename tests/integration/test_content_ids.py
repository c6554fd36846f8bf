"""The id of a version is what it says: not the name of its file, the machine, the format or the writer."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import warm
from noria.bootstrap import open_workspace
from noria.config import Project
from noria.data import checkout, diff, lock, pins, records, status, versions
from noria.data.facts import DatasetCommitted
from noria.data.folders import worktree
from noria.data.git import merge
from noria.data.rows import read
from noria.data.tabular import tables
from noria.store import replay
from noria.store.tree import Entry, Tree, write_tree
from noria.store.workspace import Workspace

ROWS = [(1, "02139", 1.5, "2020-01-01"), (2, "10001", 0.0, "2020-01-02"), (3, "é", 2e-9, "2020-01-03")]
CSV = "id,zip,price,day\n1,02139,1.5,2020-01-01\n2,10001,0.0,2020-01-02\n3,é,0.000000002,2020-01-03\n"


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    made = project(tmp_path / "project")
    yield made
    assert replay.difference(made.ledger) == [], "records are the fold of the facts"
    made.ledger.database.close()


def project(root: Path) -> Workspace:
    root.mkdir(parents=True)
    return open_workspace(project=Project(name="test", root=root), actor="user:test")


def arrow() -> pa.Table:
    ids, zips, prices, days = zip(*ROWS, strict=True)
    table = pa.table({"id": ids, "zip": zips, "price": prices})
    return table.append_column("day", pa.array(days).cast(pa.date32()))


def put(ws: Workspace, name: str, content: str | bytes) -> Path:
    path = ws.project.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def told(ws: Workspace, name: str = "d") -> worktree.DatasetStatus:
    (found,) = status.status(ws, [name])
    return found


def test_the_same_bytes_have_one_id_under_any_name_in_any_project(ws: Workspace, tmp_path: Path) -> None:
    content = b"\x00weights" * 1000
    first = versions.add(ws, str(put(ws, "model.bin", content)), "d")
    assert first.content == f"sha256:{hashlib.sha256(content).hexdigest()}", "as sha256sum says it"
    again = versions.add(ws, str(put(ws, "other/renamed.dat", content)), "d")
    assert again == first, "no new version, and no new fact"
    other = project(tmp_path / "elsewhere")
    assert versions.add(other, str(put(other, "x.bin", content)), "y").content == first.content
    other.ledger.database.close()
    assert versions.add(ws, str(put(ws, "model.bin", content + b"1")), "d").content != first.content


def test_a_table_has_one_id_as_csv_parquet_json_lines_query_and_frame(ws: Workspace) -> None:
    table = arrow()
    one = pq.write_table  # three files of the same rows
    one(table, ws.project.root / "a.parquet")
    one(table, ws.project.root / "b.parquet", row_group_size=1, compression="gzip", use_dictionary=False, version="1.0")
    pl.DataFrame(table).write_parquet(ws.project.root / "c.parquet")
    put(ws, "a.csv", CSV)
    put(ws, "semi.csv", "\ufeff" + CSV.replace(",", ";").replace("\n", "\r\n"))
    put(ws, "a.csv.gz", gzip.compress(CSV.encode()))
    with sqlite3.connect(ws.project.root / "shop.db") as connection:
        connection.execute("create table t (id integer primary key, zip text, price real, day date)")
        connection.executemany("insert into t values (?, ?, ?, ?)", ROWS)
    connection.close()
    found = {
        name: versions.add(ws, name, f"d{number}")
        for number, name in enumerate(["a.parquet", "b.parquet", "c.parquet", "a.csv", "semi.csv", "a.csv.gz"])
    }
    found["database"] = versions.add(ws, "sqlite:///shop.db", "q", table="t")
    roles = {"key": "", "time": "", "label": ""}
    found["frame"] = tables.add_table(ws, table, "f", roles=roles, source="a frame")
    ids = {name: version.content for name, version in found.items()}
    assert set(ids.values()) == {tables.logical_digest(table)}, ids
    assert all(read.table(ws, version).to_pylist() == table.to_pylist() for version in found.values())


def test_a_query_has_the_id_of_the_file_with_its_rows(ws: Workspace) -> None:
    with sqlite3.connect(ws.project.root / "shop.db") as connection:
        connection.execute("create table t (id integer primary key, zip text, price real, day date)")
        connection.executemany("insert into t values (?, ?, ?, ?)", ROWS)
    connection.close()
    asked = versions.add(ws, "sqlite:///shop.db", "q", query="select id, zip, price * 2 as twice from t order by id")
    text = "id,zip,twice\n1,02139,3.0\n2,10001,0.0\n3,é,0.000000004\n"
    assert versions.add(ws, str(put(ws, "a.csv", text)), "f").content == asked.content


def test_json_lines_and_parquet_of_the_same_columns_have_one_id(ws: Workspace) -> None:
    rows = [{"a": 1, "b": "x", "c": {"d": [1.5]}}, {"a": 2, "b": None, "c": {"d": []}}]
    put(ws, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), ws.project.root / "a.parquet")
    first, second = versions.add(ws, "a.jsonl", "j"), versions.add(ws, "a.parquet", "p")
    assert first.content == second.content
    assert first.tree != second.tree


@pytest.mark.parametrize(
    "text",
    [
        "id,zip,price,day\n1,02139,1.5,2020-01-01\n",  # a row fewer
        CSV.replace("1.5", "1.25"),
        CSV.replace("0.0,", "-0.0,"),
        CSV.replace("price", "cost"),
        "id,zip,price,day\n2,10001,0.0,2020-01-02\n1,02139,1.5,2020-01-01\n3,é,0.000000002,2020-01-03\n",
        CSV.replace("2020-01-01", "2020-01-01 00:00"),  # a time is no day
    ],
)
def test_another_row_value_name_order_or_type_is_another_id(text: str, ws: Workspace) -> None:
    first = versions.add(ws, str(put(ws, "a.csv", CSV)), "d")
    second = versions.add(ws, str(put(ws, "a.csv", text)), "d")
    assert (second.version, second.content == first.content) == (2, False)


def test_of_a_folder_the_paths_are_content_also_of_its_only_file(ws: Workspace) -> None:
    put(ws, "one/a.csv", CSV)
    put(ws, "two/b.csv", CSV)
    first, second = versions.add(ws, "one", "d"), versions.add(ws, "two", "d")
    assert (first.version, second.version) == (1, 2)
    assert first.content == first.tree != second.content
    put(ws, "three/a.csv", CSV)
    assert versions.add(ws, "three", "d") == first


def test_a_table_that_was_only_written_again_is_no_change_once_it_was_added(ws: Workspace) -> None:
    frame = arrow()
    pq.write_table(frame, ws.project.root / "t.parquet")
    first = versions.add(ws, "t.parquet", "d")
    pq.write_table(frame, ws.project.root / "t.parquet", compression="gzip")
    assert told(ws).state == "changed", "status compares bytes"
    assert versions.add(ws, "t.parquet", "d") == first
    assert told(ws).state == "same", "and remembers what an add has found to say the same"
    pq.write_table(frame.slice(1), ws.project.root / "t.parquet")
    assert told(ws).state == "changed"
    assert versions.add(ws, "t.parquet", "d").version == 2
    back = checkout.checkout(ws, "d@1")
    assert back.written == 1
    assert pq.read_table(ws.project.root / "t.parquet").equals(frame)


def test_a_file_that_was_renamed_and_added_again_is_no_change_and_keeps_its_name(ws: Workspace) -> None:
    put(ws, "old.bin", b"one")
    versions.add(ws, "old.bin", "d")
    (ws.project.root / "old.bin").rename(ws.project.root / "new.bin")
    assert told(ws).state == "absent"
    versions.add(ws, "new.bin", "d")
    assert (told(ws).state, told(ws).place) == ("same", "new.bin")
    put(ws, "new.bin", b"two")
    assert versions.add(ws, "new.bin", "d").ref == "d@2"
    checkout.checkout(ws, "d@1")
    assert (ws.project.root / "new.bin").read_bytes() == b"one"
    assert not (ws.project.root / "old.bin").exists()
    assert told(ws).state == "changed", "the pin is d@2"
    checkout.checkout(ws, "d@2")
    assert told(ws).state == "same"
    put(ws, "new.bin", b"three")
    with pytest.raises(Exception, match="would be lost"):
        checkout.checkout(ws, "d@1")


def test_a_clone_without_any_cache_sees_a_renamed_file_as_the_same(ws: Workspace) -> None:
    put(ws, "old.bin", b"one")
    versions.add(ws, "old.bin", "d")
    (cache,) = (ws.project.state / "cache" / "stat").glob("d.db")
    cache.unlink()
    (ws.project.root / "old.bin").rename(ws.project.root / "new.bin")
    (found,) = status.status(ws, ["d"], str(ws.project.root / "new.bin"))
    assert found.state == "same"


def test_the_id_is_what_log_show_pins_json_and_refs_tell(ws: Workspace) -> None:
    version = versions.add(ws, str(put(ws, "a.csv", CSV)), "d")
    hexes = version.content.removeprefix("sha256:")
    pin = pins.read_pin(ws.project.root, "d")
    assert pin is not None
    assert (pin.content, pin.tree) == (version.content, version.tree)
    assert versions.resolve(ws, f"d@{hexes[:8]}") == versions.resolve(ws, f"d@{version.content}") == version
    for words in (["log", "d"], ["show", "d"], ["list"]):
        shown = noria(ws, "data", *words)
        assert hexes[:8] in shown
        assert version.tree[7:15] not in shown
        assert version.content in noria(ws, "data", *words, "--json")
    assert hexes[:8] in noria(ws, "explain", hexes[:12])


def test_pins_and_facts_of_older_projects_still_name_their_versions(ws: Workspace) -> None:
    content = b"id\n1\n"
    entry = Entry("a.csv", ws.objects.put_bytes(content), len(content), 1)
    tree = write_tree(ws.objects, Tree((entry,)))
    fact = DatasetCommitted(
        name="d", version=1, tree=tree, rows=1, size_bytes=5, files=1, columns=(("id", "int64", False),), source="a.csv"
    )
    with ws.ledger.transaction() as tx:
        tx.append(fact, inputs=[], outputs=[("tree", tree)])
    put(ws, "noria.lock/d.toml", f'name = "d"\nversion = 1\ntree = "{tree}"\nrows = 1\nfiles = 1\nsource = "a.csv"\n')
    put(ws, "a.csv", content)
    assert lock.pinned(ws.project.root, "d") == tree
    assert told(ws).state == "same"
    old = versions.resolve(ws, f"d@{tree[7:15]}")
    assert (old.version, old.content) == (1, tree), "its id is the one that it was told by"
    assert versions.add(ws, "a.csv", "d") == old, "the same file is not added again"
    assert checkout.checkout(ws, "d", str(ws.project.root / "out")).files == 1
    second = versions.add(ws, str(put(ws, "a.csv", "id\n1\n2\n")), "d")
    assert diff.diff(ws, "d@1", "d@2").rows.added == 1
    assert second.content == tables.logical_digest(pa.table({"id": [1, 2]}))
    with ws.ledger.read() as tx:
        assert [each.version for each in records.versions(tx, "d")] == [1, 2]


def test_pandas_frames_and_their_parquet_have_one_id(ws: Workspace) -> None:
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None, 3], dtype="Int64"),
            "c": pd.Categorical(["b", "a", "b"], categories=["z", "b", "a"]),
            "t": pd.to_datetime(["2020-01-01", None, "2021-01-01"], utc=True),
        }
    ).rename_axis("row")
    frame.to_parquet(ws.project.root / "p.parquet")
    version = versions.add(ws, "p.parquet", "p")
    assert version.content == tables.logical_digest(pa.Table.from_pandas(frame))


def noria(ws: Workspace, *words: str) -> str:
    root = ws.project.root
    if not (root / "noria.toml").exists():
        (root / "noria.toml").write_text('[project]\nname = "test"\n')
    done = warm.noria(*words, cwd=root, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_merged_table_has_the_id_of_the_same_table_added(ws: Workspace) -> None:
    texts = (CSV, CSV.replace("1,02139", "1,99999"), CSV.replace("2,10001", "2,00000"))
    found = []
    for text in texts:
        versions.add(ws, str(put(ws, "a.csv", text)), "d", key="id")
        pin = pins.read_pin(ws.project.root, "d")
        assert pin is not None
        found.append(pin)
    merged = merge.merge_pins(ws, found[0], found[1], found[2])
    assert isinstance(merged, str), merged
    made = pins.parse_pin(merged.encode(), "merged")
    put(ws, "b.csv", CSV.replace("1,02139", "1,99999").replace("2,10001", "2,00000"))
    assert versions.add(ws, "b.csv", "other").content == made.content
    assert (made.version, made.is_one_file) == (4, True)


def test_dates_and_times_of_json_lines_are_those_of_the_csv(ws: Workspace) -> None:
    csv = "t,z,zip,day\n2026-01-01 00:00:00,2026-01-01T01:00:00.5+01:00,02139,2026-01-01\n,2026-01-01T00:00:00Z,1,\n"
    put(ws, "a.csv", csv)
    rows = [
        {"t": "2026-01-01T00:00:00", "z": "2026-01-01T01:00:00.5+01:00", "zip": "02139", "day": "2026-01-01"},
        {"t": None, "z": "2026-01-01T00:00:00Z", "zip": "1", "day": None},
    ]
    put(ws, "b.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    put(ws, "c.jsonl", "".join(json.dumps(row | {"day": "NA"}) + "\n" for row in rows))
    first, second = versions.add(ws, "a.csv", "a"), versions.add(ws, "b.jsonl", "b")
    assert [kind for _, kind, _ in second.columns] == [
        "timestamp[us]",
        "timestamp[us, tz=UTC]",
        "string",
        "date32[day]",
    ]
    assert first.content == second.content
    assert read.table(ws, versions.add(ws, "c.jsonl", "c"))["day"].to_pylist() == ["NA", "NA"], "a text stays a text"
