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
from noria.data.tabular import incremental
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


@pytest.mark.parametrize("what", NOTHING)
def test_where_nothing_changed_the_project_stands_on_the_version_that_the_result_names(
    ws: Workspace, what: str
) -> None:
    newest = table(ws)
    back = versions.add(ws, str(ws.project.root / "t.csv"), "t")
    assert pinned(ws.project.root).tree == back.tree
    done = NOTHING[what](ws)
    assert done.dataset == newest
    assert pinned(ws.project.root).tree == newest.tree
    assert read.table(ws, versions.resolve(ws, "t"))["id"].to_pylist() == [1, 2, 3]
    assert done.brings_in.startswith("noria.lock stood on t@1; this is built on t@2, the newest")
    assert NOTHING[what](ws).brings_in == "", "the project stands on it now"


def test_a_change_says_that_it_brings_in_what_another_branch_made(ws: Workspace) -> None:
    table(ws)
    stand_on(ws, versions.resolve(ws, "t@1"))
    done = incremental.upsert(ws, "t", put(ws, "four.csv", "id,x\n4,d\n"))
    assert (done.dataset.ref, done.inserted) == ("t@3", 1)
    assert "noria data diff t@1 t@2" in done.brings_in
    assert done.brings_in in show.render("upserted", verbs.builtins(done))
    stand_on(ws, versions.resolve(ws, "t@1"))
    grown = incremental.append(ws, "t", put(ws, "five.csv", "id,x\n5,e\n"), watermark="id")
    assert grown.brings_in in show.render("appended", verbs.builtins(grown))
    stand_on(ws, versions.resolve(ws, "t@1"))
    gone = incremental.delete(ws, "t", key_values=["5"])
    assert gone.brings_in in show.render("deleted", verbs.builtins(gone))
    assert all(each.brings_in for each in (grown, gone))
    small = incremental.compact(ws, "t")
    assert small.brings_in == ""
    stand_on(ws, gone.dataset)
    assert incremental.upsert(ws, "t", str(ws.project.root / "five.csv")).brings_in == "", "the same rows, compacted"


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
