"""Corners of the data verbs: links, the longest names, pins that were never pulled, and what messages say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from git_project import noria

from noria.bootstrap import open_workspace
from noria.core.errors import NotFound, UsageError
from noria.data import versions
from noria.data.checkout import checkout
from noria.data.remote import transfer
from noria.data.tabular import incremental
from noria.data.takeover.export import export_files
from noria.store.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "noria.toml").write_text(f'[project]\nname = "t"\n\n[remote.origin]\nurl = "{tmp_path / "remote"}"\n')
    workspace = open_workspace(root)
    yield workspace
    workspace.ledger.database.close()


@pytest.mark.parametrize("selector", ["²", "٣", "①"])
def test_digits_of_other_scripts_are_no_number_of_a_version(ws: Workspace, selector: str) -> None:
    (ws.project.root / "t.csv").write_text("id\n1\n")
    versions.add(ws, "t.csv")
    with pytest.raises(NotFound, match=f"t has no version '{selector}'"):
        versions.show(ws, f"t@{selector}")


def test_a_link_in_a_folder_is_nothing_that_the_user_changed(ws: Workspace) -> None:
    place = ws.project.root / "photos"
    place.mkdir()
    (place / "x.bin").write_bytes(b"x")
    (place / "link.bin").symlink_to("x.bin")
    versions.add(ws, "photos")
    done = checkout(ws, "photos")
    assert (done.kept, done.written, done.removed) == (0, 0, 0)
    assert (place / "link.bin").is_symlink()
    (place / "x.bin").write_bytes(b"other")
    versions.add(ws, "photos")
    done = checkout(ws, "photos@1")
    assert (done.kept, done.written) == (0, 2)
    assert (place / "x.bin").read_bytes() == (place / "link.bin").read_bytes() == b"x"


def test_a_link_that_leads_elsewhere_now_is_the_users(ws: Workspace, tmp_path: Path) -> None:
    place = ws.project.root / "photos"
    place.mkdir()
    (place / "x.bin").write_bytes(b"x")
    (place / "link.bin").symlink_to("x.bin")
    versions.add(ws, "photos")
    (tmp_path / "outside.bin").write_bytes(b"x")
    (place / "link.bin").unlink()
    (place / "link.bin").symlink_to(tmp_path / "outside.bin")
    assert checkout(ws, "photos").kept == 1
    assert (place / "link.bin").readlink() == tmp_path / "outside.bin"


def test_the_longest_names_that_a_disk_takes_work(ws: Workspace, tmp_path: Path) -> None:
    place = ws.project.root / "photos"
    place.mkdir()
    names = ["n" * 255, "ü" * 127, "m" * 251 + ".csv"]
    for name in names:
        (place / name).write_text("a\n1\n")
    version = versions.add(ws, "photos")
    assert version.rows == 1
    out = tmp_path / ("o" * 255)
    assert checkout(ws, "photos", str(out)).files == 3
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    (out / names[0]).unlink()
    assert checkout(ws, "photos", str(out), into=True).written == 1
    assert export_files(ws, str(tmp_path / ("e" * 255))).files == 3
    transfer.push(ws)
    with pytest.raises(UsageError, match="cannot be the name of a data set"):
        versions.add(ws, str(place / names[0]))


def test_a_pin_that_was_never_pulled_fails_a_verification_and_is_named(ws: Workspace, tmp_path: Path) -> None:
    root = ws.project.root
    (root / "a.csv").write_text("x\n1\n")
    (root / "b.csv").write_text("x\n2\n")
    versions.add(ws, "a.csv")
    transfer.push(ws)
    versions.add(ws, "b.csv")
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "noria.toml").write_bytes((root / "noria.toml").read_bytes())
    (clone / "noria.lock").mkdir()
    for pin in (root / "noria.lock").iterdir():
        (clone / "noria.lock" / pin.name).write_bytes(pin.read_bytes())
    for words in ([], ["a"]):
        found = json.loads(noria(clone, "data", "verify", *words, "--json", code=1))
        said = {each["dataset"]: each["asked"] for each in found["absent"]}
        assert said["a"] == [f"origin ({tmp_path / 'remote'}) has it"]
        assert (said.get("b") == [f"origin ({tmp_path / 'remote'}) does not have it"]) == (not words)
        assert not found["ok"]
    told = noria(clone, "data", "verify", code=1)
    assert "a@1" in told
    assert "is pinned and not here; asked: origin" in told
    noria(clone, "data", "pull", "a")
    assert json.loads(noria(clone, "data", "verify", "a", "--json"))["absent"] == []


def test_an_append_speaks_of_appending(ws: Workspace) -> None:
    def rows(**columns: list[int]) -> pa.RecordBatchReader:
        return pa.table(columns).to_reader()

    incremental.append_rows(ws, "t", rows(id=[1], x=[1], n=[1]), "n")
    incremental.upsert_rows(ws, "t", rows(id=[1], x=[2], n=[1]), "id")
    with pytest.raises(UsageError, match="an append by key adds whole rows") as caught:
        incremental.append_rows(ws, "t", rows(id=[2], n=[2]), "n")
    assert "upsert" not in str(caught.value)


def test_a_push_says_which_version_was_left_out_and_why(ws: Workspace) -> None:
    root = ws.project.root
    for number in range(3):
        (root / "a.csv").write_text(f"x\n{number}\n")
        versions.add(ws, "a.csv")
    transfer.push(ws, ["a@1"])
    ws.objects.store.delete(versions.resolve(ws, "a@2").tree)  # type: ignore[arg-type]  # a digest
    done = transfer.push(ws)
    assert done.summary.startswith("1 version pushed to origin")
    assert "1 version was there already" in done.summary
    assert "a@2 left out: its files are not here" in done.summary


def test_an_append_never_rounds_what_the_column_cannot_hold(ws: Workspace) -> None:
    root = ws.project.root
    (root / "a.csv").write_text("n,x\n1,0.5\n")
    incremental.append(ws, "t", str(root / "a.csv"), watermark="n")
    (root / "b.csv").write_text("n,x\n2,12345678901234567.89\n")
    with pytest.raises(UsageError, match=r"'x' of b\.csv holds numbers that a double would round"):
        incremental.append(ws, "t", str(root / "b.csv"))
