"""The lock files of workspaces that are gone are let go of, and one that is made anew has locks of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from noria.pipeline.caching.flight import alone

TRIES = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
except (BlockingIOError, PermissionError):
    sys.exit(7)
"""


def test_a_process_that_sees_many_workspaces_keeps_no_file_of_those_that_are_gone(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        with alone(tmp_path / str(number), "key"):
            pass
        shutil.rmtree(tmp_path / str(number))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_a_workspace_made_anew_in_the_same_place_is_locked_for_others(tmp_path: Path) -> None:
    for _ in range(2):
        with alone(tmp_path / "state", "key"):
            done = subprocess.run([sys.executable, "-c", TRIES, str(tmp_path / "state" / "attempts")], check=False)
            assert done.returncode == 7
        shutil.rmtree(tmp_path / "state")
