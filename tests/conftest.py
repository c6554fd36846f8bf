"""Settings and servers that all tests share."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# As `noria` sets it for itself: threads of OpenMP that wait sleep. Spinning, 15 small fits took 38 s of CPU and 212 s
# beside a second process on 2 cores, and asleep 1.8 s and 4 s. Read when the library is loaded, so before any test.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A run that takes longer than a second has metrics of the machine, which no test of something else counts on; tests of
# these metrics switch them on.
os.environ.setdefault("NORIA_SYSTEM_METRICS", "false")
# What a shell starts in the background ignores SIGINT, and all that it starts: tests of an interrupt need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, str(Path(__file__).resolve().parent))

from s3_server import s3_server

__all__ = ["disk_path", "s3_server"]

SHARED_MEMORY = Path("/dev/shm")
DISK = os.environ.setdefault("TESTS_DISK", tempfile.gettempdir())  # a worker of xdist is told by who started it


def _is_fit_for_folders(place: Path) -> bool:
    """Whether the tests' folders can lie in memory: there is plenty, and it does what a disk's file system does.

    Marks (chattr) and attributes (user.*) are known to tmpfs since Linux 6.6. A kill -9 leaves there what
    it leaves in the cache of a disk: what was written. Only the waiting for a disk's own sake is saved.
    """
    if platform.system() != "Linux" or tuple(map(int, platform.release().split(".")[:2])) < (6, 6):
        return False
    if not os.access(place, os.W_OK) or not place.is_mount() or os.statvfs(place).f_flag & os.ST_NOEXEC:
        return False
    memory = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    left_kb = next(int(line.split()[1]) for line in memory if line.startswith("MemAvailable:"))
    return shutil.disk_usage(place).free >= 8 << 30 and left_kb >= 12 << 20


if "TMPDIR" not in os.environ and _is_fit_for_folders(SHARED_MEMORY):
    os.environ["TMPDIR"] = str(SHARED_MEMORY)  # for the processes that tests start, too
    tempfile.tempdir = None  # it is looked up anew


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A folder on a disk, for what is too large for memory."""
    with tempfile.TemporaryDirectory(prefix="noria-disk-", dir=DISK) as folder:
        yield Path(folder)


# a busy machine is no failure: tests that mean to bound time measure it themselves
settings.register_profile("noria", deadline=None)
settings.load_profile("noria")
