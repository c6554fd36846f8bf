"""What a pull and a status say when a remote cannot be reached, or a version is not here: every remote is asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.config import Project, RemoteConfig
from noria.core.errors import Corrupt, NotFound, StoreUnavailable
from noria.data import checkout, status, versions
from noria.data.remote import transfer
from noria.faces import verbs
from noria.faces.cli import show
from noria.store.workspace import Workspace


@pytest.fixture
def remotes(tmp_path: Path) -> dict[str, RemoteConfig]:
    for name in "bc":
        (tmp_path / name).mkdir()
    gone = RemoteConfig(url=str(tmp_path / "unmounted"), default=True)
    return {"a": gone, **{name: RemoteConfig(url=str(tmp_path / name)) for name in "bc"}}


@pytest.fixture
def home(tmp_path: Path, remotes: dict[str, RemoteConfig]) -> Iterator[Workspace]:
    ws = opened(tmp_path / "home", remotes)
    folder = ws.project.root / "f"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(bytes([number]) * 100_000)
    versions.add(ws, str(folder), "f", as_files=True)
    yield ws
    ws.ledger.database.close()


def opened(root: Path, remotes: dict[str, RemoteConfig]) -> Workspace:
    root.mkdir(exist_ok=True)
    return open_workspace(project=Project(name="asks", root=root, remotes=remotes), actor="user:test")


def clone(home: Workspace, tmp_path: Path, remotes: dict[str, RemoteConfig]) -> Workspace:
    shutil.copytree(home.project.root / "noria.lock", tmp_path / "clone" / "noria.lock")
    return opened(tmp_path / "clone", remotes)


def test_a_remote_that_is_out_of_reach_does_not_end_a_pull(
    home: Workspace, tmp_path: Path, remotes: dict[str, RemoteConfig]
) -> None:
    transfer.push(home, ["f"], "b")
    ws = clone(home, tmp_path, remotes)
    for refs, history in ((["f"], False), (["f@1"], False), (["f"], True)):
        [done] = transfer.pull(ws, refs, history=history).versions
        assert (done.dataset, done.version) == ("f", 1)
    alone = opened(tmp_path / "other", {"a": remotes["a"]})
    with pytest.raises(StoreUnavailable, match="is not there"):
        transfer.pull(alone, ["f"])


def test_an_object_that_one_remote_lacks_is_brought_from_the_next_and_who_was_asked_is_said(
    home: Workspace, tmp_path: Path, remotes: dict[str, RemoteConfig]
) -> None:
    for name in "bc":
        transfer.push(home, ["f"], name)
    [lost] = [path for path in (tmp_path / "b").rglob("*") if path.is_file() and b"\1" * 1000 in path.read_bytes()]
    content = lost.read_bytes()
    lost.unlink()
    ws = clone(home, tmp_path, remotes)
    [done] = transfer.pull(ws, ["f"]).versions
    assert done.remote == "c"
    checkout.checkout(ws, "f", to=str(ws.project.root / "out"))
    assert (ws.project.root / "out" / "1.bin").read_bytes() == b"\1" * 100_000
    shutil.rmtree(tmp_path / "c")
    (tmp_path / "c").mkdir()
    shutil.rmtree(ws.project.root)
    again = clone(home, tmp_path, remotes)
    with pytest.raises((NotFound, Corrupt, StoreUnavailable)) as refused:
        transfer.pull(again, ["f"])
    assert "asked: " in refused.value.message
    for name in "abc":
        assert str(tmp_path / {"a": "unmounted"}.get(name, name)) in refused.value.message
    assert content


def test_a_pin_that_came_with_git_and_is_not_pulled_yet_is_said_and_the_others_are_compared(
    home: Workspace, tmp_path: Path, remotes: dict[str, RemoteConfig]
) -> None:
    transfer.push(home, ["f"], "b")
    ws = clone(home, tmp_path, remotes)
    transfer.pull(ws, ["f"])
    checkout.checkout(ws, "f")
    (ws.project.root / "g").mkdir()
    (ws.project.root / "g" / "x.bin").write_bytes(b"x")
    versions.add(ws, str(ws.project.root / "g"), "g", as_files=True)
    (home.project.root / "f" / "0.bin").write_bytes(b"changed")
    newer = versions.add(home, str(home.project.root / "f"), "f", as_files=True)
    transfer.push(home, ["f"], "b")
    shutil.copy(home.project.root / "noria.lock" / "f.toml", ws.project.root / "noria.lock" / "f.toml")
    found = {each.dataset: each for each in status.status(ws)}
    assert (found["f"].state, found["g"].state) == ("unpulled", "same")
    assert "noria data pull f" in show.render("data_status", verbs.builtins([found["f"]]))
    transfer.pull(ws, ["f"])
    [after] = status.status(ws, ["f"])
    assert (after.state, after.changed, after.version) == ("changed", 1, newer.version)


def test_a_version_that_was_never_pulled_is_told_from_one_that_there_is_not(
    home: Workspace, tmp_path: Path, remotes: dict[str, RemoteConfig]
) -> None:
    for text in ("two", "three"):
        (home.project.root / "f" / "0.bin").write_text(text)
        versions.add(home, str(home.project.root / "f"), "f", as_files=True)
    transfer.push(home, ["f"], "b")
    ws = clone(home, tmp_path, remotes)
    transfer.pull(ws)
    with pytest.raises(NotFound) as error:
        versions.show(ws, "f@1")
    assert (error.value.message, error.value.hint) == (
        "f@1 is not in this clone, which has 3", "noria data pull f@1, or noria data pull f --history",
    )  # fmt: skip
    with pytest.raises(NotFound, match="f has no version '4'"):
        versions.show(ws, "f@4")
    transfer.pull(ws, ["f@1"])
    assert versions.show(ws, "f@1").dataset.version == 1
