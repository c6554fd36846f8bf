"""A version that was dropped: refused while it is needed, shown for ever, its bytes collected here and on remotes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from collect_victim import collected
from git_project import git, noria

from noria.bootstrap import open_workspace
from noria.core.errors import Conflict, NotFound, Tampered, UsageError
from noria.core.identity import Digest
from noria.data import lock, versions
from noria.data.checkout import checkout
from noria.data.collect import gc
from noria.data.drop import drop
from noria.data.remote import remotes, transfer
from noria.data.remote.published import given_up, trees
from noria.store import replay
from noria.store.tree import iter_tree
from noria.store.workspace import Workspace
from noria.tracking import run as tracking
from noria.tracking.facts import Code


class Later:
    """The wall's clock, but some days ahead: what was stored a moment ago is old."""

    def __init__(self) -> None:
        self.ahead = timedelta(days=2)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Later:
    return Later()


@pytest.fixture(params=["folder", "s3"])
def ws(request: pytest.FixtureRequest, tmp_path: Path, clock: Later) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    setting = f'url = "{tmp_path / "remote"}"'
    if request.param == "s3":
        server = request.getfixturevalue("s3_server")
        setting = f'url = "{server.new_bucket()}"\nendpoint = "{server.endpoint}"'
    (root / "noria.toml").write_text(f'[project]\nname = "t"\n\n[remote.origin]\n{setting}\n')
    workspace = open_workspace(root, clock=clock)
    yield workspace
    assert replay.difference(workspace.ledger) == [], "records are the fold of the facts"
    workspace.ledger.database.close()


def grow(ws: Workspace) -> list[versions.DatasetVersion]:
    """Three versions of a folder; each has a file of its own, and all share one."""
    place = ws.project.root / "photos"
    place.mkdir(exist_ok=True)
    (place / "shared.bin").write_bytes(b"shared")
    found = []
    for number in (1, 2, 3):
        (place / "own.bin").write_bytes(f"own {number}".encode())
        found.append(versions.add(ws, "photos"))
    return found


def own(ws: Workspace, version: versions.DatasetVersion) -> Digest:
    return Digest(next(entry.digest for entry in iter_tree(ws.objects, version.tree) if entry.path == "own.bin"))


def test_what_needs_a_version_is_named_and_it_is_not_dropped(ws: Workspace) -> None:
    _, second, _ = grow(ws)
    with pytest.raises(Conflict, match=r"photos@3 is pinned by noria\.lock/photos\.toml, the newest version"):
        drop(ws, "photos@3")
    versions.tag(ws, "photos@2", "gold")
    with pytest.raises(Conflict, match="tagged gold"):
        drop(ws, "photos@2")
    with pytest.raises(UsageError, match="needs a reason"):
        drop(ws, "photos@2", force=True)
    with pytest.raises(UsageError, match="names no version"):
        drop(ws, "photos")
    done = drop(ws, "photos@2", force=True, reason="asked to be erased")
    assert (done.version, done.uses) == (2, ("tagged gold",))
    (fact,) = ws.ledger.facts(kind="dataset.dropped")
    assert (fact.payload.tree, fact.payload.reason, fact.payload.forced) == (second.tree, "asked to be erased", True)
    for asked in ("photos@2", "photos@gold"):
        with pytest.raises(NotFound, match=r"photos@2 was dropped \d{4}-\d\d-\d\d by .*: asked to be erased"):
            checkout(ws, asked, str(ws.project.root / "out"))
    with pytest.raises(NotFound, match="was dropped"):
        drop(ws, "photos@2")


def test_a_run_that_used_a_version_is_named(ws: Workspace, clock: Later) -> None:
    first, second, _ = grow(ws)
    with tracking.start(ws, "p", code=Code(), inputs=[("data", first.tree)]) as run:
        pass
    with pytest.raises(Conflict, match=f"photos@1 is used by run/{run.run}: it was not dropped"):
        drop(ws, "photos@1")
    assert drop(ws, "photos@2").uses == ()
    done = drop(ws, "photos@1", force=True, reason="law")
    assert done.uses == (f"used by run/{run.run}",)
    kept = own(ws, first), own(ws, second)
    assert gc(ws).unnamed == 4, "what the run's facts say of it does not keep it"
    gc(ws, sweep=True)
    clock.ahead += timedelta(days=8)
    gc(ws, sweep=True)
    assert ws.objects.has_many(kept) == set()
    assert json.loads(noria(ws.project.root, "audit", "verify", "--json"))["ok"]


