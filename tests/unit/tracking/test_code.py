"""The snapshot of a run's code, inside and outside git."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.engines.objects.memory import MemoryObjects
from noria.store.objects import Objects
from noria.store.tree import read_tree
from noria.tracking.code import difference, snapshot


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(MemoryObjects(), tmp_path / "cache")


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=n@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def project(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "pipeline.py").write_text("x = 1\n")
    (root / "noria.toml").write_text("[project]\nname='t'\n")
    (root / "noria.lock").mkdir()
    (root / "noria.lock" / "d.toml").write_text("version = 1\n")
    return root


def repository(root: Path) -> Path:
    project(root)
    git(root, "init", "-q", "-b", "main")
    git(root, "remote", "add", "origin", "https://me:secret@example.org/team/t.git")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def test_a_clean_checkout_is_its_commit(tmp_path: Path, objects: Objects) -> None:
    root = repository(tmp_path / "p")
    code = snapshot(root, objects)
    assert (code.commit, code.branch, code.dirty) == (git(root, "rev-parse", "HEAD"), "main", False)
    assert (code.patch, code.source) == ("", "")
    assert code.remote == "https://example.org/team/t.git"


def test_pins_do_not_make_it_dirty(tmp_path: Path, objects: Objects) -> None:
    root = repository(tmp_path / "p")
    (root / "noria.lock" / "d.toml").write_text("version = 2\n")
    (root / "noria.lock" / "new.toml").write_text("version = 1\n")
    assert not snapshot(root, objects).dirty


@pytest.mark.parametrize("name", ["checks/d.toml", "README.md", "data/d.csv", "report.html"])
def test_what_is_no_code_does_not_make_it_dirty(name: str, tmp_path: Path, objects: Objects) -> None:
    root = repository(tmp_path / "p")
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("first\n")
    assert not snapshot(root, objects).dirty, "untracked"
    git(root, "add", "-A")
    git(root, "commit", "-qm", "with it")
    path.write_text("second\n")
    code = snapshot(root, objects)
    assert (code.dirty, code.patch, code.source) == (False, "", ""), "changed"


def test_an_untracked_folder_of_code_makes_it_dirty(tmp_path: Path, objects: Objects) -> None:
    root = repository(tmp_path / "p")
    (root / "lib").mkdir()
    (root / "lib" / "part.py").write_text("y = 1\n")
    code = snapshot(root, objects)
    assert code.dirty
    assert "lib/part.py" in [entry.path for entry in read_tree(objects, code.source).entries]


def test_a_change_is_kept_as_a_patch(tmp_path: Path, objects: Objects) -> None:
    root = repository(tmp_path / "p")
    (root / "pipeline.py").write_text("x = 2\n")
    code = snapshot(root, objects)
    assert code.dirty
    assert b"+x = 2" in objects.get_bytes(code.patch)
    git(root, "checkout", "-q", "--", "pipeline.py")
    subprocess.run(["git", "-C", str(root), "apply"], input=objects.get_bytes(code.patch), check=True)
    assert (root / "pipeline.py").read_text() == "x = 2\n"


def test_an_untracked_file_is_in_the_source_tree(tmp_path: Path, objects: Objects) -> None:
    root = repository(tmp_path / "p")
    (root / "helpers.py").write_text("y = 1\n")
    code = snapshot(root, objects)
    assert code.dirty
    assert [entry.path for entry in read_tree(objects, code.source).entries] == [
        "helpers.py",
        "noria.toml",
        "pipeline.py",
    ]


def test_outside_git_the_source_is_stored(tmp_path: Path, objects: Objects) -> None:
    code = snapshot(project(tmp_path / "p"), objects)
    assert code.commit == ""
    assert [entry.path for entry in read_tree(objects, code.source).entries] == ["noria.toml", "pipeline.py"]


def test_a_project_that_an_outer_repository_ignores_is_outside_git(tmp_path: Path, objects: Objects) -> None:
    outer = repository(tmp_path / "outer")
    (outer / ".gitignore").write_text("inner/\n")
    git(outer, "add", ".gitignore")
    git(outer, "commit", "-qm", "ignore")
    code = snapshot(project(outer / "inner"), objects)
    assert code.commit == ""
    assert code.source


RUN = '\n[run]\nworkers = 2\naddress = "localhost:6379"  # which cluster\n'
MODEL = '\n[model.m]\nmetric = "auc"\n'


@pytest.mark.parametrize("make", [project, repository])
def test_how_a_run_is_executed_makes_no_difference(
    make: Callable[[Path], Path], tmp_path: Path, objects: Objects
) -> None:
    root = make(tmp_path / "p")
    file = root / "noria.toml"
    before, text = snapshot(root, objects), file.read_text()
    file.write_text("# a remark\n" + text + RUN)
    with_run = snapshot(root, objects)
    assert difference(objects, before, with_run) == ""
    file.write_text(text)
    assert difference(objects, with_run, snapshot(root, objects)) == ""
    file.write_text(text + MODEL)
    said = "what noria.toml says of the project, its data or models has changed since"
    assert difference(objects, before, snapshot(root, objects)) == said
    file.write_text(text + "[mod")
    assert difference(objects, before, snapshot(root, objects)) == said, "half of it is written"


@pytest.mark.parametrize("make", [project, repository])
def test_what_differs_is_named(make: Callable[[Path], Path], tmp_path: Path, objects: Objects) -> None:
    root = make(tmp_path / "p")
    before = snapshot(root, objects)
    (root / "pipeline.py").write_text("x = 2\n")
    (root / "notes.md").write_text("a text\n")
    assert difference(objects, before, snapshot(root, objects)) == "pipeline.py has changed since"
    (root / "pipeline.py").write_text("x = 1\n")
    assert difference(objects, before, snapshot(root, objects)) == ""


def test_another_commit_is_named(tmp_path: Path, objects: Objects) -> None:
    root = repository(tmp_path / "p")
    before = snapshot(root, objects)
    (root / "pipeline.py").write_text("x = 2\n")
    git(root, "commit", "-qam", "second")
    now = snapshot(root, objects)
    assert difference(objects, before, now) == f"the commit is {now.commit[:7]}, and was {before.commit[:7]}"
