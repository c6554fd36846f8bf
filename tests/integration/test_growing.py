"""Tables that grow in a real store: late rows, keys, history of a row, partial reads, many writers."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import Conflict, NotFound, UsageError
from noria.data import commit, diff, versions
from noria.data.rows import layout, read
from noria.data.tabular import blame, incremental, segments, tables
from noria.data.tabular.tables import logical_digest
from noria.faces import verbs
from noria.faces.cli import show
from noria.loop import pins
from noria.store import replay
from noria.store.objects import Objects
from noria.store.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    workspace = open_workspace(project=Project(name="test", root=root), actor="user:test")
    yield workspace
    assert replay.difference(workspace.ledger) == [], "records are the fold of the facts"


def put(ws: Workspace, name: str, text: str) -> str:
    path = ws.project.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def added(ws: Workspace, rows: pa.Table, name: str = "t", key: str = "id") -> versions.DatasetVersion:
    return tables.add_table(ws, rows, name, roles={"key": key, "time": "", "label": ""}, source="test")


def test_an_append_takes_what_lies_beyond_the_watermark_and_reports_what_came_late(ws: Workspace) -> None:
    put(ws, "a.csv", "id,zip,at\n1,02139,2013-01-01T00:00:00Z\n2,10001,2013-01-02T00:00:00Z\n")
    first = incremental.append(ws, "t", str(ws.project.root / "a.csv"), watermark="at")
    assert (first.dataset.ref, first.appended, first.watermark) == ("t@1", 2, "at=2013-01-02 00:00:00.000000Z")
    put(
        ws,
        "b.csv",
        "id,zip,at\n2,10001,2013-01-02T00:00:00Z\n9,00501,2013-01-01T12:00:00Z\n3,10002,2013-01-03T00:00:00Z\n4,1,\n",
    )
    second = incremental.append(ws, "t", str(ws.project.root / "b.csv"))
    assert (second.appended, second.known, second.late, second.unordered) == (1, 1, 1, 1)
    assert second.late_examples == ("2013-01-01 12:00:00+00",)
    found = read.table(ws, second.dataset)
    assert found["id"].to_pylist() == [1, 2, 3]
    assert found["zip"].to_pylist() == ["02139", "10001", "10002"]
    assert second.dataset.operation == "append"
    again = incremental.append(ws, "t", str(ws.project.root / "b.csv"))
    assert (again.appended, again.late, again.dataset) == (0, 1, second.dataset), "nothing new: no version"
    late = incremental.append(ws, "t", str(ws.project.root / "b.csv"), late=True)
    assert (late.appended, late.watermark) == (1, "at=2013-01-03 00:00:00.000000Z")
    assert read.table(ws, late.dataset)["id"].to_pylist() == [1, 2, 3, 9]
    assert incremental.append(ws, "t", str(ws.project.root / "b.csv")).late == 0


def test_dates_that_begin_with_a_day_are_no_watermark(ws: Workspace) -> None:
    """As texts they are in another order than in time: the rows of a new year were taken for late ones."""
    for name, rows in (("a.csv", "1,31/12/2020\n2,30/12/2020\n"), ("b.csv", "2,01/02/2021\n")):
        put(ws, name, f"id,at\n{rows}")
        with pytest.raises(UsageError, match="dates of 'at' begin with a day or a month"):
            incremental.append(ws, "t", str(ws.project.root / name), watermark="at")
    versions.add(ws, str(ws.project.root / "a.csv"), "t")
    with pytest.raises(UsageError, match="dates of 'at' begin with a day or a month"):
        incremental.append(ws, "t", str(ws.project.root / "b.csv"), watermark="at")
    assert incremental.append(ws, "t", str(ws.project.root / "b.csv"), watermark="id").appended == 0


def test_rows_that_repeat_are_late_as_often_as_they_are_missing(ws: Workspace) -> None:
    incremental.append_rows(ws, "t", pa.table({"n": [1, 1, 5]}).to_reader(), "n")
    found = incremental.append_rows(ws, "t", pa.table({"n": [1, 1, 1, 5, 4]}).to_reader(), "n")
    assert (found.known, found.late, found.appended) == (3, 2, 0)


def test_what_was_deleted_does_not_come_back_with_the_next_append(ws: Workspace) -> None:
    incremental.append_rows(ws, "t", pa.table({"n": [1, 2, 3]}).to_reader(), "n")
    incremental.delete(ws, "t", condition="n = 3")
    found = incremental.append_rows(ws, "t", pa.table({"n": [1, 2, 3, 4]}).to_reader(), "n")
    assert found.appended == 1
    assert read.table(ws, found.dataset)["n"].to_pylist() == [1, 2, 4]


def test_an_append_names_the_table_without_reading_it_again(ws: Workspace) -> None:
    rows = pa.table({"id": pa.array(np.arange(150_000)), "x": pa.array(np.arange(150_000) % 97)})
    version = added(ws, rows.slice(0, 140_000), key="")
    assert read.parts(ws, version)[0].physical_rows == 140_000
    grown = incremental.append_rows(ws, "t", rows.to_reader(), "id").dataset
    assert grown.content == logical_digest(rows), "the same id as if all had been added at once"
    whole = added(ws, rows, name="whole")
    assert grown.content == whole.content
    assert versions.resolve(ws, "t").tree != whole.tree


def test_columns_widen_and_come_new_without_a_value_lost(ws: Workspace) -> None:
    incremental.append_rows(ws, "t", pa.table({"n": [1], "x": [1]}).to_reader(), "n")
    found = incremental.append_rows(ws, "t", pa.table({"n": [2], "x": [2.5], "new": ["a"]}).to_reader(), "n").dataset
    assert read.table(ws, found).to_pydict() == {"n": [1, 2], "x": [1.0, 2.5], "new": [None, "a"]}
    assert found.content == logical_digest(pa.table({"n": [1, 2], "x": [1.0, 2.5], "new": [None, "a"]}))
    with pytest.raises(UsageError, match="column 'x' is string in the rows but double in t"):
        incremental.append_rows(ws, "t", pa.table({"n": [3], "x": ["?"]}).to_reader(), "n")


def test_an_upsert_writes_only_what_changed(ws: Workspace) -> None:
    rows = pa.table({"id": pa.array(np.arange(200_000)), "x": pa.array(np.random.default_rng(0).normal(size=200_000))})
    base = added(ws, rows)
    changed = pa.table({"id": [5, 7, 200_000], "x": [0.5, rows["x"][7].as_py(), 1.5]})
    done = incremental.upsert_rows(ws, "t", changed.to_reader())
    assert (done.inserted, done.updated, done.unchanged) == (1, 1, 1)
    assert done.dataset.size_bytes - base.size_bytes < 12_000
    before, after = read.parts(ws, base), read.parts(ws, done.dataset)
    assert before[0].digest == after[0].digest
    found = read.table(ws, done.dataset)
    assert found["x"][5].as_py() == 0.5
    assert found.num_rows == 200_001
    assert incremental.upsert_rows(ws, "t", changed.to_reader()).dataset == done.dataset, "nothing to do: no version"


def test_a_table_of_text_files_takes_upserts_too(ws: Workspace) -> None:
    put(ws, "d/a.csv", "id,zip\n1,02139\n2,10001\n")
    put(ws, "d/b.csv", "id,zip\n3,00501\n")
    put(ws, "d/README.md", "about")
    versions.add(ws, str(ws.project.root / "d"), "t", key="id")
    put(ws, "new.csv", "id,zip\n2,00000\n4,99999\n")
    done = incremental.upsert(ws, "t", str(ws.project.root / "new.csv"))
    found = read.tables(ws, done.dataset)
    assert [t["zip"].to_pylist() for t in found.values()] == [["02139", "00000"], ["00501"], ["99999"]]
    placed = read.find_rows(ws, done.dataset, "id", "2")
    assert [(p.file, p.row, p.values["zip"]) for p in placed] == [("a.csv", 1, "00000")]
    out = segments.write_merged(ws, done.dataset, ws.project.root / "out")
    assert [path.name for path in out] == ["a.parquet", "b.csv", "00004.parquet"]
    merged = pa.concat_tables([pq.read_table(out[0]), pq.read_table(out[2])])
    assert merged["zip"].to_pylist() == ["02139", "00000", "99999"]
    assert out[1].read_text() == "id,zip\n3,00501\n"


def test_a_key_that_is_null_or_names_two_rows_is_refused(ws: Workspace) -> None:
    added(ws, pa.table({"id": [1, 1, 2], "x": [1, 2, 3]}))
    with pytest.raises(UsageError, match="names several rows of the data set"):
        incremental.upsert_rows(ws, "t", pa.table({"id": [1], "x": [9]}).to_reader())
    with pytest.raises(UsageError, match="twice in the rows"):
        incremental.upsert_rows(ws, "t", pa.table({"id": [2, 2], "x": [9, 8]}).to_reader())
    with pytest.raises(UsageError, match="'id' is null"):
        incremental.upsert_rows(ws, "t", pa.table({"id": [None], "x": [9]}).cast(pa.schema([("id", pa.int64()), ("x", pa.int64())])).to_reader())  # fmt: skip  # noqa: E501
    added(ws, pa.table({"id": [1]}), name="u", key="")
    with pytest.raises(UsageError, match="has no key yet"):
        incremental.upsert_rows(ws, "u", pa.table({"id": [1]}).to_reader())
    with pytest.raises(NotFound, match="no data set 'nosuch'"):
        incremental.upsert_rows(ws, "nosuch", pa.table({"id": [1]}).to_reader(), "id")
    with pytest.raises(UsageError, match="cannot be the name"):
        incremental.compact(ws, "../../x")


def test_a_key_of_two_columns_works(ws: Workspace) -> None:
    added(ws, pa.table({"a": [1, 1], "b": ["x", "y"], "v": [1, 2]}), key="")
    done = incremental.upsert_rows(ws, "t", pa.table({"a": [1, 2], "b": ["y", "y"], "v": [9, 3]}).to_reader(), "a, b")
    assert read.table(ws, done.dataset).to_pydict() == {"a": [1, 1, 2], "b": ["x", "y", "y"], "v": [1, 9, 3]}
    with pytest.raises(UsageError, match="is kept by the key a, b, not a"):
        incremental.upsert_rows(ws, "t", pa.table({"a": [1], "b": ["x"], "v": [0]}).to_reader(), "a")
    history = blame.blame(ws, "t", key="1, y")
    assert [(c.version, c.change) for c in history.changes] == [(1, "added"), (2, "changed")]


def test_the_history_of_a_row_names_every_version_that_touched_it(ws: Workspace) -> None:
    added(ws, pa.table({"id": [1, 2], "x": [1.0, None], "s": ["a", "b"]}))
    incremental.upsert_rows(
        ws, "t", pa.table({"id": [1], "x": [1.0], "s": ["z"]}).to_reader(), source="crm", note="fix"
    )
    incremental.upsert_rows(ws, "t", pa.table({"id": [2], "x": [2.0], "s": ["b"]}).to_reader())
    incremental.compact(ws, "t")
    incremental.delete(ws, "t", key_values=["1"], note="asked to be forgotten")
    incremental.upsert_rows(ws, "t", pa.table({"id": [1], "x": [None], "s": ["new"]}).to_reader())
    found = blame.blame(ws, "t", key="1")
    assert [(c.version, c.change, c.operation, c.source, c.note) for c in found.changes] == [
        (1, "added", "add", "test", ""),
        (2, "changed", "upsert", "crm", "fix"),
        (5, "removed", "delete", "1 key", "asked to be forgotten"),
        (6, "added", "upsert", "", ""),
    ]
    assert {c.actor for c in found.changes} == {"user:test"}
    assert [(v.column, v.before, v.after) for v in found.changes[1].values] == [("s", "a", "z")]
    assert [(v.column, v.before, v.after) for v in found.changes[2].values] == [
        ("id", "1", None),
        ("x", "1.0", None),
        ("s", "z", None),
    ]
    assert (found.is_there, found.versions) == (True, 6)
    other = blame.blame(ws, "t", key="z", column="s")
    assert [(c.version, c.change) for c in other.changes] == [(2, "added"), (5, "removed")], (
        "a column that upserts change"
    )
    with pytest.raises(NotFound, match="no version of t has a row"):
        blame.blame(ws, "t", key="99")


def test_the_history_names_the_commit_of_the_code(ws: Workspace) -> None:
    root = ws.project.root
    git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    added(ws, pa.table({"id": [1]}))
    assert blame.blame(ws, "t", key="1").changes[0].code == head


class Counted:
    """An object store that counts the bytes that leave it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def put(self, source: BinaryIO) -> Any:
        return self.inner.put(source)

    def get(self, digest: Any) -> BinaryIO:
        with self.inner.get(digest) as source:
            content = source.read()
        self.bytes += len(content)
        return io.BytesIO(content)

    def has(self, digest: Any) -> bool:
        return bool(self.inner.has(digest))

    def list(self) -> Any:
        return self.inner.list()

    def delete(self, digest: Any) -> None:
        self.inner.delete(digest)

    def get_many(self, digests: Any) -> Any:
        for digest, content in self.inner.get_many(digests):
            self.bytes += len(content)
            yield digest, content

    def has_many(self, digests: Any) -> Any:
        return self.inner.has_many(digests)

    def put_many(self, items: Any) -> Any:
        return self.inner.put_many(items)

    def chunks_of(self, digest: Any) -> Any:
        return self.inner.chunks_of(digest)

    def put_chunked(self, digest: Any, chunks: Any) -> None:
        self.inner.put_chunked(digest, chunks)


