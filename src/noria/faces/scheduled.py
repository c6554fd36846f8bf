"""What schedules ask for, each in a process of its own: `python -m noria.faces.scheduled`, started by the trainer.

The trainer claims a job and hands it over; the process keeps it by its heartbeat, does it, and ends.
It ends with the trainer, and at once if the job was lost to another owner, so that nothing is done twice.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.core.errors import RunPreempted
from noria.faces.logs import start_log
from noria.faces.orphan import on_parent_end
from noria.faces.priority import follow
from noria.faces.working import LEASE_S, carry_out
from noria.schedule import work
from noria.schedule.settings import Current
from noria.store.workspace import Workspace

__all__ = ["Slots", "main"]

log = logging.getLogger("noria.scheduled")
LOST = 75


class Slots:
    """At most `[server] max_scheduled` processes that do what schedules ask for."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._current = Current(ws.project)
        self._is_needed = False
        self._running: list[subprocess.Popen[bytes]] = []

    def fill(self) -> int:
        """Start a process for each job that waits, as far as there is room; gives how many were started."""
        self._running = [process for process in self._running if not _is_over(process)]
        started = 0
        # Once there was a schedule, also without one: what it still asked for ends, and says why.
        self._is_needed = self._is_needed or bool(self._current.schedules())
        while self._is_needed and len(self._running) < max(1, self._ws.project.server.max_scheduled):
            owner = f"scheduled/{uuid.uuid4().hex}"
            job = self._ws.jobs.claim(work.KINDS, owner=owner, lease_s=LEASE_S)
            if job is None:
                break
            self._running.append(_start(self._ws, job.id, owner))
            started += 1
        return started


def _start(ws: Workspace, job: str, owner: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "noria.faces.scheduled", "--job", job, "--owner", owner]
    root = Path(ws.project.root).resolve()
    return subprocess.Popen([*command, "--root", str(root)], stdin=subprocess.PIPE, cwd=root, start_new_session=True)


def _is_over(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended; its standard input is closed then."""
    if process.poll() is None:
        return False
    assert process.stdin is not None
    process.stdin.close()
    if process.returncode:
        log.warning("a scheduled process (pid %d) ended with %d", process.pid, process.returncode)
    return True


def main() -> int:
    """The entry point of the process."""
    parser = argparse.ArgumentParser(prog="noria.faces.scheduled")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--owner", required=True)
    given = parser.parse_args()
    start_log("scheduled")
    follow()
    # As in the trainer: while steps run SIGTERM is theirs. Otherwise stopping is dying, and the lease tells the
    # others; what steps have started dies too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _leave())
    on_parent_end(_leave)
    ws = open_workspace(given.root, actor="service:schedule")
    job = ws.jobs.get(given.job)
    if job is None or job.owner != given.owner or not ws.jobs.beat(job.id, given.owner, LEASE_S):
        log.warning("job %s is not ours any more", given.job)
        return LOST
    with contextlib.suppress(RunPreempted):  # the job waits for another process, and its run to be resumed by it
        carry_out(ws, job, given.owner, work.work, log=log, on_lost=_leave)
    return 0


def _leave() -> None:
    """End this process and all that it has started, at once."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(LOST)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
