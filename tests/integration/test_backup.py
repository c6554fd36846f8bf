"""Backups made beside writers, and projects made of them: whole and verified, or nothing."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Server, thrown_away
from served import started
from test_disk import fill

from noria import bootstrap
from noria.config import Project, StoreConfig, load_project
from noria.core.errors import Conflict, Corrupt, NoriaError, NotFound, StoreFull, Tampered, UsageError
from noria.core.identity import Digest
from noria.data import lock, versions
from noria.data.collect import gc
from noria.data.drop import drop
from noria.governance.audit import verify
from noria.governance.facts import ApprovalGiven
from noria.project.backups.bring import restore
from noria.project.backups.keep import backup, stored_in
from noria.project.backups.manifest import MANIFEST, find, read
from noria.store.linelog import LineWriter, read_lines
from noria.store.objects import Objects
from noria.store.replay import difference
from noria.store.secrets import Secrets
from noria.store.workspace import Workspace

KILLS_OF_A_BACKUP = ("backup.begun", "backup.files", "backup.ledger", "backup.objects", "backup.done")
KILLS_OF_A_RESTORE = ("restore.laid", "restore.objects", "restore.verified", "restore.poured", "restore.done")


OPENED: list[Workspace] = []


def open_workspace(*args: Any, **kwargs: Any) -> Workspace:
    """As the package's own; its connections are closed after the test."""
    OPENED.append(bootstrap.open_workspace(*args, **kwargs))
    return OPENED[-1]


@pytest.fixture(autouse=True)
def connections_are_closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().ledger.database.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with thrown_away("backup") as made:
        yield made


def project_in(root: Path, database: str = "", objects: str = "") -> Workspace:
    root.mkdir(parents=True, exist_ok=True)
    (root / "noria.toml").write_text(
        f'[project]\nname = "shop"\n\n[store]\ndatabase = "{database}"\nobjects = "{objects}"\n'
    )
    return open_workspace(root)


def say(ws: Workspace, role: str) -> int:
    with ws.ledger.transaction() as tx:
        return tx.append(ApprovalGiven(about="model/m", digest="d", role=role)).seq


def filled(ws: Workspace, seed: int = 1) -> None:
    """Data of every form, a line of the prediction log, points of a metric, a waiting job, and a secret."""
    photos = ws.project.root / "photos"
    photos.mkdir(exist_ok=True)
    chance = random.Random(seed)
    (photos / "loose.bin").write_bytes(chance.randbytes(100_000))
    (photos / "small.txt").write_text(f"small {seed}")
    (photos / "large.txt").write_text("".join(f"{row},{row * seed}\n" for row in range(150_000)))
    versions.add(ws, "photos")
    (ws.project.root / "t.csv").write_text("x,y\n" + "".join(f"{row},{row + seed}\n" for row in range(100)))
    versions.add(ws, "t.csv", name="t")
    predictions = LineWriter(ws.project.state / "predictions" / "m" / f"1-{seed}.log")
    predictions.append([b'{"id":"one"}', b'{"id":"two"}'])
    predictions.close()
    writer = ws.series.writer("run/r1")
    writer.log("loss", 0.5, step=seed)
    writer.close()
    ws.jobs.enqueue("train", {"n": seed}, key=f"k{seed}")
    Secrets(ws.ledger.database, ws.project.state).put(f"hook-{seed}", "hidden")
    say(ws, f"said {seed}")


def restored(source: Path, target: Path) -> Workspace:
    restore(str(source), str(target), open_workspace)
    return open_workspace(target)


def require_equal(ws: Workspace, again: Workspace) -> None:
    """It is the same history with the same things, and it goes on."""
    assert [body.body for body in again.ledger.bodies(limit=10_000)] == [
        body.body for body in ws.ledger.bodies(limit=10_000)
    ]
    assert [job.key for job in again.jobs.waiting()] == [job.key for job in ws.jobs.waiting()]
    assert Secrets(again.ledger.database, again.project.state).get("hook-1") == "hidden"
    assert read_lines(again.project.state / "predictions" / "m" / "1-1.log")[0] == [b'{"id":"one"}', b'{"id":"two"}']
    assert again.series.read("run/r1").to_pydict()["value"] == [0.5]
    assert difference(again.ledger) == []
    head = again.ledger.head()
    assert say(again, "after") == head + 1
    report = verify(again, ws.ledger.checkpoint())
    assert report.ok, report
    assert again.ledger.signer.verifier.public == ws.ledger.signer.verifier.public


