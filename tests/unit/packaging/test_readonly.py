"""A view of one's own in which folders can only be read: in force for children too, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ASKED = """
import os, subprocess, sys
from pathlib import Path
from noria.packaging.readonly import only_readable
top = Path(sys.argv[1])
os.chdir(top)
if not only_readable([top], but=[top / "kept" / "free"]):
    raise SystemExit(77)
for act in (
    lambda: Path("here.txt").write_text("x"),
    lambda: (top / "kept" / "new.txt").write_text("x"),
    lambda: (top / "mine.txt").write_text("x"),
    lambda: (top / "mine.txt").unlink(),
):
    try:
        act()
    except OSError:
        continue
    raise SystemExit("it was written")
(top / "kept" / "free" / "made.txt").write_text("x")
assert (top / "mine.txt").read_text() == "mine"
assert subprocess.run(["sh", "-c", f"echo x > {top}/by.txt"], stderr=subprocess.DEVNULL).returncode != 0
"""


def test_what_is_read_only_is_so_but_for_what_was_named(tmp_path: Path) -> None:
    (tmp_path / "kept" / "free").mkdir(parents=True)
    (tmp_path / "mine.txt").write_text("mine")
    done = subprocess.run([sys.executable, "-c", ASKED, str(tmp_path)], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this system lets no ordinary process have its own view of the mounts (unshare)")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "kept" / "free" / "made.txt").read_text() == "x"
    (tmp_path / "here.txt").write_text("and here it is as it was")
