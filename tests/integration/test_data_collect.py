"""Collecting what nothing names: every kind of root keeps what it names, and what cannot be read stops it."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.config import Project, StoreConfig
from noria.core.clock import Clock
from noria.core.errors import ConfigError, Conflict, Corrupt, NoriaError, StoreUnavailable, UsageError
from noria.data import clones, lock, versions
from noria.data.collect import CollectReport, gc
from noria.data.pins import FOLDER, pin_path, read_pin
from noria.data.verify import verify
from noria.faces.cli import show_folders
from noria.store.leases import Leases
from noria.store.tree import Entry, write_sorted
from noria.store.workspace import Workspace
from noria.tracking import run as tracking
from noria.tracking.facts import Code

EIGHT_DAYS = timedelta(days=8)


class Later:
    """The wall's clock, but some days ahead: what was stored a moment ago is old."""

    def __init__(self) -> None:
        self.ahead = timedelta(days=2)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def opened(root: Path, clock: Clock, objects: str = "") -> Workspace:
    root.mkdir(exist_ok=True)
    project = Project(name="test", root=root, store=StoreConfig(objects=objects))
    return open_workspace(project=project, actor="user:test", clock=clock)


@pytest.fixture
def clock() -> Later:
    return Later()


@pytest.fixture
def ws(tmp_path: Path, clock: Later) -> Iterator[Workspace]:
    workspace = opened(tmp_path / "project", clock)
    yield workspace
    workspace.ledger.database.close()


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def collected(ws: Workspace, clock: Later) -> CollectReport:
    """Sweep, wait out the grace, sweep again: what nothing names is then gone for good."""
    gc(ws, sweep=True)
    clock.ahead += EIGHT_DAYS
    return gc(ws, sweep=True)


def a_tree(ws: Workspace, word: str) -> tuple[str, str]:
    """A stored tree with one file, which no fact names; gives both digests."""
    file = ws.objects.put_bytes(word.encode())
    return write_sorted(ws.objects, [Entry("file", file, len(word))]), file


def git(root: Path, *words: str) -> str:
    name = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(root), *name, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_what_nothing_names_waits_in_the_trash_and_then_goes(ws: Workspace, clock: Later) -> None:
    versions.add(ws, str(fill(ws.project.root / "d", {"a": b"a", "b": b"b"})))
    orphan = ws.objects.put_bytes(b"what a killed process left")
    held = set(ws.objects.names())
    dry = gc(ws)
    assert (dry.swept, dry.unnamed, dry.unnamed_bytes, dry.live) == (False, 1, 26, len(held) - 1)
    assert set(ws.objects.names()) == held, "nothing was changed"
    swept = gc(ws, sweep=True)
    assert (swept.unnamed, swept.purged) == (1, 0)
    assert not ws.objects.has(orphan)
    assert ws.objects.get_bytes(orphan) == b"what a killed process left", "it can still be read"
    clock.ahead += timedelta(days=6)
    assert gc(ws, sweep=True).purged == 0
    clock.ahead += timedelta(days=2)
    assert (last := gc(ws, sweep=True)).purged == 1, last
    with pytest.raises(NoriaError):
        ws.objects.get_bytes(orphan)
    assert set(ws.objects.names()) == held - {orphan}
    assert verify(ws).ok


def test_what_is_added_again_comes_back_from_the_trash(ws: Workspace, clock: Later) -> None:
    orphan = ws.objects.put_bytes(b"content")
    gc(ws, sweep=True)
    versions.add(ws, str(fill(ws.project.root / "d", {"a": b"content"})))
    assert ws.objects.has(orphan)
    assert collected(ws, clock).purged == 0
    assert verify(ws).ok


def test_everything_that_facts_name_is_kept(ws: Workspace, clock: Later) -> None:
    place = fill(ws.project.root / "d", {f"{i}": b"%d" % i for i in range(1500)})
    for number in range(3):
        fill(place, {"7": b"another %d" % number})
        versions.add(ws, str(place))
    with tracking.start(ws, "p", code=Code()) as run:
        inner = ws.objects.put_bytes(b"a part of the bundle")
        run.artifact("bundle", json.dumps({"part": inner, "elsewhere": "sha256:" + "0" * 64}).encode())
        run.log(loss=0.5)
    before = set(ws.objects.names())
    report = collected(ws, clock)
    assert (report.unnamed, report.purged) == (0, 0)
    assert set(ws.objects.names()) == before
    assert verify(ws).versions == 3


def pin_of(ws: Workspace, name: str, tree: str) -> None:
    """A pin of a tree that no fact names, as another clone may have written it."""
    versions.add(ws, str(fill(ws.project.root / name, {"x": name.encode()})), name)
    found = read_pin(ws.project.root, name)
    assert found is not None
    path = pin_path(ws.project.root, name)
    path.write_text(path.read_text().replace(found.tree, tree))