def places(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Gives the address of a new database of a kind."""

    def made(kind: str) -> str:
        if kind == "sqlite":
            return ""
        name = f"b{abs(hash((request.node.nodeid, kind, os.urandom(4)))) % 10**10}"
        return str(request.getfixturevalue("server").database(name))

    return made


@pytest.mark.parametrize(
    ("source", "target"),
    [("sqlite", "sqlite"), ("postgres", "postgres"), ("postgres", "sqlite"), ("sqlite", "postgres")],
)
def test_a_backup_goes_into_either_database(
    source: str, target: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database = places(request)
    ws = project_in(tmp_path / "a", database(source))
    filled(ws)
    done = backup(ws, str(tmp_path / "kept"))
    assert (done.facts, done.has_keys) == (ws.ledger.head(), True)
    to = tmp_path / "b"
    to.mkdir()
    (to / "noria.toml").write_text(f'[project]\nname = "shop"\n[store]\ndatabase = "{database(target)}"\n')
    again = restored(tmp_path / "kept", to)
    require_equal(ws, again)
    assert again.ledger.database.is_sqlite == (target == "sqlite")
    assert not [path for path in to.iterdir() if path.name.startswith(".noria-restore")]
    with pytest.raises(Conflict, match="has a state already"):
        restored(tmp_path / "kept", to)
    for each in (ws, again):
        each.ledger.database.close()


def test_a_database_with_another_history_is_left_alone(tmp_path: Path, server: Server) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    backup(ws, str(tmp_path / "kept"))
    address = server.database("another_history")
    other = project_in(tmp_path / "other", address)
    say(other, "mine")
    to = tmp_path / "b"
    to.mkdir()
    (to / "noria.toml").write_text(f'[project]\nname = "shop"\n[store]\ndatabase = "{address}"\n')
    with pytest.raises(Conflict, match="holds a ledger already, of 1 facts"):
        restored(tmp_path / "kept", to)
    assert sorted(path.name for path in to.iterdir()) == ["noria.toml"]
    assert other.ledger.head() == 1
    for each in (ws, other):
        each.ledger.database.close()


WRITER = """
import sys
from pathlib import Path
from noria.bootstrap import open_workspace
from noria.governance.facts import ApprovalGiven
from noria.store.linelog import LineWriter
root, name = Path(sys.argv[1]), sys.argv[2]
ws = open_workspace(root)
lines = LineWriter(ws.project.state / "predictions" / "m" / f"{name}-1.log")
number = 0
while True:
    number += 1
    digest = ws.objects.put_bytes(f"{name} {number}".encode() * 50)
    with ws.ledger.transaction() as tx:
        given = tx.append(ApprovalGiven(about=name, digest=digest, role="r"), outputs=[("content", digest)])
    lines.append([f'{{"id":"{name}-{number}"}}'.encode()])
    print(given.seq, number, flush=True)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_what_was_acknowledged_before_a_backup_is_in_it_and_writers_go_on(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ws = project_in(tmp_path / "a", places(request)(kind))
    filled(ws)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "a"), name], stdout=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    acknowledged: dict[int, list[tuple[int, int]]] = {0: [], 1: []}

    def listen(place: int) -> None:
        stream = writers[place].stdout
        assert stream is not None
        for line in stream:
            if not line.endswith("\n"):
                return  # it was killed as it wrote this
            seq, number = map(int, line.split())
            acknowledged[place].append((seq, number))

    listening = [threading.Thread(target=listen, args=(place,)) for place in acknowledged]
    for thread in listening:
        thread.start()
    try:
        done, before = [], []
        for _ in range(3):
            count = [len(each) for each in acknowledged.values()]
            while any(len(each) < old + 5 for each, old in zip(acknowledged.values(), count, strict=True)):
                assert all(writer.poll() is None for writer in writers)
            before.append([each[-1] for each in acknowledged.values()])
            done.append(backup(ws, str(tmp_path / "kept")))
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for thread in listening:
            thread.join()
        for writer in writers:
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
    for number, (made, last) in enumerate(zip(done, before, strict=True)):
        again = restored(Path(made.folder), tmp_path / f"b{number}") if kind == "sqlite" else None
        assert made.facts >= max(seq for seq, _ in last)
        if again is None:
            continue  # the backup's own settings name the living database
        assert again.ledger.head() == made.facts
        for name, (_, said) in zip(("one", "two"), last, strict=True):
            lines = read_lines(again.project.state / "predictions" / "m" / f"{name}-1.log")[0]
            assert len(lines) >= said
            assert json.loads(lines[said - 1])["id"] == f"{name}-{said}"
        say(again, "after")
        assert verify(again).ok
        again.ledger.database.close()
    ws.ledger.database.close()


