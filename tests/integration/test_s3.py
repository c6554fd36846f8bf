"""Remotes on a real S3 server and in a folder: whole, checked, resumed after kill -9, never believed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from git_project import noria

from noria.bootstrap import open_workspace
from noria.core.errors import ConfigError, Corrupt, NotFound, StoreUnavailable, Tampered
from noria.core.identity import Digest
from noria.data import versions
from noria.data.records import DatasetVersion
from noria.data.remote import remotes, transfer
from noria.store.tree import iter_tree
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    from s3_server import S3Server

VICTIM = Path(__file__).with_name("transfer_victim.py")
LARGE = 40 << 20
KILLS = ("push.sent:1", "push.sent:40", "push.objects:1", "pull.got:1", "pull.got:40", "pull.objects:1")


@dataclass(frozen=True)
class Place:
    """A remote of either kind, as noria.toml names it; `items` are its raw contents, to look at and to damage."""

    kind: str
    url: str
    endpoint: str
    server: Any

    def setting(self, name: str = "origin") -> str:
        extra = f'endpoint = "{self.endpoint}"\n' if self.endpoint else ""
        return f'[remote.{name}]\nurl = "{self.url}"\n{extra}'

    def names(self) -> list[str]:
        if self.kind == "folder":
            root = Path(self.url)
            return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        bucket, _, prefix = self.url[5:].partition("/")
        found = self.server.client().list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        return sorted(each["Key"].removeprefix(f"{prefix}/") for each in found)

    def change(self, key: str, edit: Callable[[bytes], bytes]) -> None:
        if self.kind == "folder":
            path = Path(self.url) / key
            path.chmod(0o644)
            path.write_bytes(edit(path.read_bytes()))
            return
        bucket, _, prefix = self.url[5:].partition("/")
        client = self.server.client()
        body = client.get_object(Bucket=bucket, Key=f"{prefix}/{key}")["Body"].read()
        client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=edit(body))

    def remove(self, key: str) -> None:
        if self.kind == "folder":
            (Path(self.url) / key).unlink()
            return
        bucket, _, prefix = self.url[5:].partition("/")
        self.server.client().delete_object(Bucket=bucket, Key=f"{prefix}/{key}")


@pytest.fixture
def s3(s3_server: S3Server) -> Place:
    return Place("s3", s3_server.new_bucket(), s3_server.endpoint, s3_server)


@pytest.fixture
def second(s3_server: S3Server) -> Place:
    return Place("s3", s3_server.new_bucket(), s3_server.endpoint, s3_server)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        return request.getfixturevalue("s3")  # type: ignore[no-any-return]  # the fixture above
    return Place("folder", str(tmp_path / "remote"), "", None)


def project(folder: Path, *places: Place) -> Workspace:
    folder.mkdir(parents=True, exist_ok=True)
    names = ["origin", "second"]
    settings = "\n".join(each.setting(name) for each, name in zip(places, names, strict=False))
    settings = settings.replace("[remote.second]", "default = true\n\n[remote.second]") if len(places) > 1 else settings
    (folder / "noria.toml").write_text(f'[project]\nname = "shop"\n\n{settings}')
    return open_workspace(folder)


def clone(origin: Workspace, folder: Path) -> Workspace:
    """Another workspace that has the project's files, and none of its data."""
    folder.mkdir()
    shutil.copy(origin.project.root / "noria.toml", folder)
    shutil.copytree(origin.project.root / "noria.lock", folder / "noria.lock")
    return open_workspace(folder)


def files(folder: Path, *, count: int = 300, large: int = 0, seed: int = 1) -> Path:
    """A folder of small files, tables among them, and a large one."""
    chance = random.Random(seed)
    (folder / "part").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / "part" / f"{number:05d}.bin").write_bytes(chance.randbytes(chance.randrange(20_000)))
    (folder / "empty.bin").write_bytes(b"")
    (folder / "table.csv").write_text("id,x\n" + "".join(f"{n},{n * n}\n" for n in range(1000)))
    if large:
        with (folder / "large.bin").open("wb") as stream:
            for _ in range(large >> 20):
                stream.write(chance.randbytes(1 << 20))
    return folder


