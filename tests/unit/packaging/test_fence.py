"""A process that is kept inside a folder: what it starts is too, and the rest can only be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from noria.packaging.fence import can_fence

TRIED = """
import os, subprocess, sys
from pathlib import Path
from noria.packaging.fence import fence
inside, outside = map(Path, sys.argv[1:])
assert fence([inside], guarded=[outside])
(inside / "a").mkdir()
(inside / "b").write_text("b")
os.rename(inside / "b", inside / "a" / "b")
with open(os.devnull, "w") as nothing:
    nothing.write("x")
def refused(act):
    try:
        act()
    except OSError:  # EXDEV for a link or a move from outside, EACCES for the rest
        return True
    return False
acts = [
    lambda: (outside / "mine").write_text("other"),
    lambda: (outside / "new").write_text("other"),
    lambda: os.truncate(outside / "mine", 0),
    lambda: os.remove(outside / "mine"),
    lambda: os.rename(outside / "mine", inside / "mine"),
    lambda: os.mkdir(outside / "folder"),
    lambda: os.link(outside / "mine", inside / "linked"),
    lambda: os.symlink("x", outside / "link"),
]
print([refused(act) for act in acts])
print(subprocess.run(["cp", inside / "a" / "b", outside / "mine"], capture_output=True).returncode)
print((outside / "mine").read_text())
"""


@pytest.mark.skipif(not can_fence(), reason="this kernel has no Landlock of the third interface (Linux 6.2)")
def test_nothing_outside_can_be_changed_by_a_fenced_process_or_what_it_starts(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (outside / "mine").write_text("mine")
    words = [sys.executable, "-c", TRIED, str(inside), str(outside)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str([True] * 8), "1", "mine"], done.stdout + done.stderr
    assert sorted(path.name for path in outside.iterdir()) == ["mine"]


@pytest.mark.skipif(not can_fence(), reason="this kernel has no Landlock of the third interface (Linux 6.2)")
def test_processes_of_a_fenced_one_share_memory_as_before(tmp_path: Path) -> None:
    text = (
        "import multiprocessing, pathlib, sys\nfrom multiprocessing.shared_memory import SharedMemory\n"
        "from noria.packaging.fence import fence\nassert fence([pathlib.Path(sys.argv[1])])\n"
        "multiprocessing.Lock()\nheld = SharedMemory(create=True, size=64)\nheld.close()\nheld.unlink()\n"
    )
    done = subprocess.run([sys.executable, "-c", text, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