def test_the_history_stays_and_the_number_is_not_given_again(ws: Workspace) -> None:
    first, second, third = grow(ws)
    drop(ws, "photos@2", reason="too old")
    assert [(each.version, bool(each.dropped_at)) for each in versions.log(ws, "photos")] == [
        (3, False), (2, True), (1, False),
    ]  # fmt: skip
    told = noria(ws.project.root, "data", "log", "photos")
    assert "dropped" in told
    assert "too old" in told
    assert json.loads(noria(ws.project.root, "audit", "verify", "--json"))["ok"]
    assert versions.resolve(ws, "photos@latest~1").tree == first.tree
    (ws.project.root / "photos" / "own.bin").write_bytes(b"own 2")
    again = versions.add(ws, "photos")
    assert (again.version, again.tree) == (4, second.tree)
    assert versions.resolve(ws, "photos").version == 4
    drop(ws, "photos@3")
    drop(ws, "photos@4", force=True, reason="all of it")
    drop(ws, "photos@1", force=True, reason="all of it")
    with pytest.raises(NotFound, match="was dropped"):
        versions.resolve(ws, "photos@latest")
    (ws.project.root / "photos" / "own.bin").write_bytes(b"own 3")
    assert versions.add(ws, "photos").version == 5
    assert third.version == 3


def test_its_bytes_go_here_and_on_the_remote_and_the_others_stay(ws: Workspace, clock: Later, tmp_path: Path) -> None:
    _, second, third = grow(ws)
    single = ws.project.root / "single.bin"
    single.write_bytes(b"alone")
    alone = versions.add(ws, "single.bin", "single")
    single.write_bytes(b"alone, later")
    versions.add(ws, "single.bin", "single")
    transfer.push(ws)
    gone = {own(ws, second), Digest(second.tree), Digest(alone.content), Digest(alone.tree)}
    drop(ws, "photos@2")
    drop(ws, "single@1")
    assert gc(ws).unnamed == 4
    assert ws.objects.has_many(gone) == gone, "it only looked"
    gc(ws, sweep=True)
    clock.ahead += timedelta(days=8)
    assert gc(ws, sweep=True).purged == 4
    assert ws.objects.has_many(gone) == set()
    assert ws.objects.has(own(ws, third))
    remote = remotes.open_remote(ws)
    gc(ws, remote="origin")
    assert trees(remote, "photos") >= {second.tree}, "it only looked"
    gc(ws, sweep=True, remote="origin")
    assert second.tree not in trees(remote, "photos")
    assert collected(ws.project.root, 30).trashed >= 4
    from_there = tmp_path / "clone"
    from_there.mkdir()
    (from_there / "noria.toml").write_bytes((ws.project.root / "noria.toml").read_bytes())
    told = noria(from_there, "data", "pull", "photos", "--history")
    assert "2 versions pulled" in told
    assert "photos@2" not in told


def test_a_pin_in_a_branch_keeps_what_was_dropped(ws: Workspace, clock: Later) -> None:
    _, second, _ = grow(ws)
    root = ws.project.root
    pin = root / "noria.lock" / "photos.toml"
    newest = pin.read_text()
    checked = versions.resolve(ws, "photos@2")
    lock.pin(ws, checked)
    git(root, "init", "--quiet")
    git(root, "add", "noria.lock")
    git(root, "commit", "--quiet", "--message", "two")
    pin.write_text(newest)
    drop(ws, "photos@2")
    assert gc(ws).unnamed == 0
    assert ws.objects.has(second.tree)


