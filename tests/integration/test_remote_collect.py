"""Garbage on remotes, on a real S3 server and in a folder: found, swept after its time, never what is in use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from collect_victim import collected
from test_s3 import Place, clone, ended, files, place, project, s3, same, victim

from noria.bootstrap import open_workspace
from noria.core.errors import Conflict, Corrupt, NotFound, StoreUnavailable
from noria.data import versions
from noria.data.collect import gc
from noria.data.remote import remotes, transfer
from noria.store.bucketleases import BucketLeases
from noria.store.workspace import Workspace

__all__ = ["place", "s3"]

VICTIM = Path(__file__).with_name("collect_victim.py")
KILLS_OF_THE_TRASH = ("trash.copied:1", "trash.copied:2")
KILLS_OF_THE_WAY_BACK = ("trash.restored:1", "trash.restored:2")


def killed(root: Path, days: float, failpoint: str) -> None:
    """A collection that dies at a point."""
    process = subprocess.Popen(
        [sys.executable, str(VICTIM), str(root), str(days)],
        env={**os.environ, "NORIA_FAILPOINT": failpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ended(process) == -signal.SIGKILL


def without_dead_leases(place: Place) -> None:
    """A quarter of an hour later: the leases of killed processes count no more."""
    for key in place.names():
        if key.startswith("leases/"):
            place.remove(key)


def test_what_a_broken_push_left_goes_and_every_version_stays(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    data = files(tmp_path / "data", count=40)
    first = versions.add(ws, str(data), "stock")
    transfer.push(ws)
    other = clone(ws, tmp_path / "b")
    transfer.pull(other)
    (data / "late.bin").write_bytes(os.urandom(3 << 20))
    second = versions.add(ws, str(data), "stock")
    assert ended(victim("push", tmp_path / "a", "push.objects:1")) == -signal.SIGKILL
    assert gc(other, remote="origin").young == 0, "whoever pushes holds a lease, until it has not beaten for long"
    assert collected(tmp_path / "b", 30).trashed == 0
    without_dead_leases(place)
    looked = gc(other, remote="origin")
    assert (looked.remote, looked.swept, looked.unnamed) == ("origin", False, 0)
    assert looked.young >= 2, "the new file and the new list of files"
    swept = collected(tmp_path / "b", 30)
    assert swept.trashed >= 2
    assert swept.trashed_bytes >= 3 << 20
    assert collected(tmp_path / "b", 33).purged == 0, "a week in the trash"
    assert collected(tmp_path / "b", 40).purged >= 2
    assert collected(tmp_path / "b", 40).waiting == 0
    same(ws, clone_and_pull(ws, tmp_path / "c", first.tree), first)
    transfer.push(ws)
    transfer.pull(other, ["stock@2"])
    same(ws, other, second)


def clone_and_pull(ws: Workspace, folder: Path, tree: str) -> Workspace:
    made = clone(ws, folder)
    transfer.pull(made, [f"stock@{tree[7:19]}"])
    return made


def test_one_that_knows_a_version_keeps_what_is_there_of_it(s3: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", s3)
    versions.add(ws, str(files(tmp_path / "data", count=20)), "stock")
    assert ended(victim("push", tmp_path / "a", "push.objects:1")) == -signal.SIGKILL
    without_dead_leases(s3)
    assert gc(project(tmp_path / "b", s3), remote="origin").live == 0
    assert gc(ws, remote="origin").live >= 20, "this clone's facts name it"


@pytest.mark.parametrize("point", KILLS_OF_THE_TRASH)
def test_a_killed_sweep_loses_nothing_and_is_finished_by_the_next(s3: Place, tmp_path: Path, point: str) -> None:
    ws, empty = project(tmp_path / "a", s3), tmp_path / "b"
    first = versions.add(ws, str(files(tmp_path / "data", count=20)), "stock")
    transfer.push(ws)
    versions.add(ws, str(files(tmp_path / "more", count=1, large=12 << 20, seed=2)), "more")
    assert ended(victim("push", tmp_path / "a", "push.objects:1")) == -signal.SIGKILL
    without_dead_leases(s3)
    project(empty, s3)
    killed(empty, 30, point)
    assert collected(empty, 30).trashed >= 1
    assert collected(empty, 60).purged >= 1
    assert collected(empty, 90).waiting == 0
    assert not [key for key in s3.names() if key.startswith("objects/trash/")], "nor a second copy of anything"
    other = clone(ws, tmp_path / "c")
    transfer.pull(other, ["stock"])
    same(ws, other, first)


@pytest.mark.parametrize("point", KILLS_OF_THE_WAY_BACK)
def test_what_is_named_again_is_read_from_the_trash_and_comes_back(s3: Place, tmp_path: Path, point: str) -> None:
    ws, empty = project(tmp_path / "a", s3), tmp_path / "b"
    first = versions.add(ws, str(files(tmp_path / "data", count=20, large=12 << 20)), "stock")
    transfer.push(ws)
    project(empty, s3)
    remote = remotes.open_remote(ws)
    (record,) = [key for key in s3.names() if key.startswith("versions/")]
    with remote.bucket.open(record) as stream:
        content = stream.read()
    s3.remove(record)
    assert collected(empty, 30).trashed >= 20
    remote.bucket.create(record, content)
    other = clone(ws, tmp_path / "c")
    transfer.pull(other)
    same(ws, other, first)
    killed(empty, 45, point)
    collected(empty, 45)
    assert collected(empty, 60).waiting == 0, "everything is in its own place"
    twice = [key for key in s3.names() if key.startswith("objects/trash/")]
    assert len(twice) <= 1, "what was copied when it died; it goes when it is a week old by the clock"
    again = clone(ws, tmp_path / "d")
    transfer.pull(again)
    same(ws, again, first)


def test_what_cannot_be_read_on_a_remote_stops_it_and_nothing_goes(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    version = versions.add(ws, str(files(tmp_path / "data", count=20)), "stock")
    transfer.push(ws)
    remotes.open_remote(ws).objects.store.delete(version.tree)  # type: ignore[arg-type]  # a digest
    before = place.names()
    with pytest.raises(Corrupt, match="nothing was collected"):
        collected(tmp_path / "a", 30)
    assert [key for key in place.names() if not key.startswith("locks/")] == before


def test_a_second_collection_waits_and_then_says_so(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    versions.add(ws, str(files(tmp_path / "data", count=3)), "stock")
    transfer.push(ws)
    remote = remotes.open_remote(ws)
    with (
        remotes.AtRemote(remote).alone(),
        pytest.raises(Conflict, match="under way"),
        remotes.AtRemote(remote, wait_s=0.0).alone(),
    ):
        raise AssertionError("two at once")
    with pytest.raises(NotFound, match="nowhere"):
        gc(ws, remote="nowhere")


def test_leases_are_seen_by_other_machines_and_those_of_the_dead_go(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    version = versions.add(ws, str(files(tmp_path / "data", count=3)), "stock")
    transfer.push(ws)
    bucket = remotes.open_remote(ws).bucket
    leases = BucketLeases(bucket)
    with leases.hold("a push", [version.tree]) as holder:
        (lease,) = leases.active()
        assert lease.what == "a push"
        assert list(lease.digests) == [version.tree]
        assert abs(lease.since - time.time()) < 600
        holder.beat()
        assert [each.since for each in leases.active()] == [lease.since], "it began when it began"
    assert leases.active() == []
    bucket.create("leases/odd.lease", b"what is this")
    assert [each.since for each in leases.active()] == [0.0]


def test_a_main_store_in_a_bucket_is_collected_and_a_ledger_elsewhere_stops_it(
    s3: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "noria.toml").write_text(f'[project]\nname = "shop"\n[store]\nobjects = "{s3.url}"\n')
    ws = open_workspace(tmp_path / "a")
    version = versions.add(ws, str(files(tmp_path / "data", count=20)), "stock")
    ws.objects.put_bytes(b"an orphan")
    looked = gc(ws)
    assert (looked.young, looked.unnamed) == (1, 0)
    assert looked.live >= version.files
    note = json.dumps({"root": "/elsewhere", "ledger": "/elsewhere/.noria/noria.db", "machine": "another"})
    store = ws.objects.store
    store.bucket.create("clones/0123456789abcdef.json", note.encode())  # type: ignore[attr-defined]  # in a bucket
    with pytest.raises(StoreUnavailable, match="cannot be read from here"):
        gc(ws, sweep=True)
