"""How the threads that answer come before everything else that shares the machine, where the system permits it.

Letting the training stand back (`priority.py`) decides who gets a core, not how soon: what answers sleeps between
requests, and is let back to a core only when the scheduler takes the training off it. A thread at a realtime
priority is let back at once. So the loop and the predicting thread, and only they, run as SCHED_RR at the lowest
realtime priority, with SCHED_RESET_ON_FORK: what a model starts, threads of its libraries too, is as it always was.

A model that runs away must not take the machine with it. There must be a second core, and the kernel's own share
for everybody else must be in force (sched_rt_runtime_us). A predicting thread whose batch takes longer than a
second is lowered until it is done, and one that holds a core for a minute without ever waiting, so that nothing
could lower it, is ended by the kernel (RLIMIT_RTTIME): the stand-by takes its place.
Source: sched(7), sched_setscheduler(2), getrlimit(2); Documentation/scheduler/sched-rt-group.rst.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["LOOK_S", "REALTIME", "RUNAWAY_S", "Realtime"]

log = logging.getLogger("noria.server")
REALTIME = "realtime"
"""What is told where it is in force; elsewhere "normal: WHY"."""
RUNAWAY_S = 1.0
"""How long a batch may take before its thread is lowered."""
LOOK_S = 0.25
HOLD_US = 60_000_000
"""How long a raised thread may hold its core without waiting for anything, not even for the interpreter."""
_SHARE = Path("/proc/sys/kernel/sched_rt_runtime_us")


class Realtime:
    """The scheduling of the threads that answer. Not thread-safe: it belongs to the event loop's thread.

    Args:
        setting: `[server] realtime`, "auto" or "off".
    """

    def __init__(self, setting: str = "auto") -> None:
        self._setting = setting
        self._predicting = 0
        self._is_lowered = False

    def begin(self, loop: int, predicting: int) -> str:
        """Raise both threads, named by their native ids, or neither; gives, and logs, what is in force then."""
        why = _refusal(self._setting) or _raise((loop, predicting))
        if why:
            log.info("answers at normal priority: %s", why)
            return f"normal: {why}"
        self._predicting = predicting
        log.info("answers at the lowest realtime priority (SCHED_RR)")
        return REALTIME

    def look(self, batch_s: float) -> None:
        """Lower the predicting thread if its batch has taken too long, and raise it again when that is over.

        Args:
            batch_s: how long the batch that is being predicted has taken so far; 0 if there is none.
        Does nothing where the threads were not raised.
        """
        must_lower = batch_s > RUNAWAY_S
        if not self._predicting or must_lower == self._is_lowered:
            return
        if must_lower:
            log.warning("a batch takes longer than %g s; its thread is at normal priority until it is done", RUNAWAY_S)
            _lower(self._predicting)
        elif why := _raise((self._predicting,)):
            log.warning("the predicting thread stays at normal priority: %s", why)
            self._predicting = 0
        self._is_lowered = must_lower


def _refusal(setting: str) -> str:
    """Why the threads are not even tried to be raised; "" if they are."""
    if setting == "off":
        return '[server] realtime is "off"'
    if sys.platform != "linux":
        return "this system is not Linux"
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER or os.getpriority(os.PRIO_PROCESS, 0) > 0:
        return "it was started with a nice value or a policy of its own"
    if len(os.sched_getaffinity(0)) < 2:
        return "there is one core"
    try:
        share = int(_SHARE.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return f"{_SHARE} cannot be read"
    return "" if share > 0 else f"{_SHARE} is {share}, so a model that runs away could take the machine"


def _raise(threads: Sequence[int]) -> str:
    """Raise all of these threads of this process, or none; gives why not, or "".

    A kernel whose groups have no realtime share, a container without CAP_SYS_NICE and a user without RLIMIT_RTPRIO
    refuse it, each in its own way; a sandbox may not know the call at all.
    """
    assert sys.platform == "linux"
    policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
    lowest = os.sched_param(os.sched_get_priority_min(os.SCHED_RR))
    raised = []
    try:
        _limit()
        for thread in threads:
            os.sched_setscheduler(thread, policy, lowest)
            raised.append(thread)
    except OSError as error:
        for thread in raised:
            _lower(thread)
        return f"the system does not permit more ({error.strerror}); CAP_SYS_NICE or RLIMIT_RTPRIO would"
    return ""


def _lower(thread: int) -> None:
    assert sys.platform == "linux"
    os.sched_setscheduler(thread, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def _limit() -> None:
    """Bound how long a raised thread may hold its core, unless closer already. At the hard limit the kernel kills."""
    assert sys.platform == "linux"
    before = resource.getrlimit(resource.RLIMIT_RTTIME)
    soft, hard = (HOLD_US if each == resource.RLIM_INFINITY else min(each, HOLD_US) for each in before)
    if (soft, hard) != before:
        resource.setrlimit(resource.RLIMIT_RTTIME, (soft, hard))
