"""What tells webhooks, beside the controller's other work: it queues what happened and lets a few threads ask.

A receiver that is slow holds one thread for as long as a request may take, not the others. Whatever is cut off
here is a job that the next controller takes up.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from noria.core.errors import NoriaError, WorldError
from noria.faces.working import LEASE_S, carry_out
from noria.store.jobs import Job
from noria.store.owner import owner_id
from noria.store.workspace import Workspace
from noria.webhooks import delivering

__all__ = ["tell"]

log = logging.getLogger("noria.webhooks")
LOOK_S = 0.5
AT_ONCE = 4


def tell(ws: Workspace, stop: threading.Event) -> None:
    """Tell webhooks of what happens until `stop` is set."""
    room = threading.Semaphore(AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="noria-webhook") as threads:
        while not stop.wait(LOOK_S):
            try:
                delivering.queue(ws)
                while _begin(ws, threads, room, stop):
                    continue
            except WorldError as error:
                log.warning("webhooks wait: %s", error)
            except NoriaError as error:
                log.error("webhooks: %s", error)
            except Exception:
                log.exception("looking for what webhooks are to be told failed")


def _begin(ws: Workspace, threads: ThreadPoolExecutor, room: threading.Semaphore, stop: threading.Event) -> bool:
    """Begin with one job; False if there is none, or the process is to end."""
    while not room.acquire(timeout=LOOK_S):
        if stop.is_set():
            return False
    owner = owner_id()
    job = None
    try:
        job = ws.jobs.claim(delivering.KINDS, owner=owner, lease_s=LEASE_S)
    finally:
        if job is None:
            room.release()
    if job is None or stop.is_set():
        return False
    threads.submit(_do, ws, job, owner, room)
    return True


def _do(ws: Workspace, job: Job, owner: str, room: threading.Semaphore) -> None:
    try:
        carry_out(ws, job, owner, delivering.work, log=log)
    except WorldError as error:
        log.warning("a webhook's job waits for its lease to end: %s", error)
    except Exception:
        log.exception("a webhook's job could not be ended")
    finally:
        room.release()