def test_a_column_a_stretch_of_rows_or_a_condition_fetches_no_more_than_it_needs(ws: Workspace, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = 1_500_000
    noise = [pa.array(rng.normal(size=rows)) for _ in range(2)]
    numbers = np.arange(rows)
    table = pa.table({"id": pa.array(numbers), "x": noise[0], "y": noise[1], "k": pa.array(numbers // 1000)})
    version = added(ws, table)
    assert ws.objects.chunks_of(read.parts(ws, version)[0].digest) is not None, "a large Parquet is kept in chunks"
    counted = Counted(ws.objects.store)

    def cost(**asked: Any) -> tuple[int, pa.Table]:
        import dataclasses

        looked = dataclasses.replace(ws, objects=Objects(counted, tmp_path / f"cache-{counted.bytes}"))
        counted.bytes = 0
        found = read.table(looked, version, **asked)
        return counted.bytes, found

    whole, everything = cost()
    assert everything.num_rows == rows
    assert whole > 0.95 * version.size_bytes
    column, _ = cost(columns=["k"])
    assert column < 0.2 * whole
    stretch, found = cost(rows=(100, 200))
    assert found["id"].to_pylist() == list(range(100, 200))
    assert stretch < 0.75 * whole
    condition, found = cost(condition="id >= 1499990")
    assert found["id"].to_pylist() == list(range(1_499_990, rows))
    assert condition < 0.75 * whole


WRITER = """
import sys
from pathlib import Path
import pyarrow as pa
from noria.bootstrap import open_workspace
from noria.data.tabular import incremental
number, root = int(sys.argv[1]), Path(sys.argv[2])
ws = open_workspace(root)
print("ready", flush=True)
sys.stdin.readline()
for turn in range(5):
    incremental.upsert_rows(ws, "t", pa.table({"id": [number * 100 + turn], "x": [turn]}).to_reader(), "id")
"""


def test_two_writers_at_once_lose_nothing(ws: Workspace) -> None:
    (ws.project.root / "noria.toml").write_text('[project]\nname = "test"\n')
    added(ws, pa.table({"id": [0], "x": [0]}))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(number), str(ws.project.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.communicate("go\n", timeout=120)
    assert [process.returncode for process in running] == [0, 0]
    newest = versions.resolve(ws, "t")
    ids = [0, *(number * 100 + turn for number in (1, 2) for turn in range(5))]
    assert sorted(read.table(ws, newest)["id"].to_numpy().tolist()) == ids
    assert newest.version == 11


def test_a_writer_who_decided_on_an_older_version_looks_again(ws: Workspace) -> None:
    """What another machine on a shared ledger does between our look and our commit."""
    version = added(ws, pa.table({"id": [1], "x": [1]}))
    content = tables.store(ws, pa.table({"id": [9], "x": [9]}), "t")
    added(ws, pa.table({"id": [2], "x": [2]}))
    with pytest.raises(Conflict, match="has moved on"):
        commit.commit(ws, "t", content, roles=segments.roles(version), source="", parent=version.tree, anew=True)


def test_compacting_keeps_the_content_and_lets_go_of_the_segments(ws: Workspace) -> None:
    added(ws, pa.table({"id": [1, 2], "x": [1, 2]}))
    incremental.delete(ws, "t", condition="x < 2")
    last = incremental.upsert_rows(ws, "t", pa.table({"id": [3], "x": [3]}).to_reader()).dataset
    done = incremental.compact(ws, "t")
    assert done.dataset.content == last.content
    assert (done.files_before, done.dataset.files) == (4, 1)
    assert not layout.layout_of(ws.objects, done.dataset).is_segmented
    assert incremental.compact(ws, "t").dataset == done.dataset
    assert diff.diff(ws, last.ref, done.dataset.ref).is_same


def test_two_branches_of_a_keyed_table_merge_by_row(ws: Workspace) -> None:
    base = added(ws, pa.table({"id": [1, 2, 3], "x": [1, 2, 3]}))
    ours = added(ws, pa.table({"id": [1, 2, 3, 4], "x": [9, 2, 3, 4]}))
    theirs = added(ws, pa.table({"id": [1, 2], "x": [1, 7]}))
    made = segments.merge_versions(ws, base, ours, theirs)
    assert read.table(ws, made).to_pydict() == {"id": [1, 2, 4], "x": [9, 7, 4]}
    other = added(ws, pa.table({"id": [1, 2, 3], "x": [5, 2, 3]}))
    with pytest.raises(Conflict, match="1 rows of t were changed on both sides: id 1"):
        segments.merge_versions(ws, base, ours, other)


@pytest.mark.parametrize("is_compacted", [False, True])
@pytest.mark.parametrize("key", ["id", ""])
def test_what_was_deleted_does_not_come_back_with_late_rows(ws: Workspace, key: str, *, is_compacted: bool) -> None:
    rows = pa.table({"id": [1, 2, 3, 5], "x": ["a", "b", "c", "e"]})
    added(ws, rows, key=key)
    if key:
        incremental.delete(ws, "t", key_values=["2"])
    else:
        incremental.delete(ws, "t", condition="id = 2")
    incremental.delete(ws, "t", condition="id >= 5")
    if is_compacted:
        incremental.compact(ws, "t")
    put(ws, "b.csv", "id,x\n2,b\n4,d\n5,e\n1,a\n6,f\n")
    before = versions.resolve(ws, "t")
    left = incremental.append(ws, "t", str(ws.project.root / "b.csv"), watermark="id")
    assert (left.appended, left.known, left.late, left.deleted) == (1, 1, 1, 2), "5 was deleted: it is not beyond"
    assert left.late_examples == ("4",)
    assert left.dataset.version == before.version + 1
    again = incremental.append(ws, "t", str(ws.project.root / "b.csv"), late=True)
    assert (again.appended, again.late, again.deleted) == (1, 1, 2)
    assert sorted(read.table(ws, again.dataset)["id"].to_pylist()) == [1, 3, 4, 6]
    if key:
        incremental.upsert(ws, "t", str(ws.project.root / "b.csv"))
        assert incremental.append(ws, "t", str(ws.project.root / "b.csv"), late=True).deleted == 0, "it was put back"


def test_a_row_that_is_there_twice_and_was_deleted_once_is_told_apart(ws: Workspace) -> None:
    added(ws, pa.table({"id": [1, 1, 2, 9], "x": ["a", "a", "b", "z"]}), key="")
    incremental.delete(ws, "t", condition="id = 2")
    put(ws, "b.csv", "id,x\n1,a\n1,a\n1,a\n2,b\n2,b\n")
    done = incremental.append(ws, "t", str(ws.project.root / "b.csv"), watermark="id", late=True)
    assert (done.appended, done.known, done.late, done.deleted) == (2, 2, 2, 1)
    assert sorted(read.table(ws, done.dataset)["id"].to_pylist()) == [1, 1, 1, 2, 9]


def test_without_the_history_late_rows_are_not_appended_blindly(ws: Workspace, tmp_path: Path) -> None:
    added(ws, pa.table({"id": [1, 2, 3]}))
    incremental.delete(ws, "t", key_values=["2"])
    newest = incremental.compact(ws, "t").dataset
    other = open_workspace(project=Project(name="other", root=tmp_path / "other"), actor="user:test")
    for digest in ws.objects.names():
        other.objects.put_bytes(ws.objects.get_bytes(digest))
    made = next(f.payload for f in ws.ledger.facts(kind="dataset.committed") if f.payload.version == newest.version)
    commit.adopt(other, made, added=newest.at)
    put(other, "b.csv", "id\n2\n4\n")
    with pytest.raises(UsageError, match="version before t@3 is not here") as caught:
        incremental.append(other, "t", str(other.project.root / "b.csv"), watermark="id", late=True)
    assert "--history" in caught.value.hint
    assert incremental.append(other, "t", str(other.project.root / "b.csv"), watermark="id").appended == 1
    other.ledger.database.close()


def test_an_upsert_tells_of_columns_that_are_new(ws: Workspace) -> None:
    added(ws, pa.table({"id": [1, 2], "x": ["a", "b"]}))
    done = incremental.upsert_rows(ws, "t", pa.table({"id": [2], "x": ["b"], "z": [5]}).to_reader())
    assert done.new_columns == ("z",)
    assert read.table(ws, done.dataset).to_pydict() == {"id": [1, 2], "x": ["a", "b"], "z": [None, 5]}
    assert incremental.upsert_rows(ws, "t", pa.table({"id": [3], "x": ["b"], "z": [5]}).to_reader()).new_columns == ()


def test_an_update_alone_may_bring_a_column_and_widen_another(ws: Workspace, tmp_path: Path) -> None:
    """Every way to the rows has them: whole, by column, by condition, by file, by row, merged, and compacted."""
    base = added(ws, pa.table({"id": [1, 2, 3], "x": [1, 2, 3], "c": ["a", "b", "c"]}))
    done = incremental.upsert_rows(ws, "t", pa.table({"id": [2], "x": [2.5], "c": ["b"], "z": ["new"]}).to_reader())
    wanted = {"id": [1, 2, 3], "x": [1.0, 2.5, 3.0], "c": ["a", "b", "c"], "z": [None, "new", None]}
    now = done.dataset
    assert (done.updated, done.inserted, done.new_columns) == (1, 0, ("z",))
    assert now.content == logical_digest(pa.table(wanted))
    assert [name for name, _, _ in now.columns] == list(wanted)
    assert read.table(ws, now).to_pydict() == wanted
    assert read.table(ws, now, columns=["z"], condition="x > 2").to_pydict() == {"z": ["new", None]}
    (whole,) = read.tables(ws, now).values()
    assert whole.to_pydict() == wanted
    (place,) = read.find_rows(ws, now, "z", "new")
    assert (place.row, place.values["x"]) == (1, 2.5)
    (merged,) = segments.write_merged(ws, now, tmp_path / "out")
    assert pq.read_table(merged).to_pydict() == wanted
    assert pq.read_table(read.parts(ws, now)[0].path).to_pydict() == wanted
    assert read.table(ws, base).to_pydict() == {"id": [1, 2, 3], "x": [1, 2, 3], "c": ["a", "b", "c"]}
    assert incremental.compact(ws, "t").dataset.content == now.content


def test_a_key_that_is_there_twice_is_named_with_its_rows(ws: Workspace) -> None:
    added(ws, pa.table({"id": [1, 2], "x": ["a", "b"]}))
    put(ws, "b.csv", "id,x\n7,a\n3,b\n7,c\n3,d\n7,e\n9,f\n")
    with pytest.raises(UsageError, match="twice") as caught:
        incremental.upsert(ws, "t", str(ws.project.root / "b.csv"))
    assert "id = 7 (rows 0, 2, 4, from 0); id = 3 (rows 1, 3, from 0)" in caught.value.message


def test_several_keys_may_be_given_with_commas_unless_they_are_text(ws: Workspace) -> None:
    added(ws, pa.table({"id": [17, 18, 19], "x": ["a", "a,b", "b"]}))
    done = incremental.delete(ws, "t", key_values=["18,19"])
    assert (done.deleted, done.missing) == (2, 0)
    found = blame.blame(ws, "t", key_values=["18, 19", "17"])
    assert [(each.key, each.is_there) for each in (found, *found.more)] == [("18", False), ("19", False), ("17", True)]
    added(ws, pa.table({"id": ["a", "b", "a,b"]}), name="text")
    assert incremental.delete(ws, "text", key_values=["a,b"]).deleted == 1
    assert sorted(read.table(ws, versions.resolve(ws, "text"))["id"].to_pylist()) == ["a", "b"]
    with pytest.raises(UsageError, match="'x' cannot be a key"):
        incremental.delete(ws, "t", key_values=["17,x"])


@pytest.mark.parametrize("rows", [(-1, 2), (2, 1), (-3, -1)])
def test_a_range_of_rows_that_is_none_is_said(ws: Workspace, rows: tuple[int, int]) -> None:
    version = added(ws, pa.table({"id": [1, 2, 3]}))
    with pytest.raises(UsageError, match="is no range of rows") as caught:
        read.table(ws, version, rows=rows)
    assert "counted from 0" in caught.value.hint
    assert read.table(ws, version, rows=(2, 9)).num_rows == 1
    assert read.table(ws, version, rows=(1, 1)).num_rows == 0


ROWS = "id,x\n1,a\n2,b\n"


def grown(ws: Workspace) -> versions.DatasetVersion:
    """A table added from t.csv, appended to, changed, and without a row."""
    versions.add(ws, put(ws, "t.csv", ROWS), "t", key="id")
    incremental.append(ws, "t", put(ws, "new/more.csv", "id,x\n3,c\n"), watermark="id")
    incremental.upsert(ws, "t", put(ws, "new/changed.csv", "id,x\n1,A\n"))
    return incremental.delete(ws, "t", key_values=["2"]).dataset


def test_adding_the_source_of_a_table_that_grew_says_what_it_takes_back(ws: Workspace) -> None:
    assert grown(ws).version == 4
    back = versions.add(ws, str(ws.project.root / "t.csv"), "t")
    assert back.version == 1
    assert isinstance(back, versions.Added)
    assert back.takes_back.startswith("takes back the append, upsert and delete since t@1; t@4 has them")
    assert back.takes_back in show.render("data", verbs.builtins(back))
    again = versions.add(ws, str(ws.project.root / "t.csv"), "t")
    assert not isinstance(again, versions.Added), "there is nothing to take back any more"


def test_adding_a_source_that_moved_on_says_that_the_rows_which_came_otherwise_are_not_kept(ws: Workspace) -> None:
    grown(ws)
    made = versions.add(ws, put(ws, "t.csv", ROWS + "4,d\n"), "t")
    assert isinstance(made, versions.Added)
    assert made.version == 5
    assert made.takes_back.startswith(
        "stands on its source alone: the append, upsert and delete since t@1 are not kept"
    )
    assert "noria data diff t@4 t@5" in made.takes_back


def test_adding_what_the_grown_table_says_takes_nothing_back(ws: Workspace) -> None:
    last = grown(ws)
    made = versions.add(ws, put(ws, "t.csv", "id,x\n1,A\n3,c\n"), "t")
    assert made.content == last.content
    assert not isinstance(made, versions.Added)


def test_a_run_on_a_table_that_grew_says_that_its_source_has_changed_since(ws: Workspace) -> None:
    last = grown(ws)
    assert pins.check(ws, last).note == ""
    put(ws, "t.csv", ROWS + "4,d\n")
    note = pins.check(ws, last).note
    assert note.startswith("its source t.csv has changed since, and this version")
    assert "noria data upsert t t.csv" in note


def test_rows_are_appended_to_a_table_that_has_another_type_since_rows_of_it_were_deleted(ws: Workspace) -> None:
    added(ws, pa.table({"id": [1, 2], "x": ["a", "b"]}))
    incremental.delete(ws, "t", key_values=["2"])
    added(ws, pa.table({"id": [1, 2], "x": [7, 8]}))
    put(ws, "b.csv", "id,x\n2,8\n3,9\n")
    done = incremental.append(ws, "t", str(ws.project.root / "b.csv"), watermark="id")
    assert (done.appended, done.known, done.deleted) == (1, 1, 0)


def test_an_infinity_or_nan_is_no_watermark_and_does_not_make_later_rows_late(ws: Workspace) -> None:
    nan, inf = float("nan"), float("inf")

    def append(values: list[float | None]) -> tuple[int, int, int, str]:
        rows = pa.table({"w": pa.array(values, pa.float64())}).to_reader()
        done = incremental.append_rows(ws, "t", rows, "w")
        return done.appended, done.late, done.unordered, done.watermark

    assert append([1.5, nan, 2.5, None]) == (2, 0, 2, "w=2.5")
    assert append([inf, 3.5, -inf]) == (1, 0, 2, "w=3.5")
    assert append([nan, 4.5]) == (1, 0, 1, "w=4.5")
    added(ws, pa.table({"w": [1.0, inf]}), key="")
    assert append([5.5]) == (1, 0, 0, "w=5.5"), "one that is in the table already"


def test_an_infinite_watermark_that_was_noted_before_counts_no_longer(ws: Workspace) -> None:
    first = added(ws, pa.table({"w": [1.0]}), key="")
    commit.commit(
        ws,
        "t",
        tables.store(ws, pa.table({"w": [1.0, float("inf")]}), "t"),
        roles=segments.roles(first),
        source="",
        operation="append",
        watermark="w=inf",
    )
    assert incremental.append_rows(ws, "t", pa.table({"w": [2.0]}).to_reader(), "").appended == 1


def test_a_value_that_does_not_fit_is_told_by_its_row(ws: Workspace) -> None:
    versions.add(ws, put(ws, "t.csv", "id,x\n0,5\n"), "t")
    lines = [f"{number},{number}" for number in range(1, 5000)]
    lines[3123] = "3124,seven"
    lines[4000] = "4001,eight"
    put(ws, "more.csv", "id,x\n" + "\n".join(lines) + "\n")
    with pytest.raises(UsageError, match=r"column .x. of more\.csv holds a value that is no int64: row 3,123, from 0"):
        incremental.append(ws, "t", str(ws.project.root / "more.csv"), watermark="id")
