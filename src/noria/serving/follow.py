"""Following the ledger: what should answer becomes what answers, and the server says so.

A thread looks at the ledger's head every 50 ms. When deployments have changed it loads what is
new, makes a whole new table of routes and puts it in force by one assignment; requests on their
way keep the old one. A release that cannot be loaded leaves the model's old route in place, and
the reason goes into the server's lease, where the rollout's judge finds it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping

from noria.core.clock import duration
from noria.core.errors import NoriaError, WorldError
from noria.core.identity import JSON, digest, short
from noria.serving import records
from noria.serving.loading import Loader
from noria.serving.routes import Route, Routes
from noria.serving.runtime import Runtime
from noria.store.owner import is_dead, owner_id
from noria.store.workspace import Workspace

__all__ = ["LEASE_S", "POLL_S", "Follower", "acknowledged", "failures", "servers"]

log = logging.getLogger("noria.serving")
POLL_S = 0.05
LEASE_S = 5.0
BEAT_S = 1.5
LOADING_S = 120.0
"""The lease while a release is being loaded, which this thread does: its library may take long to import."""
RETRY_S = 2.0
"""How often a release that could not be loaded is tried again, and the rules are read that let a model run code."""


class Follower:
    """Keeps a runtime's routes as the ledger wants them.

    Args:
        url: where this server can be reached; told in its lease.
    """

    def __init__(self, ws: Workspace, runtime: Runtime, *, environment: str = "local", url: str = "") -> None:
        self._ws = ws
        self._runtime = runtime
        self._environment = environment
        self._url = url
        self._loader = Loader(ws, answer_s=duration(ws.project.server.answer_timeout).total_seconds())
        self._head = -1
        self._failed: dict[str, dict[str, JSON]] = {}
        self._beat_at = 0.0
        self._tried_at = 0.0
        self._permits_at = time.monotonic()
        self._denied: set[str] = set()
        self._owner = owner_id()
        self._name = f"server/{short(digest(self._owner.encode()), 32)}"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def prepare(self) -> None:
        """Load what is deployed now without taking part: nothing is acknowledged. For a stand-by."""
        head = self._ws.ledger.head()
        if head != self._head:
            self._update()
            self._head = head

    def start(self) -> None:
        """Bring the routes up to date, then follow on a thread."""
        self.step()
        self._thread = threading.Thread(target=self._following, name="noria-follow", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following and give the lease back."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._ws.jobs.release(self._name, self._owner)

    def step(self) -> bool:
        """Look once; True if the routes changed."""
        head = self._ws.ledger.head()
        is_due = bool(self._failed) and time.monotonic() - self._tried_at > RETRY_S
        if time.monotonic() - self._permits_at > RETRY_S:
            self._permits_at = time.monotonic()
            self._denied = set(self._loader.denied())
        has_changed = (head != self._head or is_due or bool(self._denied)) and self._update()
        self._head = head
        if has_changed or time.monotonic() - self._beat_at > BEAT_S:
            self._acknowledge()
            self._runtime.rest()
        return has_changed

    def _update(self) -> bool:
        with self._ws.ledger.read() as tx:
            wanted = {record.model: record for record in records.deployments(tx, self._environment)}
        # What may not be loaded any more does not answer any more either, until it loads again.
        old = {model: route for model, route in self._runtime.routes.by_model.items() if model not in self._denied}
        is_same = len(old) == len(self._runtime.routes.by_model)
        self._denied.clear()
        new: dict[str, Route] = {}
        for model, record in wanted.items():
            route = old.get(model)
            if route is None or route.seq != record.seq:
                if self._thread is not None:
                    self._acknowledge(LOADING_S)
                route = self._load(record, route)
            if route is not None:
                new[model] = route
        has_failed_anew = any(self._failed.get(model, {}).get("seq") == record.seq for model, record in wanted.items())
        failed = {model: str(self._failed[model]["error"]) for model in wanted if model in self._failed}
        failed = {model: text for model, text in failed.items() if model not in new}
        if is_same and new == old and failed == self._runtime.routes.failed:
            return has_failed_anew
        self._runtime.swap(Routes(new, failed))
        self._runtime.meters.swaps += 1
        self._loader.keep(new.values())
        log.info("routes in force: %s", ", ".join(f"{m} at {r.seq}" for m, r in sorted(new.items())))
        return True

    def _load(self, record: records.DeploymentRecord, old: Route | None) -> Route | None:
        self._tried_at = time.monotonic()
        try:
            route = self._loader.route(record)
        except NoriaError as error:
            self._failed[record.model] = {"seq": record.seq, "error": error.line[:500]}
            if self._runtime.meters.should_say(f"load {record.seq}", 60.0):
                log.error("the deployment %d of %s stays out of force: %s", record.seq, record.model, error)
            return old
        self._failed.pop(record.model, None)
        return route

    def _acknowledge(self, ttl_s: float = LEASE_S) -> None:
        data: dict[str, JSON] = {
            "deployments": {model: route.seq for model, route in self._runtime.routes.by_model.items()},
            "failed": dict(self._failed),
            "environment": self._environment,
            "url": self._url,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "scheduling": self._runtime.scheduling,
        }
        self._ws.jobs.acquire(self._name, owner=self._owner, ttl_s=ttl_s, data=data)
        self._beat_at = time.monotonic()

    def _following(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                self.step()
            except WorldError as error:
                # The store is out of reach: go on answering with what is loaded, and look again.
                if self._runtime.meters.should_say("follow"):
                    log.error("the ledger cannot be followed: %s", error)
            except Exception:
                log.exception("following the ledger failed")


def servers(ws: Workspace, environment: str = "local") -> list[Mapping[str, JSON]]:
    """What each living server says of itself. A server whose process is gone from this host does not count."""
    found = []
    for lease in ws.jobs.leases("server/"):
        if lease.is_live and lease.data.get("environment") == environment and not is_dead(lease.owner):
            found.append(lease.data)
    return found


def acknowledged(ws: Workspace, model: str, seq: int, environment: str = "local") -> tuple[int, int]:
    """(servers that answer by deployment `seq` or a later one, living servers)."""
    living = servers(ws, environment)
    done = 0
    for data in living:
        deployments = data["deployments"]
        assert isinstance(deployments, Mapping)
        found = deployments.get(model, 0)
        done += isinstance(found, int) and found >= seq
    return done, len(living)


def failures(ws: Workspace, model: str, seq: int, environment: str = "local") -> str:
    """Why a living server could not put deployment `seq` in force; empty if none says so."""
    for data in servers(ws, environment):
        failed = data["failed"]
        assert isinstance(failed, Mapping)
        found = failed.get(model)
        if isinstance(found, Mapping) and found.get("seq") == seq:
            return str(found["error"])
    return ""
