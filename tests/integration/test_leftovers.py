"""`noria data gc` clears what killed commands left in the local state, and nothing that a living one uses."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.core.identity import Digest
from noria.data import leftovers, status, versions
from noria.data.collect import gc
from noria.data.folders.statcache import StatCache, cache_path
from noria.data.leftovers import LocalFolder
from noria.data.remote import transfer
from noria.data.rows import read
from noria.faces.cli.main import run
from noria.store.tree import iter_tree
from noria.store.workspace import Workspace
from s3_server import S3Server

VICTIM = Path(__file__).with_name("leftover_victim.py")
LARGE = 40 << 20


class Later:
    """The wall's clock, but two days ahead: what was left a moment ago is old."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=2)


@pytest.fixture
def ws(tmp_path: Path, s3_server: S3Server) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    remote = f'[remote.origin]\nurl = "{s3_server.new_bucket()}"\nendpoint = "{s3_server.endpoint}"\n'
    (root / "noria.toml").write_text(f'[project]\nname = "t"\n\n{remote}')
    made = open_workspace(root, actor="user:test", clock=Later())
    yield made
    made.ledger.database.close()


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def stopped(started: list[subprocess.Popen[str]], *words: object) -> subprocess.Popen[str]:
    """A victim that stands still in the middle of its work."""
    process = subprocess.Popen([sys.executable, str(VICTIM), *map(str, words)], stdout=subprocess.PIPE, text=True)
    started.append(process)
    _, state = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(state), "it ended before it stopped itself"
    return process


def local(ws: Workspace, folder: str, *, sweep: bool = False) -> LocalFolder:
    found = [each for each in gc(ws, sweep=sweep).local if each.folder == folder]
    return found[0] if found else LocalFolder(folder, 0, 0, 0)


def held(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_scratch_folder_goes_when_its_process_is_gone(ws: Workspace, started: list[subprocess.Popen[str]]) -> None:
    process = stopped(started, "add", ws.project.root)
    scratch = ws.project.state / "cache" / "scratch"
    assert held(scratch) == {"table.parquet"}
    found = local(ws, "cache/scratch", sweep=True)
    assert (found.left, found.left_bytes) == (0, 0)
    assert held(scratch) == {"table.parquet"}, "a living process uses it"
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=120)[0] == "done\n"
    assert read.table(ws, versions.resolve(ws, "big")).num_rows == 2_000_000
    process = stopped(started, "add", ws.project.root)
    process.kill()
    process.wait()
    size = (next(scratch.iterdir()) / "table.parquet").stat().st_size
    assert size > 0
    assert local(ws, "cache/scratch") == LocalFolder("cache/scratch", 1, size, 0)
    assert held(scratch) == {"table.parquet"}, "that was a dry run"
    assert local(ws, "cache/scratch", sweep=True) == LocalFolder("cache/scratch", 1, size, 0)
    assert not list(scratch.iterdir())
    assert read.table(ws, versions.resolve(ws, "big")).num_rows == 2_000_000


def test_a_broken_download_goes_when_it_is_old_and_no_pull_holds_it(
    ws: Workspace, tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    (tmp_path / "large.bin").write_bytes(random.Random(5).randbytes(LARGE))
    version = versions.add(ws, str(tmp_path / "large.bin"), "large")
    transfer.push(ws)
    (entry,) = iter_tree(ws.objects, version.tree)
    root = tmp_path / "clone"
    root.mkdir()
    shutil.copy(ws.project.root / "noria.toml", root)
    shutil.copytree(ws.project.root / "noria.lock", root / "noria.lock")
    other = open_workspace(root, actor="user:test", clock=Later())
    partial = root / ".noria" / "cache" / "partial"
    names = {f"{entry.digest[7:]}.part", f"{entry.digest[7:]}.parts"}

    process = stopped(started, "pull", root, entry.digest, entry.size_bytes)
    assert names & held(partial)
    assert local(other, "cache/partial", sweep=True).left == 0
    assert names & held(partial), "a living pull writes it"
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=120)[0] == "done\n"
    other.objects.verify(Digest(entry.digest))
    assert not held(partial)

    other.objects.store.delete(Digest(entry.digest))
    process = stopped(started, "pull", root, entry.digest, entry.size_bytes)
    process.kill()
    process.wait()
    young = open_workspace(root, actor="user:test")
    assert local(young, "cache/partial", sweep=True).left == 0
    assert names & held(partial), "the next pull goes on with it"
    young.ledger.database.close()
    assert local(other, "cache/partial") == LocalFolder("cache/partial", 1, LARGE, held_bytes(partial) - LARGE)
    assert local(other, "cache/partial", sweep=True).left == 1
    assert not held(partial)
    transfer.pull(other)
    other.objects.verify(Digest(entry.digest))
    other.ledger.database.close()


