"""A walk ahead: it is used where it is of what is added, and what was added is what lies there."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from noria.data.folders import ahead
from noria.data.folders.walk import walk

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
        "ahead.begin([str(root)]); assert ahead.taken(root) == list(walk(root)); assert ahead.taken(root) is None",
        "ahead.begin([str(root / 'a')]); assert ahead.taken(root) is None; assert ahead.taken(root / 'a')",
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
