"""Names that start with a dot are content: in folders, in checkouts, beside tables; what tools keep there is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.data import versions
from noria.data.checkout import checkout
from noria.data.rows import read
from noria.data.status import status
from noria.store.tree import iter_tree
from noria.store.workspace import Workspace

FILES = {
    ".labels": b"cat\n",
    ".meta/.deep/x.bin": b"\0",
    "a.csv": b"id\n1\n",
    ".drafts/a.csv": b"id\n1\n",
    ".b.csv": b"x\ny\n",
}


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "noria.toml").write_text('[project]\nname = "t"\n')
    workspace = open_workspace(project=Project(name="t", root=root), actor="user:test")
    yield workspace
    workspace.ledger.database.close()


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def held(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_version_holds_what_is_in_the_folder_dots_and_all(ws: Workspace, tmp_path: Path) -> None:
    place = fill(ws.project.root / "photos", FILES)
    first = versions.add(ws, "photos")
    assert {entry.path for entry in iter_tree(ws.objects, first.tree)} == set(FILES)
    assert first.files == len(FILES)
    assert first == versions.resolve(ws, "photos"), "nothing was left out, and nothing is said"
    checkout(ws, "photos", str(tmp_path / "out"))
    assert held(tmp_path / "out") == FILES
    assert [each.state for each in status(ws)] == ["same"]
    (place / ".meta/.deep/x.bin").write_bytes(b"\1")
    assert [each.paths for each in status(ws)] == [("~ .meta/.deep/x.bin",)]
    assert versions.add(ws, "photos").version == 2


def test_tables_below_a_dot_are_kept_and_are_no_rows(ws: Workspace, tmp_path: Path) -> None:
    fill(ws.project.root / "photos", FILES)
    version = versions.add(ws, "photos")
    assert (version.rows, version.columns) == (1, (("id", "int64", False),))
    assert read.table(ws, version).to_pylist() == [{"id": 1}]
    alone = versions.add(ws, str(fill(tmp_path / "one", {".b.csv": b"x\ny\n"}) / ".b.csv"), "alone")
    assert read.table(ws, alone).to_pylist() == [{"x": "y"}], "a table that was asked for by its name is one"


def test_what_tools_keep_for_themselves_is_left_out_and_said(ws: Workspace) -> None:
    fill(ws.project.root / "photos", {"a.bin": b"a", ".git/config": b"", "sub/.dvc/x": b"", "sub/b.bin": b""})
    for words in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "noria", "data", "add", "photos", *words],
            cwd=ws.project.root, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        text = json.loads(done.stdout)["left_out"] if words else done.stdout
        assert "2 paths left out, kept there by a tool for itself: .git, sub/.dvc" in text
    assert [entry.path for entry in versions.show(ws, "photos").entries] == ["a.bin", "sub/b.bin"]
