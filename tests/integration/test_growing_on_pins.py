"""Tables that grow while the project's pin stands elsewhere: on an older version, or on one that is not here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from git_project import add, commit, git, new_project, noria

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import NotFound
from noria.core.identity import digest
from noria.data import versions
from noria.data.pins import Pin, pin_text, read_pin, write_pin
from noria.data.records import DatasetVersion
from noria.data.rows import read
from noria.data.tabular import blame, incremental
from noria.faces import verbs
from noria.faces.cli import show
from noria.store.workspace import Workspace

ROWS = "id,x\n1,a\n2,b\n"


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    workspace = open_workspace(project=Project(name="test", root=root), actor="user:test")
    yield workspace
    workspace.ledger.database.close()


def put(ws: Workspace, name: str, text: str) -> str:
    path = ws.project.root / name
    path.write_text(text)
    return str(path)


def pinned(root: Path) -> Pin:
    found = read_pin(root, "t")
    assert found is not None
    return found


def table(ws: Workspace) -> DatasetVersion:
    """t@1 with the keys 1 and 2, t@2 with 3 beside them; the pin is on t@2."""
    versions.add(ws, put(ws, "t.csv", ROWS), "t", key="id")
    return incremental.upsert(ws, "t", put(ws, "three.csv", "id,x\n3,c\n")).dataset


def stand_on(ws: Workspace, version: DatasetVersion) -> None:
    write_pin(ws.project.root, "t", pin_text(version))


def not_here(version: DatasetVersion, operation: str = "upsert") -> DatasetVersion:
    """A version as a colleague's pin names it."""
    other = str(digest(b"theirs"))
    return dataclasses.replace(version, version=7, tree=other, content=other, operation=operation)


NOTHING: dict[str, Callable[[Workspace], Any]] = {
    "append": lambda ws: incremental.append(ws, "t", put(ws, "n.csv", "id,x\n3,c\n"), watermark="id"),
    "append of no row": lambda ws: incremental.append(ws, "t", put(ws, "n.csv", "id,x\n"), watermark="id"),
    "upsert": lambda ws: incremental.upsert(ws, "t", put(ws, "n.csv", "id,x\n3,c\n")),
    "upsert of no row": lambda ws: incremental.upsert(ws, "t", put(ws, "n.csv", "id,x\n")),
    "delete by key": lambda ws: incremental.delete(ws, "t", key_values=["99"]),
    "delete by condition": lambda ws: incremental.delete(ws, "t", condition="id > 99"),
}


NO_ROW = ("append of no row", "upsert of no row", "delete by key", "delete by condition")


@pytest.mark.parametrize("what", NO_ROW)
def test_where_nothing_changed_the_project_stands_on_what_it_stood_on(ws: Workspace, what: str) -> None:
    newest = table(ws)
    back = versions.add(ws, str(ws.project.root / "t.csv"), "t")
    assert pinned(ws.project.root).tree == back.tree
    done = NOTHING[what](ws)
    assert (done.dataset.ref, done.brings_in) == ("t@1", "")
    assert done.leaves_out.startswith("this is built on t@1, on which noria.lock stood; t@2 is newer")
    assert pinned(ws.project.root).tree == back.tree
    assert versions.resolve(ws, "t@latest") == newest


def test_a_change_is_of_the_branch_that_is_checked_out_and_has_nothing_of_another(ws: Workspace) -> None:
    table(ws)
    stand_on(ws, versions.resolve(ws, "t@1"))
    done = incremental.upsert(ws, "t", put(ws, "four.csv", "id,x\n4,d\n"))
    assert (done.dataset.ref, done.inserted) == ("t@3", 1)
    assert done.dataset.parent == versions.resolve(ws, "t@1").tree
    assert read.table(ws, done.dataset)["id"].to_pylist() == [1, 2, 4]
    assert "noria data diff t@2 t@3; t@latest names it" in done.leaves_out
    assert done.leaves_out in show.render("upserted", verbs.builtins(done))
    assert pinned(ws.project.root).tree == done.dataset.tree
    assert incremental.upsert(ws, "t", put(ws, "five.csv", "id,x\n5,e\n")).leaves_out == "", "it is the newest now"
    stand_on(ws, versions.resolve(ws, "t@1"))
    grown = incremental.append(ws, "t", str(ws.project.root / "five.csv"), watermark="id")
    assert read.table(ws, grown.dataset)["id"].to_pylist() == [1, 2, 5]
    assert grown.leaves_out in show.render("appended", verbs.builtins(grown))
    stand_on(ws, versions.resolve(ws, "t@1"))
    gone = incremental.delete(ws, "t", key_values=["2"])
    assert read.table(ws, gone.dataset)["id"].to_pylist() == [1]
    assert gone.leaves_out in show.render("deleted", verbs.builtins(gone))
    stand_on(ws, grown.dataset)
    small = incremental.compact(ws, "t")
    assert read.table(ws, small.dataset)["id"].to_pylist() == [1, 2, 5]
    assert gone.dataset.ref in small.leaves_out


