"""The training process: takes jobs from the queue and does them, one at a time.

Started by the supervisor as `python -m noria.faces.trainer`, with a lower priority than the
server. A job is kept by a heartbeat while it is worked on; if this process dies, another takes
the job up when the lease ends.
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
from noria.core.errors import Conflict, NoriaError, RunPreempted, WorldError
from noria.faces.logs import start_log
from noria.faces.orphan import on_parent_end
from noria.loop import react
from noria.store.jobs import Job
from noria.store.workspace import Workspace

__all__ = ["main", "work_off"]

log = logging.getLogger("noria.trainer")
POLL_S = 0.25
LEASE_S = 15.0
NICE = 5


def main() -> int:
    """The entry point of the process."""
    parser = argparse.ArgumentParser(prog="noria.faces.trainer")
    parser.add_argument("--root", type=Path, required=True)
    given = parser.parse_args()
    start_log("trainer")
    os.nice(NICE)
    # While steps run, SIGTERM is theirs: they save, and the job is given back. At other moments a job cannot be
    # left half way in good order, so stopping is dying: the lease tells the others.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    on_parent_end(lambda: os._exit(0))
    ws = open_workspace(given.root, actor="service:trainer")
    stop = threading.Event()
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
    """Take one job and do it; False if there is none. The project's own failures fail the job, not the process."""
    owner = f"trainer/{os.getpid()}"
    job = ws.jobs.claim(react.KINDS, owner=owner, lease_s=LEASE_S)
    if job is None:
        return False
    log.info("job %s (%s), attempt %d", job.id, job.kind, job.attempt)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(ws, job, owner, done), name="noria-beat", daemon=True)
    beating.start()
    try:
        result = react.work(ws, job)
    except RunPreempted as error:
        log.info("job %s is given back: %s", job.id, error)
        ws.jobs.give_back(job.id, owner)
        raise
    except NoriaError as error:
        log.error("job %s failed: %s", job.id, error)
        _fail(ws, job, owner, str(error), retry=error.is_retry_safe)
    except Exception as error:
        log.exception("job %s failed", job.id)
        _fail(ws, job, owner, f"{type(error).__name__}: {error}", retry=False)
    else:
        ws.jobs.finish(job.id, owner, result or {})
    finally:
        done.set()
        beating.join(timeout=2)
    return True


def _fail(ws: Workspace, job: Job, owner: str, text: str, *, retry: bool) -> None:
    try:
        ws.jobs.fail(job.id, owner, text[:2000], retry=retry)
    except Conflict as error:
        log.warning("job %s was taken over meanwhile: %s", job.id, error)


def _beat(ws: Workspace, job: Job, owner: str, done: threading.Event) -> None:
    while not done.wait(LEASE_S / 3):
        try:
            if not ws.jobs.beat(job.id, owner, LEASE_S):
                log.error("job %s was lost to another owner", job.id)
                return
        except WorldError as error:
            log.warning("the heartbeat of job %s is late: %s", job.id, error)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
