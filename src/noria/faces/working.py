"""Doing one claimed job: kept by a heartbeat, ended in the queue whatever comes of it.

The project's own failures fail the job, not the process. A job that is lost to another owner, after
this machine slept or the queue was out of reach, must not be worked on by two: `on_lost` is called.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from noria.core.errors import Conflict, NoriaError, RunPreempted, WorldError
from noria.core.identity import JSON
from noria.core.printable import error_line
from noria.store.jobs import Job
from noria.store.workspace import Workspace

__all__ = ["LEASE_S", "carry_out"]

LEASE_S = 15.0


def carry_out(
    ws: Workspace,
    job: Job,
    owner: str,
    work: Callable[[Workspace, Job], Mapping[str, JSON] | None],
    *,
    log: logging.Logger,
    on_lost: Callable[[], None] | None = None,
) -> None:
    """Do a job that `owner` has claimed, and finish or fail it in the queue.

    Raises: RunPreempted if this process was asked to leave meanwhile: the job waits for another at once.
    """
    log.info("job %s (%s), attempt %d", job.id, job.kind, job.attempt)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(ws, job, owner, done, log, on_lost), name="noria-beat", daemon=True)
    beating.start()
    try:
        result = work(ws, job)
    except RunPreempted as error:
        log.info("job %s is given back: %s", job.id, error)
        _give_back(ws, job, owner, log=log)
        raise
    except NoriaError as error:
        log.error("job %s failed: %s", job.id, error)
        _fail(ws, job, owner, str(error), retry=error.is_retry_safe, log=log)
    except Exception as error:
        log.exception("job %s failed", job.id)
        _fail(ws, job, owner, error_line(error), retry=False, log=log)
    else:
        ws.jobs.finish(job.id, owner, result or {})
    finally:
        done.set()
        beating.join(timeout=2)


def _give_back(ws: Workspace, job: Job, owner: str, *, log: logging.Logger) -> None:
    try:
        ws.jobs.give_back(job.id, owner)
    except Conflict as error:
        log.warning("job %s was taken over meanwhile: %s", job.id, error)


def _fail(ws: Workspace, job: Job, owner: str, text: str, *, retry: bool, log: logging.Logger) -> None:
    try:
        ws.jobs.fail(job.id, owner, text[:2000], retry=retry)
    except Conflict as error:
        log.warning("job %s was taken over meanwhile: %s", job.id, error)


def _beat(
    ws: Workspace,
    job: Job,
    owner: str,
    done: threading.Event,
    log: logging.Logger,
    on_lost: Callable[[], None] | None,
) -> None:
    while not done.wait(LEASE_S / 3):
        try:
            if not ws.jobs.beat(job.id, owner, LEASE_S) and not done.is_set():
                log.error("job %s was lost to another owner", job.id)
                if on_lost is not None:
                    on_lost()
                return
        except WorldError as error:
            log.warning("the heartbeat of job %s is late: %s", job.id, error)
