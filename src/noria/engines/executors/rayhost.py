"""What stands on a node of a Ray cluster: one actor for each place that steps have there, with warm workers of its own.

The actor holds the resources that Ray gave it; the step runs in a process beside it, exactly as in
the pool, so that limits, signals, logs and traces are the same. When the actor is gone, so is the step.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.core.errors import StepKilled
from noria.core.lazy import lazy
from noria.engines.executors import machine
from noria.engines.executors.orders import Order, order_from
from noria.engines.executors.workers import Attempt, Workers, optimized
from noria.pipeline import generators
from noria.pipeline.attempt import journal
from noria.pipeline.executor import Done
from noria.tracking.installed import installed

__all__ = ["Host", "environ_of", "terms_of"]

ray = lazy("ray")
OF_THE_NODE = ("HOME", "HOSTNAME", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PWD", "SHELL", "TMPDIR", "USER")
"""Variables that a node keeps; all others are those of the process that drives the run, as in the pool."""


def terms_of(mark: Path) -> dict[str, Any]:
    """What a node must agree with: it sees the project's folder (`mark` lies there), and has the same packages."""
    known = generators.environment()
    return {
        "mark": [str(mark), mark.read_text(encoding="ascii")],
        "python": sys.version.split()[0],
        "packages": _packages(),
        "place": [socket.gethostname(), sys.prefix],
        "environ": {**{name: each for name, each in known.items() if name not in OF_THE_NODE}, **optimized()},
    }


def environ_of(terms: Mapping[str, Any]) -> dict[str, str]:
    """The variables of steps on this node."""
    own = {name: os.environ[name] for name in OF_THE_NODE if name in os.environ}
    return {**terms["environ"], **own}


class Host:
    """A place for one attempt at a time. `meet` comes first; `cancel` comes beside `run`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given_up: dict[int, float] = {}
        self._running: tuple[int, Attempt] | None = None
        self._workers = Workers()

    def meet(self, terms: dict[str, Any]) -> dict[str, str]:
        """Agree on terms: `host` is this node's name; `refused` says why steps may not run here, `hint` what to do."""
        found = {"host": socket.gethostname(), "refused": "", "hint": ""}
        path, text = terms["mark"]
        try:
            is_shared = Path(path).read_text(encoding="ascii") == text
        except OSError:
            is_shared = False
        if not is_shared:
            found["refused"] = f"node {found['host']} does not see the folder {Path(path).parents[2]}"
            found["hint"] = "every node needs the project's folder at the same path: share it between them"
            return found
        if terms["place"] != [found["host"], sys.prefix]:
            found["refused"] = _other_packages(terms, found["host"])
            found["hint"] = "install the same packages on every node: what a step gives must not depend on where it ran"
        self._workers = Workers(environ_of(terms))
        return found

    def run(self, number: int, told: dict[str, Any]) -> dict[str, Any]:
        """Run one attempt to its end; what came of it, as `journal.document_of` tells it."""
        order = order_from(told)
        with self._lock:
            if number in self._given_up:
                return journal.document_of(_given_up(order, self._given_up.pop(number)))
            attempt = self._workers.submit(order, devices=_devices(order), wake=lambda: None)
            self._running = (number, attempt)
        attempt.over.wait()
        with self._lock:
            self._running = None
        assert attempt.done is not None, "it is over"
        return journal.document_of(attempt.done)

    def cancel(self, number: int, grace_s: float) -> None:
        """End an attempt, or one that has not come yet."""
        with self._lock:
            if self._running is None or self._running[0] != number:
                self._given_up[number] = grace_s
                return
            attempt = self._running[1]
        self._workers.cancel(attempt, grace_s=grace_s)


def _given_up(order: Order, grace_s: float) -> Done:
    error = StepKilled(f"step {order.name} was cancelled", where=order.where)
    return Done(error=error, is_killed=True, is_preempted=grace_s > 0)


def _devices(order: Order) -> str | None:
    """What CUDA_VISIBLE_DEVICES is to say: what Ray gave; nothing to a step that asked for none."""
    if order.gpu:
        return ",".join(map(str, ray.get_runtime_context().get_accelerator_ids().get("GPU", [])))
    return "" if machine.devices() else None


def _packages() -> dict[str, str]:
    """The packages that a step's process imports, with versions.

    Ray puts a folder of its own, with packages inside, on the path of its workers, which no step's process has.
    """
    spec = importlib.util.find_spec("ray")
    inside = tuple(f"{folder}{os.sep}" for folder in (spec.submodule_search_locations if spec else None) or ())
    return {name: each.version for name, each in installed([each for each in sys.path if not each.startswith(inside)])}


def _other_packages(terms: Mapping[str, Any], host: str) -> str:
    python = sys.version.split()[0]
    if python != terms["python"]:
        return f"node {host} has Python {python}, and this process has {terms['python']}"
    here, there = _packages(), terms["packages"]
    for name in sorted({*here, *there}):
        if here.get(name) != there.get(name):
            return f"node {host} has {name} {here.get(name, 'not')}, and this process has {there.get(name, 'it not')}"
    return ""