def test_only_new_objects_are_copied_and_the_older_backup_stays(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    first = backup(ws, str(tmp_path / "kept"))
    same = backup(ws, str(tmp_path / "kept"))
    assert first.copied_objects == first.objects
    assert (same.copied_objects, same.objects) == (0, first.objects)
    filled(ws, 2)
    assert backup(ws, str(tmp_path / "kept"), dry_run=True).copied_objects > 0
    later = backup(ws, str(tmp_path / "kept"))
    assert 0 < later.copied_objects < later.objects
    assert find(tmp_path / "kept") == Path(later.folder)
    assert restore(first.folder, str(tmp_path / "old"), open_workspace).facts == first.facts
    assert restore(str(tmp_path / "kept"), str(tmp_path / "new"), open_workspace).facts == later.facts
    ws.ledger.database.close()


def flipped(path: Path, place: int = -1) -> bytes:
    """Flip a bit of one byte, the middle one if no other is named; gives what was there."""
    before = path.read_bytes()
    place = len(before) // 2 if place < 0 else place
    path.chmod(0o600)
    path.write_bytes(before[:place] + bytes([before[place] ^ 4]) + before[place + 1 :])
    return before


def test_a_flipped_byte_anywhere_is_named_and_nothing_is_restored(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    made = Path(backup(ws, str(tmp_path / "kept")).folder)
    files = [path for path in made.rglob("*") if path.is_file() and path.stat().st_size]
    assert {"key", "secrets.key", "ledger.db", "objects.txt", "manifest.json", "1-1.log"} <= {
        path.name for path in files
    }
    stored = [path for path in (tmp_path / "kept" / "objects").rglob("*") if path.is_file()]
    files += [path for path in stored if path.suffix == ".pack" or path.stat().st_mode & 0o222 == 0]
    assert len(files) > 8
    for path in files:
        before = flipped(path)
        with pytest.raises((Corrupt, Tampered)) as raised:
            restored(tmp_path / "kept", tmp_path / "b")
        assert len(str(raised.value).splitlines()) <= 6
        assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "kept"], path
        path.write_bytes(before)
    assert restore(str(tmp_path / "kept"), str(tmp_path / "b"), open_workspace).facts == ws.ledger.head()
    ws.ledger.database.close()


def test_an_altered_object_of_a_backup_is_put_right_by_a_check(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    backup(ws, str(tmp_path / "kept"))
    flipped(max((tmp_path / "kept" / "objects").rglob("*.pack"), key=lambda path: path.stat().st_size))
    assert backup(ws, str(tmp_path / "kept")).copied_objects == 0
    with pytest.raises(Corrupt, match="nothing was restored"):
        restored(tmp_path / "kept", tmp_path / "b")
    done = backup(ws, str(tmp_path / "kept"), check=True)
    assert done.mended == done.copied_objects > 0
    assert done.checked == done.objects
    assert restored(tmp_path / "kept", tmp_path / "b").ledger.head() == done.facts
    ws.ledger.database.close()


def test_a_ledger_that_is_not_what_was_signed_or_lacks_an_object_is_not_backed_up(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    loose = next(path for path in (ws.project.state / "objects").rglob("*") if path.stat().st_size == 100_000)
    content = loose.read_bytes()
    loose.chmod(0o600)
    loose.unlink()
    with pytest.raises(Corrupt, match="no backup was made"):
        backup(ws, str(tmp_path / "kept"))
    loose.write_bytes(content[:-1] + b"?")
    with pytest.raises(Corrupt):
        backup(ws, str(tmp_path / "kept"))
    loose.write_bytes(content)
    ws.ledger.database.close()
    with sqlite3.connect(ws.project.state / "ledger.db") as raw:
        raw.execute("DROP TRIGGER fact_no_update")
        raw.execute("UPDATE fact SET actor = 'user:mallory' WHERE seq = 1")
    raw.close()
    with pytest.raises(Tampered, match="no backup was made"):
        backup(ws, str(tmp_path / "kept"))
    assert list((tmp_path / "kept").glob(f"*/{MANIFEST}")) == []
    assert [path for path in (tmp_path / "kept").iterdir() if path.is_dir() and path.name.startswith("20")] == []
    ws.ledger.database.close()


def test_another_history_than_the_one_that_was_kept_elsewhere_is_not_restored(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    note = ws.ledger.checkpoint()
    backup(ws, str(tmp_path / "kept"))
    say(ws, "later")
    later = ws.ledger.checkpoint()
    done = restore(str(tmp_path / "kept"), str(tmp_path / "b"), open_workspace, checkpoint=note, dry_run=True)
    assert done.is_dry_run
    assert not (tmp_path / "b").exists()
    with pytest.raises(Tampered, match="nothing was restored"):
        restore(str(tmp_path / "kept"), str(tmp_path / "b"), open_workspace, checkpoint=later)
    assert not (tmp_path / "b").exists()
    ws.ledger.database.close()


def test_a_backup_without_keys_is_verified_by_the_old_key_and_signed_on_by_a_new_one(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    made = Path(backup(ws, str(tmp_path / "kept"), keys=False).folder)
    assert not (made / "keys").exists()
    secret = (ws.project.state / "key").read_bytes().strip()
    assert all(secret not in path.read_bytes() for path in made.rglob("*") if path.is_file())
    again = restored(tmp_path / "kept", tmp_path / "b")
    assert again.ledger.signer.verifier.public != ws.ledger.signer.verifier.public
    say(again, "after")
    assert verify(again).ok
    for each in (ws, again):
        each.ledger.database.close()


def test_keys_in_a_backup_are_their_owners_alone(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    made = Path(backup(ws, str(tmp_path / "kept")).folder)
    assert made.stat().st_mode & 0o777 == 0o700
    for name in ("key", "secrets.key"):
        assert (made / "keys" / name).stat().st_mode & 0o777 == 0o600
        restore(str(tmp_path / "kept"), str(tmp_path / f"b-{name}"), open_workspace)
        assert (tmp_path / f"b-{name}" / ".noria" / name).stat().st_mode & 0o777 == 0o600
    ws.ledger.database.close()


def run(root: Path, *words: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "noria", *words],
        cwd=root,
        env={**os.environ, "NORIA_FAILPOINT": failpoint},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("name", KILLS_OF_A_BACKUP)
def test_a_killed_backup_is_none_and_the_next_one_goes_on(name: str, tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    kept = tmp_path / "kept"
    assert run(tmp_path / "a", "admin", "backup", str(kept), failpoint=name).returncode == -signal.SIGKILL
    whole = name == "backup.done"
    assert len(list(kept.glob(f"*/{MANIFEST}"))) == whole
    if not whole:
        with pytest.raises(NotFound, match="there is no backup in"):
            restored(kept, tmp_path / "b")
    done = run(tmp_path / "a", "admin", "backup", str(kept), "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["copied_objects"] == (0 if name in ("backup.objects", "backup.done") else said["objects"])
    assert len([path for path in kept.iterdir() if path.name.startswith("20")]) == 1 + whole
    assert lock.leases(ws).active() == []
    assert restored(kept, tmp_path / "b").ledger.head() == ws.ledger.head()
    ws.ledger.database.close()


@pytest.mark.parametrize("place", ["a checkout", "a new folder", "postgres"])
@pytest.mark.parametrize("name", KILLS_OF_A_RESTORE)
def test_a_killed_restore_leaves_nothing_visible_and_can_be_done_again(
    name: str, place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    backup(ws, str(tmp_path / "kept"))
    to = tmp_path / "b"
    if place != "a new folder":
        to.mkdir()
        address = places(request)("postgres" if place == "postgres" else "sqlite")
        (to / "noria.toml").write_text(f'[project]\nname = "shop"\n[store]\ndatabase = "{address}"\n')
    words = ("admin", "restore", str(tmp_path / "kept"), str(to))
    assert run(tmp_path, *words, failpoint=name).returncode == -signal.SIGKILL
    if name == "restore.done":
        assert verify(open_workspace(to)).ok
        return
    assert not (to / ".noria").exists()
    assert to.exists() == (place != "a new folder")
    done = run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    again = open_workspace(to)
    require_equal(ws, again)
    left = [path.name for folder in (tmp_path, to) for path in folder.iterdir() if "noria-restore" in path.name]
    assert left == []
    for each in (ws, again):
        each.ledger.database.close()


class Later:
    """The wall's clock, some days ahead: what was stored a moment ago is old."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=30)


class Sweeping(Objects):
    """A store in which somebody drops a version, and collects, at the moment when objects are first copied."""

    def __init__(self, ws: Workspace, sweep: Callable[[], None]) -> None:
        super().__init__(ws.objects.store, ws.project.state / "cache")
        self.sweep: Callable[[], None] | None = sweep
        self.is_copying = False

    def get_many(self, digests: Iterable[str]) -> Iterator[tuple[Digest, bytes]]:
        if self.is_copying and self.sweep is not None:
            sweep, self.sweep = self.sweep, None
            sweep()
        return super().get_many(digests)

    def size(self, digest: str) -> int:
        self.is_copying = True  # sizes are asked when it is known what is wanted
        return super().size(digest)


def test_what_is_dropped_and_collected_meanwhile_is_in_the_backup_whole(tmp_path: Path) -> None:
    project_in(tmp_path / "a").ledger.database.close()
    ws = open_workspace(tmp_path / "a", clock=Later())
    filled(ws)
    loose = next(path for path in (ws.project.state / "objects").rglob("*") if path.stat().st_size == 100_000)
    old = datetime.now(UTC).timestamp() - 5 * 86_400
    os.utime(loose, (old, old))
    (ws.project.root / "photos" / "loose.bin").write_bytes(b"another")
    versions.add(ws, "photos")
    found: list[int] = []

    def sweep() -> None:
        drop(ws, "photos@1")
        found.append(gc(ws, sweep=True, min_age="0s").unnamed)
        found.append(gc(ws, sweep=True, min_age="0s").purged)

    facts = ws.ledger.head()
    done = backup(replace(ws, objects=Sweeping(ws, sweep)), str(tmp_path / "kept"))
    assert found[0] > 0, "the collection did take something"
    assert found[1] == 0, "and nothing for good"
    assert done.facts == facts, "the backup is as of before"
    again = restored(tmp_path / "kept", tmp_path / "b")
    assert again.ledger.head() == facts
    assert verify(again).ok
    for each in (ws, again):
        each.ledger.database.close()


def test_a_full_disk_is_one_clear_error_and_leaves_no_backup(small_disk: Path, tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    kept = small_disk / "kept"
    kept.mkdir()
    filler = fill(small_disk)
    with pytest.raises(StoreFull) as raised:
        backup(ws, str(kept))
    assert len(str(raised.value).splitlines()) <= 6
    for free in (200_000, 1_000_000, 1_500_000, 2_000_000):
        os.truncate(filler, filler.stat().st_size - free)
        fill_again = small_disk / "half"
        try:
            backup(ws, str(kept))
        except StoreFull:
            assert list(kept.glob(f"*/{MANIFEST}")) == []
            assert [path.name for path in kept.iterdir() if path.name.startswith("20")] == []
        fill_again.unlink(missing_ok=True)
    filler.unlink()
    backup(ws, str(kept))
    assert restored(kept, tmp_path / "b").ledger.head() == ws.ledger.head()
    ws.ledger.database.close()


def test_a_full_disk_in_a_restore_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    backup(ws, str(tmp_path / "kept"))
    filler = fill(small_disk)
    os.truncate(filler, filler.stat().st_size - 300_000)
    with pytest.raises(StoreFull):
        restored(tmp_path / "kept", small_disk / "b")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    filler.unlink()
    assert restored(tmp_path / "kept", small_disk / "b").ledger.head() == ws.ledger.head()
    ws.ledger.database.close()


def test_a_backup_goes_nowhere_where_it_would_be_lost_or_mixed_up(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    say(ws, "one")
    for place in (str(ws.project.state / "kept"), "s3://bucket/kept"):
        with pytest.raises(UsageError):
            backup(ws, place)
    backup(ws, str(tmp_path / "kept"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(Conflict, match="is no project and is not empty"):
        restored(tmp_path / "kept", tmp_path / "full")
    with pytest.raises(Conflict, match="has a state already"):
        restored(tmp_path / "kept", tmp_path / "a")
    with pytest.raises(NoriaError, match="there is no backup in"):
        restored(tmp_path / "nothing", tmp_path / "b")
    ws.ledger.database.close()


def test_a_project_with_stores_of_its_own_places_comes_back_to_them(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a", f"sqlite:///{tmp_path / 'far' / 'shop.db'}", str(tmp_path / "far" / "objects"))
    filled(ws)
    backup(ws, str(tmp_path / "kept"))
    project = Project(name="shop", root=tmp_path / "b", store=StoreConfig(database=f"sqlite:///{tmp_path}/near/s.db"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "noria.toml").write_text(
        f'[project]\nname = "shop"\n[store]\ndatabase = "{project.store.database}"\nobjects = "../near/objects"\n'
    )
    again = restored(tmp_path / "kept", tmp_path / "b")
    require_equal(ws, again)
    assert (tmp_path / "near" / "s.db").is_file()
    assert not (tmp_path / "b" / ".noria" / "ledger.db").exists()
    assert not (tmp_path / "b" / ".noria" / "objects").exists()
    assert load_project(tmp_path / "b").store.objects == "../near/objects"
    for each in (ws, again):
        each.ledger.database.close()


def test_what_recordings_have_not_sent_yet_is_in_the_backup_with_its_objects(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    say(ws, "one")
    digest = ws.objects.put_bytes(b"an artifact that no fact names yet")
    lines = LineWriter(ws.project.state / "recording" / "run_x" / "own.log")
    lines.append([json.dumps(["a", "model.bin", digest, 34, ""]).encode()])
    lines.close()
    made = Path(backup(ws, str(tmp_path / "kept")).folder)
    assert read(made).objects == 1
    assert stored_in(tmp_path / "kept").has(digest)
    again = restored(tmp_path / "kept", tmp_path / "b")
    assert again.objects.get_bytes(digest) == b"an artifact that no fact names yet"
    assert len(read_lines(again.project.state / "recording" / "run_x" / "own.log")[0]) == 1
    for each in (ws, again):
        each.ledger.database.close()


def asked(port: int, endpoint: str, body: object = None) -> dict[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    text = None if body is None else json.dumps(body)
    kind = {"content-type": "application/json"}
    connection.request("GET" if body is None else "POST", f"/api/2.0/mlflow/{endpoint}", text, kind)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status == 200, content
    found: dict[str, object] = json.loads(content)
    return found


def test_a_served_project_is_backed_up_and_its_restored_twin_serves_and_signs_on(tmp_path: Path) -> None:
    ws = project_in(tmp_path / "a")
    filled(ws)
    with started(tmp_path / "a") as port:
        run = asked(port, "runs/create", {"experiment_id": "0", "start_time": 1, "run_name": "kept"})["run"]
        assert isinstance(run, dict)
        run_id = run["info"]["run_id"]
        asked(port, "runs/log-metric", {"run_id": run_id, "key": "loss", "value": 0.25, "timestamp": 5, "step": 1})
        done = backup(ws, str(tmp_path / "kept"))
    again = restored(tmp_path / "kept", tmp_path / "b")
    with started(tmp_path / "b") as port:
        history = asked(port, f"metrics/get-history?run_id={run_id}&metric_key=loss")["metrics"]
        assert isinstance(history, list)
        assert [point["value"] for point in history] == [0.25]
        asked(port, "runs/create", {"experiment_id": "0", "start_time": 1, "run_name": "after"})
    report = verify(again, done.checkpoint)
    assert report.ok, report
    assert report.size > done.facts
    for each in (ws, again):
        each.ledger.database.close()