def test_pins_branches_tags_and_worktrees_keep_what_they_name(ws: Workspace, clock: Later) -> None:
    root = ws.project.root
    trees = {place: a_tree(ws, place) for place in ("folder", "branch", "tag", "worktree", "nowhere")}
    git(root, "init", "-q", "-b", "main")
    (root / "README").write_text("x")
    git(root, "add", "README")
    git(root, "commit", "-qm", "one")
    for place in ("branch", "tag"):
        git(root, "checkout", "-qb", place, "main")
        pin_of(ws, "d", trees[place][0])
        git(root, "add", FOLDER)
        git(root, "commit", "-qm", place)
    git(root, "tag", "-a", "v1", "-m", "kept by the tag alone")
    git(root, "checkout", "-q", "main")
    git(root, "branch", "-qD", "tag")
    git(root, "worktree", "add", "-q", str(root.parent / "beside"), "-b", "beside")
    (root.parent / "beside" / FOLDER).mkdir()
    pin_of(ws, "d", trees["worktree"][0])
    pin_path(root, "d").rename(pin_path(root.parent / "beside", "d"))
    pin_of(ws, "d", trees["folder"][0])
    report = collected(ws, clock)
    assert report.refs >= 4
    assert report.purged == 2
    for place, digests in trees.items():
        assert [ws.objects.has(digest) for digest in digests] == [place != "nowhere"] * 2, place


def test_a_lease_keeps_what_its_owner_counts_on(ws: Workspace, clock: Later) -> None:
    named = ws.objects.put_bytes(b"named by the lease")
    orphan = ws.objects.put_bytes(b"by nobody")
    with lock.leased(ws, "data add d") as claim:
        claim([named])
        stored = ws.objects.put_bytes(b"stored under it")
        assert gc(ws, sweep=True).unnamed <= 1
        assert all(ws.objects.has(digest) for digest in (named, stored))
    assert gc(ws, sweep=True).unnamed >= 2
    assert not any(ws.objects.has(digest) for digest in (named, stored, orphan))


def test_a_store_that_clones_share_keeps_what_any_of_them_names(tmp_path: Path, clock: Later) -> None:
    store = str(tmp_path / "store")
    one, two = (opened(tmp_path / name, clock, store) for name in ("one", "two"))
    versions.add(one, str(fill(tmp_path / "one/d", {"a": b"of one"})))
    versions.add(two, str(fill(tmp_path / "two/d", {"a": b"of two"})))
    pinned = a_tree(one, "pinned in two")
    pin_of(two, "e", pinned[0])
    orphan = one.objects.put_bytes(b"of nobody")
    assert [clone.root.name for clone in clones.clones(one)] == ["one", "two"]
    report = collected(one, clock)
    assert (report.clones, report.purged) == (2, 1)
    assert not one.objects.has(orphan)
    assert all(one.objects.has(digest) for digest in pinned)
    assert verify(one).ok
    looked = verify(two)
    assert (looked.bad, [each.dataset for each in looked.absent]) == (0, ["e"]), "a pin without its version is said"
    for each in (one, two):
        each.ledger.database.close()


@pytest.mark.parametrize("what", ["folder", "ledger", "note", "pin", "branch"])
def test_what_cannot_be_read_stops_it_and_nothing_goes(tmp_path: Path, clock: Later, what: str) -> None:
    store = tmp_path / "store"
    one, two = (opened(tmp_path / name, clock, str(store)) for name in ("one", "two"))
    versions.add(one, str(fill(tmp_path / "one/d", {"a": b"of one"})))
    versions.add(two, str(fill(tmp_path / "two/d", {"a": b"of two"})))
    one.objects.put_bytes(b"of nobody")
    held = set(one.objects.names())
    note = next(
        path for path in (store / "clones").iterdir() if '"root": "' + str(tmp_path / "two") in path.read_text()
    )
    if what == "folder":
        two.ledger.database.close()
        (tmp_path / "two").rename(tmp_path / "unmounted")
    elif what == "ledger":
        two.ledger.database.close()
        (tmp_path / "two/.noria/ledger.db").rename(tmp_path / "ledger.db")
    elif what == "note":
        note.write_text("{")
    elif what == "pin":
        pin_path(tmp_path / "two", "d").write_text("<<<<<<< ours\n")
    else:
        git(tmp_path / "two", "init", "-q")
        (tmp_path / "two/.git/refs/heads/broken").write_text("0123456789" * 4 + "\n")
    with pytest.raises((StoreUnavailable, ConfigError)) as caught:
        gc(one, sweep=True)
    assert len(str(caught.value).splitlines()) <= 6
    assert set(one.objects.names()) == held
    one.ledger.database.close()
    two.ledger.database.close()


