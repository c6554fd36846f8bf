"""Whether another process still runs, for tests that end one and wait for what follows."""

import os
import sys
from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether a process is there and does more than wait to be collected by its parent.

    A process may end between any two looks at it: opening its file then fails with ENOENT, reading an open one with
    ESRCH. Source: proc(5), field 3 of /proc/[pid]/stat; the name before it may hold any character.
    """
    if sys.platform != "linux":
        return _is_known(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def _is_known(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
