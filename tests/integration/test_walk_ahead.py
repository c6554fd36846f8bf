"""A walk ahead: it is used where it is of what is added, and what was added is what lies there."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from noria.data.folders import ahead
from noria.data.folders.walk import walk
from noria.testing.processes import is_running

SCENE = """
import os, sys, time
from pathlib import Path
from noria.bootstrap import open_workspace
from noria.data import versions
from noria.data.folders import ahead, files

root = Path(sys.argv[1])
folder = root / "d"
for name in ("a/1", "a/2", "b/c/3", "4"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(name)
ws = open_workspace(root)
versions.add(ws, str(folder))
time.sleep(2.1)  # younger files are not remembered
before = versions.add(ws, str(folder))

def nobody(root):
    raise AssertionError("the folder was walked once more")

def look():
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.01)  # a thread of the last add is about to end
    ahead.begin(["--note", str(folder)])
    walking = ahead._WALKING.get()
    assert walking is not None
    os.waitid(os.P_PID, walking.process, os.WEXITED | os.WNOWAIT)

def anew():
    other = root / "other"
    other.mkdir()
    (other / "noria.toml").write_text("[project]\\nname = 'x'\\n")
    return versions.add(open_workspace(other), str(folder)).tree

own, files.walk = files.walk, nobody
"""


def play(root: Path, lines: str) -> None:
    (root / "noria.toml").write_text("[project]\nname = 'x'\n")
    script = root / "scene.py"
    script.write_text(SCENE + textwrap.dedent(lines))
    done = subprocess.run([sys.executable, str(script), str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_did_not_change_is_not_walked_again(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        look()
        assert versions.add(ws, str(folder)).version == before.version
        look()
        (folder / "late").mkdir()
        (folder / "late" / "5").write_text("after the command began")
        assert versions.add(ws, str(folder)).version == before.version
        files.walk = own
        assert versions.add(ws, str(folder)).tree == anew() != before.tree
        """,
    )


@pytest.mark.parametrize(
    ("change", "later"),
    [
        ("(folder / 'a/1').write_text('other')", "a/1"),
        ("(folder / 'a/new').write_text('x')", "a/later"),
        ("(folder / 'b/c/3').unlink(); (folder / 'b/c/33').write_text('x')", "b/c/3"),
        ("(folder / 'e').mkdir(); (folder / 'e/5').write_text('x')", "e/6"),
        ("(folder / 'a/1').unlink(); (folder / 'a/2').unlink(); (folder / 'a').rmdir(); (folder / '5').touch()", "6"),
    ],
)
def test_what_changed_before_is_seen_and_so_is_what_comes_after_it_in_the_same_folder(
    tmp_path: Path, change: str, later: str
) -> None:
    play(
        tmp_path,
        f"""
        {change}
        look()
        (folder / "{later}").write_text("after the command began")
        after = versions.add(ws, str(folder))
        files.walk = own
        assert after.tree == anew() != before.tree
        """,
    )


def test_what_was_seen_long_ago_is_looked_at_again(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
        look()
        (folder / "a/1").write_text("other")
        ahead.FRESH_S = 0.0
        files.walk = own
        assert versions.add(ws, str(folder)).tree == anew() != before.tree
        """,
    )


ALONE = """
import sys
from pathlib import Path
from noria.data.folders import ahead
from noria.data.folders.walk import walk
root = Path(sys.argv[1])
"""


@pytest.mark.parametrize(
    "lines",
    [
        "ahead.begin([str(root)]); assert ahead.taken(root).folders == list(walk(root)); "
        "assert ahead.taken(root) is None",
        "ahead.begin([str(root / 'a')]); assert ahead.taken(root) is None; assert ahead.taken(root / 'a').folders",
        "ahead.begin(['nothing', '--such']); assert ahead.taken(root) is None",
        "(root / 'link').symlink_to('/etc'); ahead.begin([str(root)]); assert ahead.taken(root) is None",
        "ahead.FILES_MAX = 1; ahead.begin([str(root)]); assert ahead.taken(root) is None",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start(); "
        "ahead.begin([str(root)]); assert ahead.taken(root) is None",
    ],
)
def test_a_walk_ahead_is_the_walk_or_none(tmp_path: Path, lines: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / os.fsdecode(b"\xff")).write_text("no UTF-8")
    (tmp_path / ".git").mkdir()
    (tmp_path / "same").symlink_to("a/\udcff")
    (tmp_path / "1").write_text("1")
    words = [sys.executable, "-c", ALONE + lines, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_nobody_looked(tmp_path: Path) -> None:
    assert ahead.taken(tmp_path) is None
    assert len(list(walk(tmp_path))) == 1


FILES = """
import os, signal, sys, time
from pathlib import Path
from noria.bootstrap import open_workspace
from noria.core.errors import Conflict
from noria.data import versions
from noria.data.folders import ahead, slots
from noria.data.folders.statcache import StatCache, cache_path
from noria.store.objects import Objects

root = Path(sys.argv[1])
os.chdir(root)
folder = root / "d"
sizes = [0, 1, 2, 4095, 65534, 65535, 65536, 65537, 300_000, *range(1000, 1090)]
for number, size in enumerate(sizes):
    place = folder / f"{number % 7}" / os.fsdecode(b"\\xff%d" % number)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(os.urandom(size))
small = sum(size < slots.SMALL_BYTES for size in sizes)
read = []
own, Objects.put_files = Objects.put_files, lambda self, paths, *rest: read.extend(paths) or own(self, paths, *rest)
ws = open_workspace(root)

def look():
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.01)  # a thread of the last add is about to end
    ahead.begin([str(folder)])
    return ahead._WALKING.get().process