def held_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_half_written_objects_notes_and_memories_are_cleared(
    ws: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = ws.project.state
    (ws.project.root / "d").mkdir()
    (ws.project.root / "d" / "t.csv").write_text("x\n1\n")
    version = versions.add(ws, str(ws.project.root / "d"), "d")
    assert read.table(ws, version).num_rows == 1
    (ws.project.root / "d" / "t.csv").write_text("x\n1\n2\n")
    versions.add(ws, str(ws.project.root / "d"), "d")
    (note,) = (state / "cache" / "parquet").iterdir()
    lost = note.with_name("0" * 64)
    lost.write_text("sha256:" + "1" * 64)
    half = state / "objects" / "tmp" / "half"
    half.write_bytes(b"x" * 1000)
    os.utime(half, (0, 0))
    stray = cache_path(state, "gone")
    StatCache(stray).close()
    kept = state / "objects" / "tmp" / "young"
    kept.write_bytes(b"y")

    found = {each.folder: each for each in gc(ws).local}
    assert found["objects/tmp"].left_bytes == 1000
    assert found["cache/parquet"].left == 1
    assert found["cache/stat"].left >= 2, "the data set that there is not, and the table that is in no place"
    assert lost.exists()
    assert half.exists()
    assert stray.exists()
    monkeypatch.chdir(ws.project.root)
    assert run(["data", "gc", "--min-age", "0s", "--json"]) == 0
    assert "objects/tmp" in json.dumps(json.loads(capsys.readouterr().out))
    gc(ws, sweep=True)
    assert (lost.exists(), half.exists(), stray.exists()) == (False, False, False)
    assert not note.exists(), "nothing names what it told of, which went to the trash a moment before"
    assert read.table(ws, version).num_rows == 1
    assert kept.exists()
    cache = StatCache(cache_path(state, "d"))
    assert cache.forget_unused(is_dry_run=True) == (0, 0)
    cache.close()
    assert [each.state for each in status.status(ws, ["d"])] == ["same"]
    assert all(each.left == 0 for each in gc(ws).local)


def note(ws: Workspace, folder: str, name: str, *, days: float = 0.0, size: int = 10) -> Path:
    """A note of the cache that was written so many days before the workspace's own clock."""
    path = ws.project.state / "cache" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    moment = ws.clock.now().timestamp() - days * 86_400
    os.utime(path, (moment, moment))
    return path


def test_notes_about_nulls_go_with_their_contents(ws: Workspace) -> None:
    (ws.project.root / "f.bin").write_bytes(b"kept")
    version = versions.add(ws, str(ws.project.root / "f.bin"), "f")
    [entry] = iter_tree(ws.objects, Digest(version.tree))
    kept = entry.digest
    note(ws, "nulls", f"{kept[7:]}.json", days=400)
    note(ws, "nulls", f"{'0' * 64}.json", days=0.5)
    note(ws, "nulls", f"{'1' * 64}.json", days=2)
    note(ws, "nulls", "no-digest.json", days=2)
    note(ws, "nulls", f"{kept[7:]}.{'a' * 32}.part", days=2)
    assert local(ws, "cache/nulls").left == 3, "it only looked"
    assert len(held(ws.project.state / "cache" / "nulls")) == 5
    assert local(ws, "cache/nulls", sweep=True).left == 3
    assert held(ws.project.state / "cache" / "nulls") == {f"{kept[7:]}.json", f"{'0' * 64}.json"}


def test_notes_about_sources_go_when_nobody_asked_for_long_or_their_data_set_is_gone(ws: Workspace) -> None:
    file = ws.project.root / "t.csv"
    file.write_text("a\n1\n")
    versions.add(ws, str(file), "table")
    note(ws, "sources", "young.json", days=80)
    note(ws, "sources", "old.json", days=100)
    note(ws, "seen", "table.json", days=400)
    note(ws, "seen", "gone.json", days=2)
    note(ws, "seen", "new.json", days=0.5)
    gc(ws, sweep=True)
    assert held(ws.project.state / "cache" / "sources") == {"young.json"}
    assert held(ws.project.state / "cache" / "seen") == {"table.json", "new.json"}


def test_notes_are_bounded_and_the_oldest_go_first(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "NOTES_MAX_BYTES", 1000)
    for number in range(10):
        note(ws, "sources", f"{number}.json", days=10 - number, size=300)
    found = local(ws, "cache/sources", sweep=True)
    assert (found.left, found.left_bytes, found.kept_bytes) == (7, 2100, 900)
    assert held(ws.project.state / "cache" / "sources") == {"7.json", "8.json", "9.json"}
