"""Runs one command to its end and tells what it and all it started used.

Meant for `python -I -S launcher.py COST LIMIT_S WORD...`: a small process, for on Linux a child's peak
memory begins with that of its parent. It writes to COST, as JSON: the exit code, wall seconds until
the command itself ended, CPU seconds (user and system) of everything below it, the highest sum of resident
memory over the tree in MB, and how many processes the command left behind. Those are adopted, given
time to end by themselves, and then ended, so their seconds count too. Pages that processes share count
once for each. Without Linux's /proc the peak is that of the largest process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

EACH_S = 0.02
GRACE_S = 5.0
LINUX = sys.platform == "linux"
_ADOPT = 36
"""PR_SET_CHILD_SUBREAPER. Source: prctl(2)."""


class Tree:
    """The processes below this one. Orphans are adopted, so who was once below stays below: each is asked once."""

    def __init__(self) -> None:
        self.known: dict[int, bool] = {os.getpid(): True}

    def below(self) -> list[int]:
        """Those that live now, in the order of their ids."""
        if not LINUX:
            return []
        living = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208 - half the time
        self.known = {pid: self.known[pid] for pid in living if pid in self.known}
        for pid in living:
            self._ask(pid)
        return [pid for pid in living if self.known.get(pid) and pid != os.getpid()]

    def _ask(self, pid: int) -> bool:
        if pid not in self.known:
            try:
                stat = Path(f"/proc/{pid}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                return False
            parent = int(stat.rpartition(")")[2].split()[1])
            self.known[pid] = parent > 0 and self._ask(parent)
        return self.known[pid]

    def alive(self) -> list[int]:
        """Those of them that are not over: one that has ended and that nobody has waited for yet does nothing more."""
        return [pid for pid in self.below() if _state(pid) not in ("", "Z", "X")]

    def resident(self) -> int:
        """The sum of their resident memory, in pages."""
        pages = 0
        for pid in self.below():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages

    def end(self, number: int) -> None:
        """Send all of them a signal."""
        for pid in self.below():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _state(pid: int) -> str:
    """The letter for what a process does; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Watch(threading.Thread):
    """Looks at the memory of the tree every `EACH_S`, and ends the tree after the limit."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(daemon=True)
        self.until = time.monotonic() + limit_s
        self.over = threading.Event()
        self.peak_mb = 0.0

    def run(self) -> None:
        """Until it is over."""
        tree, page_mb = Tree(), resource.getpagesize() / 1e6
        while not self.over.wait(EACH_S):
            self.peak_mb = max(self.peak_mb, tree.resident() * page_mb)
            if time.monotonic() > self.until:
                tree.end(signal.SIGKILL)


def reap(until: float) -> bool:
    """Wait for what the command left behind; whether all of it has ended by that time."""
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < until:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                time.sleep(EACH_S)
        return False
    return True


def main(cost: str, limit_s: str, *words: str) -> None:
    """Run the words, and write what they cost."""
    if LINUX:
        ctypes.CDLL(None).prctl(_ADOPT, 1, 0, 0, 0)
    begun = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.execvp(words[0], words)
    watch = Watch(float(limit_s))
    watch.start()
    _, status, _ = os.wait4(child, 0)
    wall_s = time.perf_counter() - begun
    left = len(Tree().alive())
    for number in (signal.SIGTERM, signal.SIGKILL):
        if reap(time.monotonic() + GRACE_S):
            break
        Tree().end(number)
    reap(time.monotonic() + GRACE_S)
    watch.over.set()
    watch.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak_mb = max(watch.peak_mb, used.ru_maxrss * 1024 / 1e6 if LINUX else used.ru_maxrss / 1e6)
    told = [os.waitstatus_to_exitcode(status), wall_s, used.ru_utime + used.ru_stime, peak_mb, left]
    Path(cost).write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
