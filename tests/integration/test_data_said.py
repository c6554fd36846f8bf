"""What the data verbs say: of sources elsewhere, of grown tables, of tags, names and clones."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import noria as nr
from noria.bootstrap import open_workspace
from noria.config import Project, RemoteConfig
from noria.core.errors import NotFound, UsageError
from noria.data import checkout, diff, pins, status, versions
from noria.data.folders.worktree import DatasetStatus
from noria.data.rows import read
from noria.data.tabular import asking, incremental, tables
from noria.faces import verbs
from noria.faces.cli import show
from noria.faces.cli.main import run
from noria.store import replay
from noria.store.workspace import Workspace
from s3_server import S3Server


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "noria.toml").write_text('[project]\nname = "test"\n')
    monkeypatch.chdir(root)
    made = open_workspace(root, actor="user:test")
    yield made
    assert replay.difference(made.ledger) == []
    made.ledger.database.close()


def put(ws: Workspace, name: str, text: str) -> str:
    path = ws.project.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def one(ws: Workspace, name: str, *, ask: bool = False) -> DatasetStatus:
    (found,) = asking.ask(ws, [name]) if ask else status.status(ws, [name])
    return found


def shop(ws: Workspace, *rows: tuple[int, str]) -> None:
    with sqlite3.connect(ws.project.root / "shop.db") as connection:
        connection.execute("create table if not exists t (id integer primary key, x text)")
        connection.executemany("insert into t values (?, ?)", rows)
    connection.close()


@pytest.mark.parametrize("question", [{"table": "t"}, {"query": "select id, x from t where id < 9 order by id"}])
def test_of_a_database_in_a_file_status_knows_whether_it_was_written(ws: Workspace, question: dict[str, str]) -> None:
    shop(ws, (1, "a"))
    version = versions.add(ws, "sqlite:///shop.db", "t", **question)
    found = one(ws, "t")
    assert (found.state, found.note) == ("elsewhere", "not written since this version was added")
    assert one(ws, "t", ask=True).state == "same"
    shop(ws, (9, "b"), (2, "c"))
    assert "was written since" in one(ws, "t").note
    assert "noria data ask t" in one(ws, "t").note
    asked = one(ws, "t", ask=True)
    assert (asked.state, "other rows" in asked.note) == ("changed", True)
    assert "changed" in show.render("data_status", verbs.builtins([asked]))
    with sqlite3.connect(ws.project.root / "shop.db") as connection:
        connection.execute("delete from t where id > 1")
    connection.close()
    assert one(ws, "t", ask=True).state == "same", "the same rows again"
    assert versions.add(ws, "sqlite:///shop.db", "t", **question) == version
    assert one(ws, "t").note == "not written since this version was added"
    (ws.project.root / "shop.db").unlink()
    assert one(ws, "t").note == "the database file is gone"
    assert "could not be asked: there is no database" in one(ws, "t", ask=True).note


def test_the_table_in_an_address_is_remembered(ws: Workspace) -> None:
    shop(ws, (1, "a"))
    assert versions.add(ws, "sqlite:///shop.db?table=t", "t").source == "sqlite:///shop.db table t"
    assert one(ws, "t", ask=True).state == "same"


def test_an_object_store_is_asked_for_its_keys(tmp_path: Path, s3_server: S3Server) -> None:
    bucket, _, prefix = s3_server.new_bucket().removeprefix("s3://").partition("/")
    client = s3_server.client()
    for key in ("a.txt", "sub/b.txt", "gone.txt"):
        client.put_object(Bucket=bucket, Key=f"{prefix}/data/{key}", Body=key.encode())
    root = tmp_path / "project"
    root.mkdir()
    remotes = {"origin": RemoteConfig(url=f"s3://{bucket}/store", endpoint=s3_server.endpoint)}
    ws = open_workspace(project=Project(name="test", root=root, remotes=remotes), actor="user:test")
    versions.add(ws, f"s3://{bucket}/{prefix}/data", "d")
    found = one(ws, "d")
    assert (found.state, "known only to s3: noria data ask d" in found.note) == ("elsewhere", True)
    assert one(ws, "d", ask=True).state == "same"
    client.put_object(Bucket=bucket, Key=f"{prefix}/data/a.txt", Body=b"A.TXT")
    client.put_object(Bucket=bucket, Key=f"{prefix}/data/new.txt", Body=b"new")
    client.delete_object(Bucket=bucket, Key=f"{prefix}/data/gone.txt")
    asked = one(ws, "d", ask=True)
    assert (asked.state, sorted(asked.paths)) == ("changed", ["+ new.txt", "- gone.txt", "~ a.txt"])
    client.put_object(Bucket=bucket, Key=f"{prefix}/data/folder", Body=b"file")
    client.put_object(Bucket=bucket, Key=f"{prefix}/data/folder/x", Body=b"file")
    with pytest.raises(UsageError, match="1 key cannot be the path of a file: 'folder/x'"):
        versions.add(ws, f"s3://{bucket}/{prefix}/data", "d")
    ws.ledger.database.close()


def test_a_frame_lies_nowhere_and_status_says_so(ws: Workspace) -> None:
    nr.add_data(pa.table({"a": [1]}), name="f")
    found = one(ws, "f")
    assert found.state == "elsewhere"
    assert asking.ask(ws) == []
    with pytest.raises(UsageError, match="f came from no database"):
        asking.ask(ws, ["f"])
    assert "nr.add_data" in found.note


@pytest.mark.parametrize("place", ["data/orders", "data/orders/a.csv"])
def test_after_growing_and_compacting_status_shows_no_changes(ws: Workspace, place: str) -> None:
    put(ws, "data/orders/a.csv", "id,x\n1,a\n2,b\n")
    versions.add(ws, place, "orders", key="id")
    grown = incremental.append(ws, "orders", put(ws, "new.csv", "id,x\n3,c\n"), watermark="id").dataset
    found = one(ws, "orders")
    assert (found.state, found.paths, "kept by Noria" in found.note) == ("same", (), True)
    assert incremental.compact(ws, "orders").dataset.content == grown.content
    found = one(ws, "orders")
    assert (found.state, found.paths) == ("same", ())
    put(ws, "data/orders/a.csv", "id,x\n1,changed\n")
    assert one(ws, "orders").paths == ("~ a.csv",), "what the user changes is still seen"


def test_a_grown_table_in_a_clone_says_that_its_rows_are_kept(ws: Workspace) -> None:
    put(ws, "a.csv", "id\n1\n")
    versions.add(ws, "a.csv", "t", key="id")
    incremental.append(ws, "t", put(ws, "new.csv", "id\n3\n"), watermark="id")
    (ws.project.state / "cache" / "stat" / "t.db").unlink()
    found = one(ws, "t")
    assert (found.state, "append from new.csv" in found.note) == ("elsewhere", True)
    with pytest.raises(UsageError, match="no place in the project"):
        checkout.checkout(ws, "t")
    checkout.checkout(ws, "t", "out")
    assert not (ws.project.root / "new.csv").is_dir()


def test_a_compacted_table_is_not_written_over_a_file_of_another_kind(ws: Workspace) -> None:
    put(ws, "a.csv", "id\n1\n")
    versions.add(ws, "a.csv", "t", key="id")
    incremental.append(ws, "t", put(ws, "new.csv", "id\n3\n"), watermark="id")
    incremental.compact(ws, "t")
    with pytest.raises(UsageError, match=r"does not fit its place a\.csv"):
        checkout.checkout(ws, "t")
    assert (ws.project.root / "a.csv").read_text() == "id\n1\n"


def test_a_name_alone_is_the_pinned_version_everywhere(ws: Workspace) -> None:
    for number in (1, 2, 3):
        versions.add(ws, put(ws, "d.csv", "id\n" + "\n".join(map(str, range(number))) + "\n"), "d")
    old = versions.resolve(ws, "d@2")
    pins.write_pin(ws.project.root, "d", pins.pin_text(old))
    assert versions.resolve(ws, "d") == versions.show(ws, "d").dataset == old
    assert versions.resolve(ws, "d@latest").version == 3
    assert diff.diff(ws, "d").after == "d@2"
    assert checkout.checkout(ws, "d", "out").version == 2
    assert nr.read_data("d").num_rows == 2
    assert [each.version for each in versions.log(ws, "d")] == [3, 2, 1]
    pins.pin_path(ws.project.root, "d").unlink()
    assert versions.resolve(ws, "d").version == 3
    pins.write_pin(ws.project.root, "d", pins.pin_text(old).replace(old.tree[7:], "0" * 64))
    with pytest.raises(NotFound, match="which is not here") as caught:
        versions.resolve(ws, "d")
    assert caught.value.hint == "noria data pull d, or d@latest for d@3"


def test_a_diff_of_one_version_takes_the_one_before_where_numbers_have_gaps(ws: Workspace) -> None:
    versions.add(ws, put(ws, "d.csv", "id\n1\n"), "d")
    versions.add(ws, put(ws, "d.csv", "id\n1\n2\n"), "d")
    found = diff.diff(ws, "d@2")
    assert (found.before, found.rows.added, found.summary.startswith("+1 row;")) == ("d@1", 1, True)
    with pytest.raises(UsageError, match="nothing before it"):
        diff.diff(ws, "d@1")


def test_a_tag_says_what_became_of_it(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    versions.add(ws, put(ws, "d.csv", "id\n1\n"), "d")
    versions.add(ws, put(ws, "d.csv", "id\n2\n"), "d")
    for words, told in (
        (["tag", "d@1", "gold"], "gold names d@1"),
        (["tag", "d@1", "gold"], "gold stays at d@1"),
        (["tag", "d@2", "gold"], "gold moved to d@2, before d@1"),
        (["remove-tag", "d", "gold"], "gold was taken from d@2"),
    ):
        assert run(["data", *words]) == 0
        assert told in capsys.readouterr().out


def test_a_date_keeps_its_letters_and_says_its_zone(ws: Workspace) -> None:
    versions.add(ws, put(ws, "d.csv", "id\n1\n"), "d")
    choice = versions.show(ws, "d@2999-01-01T10:30").choice
    assert choice.startswith("d@1 is the newest version added by 2999-01-01T10:30 (UTC); it was added 2")
    assert choice.endswith("Z")
    assert "by 2999-01-01T10:30+02:00; it" in versions.show(ws, "d@2999-01-01T10:30+02:00").choice


def test_one_of_something_is_not_several(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    versions.add(ws, put(ws, "d.csv", "id\n1\n"), "d", key="id")
    assert run(["data", "show", "d"]) == 0
    assert run(["data", "verify", "d"]) == 0
    assert run(["data", "upsert", "d", put(ws, "e.csv", "id\n2\n")]) == 0
    assert run(["data", "delete", "d", "--key-values", "2,5"]) == 0
    assert run(["data", "diff", "d@1", "d@2"]) == 0
    told = capsys.readouterr().out
    for words in ("1 row  1 column", "1 version, 1 file", "+1 row  0 changed", "−1 row  1 key named no row", "+1 row"):
        assert words in told, told
    for word in ("rows", "columns", "files", "versions", "keys"):
        assert f"1 {word}" not in told


def test_a_fresh_clone_says_what_to_pull(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ws.project.root
    version = versions.add(ws, put(ws, "d.csv", "id\n1\n2\n"), "d")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / ".gitignore").write_text(".noria/\n*.csv\n")
    for words in (["add", "."], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(root), *words], check=True)
    subprocess.run(["git", "clone", "-q", str(root), str(tmp_path / "clone")], check=True)
    monkeypatch.chdir(tmp_path / "clone")
    clone = open_workspace(tmp_path / "clone", actor="user:test")
    (listed,) = versions.list_datasets(clone)
    assert (listed.ref, listed.content, listed.note) == ("d@1", version.content, "not here yet: noria data pull d")
    assert "noria data pull d" in show.render("data_log", verbs.builtins([listed]))
    assert json.loads(verbs.encode(listed))["at"] == ""
    for asked in (versions.log, versions.show, versions.resolve):
        with pytest.raises(NotFound, match="is pinned, but not here yet") as caught:
            asked(clone, "d")
        assert caught.value.hint == "noria data pull d"
    clone.ledger.database.close()


def test_whatever_python_writes_is_a_version_with_what_was_done(ws: Workspace) -> None:
    added = nr.add_data(pa.table({"id": [1, 2], "x": ["a", "b"]}), name="t", key="id")
    appended = nr.append_data(pa.table({"id": [2, 0, 3], "x": ["b", "z", "c"]}), name="t", watermark="id")
    upserted = nr.upsert_data(pa.table({"id": [1, 4], "x": ["A", "d"]}), name="t")
    assert [each.ref for each in (added, appended, upserted)] == ["t@1", "t@2", "t@3"]
    assert all(isinstance(each, versions.DatasetVersion) for each in (added, appended, upserted))
    assert (appended.appended, appended.known, appended.late, appended.deleted) == (1, 1, 1, 0)
    assert (upserted.inserted, upserted.updated, upserted.unchanged) == (1, 1, 0)
    assert upserted.content == tables.logical_digest(read.table(ws, versions.resolve(ws, "t")))


@pytest.mark.parametrize(
    "words", [("diff", "t@1", "t@2"), ("check", "t", "--infer"), ("blame", "t", "--key", "2"), ("show", "t")]
)
def test_a_command_says_nothing_but_its_answer(ws: Workspace, words: tuple[str, ...]) -> None:
    """DuckDB, which compares the rows, would list on stderr what is left of it at the end of the process."""
    for price in ("1.5", "2.5"):
        versions.add(ws, put(ws, "t.csv", f"id,price\n1,1.0\n2,{price}\n"), key="id")
    command = [sys.executable, "-m", "noria", "data", *words]
    done = subprocess.run(command, cwd=ws.project.root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
