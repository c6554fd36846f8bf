"""Folders and files of any kind as versions: add, status, checkout whole, in part and into what is there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.progress import Advance, shown
from noria.data import lock, versions
from noria.data.folders.statcache import RACY_NS, StatCache, cache_path
from noria.data.folders.walk import stamp_of
from noria.data.pins import pin_path
from noria.data.status import status
from noria.store import replay
from noria.store.disk import hash_file
from noria.store.tree import iter_tree
from noria.store.workspace import Workspace
from noria.testing.workspace import TestClock

SECOND_NS = 1_000_000_000


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    yield from made_in(tmp_path / "project")


@pytest.fixture
def ws_on_disk(disk_path: Path) -> Iterator[Workspace]:
    yield from made_in(disk_path / "project")


def made_in(root: Path) -> Iterator[Workspace]:
    root.mkdir()
    workspace = open_workspace(project=Project(name="test", root=root), actor="user:test")
    yield workspace
    assert replay.difference(workspace.ledger) == [], "records are the fold of the facts"
    workspace.ledger.database.close()


def fill(root: Path, files: dict[str, bytes], *, age_s: int = 60) -> Path:
    """Files that were written some time ago (by their mtime; the ctime cannot be set)."""
    for name, content in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        then = place.stat().st_mtime_ns - age_s * SECOND_NS
        os.utime(place, ns=(then, then))
    return root


def held(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def stamp(path: Path) -> tuple[int, ...]:
    """All that a write, a move or a change of permissions would show."""
    found = path.stat()
    return found.st_mode, found.st_ino, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def photos(number: int = 12) -> dict[str, bytes]:
    """A folder as teams have them: images, a text, an empty file, deep and odd paths."""
    found = {f"train/{i % 3}/{i:03d}.jpg": bytes([i]) * 1000 for i in range(number)}
    return found | {
        "labels.txt": b"cat\ndog\n",
        "empty": b"",
        "a/b/c/d.bin": b"deep",
        "a-b/x": b"x",
        "ünï cödé.png": b"u",
    }


def test_a_folder_of_any_files_comes_back_as_it_was_and_is_not_touched(ws: Workspace, tmp_path: Path) -> None:
    source = fill(ws.project.root / "photos", photos())
    before = {path: stamp(path) for path in source.rglob("*")}
    version = versions.add(ws, "photos")
    assert (version.name, version.files, version.rows, version.columns) == ("photos", 17, 0, ())
    assert version.size_bytes == sum(map(len, photos().values()))
    assert {path: stamp(path) for path in source.rglob("*")} == before, "no file was touched"
    done = versions.checkout(ws, "photos", str(tmp_path / "out"))
    assert (done.files, done.written) == (17, 17)
    assert held(tmp_path / "out") == photos()


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", os.urandom(200_000)], ids=["empty", "small", "larger"])
def test_a_single_file_need_not_be_a_table(ws: Workspace, tmp_path: Path, content: bytes) -> None:
    fill(ws.project.root, {"model.bin": content})
    version = versions.add(ws, "model.bin", "weights")
    assert (version.files, version.size_bytes) == (1, len(content))
    versions.checkout(ws, "weights", str(tmp_path / "out"))
    assert held(tmp_path / "out") == {"model.bin": content}
    assert [each.state for each in status(ws)] == ["same"]


def test_the_id_is_the_content_alone_whatever_way_it_came_about(ws: Workspace, tmp_path: Path) -> None:
    fill(ws.project.root / "photos", photos(5))
    versions.add(ws, "photos")
    fill(ws.project.root / "photos", photos())
    (ws.project.root / "photos/train/0/003.jpg").unlink()
    stepwise = versions.add(ws, "photos")
    fill(tmp_path / "other/elsewhere", {k: v for k, v in photos().items() if k != "train/0/003.jpg"}, age_s=9)
    other = open_workspace(project=Project(name="other", root=tmp_path / "other"), actor="user:other")
    assert versions.add(other, "elsewhere", "another-name").tree == stepwise.tree
    other.ledger.database.close()


def test_a_changed_file_stores_itself_and_a_few_nodes_only(ws: Workspace) -> None:
    fill(ws.project.root / "many", {f"{i % 7}/{i:05d}": b"%d" % i for i in range(5000)})
    first = versions.add(ws, "many")
    before = set(ws.objects.names())
    fill(ws.project.root / "many", {"3/00010": b"another"})
    second = versions.add(ws, "many")
    assert len(set(ws.objects.names()) - before) <= 6
    digests = [{entry.path: entry.digest for entry in iter_tree(ws.objects, each.tree)} for each in (first, second)]
    assert [path for path in digests[0] if digests[0][path] != digests[1][path]] == ["3/00010"]


def test_a_change_within_the_clocks_tick_and_of_the_same_size_is_seen(ws: Workspace) -> None:
    """The racy case: the same size and the same times as when it was added."""
    place = ws.project.root / "d/a.bin"
    fill(ws.project.root / "d", {"a.bin": b"one", "b.bin": b"b"}, age_s=0)
    first = versions.add(ws, "d")
    stamp = place.stat().st_mtime_ns
    place.write_bytes(b"two")
    os.utime(place, ns=(stamp, stamp))
    assert [(each.state, each.paths) for each in status(ws)] == [("changed", ("~ a.bin",))]
    second = versions.add(ws, "d")
    assert second.tree != first.tree
    assert {entry.path: ws.objects.get_bytes(entry.digest) for entry in versions.show(ws, "d").entries}[
        "a.bin"
    ] == b"two"


@pytest.mark.parametrize("has_cache", [True, False])
def test_the_status_names_what_is_new_gone_and_changed(ws: Workspace, has_cache: bool) -> None:
    root = fill(ws.project.root / "photos", photos())
    versions.add(ws, "photos")
    if not has_cache:
        cache_path(ws.project.state, "photos").unlink()
    assert [(each.state, each.files) for each in status(ws)] == [("same", 17)]
    fill(root, {"train/0/000.jpg": b"\1" * 1000, "train/9/new.jpg": b"new", "a.b": b"between a-b/ and a/"})
    (root / "labels.txt").unlink()
    (root / "a/b/c/d.bin").unlink()
    (root / "a/b/c").rmdir()
    found = status(ws, ["photos"])[0]
    assert (found.state, found.added, found.removed, found.changed) == ("changed", 2, 2, 1)
    told = {"+ a.b", "+ train/9/new.jpg", "- a/b/c/d.bin", "- labels.txt", "~ train/0/000.jpg"}
    assert set(found.paths) == told
    versions.add(ws, "photos")
    assert status(ws)[0].state == "same"


def test_the_status_of_what_is_elsewhere_or_gone_or_unknown_is_said(ws: Workspace) -> None:
    fill(ws.project.root / "d", {"x": b"x"})
    versions.add(ws, "d")
    (ws.project.root / "d/x").unlink()
    (ws.project.root / "d").rmdir()
    assert status(ws)[0].state == "absent"
    text = pin_path(ws.project.root, "d").read_text()
    pin_path(ws.project.root, "e").write_text(
        text.replace('"d"', '"e"').replace('source = "e"', 'source = "sqlite:///x"')
    )
    assert {each.dataset: each.state for each in status(ws)} == {"d": "absent", "e": "elsewhere"}
    with pytest.raises(NotFound, match="no pin of 'f'") as caught:
        status(ws, ["f"])
    assert "d, e" in caught.value.hint


OPENED = """
import sys
import time
from pathlib import Path
opened = []
sys.addaudithook(lambda name, found: opened.append(str(found[0])) if name == "open" else None)
from noria.faces.cli.main import run
code = run(["data", "status", "--json"])
inside = [each for each in opened if each.startswith(sys.argv[1])]
print(code, len(inside), "sqlalchemy" in sys.modules, "pyarrow" in sys.modules)
"""


def test_the_status_command_opens_neither_the_files_nor_the_ledger(ws: Workspace) -> None:
    place = ws.project.root / "photos"
    (ws.project.root / "noria.toml").write_text('[project]\nname = "test"\n')
    fill(place, photos())
    versions.add(ws, "photos")
    command = [sys.executable, "-c", OPENED, str(place)]
    first = subprocess.run(command, cwd=ws.project.root, capture_output=True, text=True, timeout=60, check=True)
    assert '"state":"same"' in first.stdout
    age_by_waiting(place)
    for _ in range(2):  # the first look may hash what was too young to be trusted
        again = subprocess.run(command, cwd=ws.project.root, capture_output=True, text=True, timeout=60, check=True)
    assert again.stdout.splitlines()[-1] == "0 0 False False"


def age_by_waiting(place: Path) -> None:
    """Wait until no file is younger than the two seconds in which it is not trusted."""
    newest = max(path.stat().st_ctime_ns for path in place.rglob("*"))
    probe = place.parent / "probe"
    while True:
        probe.touch()
        if probe.stat().st_mtime_ns > newest + 2 * SECOND_NS + SECOND_NS // 10:
            return


def test_an_unchanged_folder_is_not_read_again_and_adds_nothing(ws: Workspace) -> None:
    place = fill(ws.project.root / "photos", photos())
    first = versions.add(ws, "photos")
    age_by_waiting(place)
    versions.add(ws, "photos")
    told = Told()
    head = ws.ledger.head()
    with shown(told):
        assert versions.add(ws, "photos") == first
    assert told.tasks == [], "nothing had to be stored"
    assert ws.ledger.head() == head


def test_after_a_checkout_in_place_only_what_it_wrote_is_read_again(ws: Workspace) -> None:
    place = fill(ws.project.root / "photos", photos())
    first = versions.add(ws, "photos")
    age_by_waiting(place)
    versions.add(ws, "photos")
    name = "train/1/001.jpg"
    (place / name).write_bytes(b"other")
    versions.add(ws, "photos")
    versions.checkout(ws, "photos@1")
    cache = StatCache(cache_path(ws.project.state, "photos"))
    known = cache.all_known(cache.root(str(place)))
    cache.close()
    assert known.keys() == held(place).keys()
    for path, (file, digest) in known.items():
        assert digest == hash_file(place / path)
        assert (file[1:] == stamp_of(str(place / path), path)) is (path != name)
    assert versions.add(ws, "photos") == first
    (place / "train/2/002.jpg").write_bytes(bytes([9]) * 1000)
    (found,) = status(ws, ["photos"])
    assert found.paths == ("~ train/2/002.jpg",)


def test_what_was_lost_from_the_store_is_stored_again(ws: Workspace, tmp_path: Path) -> None:
    place = fill(ws.project.root / "photos", photos())
    version = versions.add(ws, "photos")
    age_by_waiting(place)
    versions.add(ws, "photos")
    lost = next(entry.digest for entry in iter_tree(ws.objects, version.tree) if entry.path == "labels.txt")
    ws.objects.store.delete(lost)  # type: ignore[arg-type]  # a digest
    assert versions.add(ws, "photos", anew=True) == version
    assert ws.objects.get_bytes(lost) == b"cat\ndog\n"


class Told:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, int | None, str]] = []
        self.done = 0
        self.ended = 0

    def begin(self, words: str, total: int | None, unit: str) -> Advance:
        self.tasks.append((words, total, unit))

        def advance(done: int) -> None:
            self.done += done

        return advance

    def end(self, advance: Advance) -> None:
        self.ended += 1


def test_long_work_tells_how_far_it_is(ws: Workspace, tmp_path: Path) -> None:
    fill(ws.project.root / "photos", photos())
    total = sum(map(len, photos().values()))
    for work, words in (
        (lambda: versions.add(ws, "photos"), "storing"),
        (lambda: versions.checkout(ws, "photos", str(tmp_path / "out")), "writing"),
    ):
        told = Told()
        with shown(told):
            work()
        assert (words, total, "B") in told.tasks
        assert told.done >= total
        assert told.ended == len(told.tasks)


def test_a_part_is_checked_out_with_its_paths(ws: Workspace, tmp_path: Path) -> None:
    fill(ws.project.root / "photos", photos())
    versions.add(ws, "photos")
    done = versions.checkout(ws, "photos", str(tmp_path / "part"), path="train/1")
    wanted = {path: content for path, content in photos().items() if path.startswith("train/1/")}
    assert held(tmp_path / "part") == wanted
    assert done.files == len(wanted)
    versions.checkout(ws, "photos", str(tmp_path / "one"), path="a/b/c/d.bin")
    assert held(tmp_path / "one") == {"a/b/c/d.bin": b"deep"}
    (tmp_path / "part/train/1/001.jpg").unlink()
    again = versions.checkout(ws, "photos", str(tmp_path / "part"), path="train/1/", into=True)
    assert (again.written, held(tmp_path / "part")) == (1, wanted)
    for nothing in ("trai", "train/1/001", "nosuch"):
        with pytest.raises(NotFound, match=nothing):
            versions.checkout(ws, "photos", str(tmp_path / "none"), path=nothing)


def two_versions(ws: Workspace) -> Path:
    place = fill(ws.project.root / "d", {"same": b"same", "changed": b"one", "gone/x": b"gone", "a": b"a file"})
    versions.add(ws, "d")
    (place / "gone/x").unlink()
    (place / "gone").rmdir()
    (place / "a").unlink()
    fill(place, {"changed": b"two", "new/y": b"new", "a/b": b"now a folder"})
    versions.add(ws, "d")
    return place


def test_a_folder_is_brought_to_a_version_and_back(ws: Workspace) -> None:
    place = two_versions(ws)
    (place / "mine.txt").write_bytes(b"not of the data set")
    done = versions.checkout(ws, "d@1")
    assert (done.to, done.removed, done.kept) == (str(place), 2, 0)
    one = {"same": b"same", "changed": b"one", "gone/x": b"gone", "a": b"a file", "mine.txt": b"not of the data set"}
    assert held(place) == one
    assert versions.checkout(ws, "d@1").written == 0
    versions.checkout(ws, "d@2")
    two = {"same": b"same", "changed": b"two", "new/y": b"new", "a/b": b"now a folder", "mine.txt": one["mine.txt"]}
    assert held(place) == two
    assert not (place / "gone").exists(), "a folder that became empty goes too"


@pytest.mark.parametrize("mine", ["changed", "new/y"])
def test_a_file_that_the_user_changed_is_never_overwritten(ws: Workspace, mine: str) -> None:
    place = two_versions(ws)
    (place / mine).write_bytes(b"my own work")
    before = held(place)
    if mine == "changed":
        with pytest.raises(Conflict, match=mine) as caught:
            versions.checkout(ws, "d@1")
        assert "nothing was done" in str(caught.value)
        assert held(place) == before
    else:
        done = versions.checkout(ws, "d@1")
        assert done.kept == 1, "it is not in the other version, and not taken away"
        assert (place / mine).read_bytes() == b"my own work"


def test_an_unknown_file_in_the_way_is_named_and_an_equal_one_is_fine(ws: Workspace, tmp_path: Path) -> None:
    two_versions(ws)
    target = fill(tmp_path / "there", {"same": b"same", "changed": b"whose is this?"})
    with pytest.raises(Conflict, match="changed"):
        versions.checkout(ws, "d@2", str(target), into=True)
    assert held(target) == {"same": b"same", "changed": b"whose is this?"}
    (target / "changed").unlink()
    assert versions.checkout(ws, "d@2", str(target), into=True).written == 3
    with pytest.raises(Conflict, match="not an empty folder"):
        versions.checkout(ws, "d@2", str(target))


def test_a_checkout_does_not_follow_links_out_of_the_folder(ws: Workspace, tmp_path: Path) -> None:
    two_versions(ws)
    (tmp_path / "outside").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there/new").symlink_to(tmp_path / "outside")
    (tmp_path / "there/same").symlink_to(tmp_path / "outside/same")
    with pytest.raises(Conflict) as caught:
        versions.checkout(ws, "d@2", str(tmp_path / "there"), into=True)
    assert "same" in caught.value.message
    (tmp_path / "there/same").unlink()
    with pytest.raises(Conflict, match="new"):
        versions.checkout(ws, "d@2", str(tmp_path / "there"), into=True)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_folder_without_a_memory_is_known_by_the_pin(ws: Workspace) -> None:
    place = two_versions(ws)
    cache_path(ws.project.state, "d").unlink()
    versions.checkout(ws, "d@1")
    assert (place / "changed").read_bytes() == b"one"


def test_a_minute_counts_to_its_end_as_a_day_does_and_before_the_first_there_was_nothing(tmp_path: Path) -> None:
    clock = TestClock(datetime(2026, 11, 22, 13, 1, 27, 500_000, tzinfo=UTC))
    ws = open_workspace(project=Project(name="test", root=tmp_path), actor="user:test", clock=clock)
    fill(tmp_path, {"odd.bin": b"one"})
    versions.add(ws, "odd.bin", "odd")
    for moment in ("T13:01Z", "T14:01+01:00", "T13:01:27Z", "T13:01:27.9Z"):
        assert versions.resolve(ws, f"odd@2026-11-22{moment}").version == 1
    for moment in ("T13:00Z", "T13:01:26Z", "T13:01:27.4Z"):
        with pytest.raises(NotFound, match="nothing had been added by then") as caught:
            versions.resolve(ws, f"odd@2026-11-22{moment}")
        assert "odd@1, added 2026-11-22T13:01:27Z" in caught.value.hint
    with pytest.raises(NotFound, match="none has times that end by then"):
        versions.resolve(ws, "odd@until:2026-12")
    ws.ledger.database.close()


def test_a_date_means_when_it_was_added_or_else_the_times_of_the_events(tmp_path: Path) -> None:
    clock = TestClock(datetime(2026, 1, 31, 23, 0, tzinfo=UTC))
    ws = open_workspace(project=Project(name="test", root=tmp_path), actor="user:test", clock=clock)
    for month in (1, 2, 3):
        rows = "".join(f"{m},2013-0{m}-28\n" for m in range(1, month + 1))
        fill(tmp_path, {"flights.csv": f"id,at\n{rows}".encode()})
        versions.add(ws, "flights.csv", time="at")
        clock.forward(days=10)
    numbers = {
        "2026-01": 1, "2026-01-31": 1, "2026-02-09": 1, "2026-02": 3, "2026-02-10T23:30Z": 2, "2030-01": 3,
        "2013-01": 1, "2013-02": 2, "2013-03": 3, "2013-03-01": 2, "until:2030-01": 3, "added:2026-02-15": 2,
    }  # fmt: skip
    assert {date: versions.resolve(ws, f"flights@{date}").version for date in numbers} == numbers
    assert versions.resolve(ws, "flights@2026-02-10T23:00Z").version == 2
    assert "added by 2026-01" in versions.show(ws, "flights@2026-01").choice
    shown_ = versions.show(ws, "flights@2013-02")
    assert "whose times end by 2013-02" in shown_.choice
    assert "none was added by" in shown_.choice
    assert versions.show(ws, "flights@2").choice == ""
    assert "2013-02" in versions.checkout(ws, "flights@2013-02", str(tmp_path / "out")).choice
    for none in ("2012-12", "added:2013-02", "until:2012-01"):
        with pytest.raises(NotFound, match="no version"):
            versions.resolve(ws, f"flights@{none}")
    with pytest.raises(UsageError, match="no date"):
        versions.resolve(ws, "flights@2013-02-31")
    ws.ledger.database.close()


def test_tags_come_move_and_go(ws: Workspace) -> None:
    two_versions(ws)
    versions.tag(ws, "d@1", "gold")
    assert versions.resolve(ws, "d@gold").version == 1
    assert versions.remove_tag(ws, "d", "gold").version == 1
    with pytest.raises(NotFound, match="no version 'gold'"):
        versions.resolve(ws, "d@gold")
    with pytest.raises(NotFound, match="no tag 'gold'"):
        versions.remove_tag(ws, "d", "gold")
    assert versions.resolve(ws, "d@1").version == 1
    for bad in ("2013-03", "7", "latest", "a b", ""):
        with pytest.raises(UsageError):
            versions.tag(ws, "d@1", bad)


def test_tables_that_do_not_fit_together_can_be_kept_as_files(ws: Workspace) -> None:
    fill(ws.project.root / "d", {"a.csv": b"id,name\n1,a\n", "b.csv": b"day,amount\n1,2\n", "c.csv": b""})
    with pytest.raises(UsageError):
        versions.add(ws, "d")
    version = versions.add(ws, "d", as_files=True)
    assert (version.files, version.columns, version.as_files) == (3, (), True)
    fill(ws.project.root / "d", {"b.csv": b"something\nelse,altogether\n"})
    assert versions.add(ws, "d").as_files, "as the version before"


def test_the_files_that_are_shown_can_be_limited_and_narrowed(ws: Workspace) -> None:
    fill(ws.project.root / "photos", photos())
    versions.add(ws, "photos")
    some = versions.show(ws, "photos", limit=3)
    assert (len(some.entries), some.more) == (3, True)
    assert [entry.path for entry in versions.show(ws, "photos", "a").entries] == ["a/b/c/d.bin"]
    assert not versions.show(ws, "photos", "a").more
    with pytest.raises(NotFound):
        versions.show(ws, "photos", "nosuch")


def test_the_pin_and_the_folder_agree_on_what_is_meant(ws: Workspace) -> None:
    place = two_versions(ws)
    assert lock.pinned(ws.project.root, "d") == versions.resolve(ws, "d@2").tree
    versions.checkout(ws, "d@1")
    found = status(ws)[0]
    assert (found.version, found.state) == (2, "changed")
    assert versions.add(ws, str(place)).version == 1
    assert status(ws)[0].state == "same"


PEAK = """
import re
from pathlib import Path
from noria.faces.cli.main import run
code = run(["data", "status", "--json"])
print(code, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
"""The peak is this process's own; getrusage would count what its parent held before it."""


@pytest.mark.slow
@pytest.mark.parametrize("has_cache", [True, False], ids=["by the cache", "by the tree"])
def test_the_memory_of_the_status_does_not_grow_with_the_folder(ws: Workspace, has_cache: bool) -> None:
    peaks = []
    (ws.project.root / "noria.toml").write_text('[project]\nname = "test"\n')
    for folders in (2, 120):
        fill(ws.project.root / "d", {f"{i:03d}/{j:03d}": b"%d" % i for i in range(folders) for j in range(500)})
        versions.add(ws, "d")
        if has_cache:
            time.sleep(RACY_NS / 1e9)  # what was written just now is read again, and the cache is what is measured
        else:
            cache_path(ws.project.state, "d").unlink()
        command = [sys.executable, "-c", PEAK]
        done = subprocess.run(command, cwd=ws.project.root, capture_output=True, text=True, timeout=250, check=True)
        assert '"state":"same"' in done.stdout
        code, peak = done.stdout.splitlines()[-1].split()
        assert code == "0"
        peaks.append(int(peak))
    assert peaks[1] - peaks[0] < 20_000, f"{peaks} kB for 1,000 and 60,000 files"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_gibibyte_goes_in_and_out_in_flat_memory(ws_on_disk: Workspace, disk_path: Path) -> None:
    ws = ws_on_disk
    place = ws.project.root / "large.bin"
    lines = np.frombuffer(b"".join(b"%09d %05d\n" % (0, line) for line in range(1 << 16)), np.uint8)
    block = lines.reshape(-1, 16).copy()
    with place.open("wb") as sink:
        for number in range(1 << 10):
            block[:, :9] = np.frombuffer(b"%09d" % number, np.uint8)
            sink.write(block.tobytes())
    assert place.stat().st_size == 1 << 30
    digest = file_digest(place)
    program = (
        "import re, sys; from pathlib import Path; from noria.bootstrap import open_workspace;"
        "from noria.config import Project; from noria.data import versions;"
        "ws = open_workspace(project=Project(name='test', root=Path(sys.argv[1])), actor='user:test');"
        "versions.add(ws, 'large.bin'); versions.checkout(ws, 'large', sys.argv[2]);"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    command = [sys.executable, "-c", program, str(ws.project.root), str(disk_path / "out")]
    done = subprocess.run(command, cwd=ws.project.root, capture_output=True, text=True, timeout=500, check=True)
    assert file_digest(disk_path / "out/large.bin") == digest
    assert int(done.stdout) < 400_000, f"{done.stdout} kB"
    with place.open("r+b") as stream:
        stream.seek(1 << 29)
        stream.write(b"changed")
    before = stored_bytes(ws)
    versions.add(ws, "large.bin")
    assert stored_bytes(ws) - before < 64 << 20, "a changed byte costs some chunks"


def file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stored_bytes(ws: Workspace) -> int:
    return sum(path.stat().st_size for path in (ws.project.state / "objects").rglob("*") if path.is_file())


def test_in_place_a_file_follows_the_pin_of_its_branch_and_an_edit_of_yours_stays(tmp_path: Path) -> None:
    ws = open_workspace(project=Project(name="p", root=tmp_path), actor="user:test")
    (tmp_path / "data").mkdir()
    place = tmp_path / "data" / "x.bin"
    for content in (b"one", b"two"):
        place.write_bytes(content)
        versions.add(ws, "data/x.bin", "x")
        pin = (tmp_path / "noria.lock" / "x.toml").read_bytes()
        (tmp_path / content.decode()).write_bytes(pin)
    done = versions.checkout(ws, "x@1")
    assert (done.version, done.written, done.kept) == (1, 1, 0)
    assert place.read_bytes() == b"one"
    for branch in ("two", "one"):  # as git checkout does: the pin changes under the file
        (tmp_path / "noria.lock" / "x.toml").write_bytes((tmp_path / branch).read_bytes())
        assert versions.checkout(ws, "x").written == 1
        assert place.read_bytes() == branch.encode()
    place.write_bytes(b"mine")
    with pytest.raises(Conflict, match="would be lost"):
        versions.checkout(ws, "x@2")
    assert place.read_bytes() == b"mine"
