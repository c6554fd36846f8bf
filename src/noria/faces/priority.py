"""How work in the background stands back for what answers: a low priority that also holds between sessions.

A nice value is weighed only against processes of the same session where the kernel groups processes
by session (autogroup, on by default in most distributions). The server of `noria up`, its trainer and
every worker of a pool have sessions of their own, so nice values alone would change nothing between
them: each group is made as nice as its processes. In a container with a CPU group of its own the
kernel makes no such groups, and the nice value is enough.

Not SCHED_IDLE: on a machine that others keep busy a training would then never end.
Source: sched(7), "The autogroup feature"; proc(5), /proc/[pid]/autogroup; setsid(2).
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

__all__ = ["follow", "stand_back"]

_GROUP = Path("/proc/self/autogroup")
_PAUSE_S, _TRIES = 0.15, 400


def stand_back(nice: int) -> None:
    """Give this process, and all that it starts from now on, the priority of work in the background.

    Args:
        nice: 0 to 19, `[run] nice`; a process that is nicer stays so.
    """
    os.nice(max(0, nice - os.getpriority(os.PRIO_PROCESS, 0)))
    follow()


def follow(*, is_forking: bool = False) -> None:
    """Make the group of this process's session as nice as this process; to be called first in a new session.

    The kernel lets processes without privileges change groups ten times a second, all of them together: what it
    refuses now is tried again by a thread, unless the process is one that forks and must have no other thread.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice > 0 and not _set_group(nice) and not is_forking:
        threading.Thread(target=_set_later, args=(nice,), name="noria-priority", daemon=True).start()


def _set_later(nice: int) -> None:
    for _ in range(_TRIES):
        time.sleep(_PAUSE_S)
        if _set_group(nice):
            return


def _set_group(nice: int) -> bool:
    """Whether it is done, or cannot be done here at all."""
    try:
        _GROUP.write_text(str(nice), encoding="ascii")
    except BlockingIOError:
        return False
    except OSError:  # no such groups: an older kernel, another system, /proc read only
        return True
    return True