def test_the_newest_version_is_built_on_where_it_is_asked_for(ws: Workspace) -> None:
    newest = table(ws)
    stand_on(ws, versions.resolve(ws, "t@1"))
    done = incremental.append(ws, "t@latest", put(ws, "n.csv", "id,x\n3,c\n"), watermark="id")
    assert (done.dataset, done.appended, done.leaves_out) == (newest, 0, "")
    assert done.brings_in.startswith("noria.lock stood on t@1; this is built on t@2, which was asked for")
    assert done.brings_in in show.render("appended", verbs.builtins(done))
    assert pinned(ws.project.root).tree == newest.tree, "the project stands on what the result names"
    stand_on(ws, versions.resolve(ws, "t@1"))
    assert incremental.delete(ws, "t@latest", key_values=["1"]).brings_in
    assert read.table(ws, versions.resolve(ws, "t"))["id"].to_pylist() == [2, 3]
    with pytest.raises(NotFound, match="has no version '9'"):
        incremental.append(ws, "t@9", str(ws.project.root / "n.csv"), watermark="id")


def test_the_same_change_on_two_branches_is_one_version(ws: Workspace) -> None:
    first = versions.add(ws, put(ws, "t.csv", ROWS), "t", key="id")
    made = incremental.append(ws, "t", put(ws, "n.csv", "id,x\n3,c\n"), watermark="id").dataset
    stand_on(ws, versions.resolve(ws, first.ref))
    again = incremental.append(ws, "t", str(ws.project.root / "n.csv"), watermark="id")
    assert (again.dataset, again.appended, again.leaves_out) == (made, 1, "")
    assert pinned(ws.project.root).tree == made.tree


def test_what_another_branch_deleted_is_not_deleted_here(ws: Workspace) -> None:
    table(ws)
    other = incremental.delete(ws, "t", key_values=["3"]).dataset
    stand_on(ws, versions.resolve(ws, "t@1"))
    mine = incremental.append(ws, "t", put(ws, "n.csv", "id,x\n3,c\n"), watermark="id")
    assert (mine.appended, mine.deleted) == (1, 0), "row 3 came and went on the other branch alone"
    stand_on(ws, other)
    assert incremental.append(ws, "t", str(ws.project.root / "n.csv"), watermark="id").deleted == 1


def test_blame_follows_the_branch_that_a_version_was_made_on(ws: Workspace) -> None:
    table(ws)
    incremental.delete(ws, "t", key_values=["1"])
    stand_on(ws, versions.resolve(ws, "t@2"))
    incremental.upsert(ws, "t", put(ws, "five.csv", "id,x\n5,e\n"))
    found = blame.blame(ws, "t", key="1")
    assert [(each.version, each.change) for each in found.changes] == [(1, "added"), (3, "removed")]
    assert found.is_there, "the newest version was made from t@2"
    third = blame.blame(ws, "t", key="3")
    assert [(each.version, each.change) for each in third.changes] == [(2, "added")]


@pytest.mark.parametrize("what", [*NOTHING, "compact"])
def test_rows_are_not_changed_where_what_the_pin_names_is_not_here(ws: Workspace, what: str) -> None:
    newest = table(ws)
    stand_on(ws, not_here(newest))
    before = pinned(ws.project.root)
    with pytest.raises(NotFound, match=r"which is not here \(the newest here is t@2\)") as caught:
        incremental.compact(ws, "t") if what == "compact" else NOTHING[what](ws)
    assert caught.value.hint == "noria data pull t"
    assert pinned(ws.project.root) == before
    assert len(versions.log(ws, "t")) == 2


def test_an_append_does_not_begin_a_data_set_anew_that_is_pinned_and_was_never_pulled(tmp_path: Path) -> None:
    project = new_project(tmp_path / "shop", tmp_path / "remote")
    add(project, "t", {"t.csv": ROWS}, "--key", "id")
    commit(project, "t")
    noria(project, "data", "push")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", project, clone)
    (clone / "new.csv").write_text("id,x\n3,c\n")
    before = pinned(clone)
    told = noria(clone, "data", "append", "t", "new.csv", "--watermark", "id", code=2)
    assert "which is not here (nothing of it is)" in told
    assert "noria data pull t" in told
    assert pinned(clone) == before
    noria(clone, "data", "pull")
    assert "+1 row" in noria(clone, "data", "append", "t", "new.csv", "--watermark", "id")
    assert (pinned(clone).rows, pinned(clone).key) == (3, "id")


def test_adding_over_the_pin_of_a_table_that_grew_and_is_not_here_says_so_and_keeps_its_key(ws: Workspace) -> None:
    version = versions.add(ws, put(ws, "t.csv", ROWS), "t")
    stand_on(ws, dataclasses.replace(not_here(version), key="id"))
    made = versions.add(ws, put(ws, "t.csv", "id,x\n5,e\n"), "t")
    assert isinstance(made, versions.Added)
    assert made.key == "id"
    assert made.takes_back.startswith("stands on its source alone: the pin named")
    assert "noria data pull t@" in made.takes_back
    stand_on(ws, not_here(version, operation=""))
    again = versions.add(ws, put(ws, "t.csv", "id,x\n6,e\n"), "t")
    assert not isinstance(again, versions.Added), "a source that was added whole is added whole again"