def anew():
    other = root / "other"
    other.mkdir()
    (other / "noria.toml").write_text("[project]\\nname = 'x'\\n")
    return versions.add(open_workspace(other), str(folder)).tree
"""


def files(root: Path, lines: str) -> str:
    (root / "noria.toml").write_text("[project]\nname = 'x'\n")
    words = [sys.executable, "-c", FILES + textwrap.dedent(lines), str(root)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("room", ["", "slots.SLOTS = 2", "slots.SLOTS, slots._GROUP = 1, 3"])
def test_small_files_that_were_read_ahead_are_not_read_again_and_are_what_lies_there(tmp_path: Path, room: str) -> None:
    files(
        tmp_path,
        f"""
        {room}
        look()
        made = versions.add(ws, str(folder))
        assert len(read) == len(sizes) - small, read
        assert made.tree == anew()
        assert versions.add(ws, str(folder)).version == made.version
        """,
    )


@pytest.mark.parametrize("when", ["os.kill(process, signal.SIGKILL)", "os.kill(process, signal.SIGSTOP)"])
def test_what_a_killed_reader_did_not_read_is_read(tmp_path: Path, when: str) -> None:
    files(
        tmp_path,
        f"""
        slots.SLOTS, slots._GROUP = 2, 5
        process = look()
        seen = ahead.taken(folder)
        first = next(iter(seen.files))
        assert first.key == __import__("hashlib").sha256(first.content).digest()
        {when}
        known = [seen]
        ahead.taken = lambda root: known.pop() if known else None
        if "STOP" in {when!r}:
            import threading
            threading.Timer(0.2, lambda: os.kill(process, signal.SIGKILL)).start()
        assert versions.add(ws, str(folder)).tree == anew()
        assert len(read) > len(sizes) - small
        """,
    )


def test_a_file_that_changed_after_it_was_read_is_named_and_one_more_add_takes_it(tmp_path: Path) -> None:
    files(
        tmp_path,
        """
        process = look()
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        os.truncate(folder / "1" / os.fsdecode(b"\\xff1"), 0)
        try:
            versions.add(ws, str(folder))
            raise AssertionError("half a version was made")
        except Conflict as error:
            assert "1/" in error.message and "changed while it was added" in error.message, error.message
        assert versions.list_datasets(ws) == []
        assert versions.add(ws, str(folder)).tree == anew()
        """,
    )


def test_young_files_that_were_read_ahead_are_read_again(tmp_path: Path) -> None:
    files(
        tmp_path,
        """
        import time
        process = look()
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        time.sleep(2.2)  # old enough by the time that they are noted, not by that at which they were read
        versions.add(ws, str(folder))
        cache = StatCache(cache_path(ws.project.state, "d"))
        assert {file[2] for file, _ in cache.all_known(cache.root(str(folder))).values()} == {-1}
        """,
    )


def test_a_folder_that_is_known_is_only_walked(tmp_path: Path) -> None:
    files(
        tmp_path,
        """
        versions.add(ws, str(folder))
        (folder / "new").write_text("x")
        look()
        seen = ahead.taken(folder)
        assert [each.path for each in seen.files] == []
        assert sum(len(each.files) for each in seen.folders) == len(sizes) + 1
        seen.files.close()
        other = folder / "1"
        ahead.begin([str(other)])
        seen = ahead.taken(other)
        assert len(list(seen.files)) == sum(size < slots.SMALL_BYTES for size in sizes[1::7])
        seen.files.close()
        """,
    )


def test_a_reader_goes_when_nobody_takes_what_it_reads(tmp_path: Path) -> None:
    told = files(
        tmp_path,
        """
        before = set(os.listdir("/proc/self/fd"))
        slots.SLOTS, slots._GROUP = 1, 1
        process = look()
        ahead.taken(folder).files.close()
        assert set(os.listdir("/proc/self/fd")) == before and not os.path.exists(f"/proc/{process}")
        print(look(), flush=True)
        os._exit(0)
        """,
    )
    deadline = time.monotonic() + 60
    while is_running(int(told)):
        assert time.monotonic() < deadline, "the fork outlives its command"
        time.sleep(0.01)
