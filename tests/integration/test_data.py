"""Data sets in a real store: versions, pins, reading, comparing, and what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stored_bytes import damaged

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import Conflict, Corrupt, NotFound, UsageError
from noria.data import diff as diffs
from noria.data import lock, records, versions
from noria.data.folders.statcache import cache_path
from noria.data.rows import read
from noria.governance import audit
from noria.store import replay
from noria.store.workspace import Workspace

KILLS_OF_AN_ADD = ("data.copied", "data.committed", "commit.before", "commit.after")


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    workspace = open_workspace(project=Project(name="test", root=root), actor="user:test")
    yield workspace
    assert replay.difference(workspace.ledger) == [], "records are the fold of the facts"


def put(ws: Workspace, name: str, content: str | pa.Table) -> Path:
    path = ws.project.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        pq.write_table(content, path)
    return path


def age(path: Path, seconds: float = 60) -> None:
    """Make a file look older, so that its entry in the stat cache is trusted. (ctime cannot be set.)"""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - int(seconds * 1e9)))


def test_a_file_becomes_a_version_that_reads_back_as_it_was(ws: Workspace) -> None:
    put(ws, "data/zips.csv", "id,zip\n1,02139\n2,10001\n")
    version = versions.add(ws, "data/zips.csv", key="id")
    assert (version.ref, version.rows, version.files, version.source) == ("zips@1", 2, 1, "data/zips.csv")
    assert version.columns == (("id", "int64", False), ("zip", "string", False))
    assert read.table(ws, version).to_pylist() == [{"id": 1, "zip": "02139"}, {"id": 2, "zip": "10001"}]
    with duckdb.connect() as connection:
        rows = connection.execute(f"select zip from {read.scan_sql(ws, version)} where id = 1").fetchall()
    assert rows == [("02139",)]


def test_the_same_bytes_are_the_same_version_anywhere(ws: Workspace, tmp_path: Path) -> None:
    put(ws, "a.csv", "x\n1\n")
    first = versions.add(ws, "a.csv")
    head = ws.ledger.head()
    assert versions.add(ws, "a.csv") == first
    assert ws.ledger.head() == head
    other = open_workspace(project=Project(name="other", root=tmp_path), actor="user:other")
    put(other, "a.csv", "x\n1\n")
    assert versions.add(other, "a.csv").tree == first.tree


def test_the_content_of_an_older_version_is_that_version_and_its_pin(ws: Workspace) -> None:
    put(ws, "a.csv", "x\n1\n")
    first = versions.add(ws, "a.csv")
    put(ws, "a.csv", "x\n2\n")
    assert versions.add(ws, "a.csv").version == 2
    put(ws, "a.csv", "x\n1\n")
    assert versions.add(ws, "a.csv") == first
    assert lock.pinned(ws.project.root, "a") == first.tree
    assert versions.resolve(ws, "a") == first, "a name alone is what is pinned"
    assert versions.resolve(ws, "a@latest").version == 2


def test_the_pin_has_one_line_for_each_field(ws: Workspace) -> None:
    put(ws, "a.csv", "x,t\n1,2013-01-01\n")
    version = versions.add(ws, "a.csv", time="t")
    text = (ws.project.root / "noria.lock/a.toml").read_text()
    document = tomllib.loads(text)
    assert document["tree"] == version.tree
    assert document["time_max"] == "2013-01-01T00:00:00.000000Z"
    assert len([line for line in text.splitlines() if not line.startswith("#")]) == len(document)


def test_a_version_is_found_by_number_tag_prefix_and_distance(ws: Workspace) -> None:
    for number in range(3):
        put(ws, "a.csv", f"x\n{number}\n")
        versions.add(ws, "a.csv")
    log = versions.log(ws, "a")
    assert [v.version for v in log] == [3, 2, 1]
    versions.tag(ws, "a@2", "gold")
    for ref, number in (("a", 3), ("a@latest", 3), ("a@latest~2", 1), ("a@2", 2), ("a@gold", 2)):
        assert versions.resolve(ws, ref).version == number
    for version in log:
        assert versions.resolve(ws, f"a@{version.tree[7:20]}") == version
        assert versions.resolve(ws, f"a@{version.tree}") == version
    assert versions.show(ws, "a@gold").tags == ("gold",)
    for ref in ("a@9", "a@latest~3", "a@nosuch", "a@ffffffff", "b", "a@"[:1] + "x"):
        with pytest.raises(NotFound) as caught:
            versions.resolve(ws, ref)
        assert caught.value.hint
    versions.tag(ws, "a@3", "gold")
    assert versions.resolve(ws, "a@gold").version == 3


def test_roles_are_kept_by_the_next_version_and_may_be_described_later(ws: Workspace) -> None:
    put(ws, "a.csv", "id,t,y\n1,2013-01-01T00:00:00Z,0\n")
    versions.add(ws, "a.csv")
    described = versions.describe(ws, "a", key="id", time="t", label="y")
    assert (described.key, described.time, described.label) == ("id", "t", "y")
    assert described.time_min == "2013-01-01T00:00:00.000000Z"
    assert versions.resolve(ws, "a@1") == described
    head = ws.ledger.head()
    assert versions.describe(ws, "a", key="id") == described
    assert ws.ledger.head() == head
    put(ws, "a.csv", "id,t,y\n1,2013-01-01T00:00:00Z,0\n2,2013-01-02T00:00:00Z,0\n")
    second = versions.add(ws, "a.csv")
    assert (second.version, second.key, second.time, second.label) == (2, "id", "t", "y")
    assert second.time_max == "2013-01-02T00:00:00.000000Z"
    with pytest.raises(UsageError, match="no column 'idd' to be the key"):
        versions.describe(ws, "a", key="idd")


def test_a_folder_is_joined_by_column_name_with_one_type_for_each(ws: Workspace) -> None:
    put(ws, "d/a.csv", "id,x\n1,5\n")
    put(ws, "d/b.csv", "x,id,extra\n2.5,2,e\n")
    put(ws, "d/c.parquet", pa.table({"id": [3], "x": [1], "extra": [None]}))
    put(ws, "d/README.md", "about")
    version = versions.add(ws, "d")
    assert (version.rows, version.files) == (3, 4)
    assert [name for name, _, _ in version.columns] == ["id", "x", "extra"]
    assert read.table(ws, version).to_pylist() == [
        {"id": 1, "x": 5.0, "extra": None},
        {"id": 2, "x": 2.5, "extra": "e"},
        {"id": 3, "x": 1.0, "extra": None},
    ]


def test_one_text_in_one_file_keeps_the_column_text_in_all(ws: Workspace) -> None:
    put(ws, "d/a.csv", "zip,n\n10001,1\n")
    put(ws, "d/b.csv", "zip,n\n02139,2\n")
    assert read.table(ws, versions.add(ws, "d"))["zip"].to_pylist() == ["10001", "02139"]


@pytest.mark.parametrize(
    ("files_", "message"),
    [
        ({"a.csv": "x,y\n"}, r"has no rows(.|\n)*--as-files"),
        ({"a.csv": "x\n1\n", "b.csv": ""}, "b.csv is empty"),
        ({"a.csv": "x,y\n1,2\n", "b.csv": "x,y\n1\n"}, "b.csv is broken"),
        ({"a.csv": "id,name\n1,a\n", "b.csv": "day,amount\n1,2\n"}, "b.csv is another table than a.csv"),
        ({"a.parquet": pa.table({"x": [1]}), "b.parquet": pa.table({"x": ["a"]})}, "column 'x' is string"),
    ],
)
def test_what_cannot_be_added_is_one_clear_error_and_leaves_nothing(
    ws: Workspace, files_: dict[str, str | pa.Table], message: str
) -> None:
    for name, content in files_.items():
        put(ws, f"d/{name}", content)
    with pytest.raises(UsageError, match=message) as caught:
        versions.add(ws, "d")
    assert len(str(caught.value).splitlines()) <= 6
    assert ws.ledger.head() == 0
    assert not (ws.project.root / "noria.lock").exists()


def test_a_broken_stat_cache_is_only_a_slow_one(ws: Workspace) -> None:
    put(ws, "a.csv", "x\n1\n")
    first = versions.add(ws, "a.csv")
    cache = cache_path(ws.project.state, "a")
    cache.write_bytes(b"half a cache" * 1000)
    assert versions.add(ws, "a.csv") == first


def test_a_checkout_is_whole_and_never_over_something(ws: Workspace, tmp_path: Path) -> None:
    put(ws, "d/a.csv", "x\n1\n")
    put(ws, "d/sub/note.txt", "hello")
    version = versions.add(ws, "d")
    out = versions.checkout(ws, version.ref, str(tmp_path / "out"))
    assert (out.files, (tmp_path / "out/sub/note.txt").read_text()) == (2, "hello")
    with pytest.raises(Conflict, match="not an empty folder"):
        versions.checkout(ws, version.ref, str(tmp_path / "out"))
    assert versions.add(ws, str(tmp_path / "out"), "copy").tree == version.tree


def test_an_altered_byte_is_named_and_nothing_is_handed_out(ws: Workspace, tmp_path: Path) -> None:
    put(ws, "a.csv", "x\n1\n")
    version = versions.add(ws, "a.csv")
    digest = versions.show(ws, "a").entries[0].digest
    damaged(ws.project.state / "objects", b"x\n1\n", b"x\n9\n")
    with pytest.raises(Corrupt, match=digest[7:19]):
        read.table(ws, version)
    with pytest.raises(Corrupt):
        versions.checkout(ws, "a", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_rows_are_found_with_the_file_and_place_that_hold_them(ws: Workspace) -> None:
    put(ws, "d/a.csv", "id,x\n1,a\n2,b\n")
    put(ws, "d/b.csv", "id,x\n2,c\n3,\n")
    version = versions.add(ws, "d")
    found = read.find_rows(ws, version, "id", 2)
    assert [(p.file, p.row, p.values["x"]) for p in found] == [("a.csv", 1, "b"), ("b.csv", 0, "c")]
    assert read.find_rows(ws, version, "id", "2") == found
    assert [p.file for p in read.find_rows(ws, version, "x", None)] == ["b.csv"]
    assert read.find_rows(ws, version, "id", "no number") == []
    with pytest.raises(UsageError, match="no column 'y'"):
        read.find_rows(ws, version, "y", 1)


ADDER = """
import sys
from pathlib import Path
from noria.bootstrap import open_workspace
from noria.config import Project
from noria.data import versions
ws = open_workspace(project=Project(name="test", root=Path(sys.argv[1])), actor="user:other")
print("ready", flush=True)
sys.stdin.readline()
for name in sys.argv[2:]:
    version = versions.add(ws, name, "d")
    print(version.version, version.tree, flush=True)