def same(one: Workspace, other: Workspace, version: DatasetVersion) -> None:
    """Every object of a version is in both workspaces, and is what its name says."""
    entries = list(iter_tree(one.objects, version.tree))
    assert entries == list(iter_tree(other.objects, version.tree))
    for entry in entries:
        other.objects.verify(entry.digest)


def test_a_clean_clone_pulls_what_its_pins_name(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    data = files(tmp_path / "data", large=LARGE)
    first = versions.add(ws, str(data), "stock", "the first")
    (data / "part" / "00007.bin").write_bytes(b"changed")
    version = versions.add(ws, str(data), "stock", "the second", key="id")
    pushed = transfer.push(ws)
    assert [each.version for each in pushed.versions] == [1, 2]
    assert 300 < pushed.versions[0].objects < 330
    assert pushed.versions[1].objects <= 3
    other = clone(ws, tmp_path / "b")
    pulled = transfer.pull(other)
    assert [(each.dataset, each.version, each.remote) for each in pulled.versions] == [("stock", 2, "origin")]
    assert pulled.size_bytes >= version.size_bytes
    found = versions.log(other, "stock")
    assert found == [version]
    same(ws, other, version)
    checked = versions.checkout(other, "stock", str(tmp_path / "out"))
    assert checked.files == version.files
    assert (tmp_path / "out" / "part" / "00007.bin").read_bytes() == b"changed"
    assert transfer.pull(other).objects == 0
    assert transfer.push(other).objects == 0
    transfer.pull(other, ["stock@1"])
    same(ws, other, first)
    assert versions.log(other, "stock") == [version, first]
    assert (tmp_path / "b" / "noria.lock" / "stock.toml").read_text() == (
        tmp_path / "a" / "noria.lock" / "stock.toml"
    ).read_text()


def test_many_small_files_travel_in_few_packs(s3: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", s3)
    version = versions.add(ws, str(files(tmp_path / "data", count=3000)), "stock")
    transfer.push(ws)
    assert len([key for key in s3.names() if key.startswith("objects/")]) < 10
    other = clone(ws, tmp_path / "b")
    transfer.pull(other)
    same(ws, other, version)


def test_a_name_without_a_pin_pulls_the_newest_and_all_of_the_history_on_request(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    made = [versions.add(ws, str(files(tmp_path / "data", count=3, seed=seed)), "stock") for seed in (1, 2, 3)]
    transfer.push(ws)
    other = project(tmp_path / "b", place)
    transfer.pull(other, ["stock"])
    assert versions.log(other, "stock") == made[-1:]
    assert (tmp_path / "b" / "noria.lock" / "stock.toml").is_file()
    transfer.pull(other, ["stock"], history=True)
    assert versions.log(other, "stock") == made[::-1]
    for version in made:
        same(ws, other, version)
    assert versions.resolve(other, "stock@latest~1") == made[1]


def test_what_is_nowhere_says_who_was_asked(place: Place, second: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place, second)
    versions.add(ws, str(files(tmp_path / "data", count=2)), "stock")
    transfer.push(ws)
    transfer.push(ws, remote="second")
    shutil.copytree(tmp_path / "data", tmp_path / "more")
    (tmp_path / "more" / "new.bin").write_bytes(b"new")
    versions.add(ws, str(tmp_path / "more"), "stock")
    other = clone(ws, tmp_path / "b")
    with pytest.raises(NotFound) as error:
        transfer.pull(other)
    assert f"origin ({place.url})" in error.value.message
    assert f"second ({second.url})" in error.value.message
    assert error.value.hint == "noria data push stock, from where it was added"


def test_the_second_remote_gives_what_the_first_lacks(place: Place, second: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place, second)
    version = versions.add(ws, str(files(tmp_path / "data", count=2)), "stock")
    transfer.push(ws, remote="second")
    other = clone(ws, tmp_path / "b")
    if place.kind == "folder":
        Path(place.url).mkdir()
    assert [each.remote for each in transfer.pull(other).versions] == ["second"]
    same(ws, other, version)


@pytest.mark.parametrize("damage", ["altered", "cut short", "gone"])
def test_a_damaged_remote_object_is_named_and_never_taken_over(place: Place, tmp_path: Path, damage: str) -> None:
    ws = project(tmp_path / "a", place)
    data = tmp_path / "data"
    data.mkdir()
    content = random.Random(3).randbytes(3 << 20)
    (data / "large.bin").write_bytes(content)
    version = versions.add(ws, str(data), "stock")
    transfer.push(ws)
    (entry,) = iter_tree(ws.objects, version.tree)
    key = next(key for key in place.names() if key.endswith(entry.digest[9:]))
    if damage == "gone":
        place.remove(key)
    elif damage == "cut short":
        place.change(key, lambda old: old[:-100])
    else:
        place.change(key, lambda old: old[:5000] + bytes([old[5000] ^ 1]) + old[5001:])
    other = clone(ws, tmp_path / "b")
    with pytest.raises((Corrupt, NotFound)) as error:
        transfer.pull(other)
    assert entry.digest[7:19] in error.value.message
    assert not other.objects.has(Digest(entry.digest))
    assert not other.ledger.facts(kind="dataset.committed")
    if damage != "gone":
        key = next(key for key in place.names() if key.endswith(entry.digest[9:]))
        place.change(key, lambda old: content)
    else:
        transfer.push(ws, check=True)
    transfer.pull(other)
    same(ws, other, version)


def test_a_pack_that_was_altered_is_found(s3: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", s3)
    versions.add(ws, str(files(tmp_path / "data", count=40)), "stock")
    transfer.push(ws)
    pack = next(key for key in s3.names() if "/packs/" in key)
    s3.change(pack, lambda old: old[:100] + bytes([old[100] ^ 255]) + old[101:])
    pack_of_one = s3.names()
    more = tmp_path / "more"
    more.mkdir()
    (more / "one").write_bytes(b"something else")
    sound = versions.add(ws, str(more), "sound")
    transfer.push(ws, ["sound"])
    assert set(s3.names()) > set(pack_of_one)
    other = clone(ws, tmp_path / "b")
    with pytest.raises(Corrupt) as caught:
        transfer.pull(other)
    content = versions.resolve(ws, "stock").content
    assert f"stock@{content[7:19]} could not be brought" in str(caught.value)
    assert "noria data push --check" in caught.value.hint
    assert versions.resolve(other, "sound").content == sound.content, "the others are brought all the same"
    s3.change(pack, lambda old: old[: len(old) // 2])
    shutil.rmtree(tmp_path / "b" / ".noria")
    with pytest.raises(Corrupt, match="pack"):
        transfer.pull(open_workspace(tmp_path / "b"))


def test_a_record_that_was_altered_is_refused(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    versions.add(ws, str(files(tmp_path / "data", count=2)), "stock")
    transfer.push(ws)
    key = next(key for key in place.names() if key.startswith("versions/"))
    place.change(
        key, lambda old: old.replace(b'"files\\":4', b'"files\\":5').replace(b'\\"key\\":\\"\\"', b'\\"key\\":\\"id\\"')
    )
    versions.add(ws, str(files(tmp_path / "more", count=3)), "sound")
    transfer.push(ws, ["sound"])
    other = clone(ws, tmp_path / "b")
    with pytest.raises(Tampered, match=r"of a version of stock was altered.*1 other is here now") as error:
        transfer.pull(other)
    assert key in error.value.where
    assert "noria data push --check" in error.value.hint
    assert [fact.payload.name for fact in other.ledger.facts(kind="dataset.committed")] == ["sound"]
    transfer.push(ws, check=True)
    assert {each.dataset for each in transfer.pull(other).versions} == {"sound", "stock"}


def test_a_damaged_local_object_is_healed_from_the_remote(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    data = files(tmp_path / "data", count=3, large=2 << 20)
    version = versions.add(ws, str(data), "stock")
    transfer.push(ws)
    entry = next(entry for entry in iter_tree(ws.objects, version.tree) if entry.path == "large.bin")
    path = ws.objects.path(entry.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    fresh = open_workspace(tmp_path / "a")
    with pytest.raises(Corrupt):
        fresh.objects.verify(entry.digest)
    assert remotes.heal(fresh, entry.digest) == "origin"
    fresh.objects.verify(entry.digest)
    lone = project(tmp_path / "c")
    with pytest.raises(NotFound, match="no remote"):
        remotes.heal(lone, entry.digest)
    fresh.objects.path(entry.digest).unlink()
    for key in place.names():
        place.remove(key)
    with pytest.raises(NotFound, match=r"origin .* does not have it"):
        remotes.heal(open_workspace(tmp_path / "a"), entry.digest)


def test_two_pushes_at_once_leave_one_whole_version(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    version = versions.add(ws, str(files(tmp_path / "data", count=500, large=10 << 20)), "stock")
    running = [victim("push", tmp_path / "a") for _ in range(3)]
    assert [ended(process) for process in running] == [0, 0, 0]
    assert not [key for key in place.names() if key.startswith("locks/")]
    other = clone(ws, tmp_path / "b")
    transfer.pull(other)
    same(ws, other, version)


def victim(verb: str, root: Path, failpoint: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(VICTIM), verb, str(root)],
        env={**os.environ, "NORIA_FAILPOINT": failpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> int:
    """How a process ended; what it said is shown if the test fails."""
    print(*process.communicate(timeout=200))
    return process.returncode


@pytest.mark.parametrize("failpoint", KILLS)
def test_a_kill_in_the_middle_is_finished_by_the_next_try(place: Place, tmp_path: Path, failpoint: str) -> None:
    ws = project(tmp_path / "a", place)
    version = versions.add(ws, str(files(tmp_path / "data", count=60, large=LARGE)), "stock")
    verb = failpoint[:4]
    if verb == "pull":
        transfer.push(ws)
    other = clone(ws, tmp_path / "b")
    killed = victim(verb, tmp_path / ("a" if verb == "push" else "b"), failpoint)
    assert ended(killed) == -signal.SIGKILL
    if verb == "push":
        assert not [key for key in place.names() if key.startswith("versions/")]
        begun = time.monotonic()
        transfer.push(open_workspace(tmp_path / "a"))
        assert time.monotonic() - begun < remotes.STALE_S, "the dead owner's lock is seen at once"
    else:
        assert not other.ledger.facts(kind="dataset.committed")
    transfer.pull(other)
    same(ws, other, version)
    assert not list((tmp_path / "b" / ".noria" / "cache" / "partial").glob("*"))


def test_parts_that_arrived_before_a_kill_are_not_sent_again(s3: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", s3)
    data = tmp_path / "data"
    data.mkdir()
    (data / "large.bin").write_bytes(random.Random(5).randbytes(LARGE))
    version = versions.add(ws, str(data), "stock")
    killed = victim("push", tmp_path / "a", "push.sent:3")
    assert ended(killed) == -signal.SIGKILL
    client = s3.server.client()
    bucket, _, prefix = s3.url[5:].partition("/")
    (upload,) = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix)["Uploads"]
    before = {
        each["PartNumber"]: each["LastModified"]
        for each in client.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])["Parts"]
    }
    assert len(before) >= 2
    calls: list[int] = []
    fresh = open_workspace(tmp_path / "a")
    target = remotes.open_remote(fresh)
    store: Any = target.objects.store
    made = store.bucket._client()
    made.meta.events.register("before-call.s3.UploadPart", lambda **_: calls.append(1))
    with fresh.objects.open(next(iter_tree(fresh.objects, version.tree)).digest) as stream:
        store.put_known(Digest(next(iter_tree(fresh.objects, version.tree)).digest), stream, LARGE)
    assert len(calls) <= LARGE // (8 << 20) - len(before), "one more may have been on its way when it was killed"
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket, Prefix=prefix)


def test_a_large_object_that_was_half_fetched_is_continued(s3: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", s3)
    data = tmp_path / "data"
    data.mkdir()
    (data / "large.bin").write_bytes(random.Random(6).randbytes(LARGE))
    version = versions.add(ws, str(data), "stock")
    transfer.push(ws)
    other = clone(ws, tmp_path / "b")
    killed = victim("pull", tmp_path / "b", "pull.got:3")
    assert ended(killed) == -signal.SIGKILL
    partial = tmp_path / "b" / ".noria" / "cache" / "partial"
    notes = next(partial.glob("*.parts")).read_text().split()
    assert len(notes) >= 2
    transfer.pull(other)
    same(ws, other, version)


def test_an_unreachable_remote_is_one_clear_error(tmp_path: Path, s3_server: S3Server) -> None:
    away = Place("s3", "s3://stock/data", "http://127.0.0.1:9", None)
    ws = project(tmp_path / "a", away)
    versions.add(ws, str(files(tmp_path / "data", count=2)), "stock")
    with pytest.raises(StoreUnavailable) as error:
        transfer.push(ws)
    assert error.value.exit_code == 3
    assert error.value.where == "http://127.0.0.1:9"
    told = noria(tmp_path / "a", "data", "push", code=3, env=s3_server.environment)
    assert len(told.splitlines()) <= 6
    assert "Traceback" not in told
    assert "noriasecret01" not in told


def test_without_credentials_the_one_missing_setting_is_named(tmp_path: Path, s3: Place) -> None:
    ws = project(tmp_path / "a", s3)
    versions.add(ws, str(files(tmp_path / "data", count=2)), "stock")
    nothing = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(tmp_path),
    }
    told = noria(tmp_path / "a", "data", "push", code=2, env=nothing)
    assert "AWS_ACCESS_KEY_ID is not set" in told
    wrong = {"AWS_ACCESS_KEY_ID": "noriakey01", "AWS_SECRET_ACCESS_KEY": "wrong"}
    told = noria(tmp_path / "a", "data", "push", code=2, env=wrong)
    assert "refuses" in told


def test_without_a_remote_the_one_missing_setting_is_named(tmp_path: Path) -> None:
    ws = project(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"\[remote.origin\] url is not set"):
        transfer.push(ws)


def test_a_lock_whose_owner_is_silent_is_taken_over(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = project(tmp_path / "a", place)
    remote = remotes.open_remote(ws)
    remote.bucket.create("locks/stock", json.dumps([1, "1", "another boot", "push", "elsewhere", "x"]).encode())
    monkeypatch.setattr(remotes, "STALE_S", 0.5)
    monkeypatch.setattr(remotes, "_LOOK_S", 0.1)
    with pytest.raises(StoreUnavailable, match="process 1 on elsewhere"), remotes.locked(remote, "stock", 0.2):
        pass
    with remotes.locked(remote, "stock", 30):
        assert remote.bucket.stat("locks/stock") is not None
    assert remote.bucket.stat("locks/stock") is None


def test_a_workspace_may_keep_its_objects_on_s3(s3: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "noria.toml").write_text(f'[project]\nname = "shop"\n[store]\nobjects = "{s3.url}"\n')
    ws = open_workspace(tmp_path / "a")
    version = versions.add(ws, str(files(tmp_path / "data", count=50)), "stock")
    assert not (tmp_path / "a" / ".noria" / "objects").exists()
    out = versions.checkout(ws, "stock", str(tmp_path / "out"))
    assert out.files == version.files
    assert (tmp_path / "out" / "part" / "00001.bin").read_bytes() == (
        tmp_path / "data" / "part" / "00001.bin"
    ).read_bytes()


def flip(old: bytes) -> bytes:
    """Other bytes of the same length."""
    at = len(old) // 3
    return old[:at] + bytes([old[at] ^ 255]) + old[at + 1 :]


def data_keys(place: Place) -> list[str]:
    """Where a remote keeps bytes of objects: packs, files of their own, lists of pieces; no index and no trash."""
    wanted = [key for key in place.names() if key.startswith("objects/")]
    return [key for key in wanted if not key.endswith((".db", ".json", "-wal", "-shm", ".lock"))]


@pytest.mark.parametrize("damage", ["flipped", "cut short"])
def test_whatever_is_altered_on_a_remote_is_put_right_by_a_push_that_checks(
    place: Place, tmp_path: Path, damage: str
) -> None:
    ws = project(tmp_path / "a", place)
    data = files(tmp_path / "data", count=30, large=3 << 20)
    lines = random.Random(4).choices([f"{number:07d} line\n" for number in range(5000)], k=300_000)
    (data / "text.log").write_text("".join(lines))  # compressible: kept in pieces
    version = versions.add(ws, str(data), "stock")
    transfer.push(ws)
    keys = data_keys(place)
    assert keys
    for key in keys:
        place.change(key, flip if damage == "flipped" else lambda old: old[: len(old) // 2])
    assert transfer.push(ws).repaired == 0, "without --check the record is believed"
    done = transfer.push(ws, check=True)
    assert done.repaired or done.objects
    assert done.checked >= 30
    again = transfer.push(ws, check=True)
    assert (again.repaired, again.objects) == (0, 0)
    assert "everything is there" in again.summary
    other = clone(ws, tmp_path / "b")
    transfer.pull(other)
    same(ws, other, version)


def test_what_cannot_be_put_right_is_named_with_everything_else_mended(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("one.bin", "two.bin"):
        (data / name).write_bytes(random.Random(name).randbytes(3 << 20))
    version = versions.add(ws, str(data), "stock")
    transfer.push(ws)
    one, two = (entry.digest for entry in iter_tree(ws.objects, version.tree))
    for key in data_keys(place):
        if key.endswith((one[9:], two[9:])):
            place.change(key, flip)
    here = ws.objects.store.path_of(one)  # type: ignore[attr-defined]  # the file store
    here.chmod(0o644)
    here.write_bytes(flip(here.read_bytes()))
    done = noria(tmp_path / "a", "data", "push", "--check", code=None)
    assert one[7:19] in done
    assert "1 object is altered on origin and could not be put right" in done
    assert "(1 other put right)" in done
    remote = remotes.open_remote(ws).objects
    remote.verify(two)
    with pytest.raises(Corrupt):
        remote.verify(one)
    here.write_bytes(random.Random("one.bin").randbytes(3 << 20))
    told = noria(tmp_path / "a", "data", "push", "--check")
    assert "1 altered one put right" in told
    remotes.open_remote(ws).objects.verify(one)


def test_a_record_of_a_version_that_was_altered_is_written_again(place: Place, tmp_path: Path) -> None:
    ws = project(tmp_path / "a", place)
    version = versions.add(ws, str(files(tmp_path / "data", count=2)), "stock")
    transfer.push(ws)
    place.change(next(key for key in place.names() if key.startswith("versions/")), lambda old: old[:-9])
    assert transfer.push(ws, check=True).repaired == 1
    other = clone(ws, tmp_path / "b")
    transfer.pull(other)
    same(ws, other, version)