def test_a_version_with_the_same_bytes_keeps_them(ws: Workspace, clock: Later) -> None:
    grow(ws)
    place = ws.project.root / "photos"
    first = versions.add(ws, str(place), "other")
    (place / "own.bin").write_bytes(b"other")
    versions.add(ws, str(place), "other")
    versions.add(ws, str(place), "photos")
    drop(ws, "photos@3")
    assert gc(ws).unnamed == 0
    assert ws.objects.has(first.tree)


def other(ws: Workspace, place: Path, clock: Later) -> Workspace:
    """Another clone with a ledger of its own, and the same remote."""
    place.mkdir()
    (place / "noria.toml").write_bytes((ws.project.root / "noria.toml").read_bytes())
    return open_workspace(place, clock=clock)


def test_others_learn_of_a_drop_from_the_remote_and_do_not_bring_it_back(
    ws: Workspace, clock: Later, tmp_path: Path
) -> None:
    _, second, third = grow(ws)
    transfer.push(ws)
    holder, fresh = other(ws, tmp_path / "holder", clock), other(ws, tmp_path / "fresh", clock)
    transfer.pull(holder, ["photos"], history=True)
    drop(ws, "photos@2", reason="asked to be erased")
    gc(ws, sweep=True, remote="origin")
    said = r"was dropped \d{4}-\d\d-\d\d by .*: asked to be erased \(origin says so\)"
    for ref in ("photos@2", f"photos@{second.tree[7:15]}"):
        with pytest.raises(NotFound, match=f"photos@2 {said}"):
            transfer.pull(fresh, [ref])
    with pytest.raises(NotFound, match=f"photos@2 {said}"):
        transfer.pull_version(fresh, "photos", second.tree)
    pulled = transfer.pull(holder, ["photos"])
    [note] = [each.note for each in pulled.versions if each.tree == second.tree]
    assert re.search(said, note)
    assert "noria data drop photos@2 gives it up here too" in note
    assert "photos@2 still here: it was dropped" in pulled.summary
    for check in (False, True):
        pushed = transfer.push(holder, check=check)
        [left] = [each for each in pushed.versions if each.is_left_out]
        assert (left.tree, bool(re.search(said, left.note))) == (second.tree, True)
    assert trees(remotes.open_remote(ws), "photos") >= {third.tree}
    assert second.tree not in trees(remotes.open_remote(ws), "photos")
    drop(holder, "photos@2")
    assert not [each for each in transfer.push(holder).versions if each.note]
    assert not [each for each in transfer.pull(holder, ["photos"]).versions if each.note]
    for each in (holder, fresh):
        each.ledger.database.close()


def test_who_dropped_a_version_and_adds_it_again_gives_it_to_all_again(
    ws: Workspace, clock: Later, tmp_path: Path
) -> None:
    _, second, _ = grow(ws)
    transfer.push(ws)
    drop(ws, "photos@2")
    gc(ws, sweep=True, remote="origin")
    remote = remotes.open_remote(ws)
    assert given_up(remote, "photos") == {second.tree}
    (ws.project.root / "photos" / "own.bin").write_bytes(b"own 2")
    again = versions.add(ws, "photos")
    assert (again.version, again.tree) == (4, second.tree)
    transfer.push(ws)
    assert given_up(remote, "photos") == set()
    fresh = other(ws, tmp_path / "fresh", clock)
    assert [each.version for each in transfer.pull(fresh, ["photos@4"]).versions] == [4]
    fresh.ledger.database.close()


def test_a_note_of_a_drop_that_was_altered_is_found(ws: Workspace, clock: Later, tmp_path: Path) -> None:
    _, second, _ = grow(ws)
    transfer.push(ws)
    drop(ws, "photos@2")
    gc(ws, sweep=True, remote="origin")
    bucket = remotes.open_remote(ws).bucket
    key = f"dropped/photos/{second.tree[7:]}.json"
    with bucket.open(key) as stream:
        content = stream.read()
    bucket.delete(key)
    bucket.create(key, content.replace(b"photos", b"phobos"))
    fresh = other(ws, tmp_path / "fresh", clock)
    with pytest.raises(Tampered):
        transfer.pull(fresh, ["photos@2"])
    fresh.ledger.database.close()
