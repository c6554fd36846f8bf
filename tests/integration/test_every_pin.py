"""All data sets at once: a checkout without a name, and one broken pin that does not stop the work on the others."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from git_project import noria

from noria.bootstrap import open_workspace
from noria.core.errors import ConfigError, Conflict, UsageError
from noria.data import verify, versions
from noria.data.checkout import checkout
from noria.data.folders.worktree import DatasetStatus
from noria.data.leftovers import _known_names
from noria.data.pins import pin_path
from noria.data.remote import transfer
from noria.data.status import status
from noria.data.tabular import asking, incremental
from noria.faces.ui.pages import page
from noria.faces.verbs import builtins
from noria.project.status import status as project_status
from noria.store.workspace import Workspace

TEXTS = {"a.bin": "one", "b.bin": "two", "c.csv": "id,x\n1,2\n"}


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "noria.toml").write_text(f'[project]\nname = "t"\n\n[remote.origin]\nurl = "{tmp_path / "remote"}"\n')
    workspace = open_workspace(root)
    for name, text in TEXTS.items():
        (root / name).write_text(text)
        versions.add(workspace, name)
    yield workspace
    workspace.ledger.database.close()


def conflict(ws: Workspace, name: str) -> None:
    """The pin as `git merge` leaves it."""
    path = pin_path(ws.project.root, name)
    head, tail = path.read_text().split("tree = ")
    mine, rest = tail.split("\n", 1)
    other = f'tree = "sha256:{"7" * 64}"'
    path.write_text(f"{head}<<<<<<< HEAD\ntree = {mine}\n=======\n{other}\n>>>>>>> theirs\n{rest}")


def texts(ws: Workspace) -> dict[str, str]:
    return {name: (ws.project.root / name).read_text() for name in TEXTS if (ws.project.root / name).exists()}


def test_a_checkout_without_a_name_brings_every_data_set_to_its_pin(ws: Workspace) -> None:
    root = ws.project.root
    before = {path.name: path.read_text() for path in (root / "noria.lock").iterdir()}
    (root / "a.bin").write_text("changed")
    (root / "c.csv").write_text("id,x\n1,3\n")
    versions.add(ws, "a.bin")
    versions.add(ws, "c.csv")
    (root / "b.bin").unlink()
    for name, text in before.items():
        (root / "noria.lock" / name).write_text(text)  # as `git switch` does
    done = checkout(ws)
    assert texts(ws) == TEXTS
    assert [each.dataset for each in done.each] == ["a", "b", "c"]
    assert [each.version for each in done.each] == [1, 1, 1]
    assert (done.dataset, done.written, done.files, dict(done.skipped)) == ("", 3, 3, {})
    assert done.size_bytes == sum(map(len, TEXTS.values()))
    assert checkout(ws).written == 0


def test_what_does_not_lie_in_the_project_as_files_is_told(ws: Workspace, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as shop:
        shop.execute("create table orders (id integer, x real)")
        shop.execute("insert into orders values (1, 2.5)")
    versions.add(ws, f"sqlite:///{tmp_path / 'shop.db'}", "orders", table="orders")
    (ws.project.root / "more.csv").write_text("id,x\n2,3\n")
    incremental.append(ws, "c", "more.csv", watermark="id")
    (ws.project.root / "a.bin").unlink()
    done = checkout(ws)
    assert [each.dataset for each in done.each] == ["a", "b"]
    assert done.skipped.keys() == {"c", "orders"}
    assert all("noria data checkout" in why for why in done.skipped.values())
    told = noria(ws.project.root, "data", "checkout")
    assert "orders" in told
    assert "a@1" in told
    assert json.loads(noria(ws.project.root, "data", "checkout", "--json"))["skipped"].keys() == {"c", "orders"}


def test_a_folder_is_for_one_data_set(ws: Workspace, tmp_path: Path) -> None:
    for call in (
        lambda: checkout(ws, "", str(tmp_path / "out")),
        lambda: checkout(ws, path="x"),
        lambda: checkout(ws, into=True),
    ):
        with pytest.raises(UsageError, match="one data set"):
            call()
    assert not (tmp_path / "out").exists()


def test_what_the_user_changed_does_not_hold_up_the_others(ws: Workspace) -> None:
    root = ws.project.root
    older = pin_path(root, "a").read_text()
    (root / "a.bin").write_text("newer")
    versions.add(ws, "a.bin")
    pin_path(root, "a").write_text(older)
    (root / "a.bin").write_text("mine, not added")
    (root / "b.bin").unlink()
    with pytest.raises(Conflict) as caught:
        checkout(ws)
    assert caught.value.message.startswith("a: ")
    assert "2 others are checked out" in caught.value.message
    assert len(str(caught.value).splitlines()) <= 6
    assert texts(ws) == {**TEXTS, "a.bin": "mine, not added"}


def test_a_conflicted_pin_stops_nothing_else_and_is_named_with_what_to_do(ws: Workspace, tmp_path: Path) -> None:
    transfer.push(ws)
    conflict(ws, "b")
    (ws.project.root / "a.bin").unlink()
    with pytest.raises(ConfigError, match="two branches") as caught:
        checkout(ws)
    assert "2 others are checked out" in caught.value.message
    assert "git checkout --merge noria.lock/b.toml" in caught.value.hint
    assert texts(ws) == TEXTS
    states = {each.dataset: each for each in status(ws)}
    assert {name: each.state for name, each in states.items()} == {"a": "same", "b": "unread", "c": "same"}
    found = {each.name: each for each in versions.list_datasets(ws)}
    assert found["a"].note == found["c"].note == ""
    assert found["b"].at, "what is here of it is shown all the same"
    report = verify.verify(ws)
    assert (report.ok, report.bad, [each.dataset for each in report.absent]) == (False, 0, ["b"])
    (asked,) = asking.ask(ws)
    assert isinstance(asked, DatasetStatus)
    told = [states["b"].note, found["b"].note, report.absent[0].asked[0], asked.note]
    whole = project_status(ws)
    told += [whole.unread_pins["b"], page(builtins(whole)), noria(ws.project.root, "status")]
    told += [noria(ws.project.root, "data", "status", code=1), noria(ws.project.root, "data", "list")]
    told.append(noria(ws.project.root, "data", "verify", code=1))
    for text in told:
        assert "git checkout --merge noria.lock/b.toml" in text
    assert _known_names(ws) == {"a", "b", "c"}, "what is remembered of its files is not taken for left over"
    for call in (lambda: status(ws, ["b"]), lambda: checkout(ws, "b"), lambda: transfer.pull(ws, ["b"])):
        with pytest.raises(ConfigError, match="two branches"):
            call()


def test_a_pull_brings_the_others_and_then_names_the_broken_pin(ws: Workspace, tmp_path: Path) -> None:
    transfer.push(ws)
    conflict(ws, "b")
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("noria.toml", "noria.lock"):
        place = ws.project.root / name
        shutil.copytree(place, clone / name) if place.is_dir() else shutil.copy(place, clone / name)
    other = open_workspace(clone)
    try:
        with pytest.raises(ConfigError, match="2 others are here now"):
            transfer.pull(other)
        assert {each.name: bool(each.at) for each in versions.list_datasets(other)} == {
            "a": True,
            "b": False,
            "c": True,
        }
        assert transfer.absent_pins(other) == []
        with pytest.raises(ConfigError):
            checkout(other)
        assert (clone / "a.bin").read_text() == TEXTS["a.bin"]
        for name in ("a", "c"):
            pin_path(clone, name).unlink()
        with pytest.raises(ConfigError, match="two branches"):
            transfer.pull(other)
    finally:
        other.ledger.database.close()
