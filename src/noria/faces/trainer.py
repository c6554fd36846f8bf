"""The training process: takes jobs from the queue and does them, one at a time.

Started by the supervisor as `python -m noria.faces.trainer`, with a lower priority than the
server. A job is kept by a heartbeat while it is worked on; if this process dies, another takes
the job up when the lease ends. What schedules ask for is done in processes of their own, so that it
neither waits for the loop nor delays it.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.core.errors import RunPreempted, WorldError
from noria.faces.logs import start_log
from noria.faces.orphan import on_parent_end
from noria.faces.priority import stand_back
from noria.faces.scheduled import Slots
from noria.faces.working import LEASE_S, carry_out
from noria.loop import react
from noria.store.owner import owner_id
from noria.store.workspace import Workspace

__all__ = ["main", "work_off"]

log = logging.getLogger("noria.trainer")
POLL_S = 0.25


def main() -> int:
    """The entry point of the process."""
    parser = argparse.ArgumentParser(prog="noria.faces.trainer")
    parser.add_argument("--root", type=Path, required=True)
    given = parser.parse_args()
    start_log("trainer")
    # While steps run, SIGTERM is theirs: they save, and the job is given back. At other moments a job cannot be
    # left half way in good order, so stopping is dying: the lease tells the others.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    on_parent_end(lambda: os._exit(0))
    ws = open_workspace(given.root, actor="service:trainer")
    stand_back(ws.project.run.nice)  # before the threads that work: each has a priority of its own
    stop = threading.Event()
    scheduling = threading.Thread(target=_schedule, args=(ws, stop), name="noria-scheduled", daemon=True)
    scheduling.start()
    while not stop.is_set():
        try:
            if not work_off(ws):
                stop.wait(POLL_S)
        except RunPreempted:
            return 0  # the job waits for another trainer, and its run to be resumed by it
        except WorldError as error:
            log.warning("the queue cannot be reached: %s", error)
            stop.wait(1.0)
    return 0


def work_off(ws: Workspace) -> bool:
    """Take one job and do it; False if there is none. The project's own failures fail the job, not the process.

    Raises: RunPreempted if this process was asked to leave; the job was given back.
    """
    owner = owner_id()
    job = ws.jobs.claim(react.KINDS, owner=owner, lease_s=LEASE_S)
    if job is None:
        return False
    carry_out(ws, job, owner, react.work, log=log)
    return True


def _schedule(ws: Workspace, stop: threading.Event) -> None:
    """Keep the processes of scheduled work going, beside the loop's own work."""
    slots = Slots(ws)
    while not stop.is_set():
        try:
            slots.fill()
            stop.wait(POLL_S)
        except WorldError as error:
            log.warning("the queue of the schedules cannot be reached: %s", error)
            stop.wait(1.0)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