"""


@pytest.mark.parametrize("point", KILLS_OF_AN_ADD)
def test_killed_at_any_moment_the_whole_version_is_there_or_none_and_the_next_add_finishes(
    ws: Workspace, point: str
) -> None:
    put(ws, "in/a.csv", "x\n1\n")
    command = [sys.executable, "-c", ADDER, str(ws.project.root), "in/a.csv"]
    environment = {**os.environ, "NORIA_FAILPOINT": f"{point}:1"}
    died = subprocess.run(
        command, input="go\n", text=True, cwd=ws.project.root, env=environment, timeout=60, check=False
    )
    assert died.returncode == -9
    with ws.ledger.read() as tx:
        there = records.versions(tx, "d")
    for version in there:
        assert read.table(ws, version).num_rows == 1
    finished = versions.add(ws, str(ws.project.root / "in/a.csv"), "d")
    assert (finished.version, lock.pinned(ws.project.root, "d")) == (1, finished.tree)
    assert audit.verify(ws).ok


def test_two_processes_add_at_once_and_both_versions_exist(ws: Workspace) -> None:
    for number in range(10):
        put(ws, f"in/{number}.csv", f"x\n{number % 5}\n")
    names = [f"in/{number}.csv" for number in range(10)]
    for name in names[5:]:  # the second five hold the same content under the same name as the first
        content = (ws.project.root / name).read_text()
        put(ws, f"again/{content.split()[1]}.csv", content)
    first, second = names[:5], [f"again/{number}.csv" for number in range(5)]
    command = [sys.executable, "-c", ADDER, str(ws.project.root)]
    running = [
        subprocess.Popen(
            [*command, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ws.project.root
        )
        for paths in (first, second)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n", timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    log = versions.log(ws, "d")
    assert [v.version for v in log] == [5, 4, 3, 2, 1], "ten additions of five contents"
    assert len({v.tree for v in log}) == 5
    assert sorted(outputs[0].split("\n")) == sorted(outputs[1].split("\n")), "both were given the same versions"
    assert lock.pinned(ws.project.root, "d") in {v.tree for v in log}


def test_a_difference_counts_rows_by_key_and_names_what_moved(ws: Workspace) -> None:
    put(ws, "a.csv", "id,x,c\n" + "".join(f"{i},{i},red\n" for i in range(100)))
    versions.add(ws, "a.csv", key="id")
    put(ws, "a.csv", "id,x,c,new\n" + "".join(f"{i},{i * 2},{'blue' if i > 50 else 'red'},1\n" for i in range(10, 110)))
    versions.add(ws, "a.csv")
    found = diffs.diff(ws, "a")
    assert (found.before, found.after) == ("a@1", "a@2")
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (10, 10, 90)
    assert found.rows.changed_columns == (("x", 90), ("c", 49))
    assert found.rows.added_keys == ("100", "101", "102", "103", "104")
    assert [(c.column, c.before, c.after) for c in found.schema] == [("new", "", "int64")]
    by_name = {shift.column: shift for shift in found.shifts}
    assert by_name["c"].new_levels == ("blue",)
    assert by_name["c"].size == pytest.approx(0.59)
    assert "+10 rows, −10 rows, 90 rows changed" in found.summary


def test_a_difference_without_a_key_counts_rows_as_a_multiset(ws: Workspace) -> None:
    put(ws, "a.csv", "x\n1\n1\n2\n")
    versions.add(ws, "a.csv")
    put(ws, "a.csv", "x\n1\n2\n2\n3\n")
    versions.add(ws, "a.csv")
    found = diffs.diff(ws, "a@1", "a@2").rows
    assert (found.added, found.removed, found.changed) == (2, 1, 0)


def test_new_files_are_compared_with_what_was_there_and_the_rest_is_not_read(ws: Workspace) -> None:
    put(ws, "d/1.csv", "x\n" + "".join(f"{i}\n" for i in range(50)))
    versions.add(ws, "d")
    put(ws, "d/2.csv", "x\n" + "".join(f"{i}\n" for i in range(50, 100)))
    versions.add(ws, "d")
    found = diffs.diff(ws, "d")
    assert (found.files.added, found.files.same) == (("2.csv",), 1)
    assert found.shifts[0].size == 1.0
    assert found.compared == "50 new rows with 50 before"
    assert diffs.diff(ws, "d@2", "d@2").is_same
    with pytest.raises(UsageError, match="first version"):
        diffs.diff(ws, "d@1")


def test_ids_and_times_differ_everywhere_and_do_not_count_as_moved(ws: Workspace) -> None:
    for day in (1, 2):
        rows = "".join(f"id-{day}-{i},2013-01-0{day}T00:{i % 60:02d}:00Z,{i % 7}\n" for i in range(300))
        put(ws, f"d/{day}.csv", "id,t,x\n" + rows)
        versions.add(ws, "d")
    found = diffs.diff(ws, "d")
    kinds = {shift.column: (shift.kind, shift.is_moved) for shift in found.shifts}
    assert kinds == {"id": ("id", False), "t": ("time", False), "x": ("number", False)}
    assert found.summary == "+300 rows; 1 new file"
    by_name = {shift.column: shift for shift in found.shifts}
    assert (by_name["t"].before, by_name["t"].after) == ("2013-01-01 00:29:00", "2013-01-02 00:29:00")