def test_a_version_that_is_not_here_whole_stops_it(ws: Workspace, clock: Later) -> None:
    version = versions.add(ws, str(fill(ws.project.root / "d", {f"{i}": b"%d" % i for i in range(1500)})))
    orphan = ws.objects.put_bytes(b"of nobody")
    ws.objects.store.delete(version.tree)  # type: ignore[arg-type]  # a digest
    with pytest.raises(Corrupt, match="nothing was collected"):
        gc(ws, sweep=True)
    assert ws.objects.has(orphan)
    versions.add(ws, str(ws.project.root / "d"), anew=True)
    assert gc(ws, sweep=True).unnamed == 1


def test_a_collection_waits_for_another_one(ws: Workspace) -> None:
    gc(ws)
    folder = lock.leases(ws).folder
    with ThreadPoolExecutor(1) as pool, (folder / "collect.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another collection is under way"), Leases(folder, wait_s=0.1).alone():
            pytest.fail("it was alone")
        second = pool.submit(gc, ws)
        assert not wait([second], timeout=0.5).done
        held.close()
        assert second.result(60).swept is False


def test_an_hour_is_added_to_the_least_age_and_told(ws: Workspace, clock: Later) -> None:
    clock.ahead = timedelta(0)
    ws.objects.put_bytes(b"of nobody")
    found = gc(ws, min_age="0s")
    assert (found.young, found.young_s) == (1, 3600)
    assert "for 1 h after they were stored" in show_folders.gc(dataclasses.asdict(found))


def test_copies_that_were_stored_twice_are_counted_before_they_are_taken_away(ws: Workspace, clock: Later) -> None:
    fill(ws.project.root, {f"d/{number}.bin": os.urandom(9000) for number in range(40)})
    versions.add(ws, str(ws.project.root / "d"))
    (pack,) = (ws.project.state / "objects" / "packs").glob("*.pack")
    twice = pack.with_name(f"{0:016x}-{0:08x}.pack")  # as another pull at the same time would have left it
    twice.write_bytes(pack.read_bytes())
    found = gc(ws)
    assert found.freed_bytes == twice.stat().st_size
    text = show_folders.gc(dataclasses.asdict(found))
    assert "to give back by packs" in text
    assert "nothing was changed" in text
    done = gc(ws, sweep=True)
    assert done.freed_bytes == found.freed_bytes
    assert "given back by packs" in show_folders.gc(dataclasses.asdict(done))
    assert (gc(ws).freed_bytes, twice.exists(), verify(ws).bad) == (0, False, 0)


def test_wrong_times_are_refused(ws: Workspace) -> None:
    for grace, told in (("6d", "6 days"), ("1s", "1 seconds"), ("90m", "1.5 hours")):
        with pytest.raises(UsageError, match=f"^{told} in the trash are too few"):
            gc(ws, sweep=True, grace=grace)
    for bad in ("soon", "-1d"):
        with pytest.raises(UsageError):
            gc(ws, sweep=True, min_age=bad)


def test_the_cache_is_told_bounded_and_emptied(tmp_path: Path, clock: Later) -> None:
    root = tmp_path / "project"
    root.mkdir()
    project = Project(name="test", root=root, store=StoreConfig(cache="10KB"))
    ws = open_workspace(project=project, actor="user:test", clock=clock)
    try:
        names = ws.objects.put_many(bytes([number]) * 4_000 for number in range(4))
        paths = [ws.objects.path(name) for name in names]
        assert all(path.is_relative_to(root / ".noria/cache") for path in paths)
        then = datetime.now(UTC).timestamp() - 86_400
        for path in paths[:3]:
            os.utime(path, (then, then))
        dry = gc(ws)
        told = (dry.copies, dry.copies_bytes, dry.copies_bound_bytes, dry.copies_freed, dry.copies_freed_bytes)
        assert told == (4, 16_000, 10_000, 2, 8_000)
        assert all(path.exists() for path in paths)
        shown = show_folders.gc(dataclasses.asdict(dry)).replace(".0", "")
        assert "16 kB of 10 kB at the most" in shown
        assert "this was a dry run" in shown
        assert gc(ws, sweep=True).copies_freed == 2
        assert gc(ws, sweep=True, cache=True).copies_freed == 1
        assert [path.exists() for path in paths] == [False, False, False, True], "the last is in use"
        with pytest.raises(UsageError, match="on a remote"):
            gc(ws, cache=True, remote="origin")
    finally:
        ws.ledger.database.close()
