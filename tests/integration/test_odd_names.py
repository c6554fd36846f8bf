"""File names in any encoding are kept without loss, and given back exactly wherever files are given back."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import warm
from noria.bootstrap import open_workspace
from noria.config import Project, RemoteConfig
from noria.core.errors import UsageError
from noria.data import checkout, diff, status, verify, versions
from noria.data.folders.statcache import StatCache, packed, unpacked
from noria.data.folders.walk import Folder
from noria.data.remote import transfer
from noria.data.rows import read
from noria.data.tabular import incremental
from noria.data.takeover import export
from noria.store import replay
from noria.store.workspace import Workspace

NAMES = [
    b"plain.txt",
    b"latin-\xe9.txt",
    b"\xff\xfe/\x80deep\xbf.txt",
    b"line\nend.txt",
    b"carriage\r.txt",
    b"tab\tand\x1b[31mred.txt",
    b"back\\slash.txt",
    b"in\\..\\up.txt",
    b"quote'\".txt",
    b" spaces ",
    b"-n",
    "nfd-u\u0308.txt".encode(),
    "nfc-ü.txt".encode(),
    "rtl-\u202egpj.exe".encode(),
    b"\xed\xb2\x80surrogate",
    b"%2Fpercent",
    b"x" * 255,
]


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    (root / "odd").mkdir(parents=True)
    remote = RemoteConfig(url=str(tmp_path / "remote"), default=True)
    made = open_workspace(project=Project(name="test", root=root, remotes={"origin": remote}), actor="user:test")
    for number, name in enumerate(NAMES):
        put(root / "odd", name, b"%d" % number)
    yield made
    assert replay.difference(made.ledger) == []
    made.ledger.database.close()


def put(folder: Path, name: bytes, content: bytes) -> Path:
    place = folder / os.fsdecode(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def files(folder: Path) -> dict[bytes, bytes]:
    places = [place for place in folder.rglob("*") if place.is_file()]
    return {os.fsencode(place.relative_to(folder)): place.read_bytes() for place in places}


def expected() -> dict[bytes, bytes]:
    return {name: b"%d" % number for number, name in enumerate(NAMES)}


def test_every_name_comes_back_from_checkout_push_pull_and_export(ws: Workspace, tmp_path: Path) -> None:
    version = versions.add(ws, "odd", "odd")
    assert version.files == len(NAMES)
    assert [each.state for each in status.status(ws)] == ["same"]
    assert versions.add(ws, "odd", "odd") == version, "known by its stamps"
    (ws.project.state / "cache" / "stat" / "odd.db").unlink()
    assert [each.state for each in status.status(ws)] == ["same"], "and by the tree"
    assert versions.add(ws, "odd", "odd") == version
    checkout.checkout(ws, "odd", str(tmp_path / "out"))
    assert files(tmp_path / "out") == expected()
    done = export.export_files(ws, str(tmp_path / "plain"))
    assert files(tmp_path / "plain" / "odd") == expected()
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=done.folder, check=True)
    assert verify.verify(ws).bad == 0
    transfer.push(ws)
    clone = open_workspace(
        project=Project(name="clone", root=tmp_path / "clone", remotes=ws.project.remotes), actor="user:test"
    )
    transfer.pull(clone, ["odd"])
    checkout.checkout(clone, "odd", str(tmp_path / "there"))
    assert files(tmp_path / "there") == expected()
    clone.ledger.database.close()


def test_a_change_of_such_a_file_is_seen_and_undone(ws: Workspace) -> None:
    versions.add(ws, "odd", "odd")
    put(ws.project.root / "odd", NAMES[2], b"changed")
    (ws.project.root / "odd" / os.fsdecode(NAMES[3])).unlink()
    (found,) = status.status(ws)
    assert set(found.paths) == {r"~ \xff\xfe/\x80deep\xbf.txt", r"- line\nend.txt"}
    second = versions.add(ws, "odd", "odd")
    assert diff.diff(ws, "odd@1", "odd@2").files.counts == (0, 1, 1)
    checkout.checkout(ws, "odd@1")
    assert files(ws.project.root / "odd") == expected()
    checkout.checkout(ws, "odd@2", path=os.fsdecode(NAMES[2]))
    assert second.version == 2
    assert files(ws.project.root / "odd")[NAMES[2]] == b"changed"


def test_a_terminal_and_json_get_names_that_they_can_show(ws: Workspace) -> None:
    (ws.project.root / "noria.toml").write_text('[project]\nname = "test"\n')
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"}

    def noria(*words: str) -> str:
        done = warm.noria(*words, cwd=ws.project.root, timeout=120, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    noria("data", "add", "odd")
    shown = noria("data", "show", "odd")
    assert r"latin-\xe9.txt" in shown
    assert r"line\nend.txt" in shown
    assert "\x1b" not in shown
    paths = [each["path"] for each in json.loads(noria("data", "show", "odd", "--json"))["entries"]]
    assert len(paths) == len(set(paths)) == len(NAMES)
    assert r"latin-\xe9.txt" in paths
    one = noria("data", "show", "odd", os.fsdecode(NAMES[1]))
    assert r"latin-\xe9.txt" in one
    for place in (ws.project.root / "odd").iterdir():
        if place.is_file():
            place.unlink()
    told = noria("data", "status")
    assert r"- latin-\xe9.txt" in told
    assert "\x1b" not in told
    noria("data", "status", "--json")


def test_tables_with_such_names_are_tables_and_grow(ws: Workspace) -> None:
    put(ws.project.root / "tables", b"caf\xe9.csv", b"id,x\n1,a\n")
    put(ws.project.root / "tables", b"new\nline.csv", b"id,x\n2,b\n")
    version = versions.add(ws, "tables", "t")
    assert (version.rows, len(version.columns)) == (2, 2)
    (ws.project.root / "more.csv").write_text("id,x\n3,c\n")
    grown = incremental.append(ws, "t", "more.csv", watermark="id").dataset
    assert read.table(ws, grown)["id"].to_pylist() == [1, 2, 3]
    plain = ws.project.root / "plain.parquet"
    pq.write_table(read.table(ws, grown), plain)
    alone = plain.rename(ws.project.root / os.fsdecode(b"\xe9.parquet"))
    assert versions.add(ws, str(alone), "single").content == grown.content


def test_a_name_that_no_disk_can_hold_is_refused(ws: Workspace) -> None:
    os.mkfifo(ws.project.root / "odd" / "pipe")
    (ws.project.root / "odd" / "link").symlink_to("nowhere")
    with pytest.raises(UsageError, match="2 paths cannot be part") as caught:
        versions.add(ws, "odd", "odd")
    assert "pipe is not a regular file" in caught.value.message
    assert "the link link leads nowhere" in caught.value.message


_names = st.binary(min_size=1, max_size=8).filter(lambda raw: b"\0" not in raw and b"/" not in raw).map(os.fsdecode)


@settings(max_examples=60, deadline=None)
@given(names=st.sets(_names, max_size=6), prefixes=st.sets(_names, min_size=1, max_size=5))
def test_the_stat_cache_gives_names_back_in_their_order(names: set[str], prefixes: set[str]) -> None:
    listed = [(name, 1, 2, 3, 4) for name in sorted(names)]
    assert unpacked(packed(listed)) == listed
    cache = StatCache(Path("/nowhere/that/can/be/written.db"))
    root = cache.root("/x/\udcff")
    rows = [(f"{prefix}/", listed, b"d" * 32 * len(listed)) for prefix in prefixes]
    cache.save(root, "t", rows, removed=None, is_source=True)
    assert cache.newest_source() == "/x/\udcff"
    walked = [Folder("/x", prefix, listed, []) for prefix in sorted(f"{prefix}/" for prefix in prefixes)]
    assert all(step.is_same for step in cache.steps(root, walked))
    assert set(cache.all_known(root)) == {f"{prefix}/{name}" for prefix in prefixes for name in names}
    cache.close()
