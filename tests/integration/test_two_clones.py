"""Clones that number their versions apart, pins in conflict, and what is said in a clone that has nothing yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from git_project import add, commit, git, new_project, noria

from noria.core.identity import short
from noria.data.pins import Pin, read_pin

PIN = "noria.lock/pics.toml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = new_project(tmp_path / "shop", tmp_path / "remote")
    add(made, "pics", {"x.bin": "one"})
    commit(made, "pics")
    noria(made, "data", "push")
    return made


def pinned(project: Path, name: str = "pics") -> Pin:
    found = read_pin(project, name)
    assert found is not None
    return found


def clone_of(project: Path, to: Path) -> Path:
    git(project.parent, "clone", "--quiet", project, to)
    noria(to, "data", "link")
    return to


def conflicted(project: Path, to: Path) -> tuple[Path, Pin, Pin]:
    """A clone whose pin is in conflict with the project's, both with the number 2; with our pin and theirs."""
    clone = clone_of(project, to)
    noria(clone, "data", "pull")
    (clone / "data").mkdir()
    add(project, "pics", {"x.bin": "theirs"})
    commit(project, "theirs")
    noria(project, "data", "push")
    add(clone, "pics", {"x.bin": "ours"})
    commit(clone, "ours")
    ours, theirs = pinned(clone), pinned(project)
    assert ours.version == theirs.version == 2
    git(clone, "fetch", "--quiet")
    git(clone, "merge", "--no-edit", "origin/main", code=1)
    return clone, ours, theirs


def test_status_tells_the_number_of_this_clone_which_names_the_same_data(project: Path, tmp_path: Path) -> None:
    clone, _, theirs = conflicted(project, tmp_path / "clone")
    git(clone, "checkout", "--theirs", PIN)
    assert pinned(clone).version == 2, "the number that it had where it was written"
    (found,) = json.loads(noria(clone, "data", "status", "--json"))
    assert found["version"] == 3
    assert found["content"] == theirs.content
    assert "pics@3 " in noria(clone, "data", "status")
    for ref in ("pics@3", "pics"):
        assert json.loads(noria(clone, "data", "show", ref, "--json"))["dataset"]["tree"] == theirs.tree


def test_a_version_without_a_number_here_is_told_by_its_id(project: Path, tmp_path: Path) -> None:
    add(project, "t", {"t.csv": "id,x\n1,a\n2,b\n"}, "--key", "id")
    (project / "new.csv").write_text("id,x\n2,c\n")
    noria(project, "data", "upsert", "t", "new.csv")
    commit(project, "t")
    noria(project, "data", "push")
    clone = clone_of(project, tmp_path / "clone")
    told = noria(clone, "data", "status")
    for name in ("pics", "t"):
        assert f"{name}@{short(pinned(project, name).content, 8)} " in told
        assert f"noria data pull {name}" in told
    assert "its rows are kept here" not in told
    assert {each["version"] for each in json.loads(noria(clone, "data", "status", "--json"))} == {0}
    assert "noria data pull pics, then noria data checkout pics" in told
    noria(clone, "data", "pull", "pics")
    noria(clone, "data", "checkout", "pics")
    assert (clone / "data" / "pics" / "x.bin").read_text() == "one"
    assert "pics@1 " in noria(clone, "data", "status", "pics")


def test_an_add_that_settles_a_conflict_says_between_what_and_where_the_other_side_is(
    project: Path, tmp_path: Path
) -> None:
    clone, ours, theirs = conflicted(project, tmp_path / "clone")
    ids = [short(each.content, 8) for each in (ours, theirs)]
    done = json.loads(noria(clone, "data", "add", "data/pics", "--json"))
    assert f"in conflict between {ids[0]} (ours) and {ids[1]} (theirs)" in done["settles"]
    assert "it is now ours, and nothing of the other" in done["settles"]
    git(clone, "checkout", "--merge", PIN)
    (clone / "data" / "pics" / "x.bin").write_text("both")
    told = noria(clone, "data", "add", "data/pics")
    assert f"in conflict between {ids[0]} (ours) and {ids[1]} (theirs)" in told
    assert f"noria data diff pics@{ids[1]} pics@4" in told
    assert "x.bin" in noria(clone, "data", "diff", f"pics@{ids[1]}", "pics@4")
    noria(clone, "data", "checkout", f"pics@{ids[1]}", tmp_path / "other")
    assert (tmp_path / "other" / "x.bin").read_text() == "theirs"
    assert "settles" not in json.loads(noria(clone, "data", "add", "data/pics", "--json"))


def test_rows_are_not_changed_on_a_side_of_a_conflict_that_nobody_chose(project: Path, tmp_path: Path) -> None:
    rows = "id,x\n1,a\n"
    add(project, "t", {"t.csv": rows}, "--key", "id")
    pin = project / "noria.lock" / "t.toml"
    text = pin.read_text().splitlines(keepends=True)
    pin.write_text("".join([text[0], "<<<<<<< ours\n", *text[1:], "=======\n", *text[1:], ">>>>>>> theirs\n"]))
    before = pin.read_bytes()
    (project / "new.csv").write_text("id,x\n2,b\n")
    for words in (
        ("upsert", "t", "new.csv"),
        ("append", "t", "new.csv", "--watermark", "id"),
        ("delete", "t", "--key-values", "1"),
    ):
        assert "two branches changed this data set" in noria(project, "data", *words, code=2)
    assert pin.read_bytes() == before
    assert len(json.loads(noria(project, "data", "log", "t", "--json"))) == 1


def test_linking_says_that_the_attributes_are_to_be_committed(project: Path, tmp_path: Path) -> None:
    git(project, "rm", "--quiet", ".gitattributes")
    commit(project, "no attributes")
    told = noria(project, "data", "link")
    assert "git add .gitattributes" in told
    commit(project, "attributes")
    assert "git add .gitattributes" not in noria(project, "data", "link")
