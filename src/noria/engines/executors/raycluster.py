"""Runs steps on a Ray cluster: one of its own on this machine, or an existing one by its address.

This process never speaks with Ray: a broker does (`raybroker`). Losing the head, a node or the broker
costs the attempts that were under way there, which begin again without costing a retry; what they
had finished is in the journal. Nodes must see the project's folder at the same path.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from noria.core import errors
from noria.core.errors import NoriaError, StepKilled, StoreUnavailable, UsageError
from noria.core.frozen import slotted
from noria.engines.executors import machine
from noria.engines.executors.inline import InlineExecutor
from noria.engines.executors.orders import Editions, order_of
from noria.engines.executors.rayhost import terms_of
from noria.pipeline.attempt import journal
from noria.pipeline.executor import Capacity, Done, Task
from noria.pipeline.room import Need
from noria.store.objects import disk_faults

__all__ = ["RayExecutor"]

CHILD = "noria.engines.executors.raybroker"
CLOSE_S = 30.0
"""How long the broker may take to give everything back."""


@slotted(eq=False)
class _Handle:
    """An attempt on the cluster, and what came of it."""

    name: str
    where: str
    wake: Callable[[], None]
    number: int = -1
    broker: _Broker | None = None
    over: threading.Event = field(default_factory=threading.Event)
    done: Done | None = None

    def end(self, done: Done) -> None:
        """It is over; whoever waits is told."""
        self.done = done
        self.over.set()
        self.wake()


class RayExecutor:
    """See `noria.pipeline.executor.Executor`.

    Args:
        address: HOST:PORT of a cluster's head, or "auto" for the one of this machine; else RAY_ADDRESS,
            else a cluster of its own, for as long as the executor is open.
    """

    def __init__(self, address: str = "") -> None:
        self._address = address or os.environ.get("RAY_ADDRESS", "")
        self._inline, self._editions = InlineExecutor(), Editions()
        self._broker: _Broker | None = None
        self._mark: Path | None = None

    def capacity(self) -> Capacity:
        """This machine, or the cluster. Raises: UsageError if Ray is not installed; StoreUnavailable if it is away."""
        self.require()
        if not self._address:
            return machine.capacity(keeps_limits=True)
        has = self._live().capacity()
        each = Need(**has.pop("each"))
        return Capacity(**has, each=each, slots=max(1, math.ceil(has["cpu"])))

    def submit(self, task: Task) -> Any:
        """Hand the task over. A step that is in no file cannot be read elsewhere, and runs here."""
        if not task.is_in_file:
            return self._inline.submit(task)
        order = order_of(task, self._editions.of(task.definition))
        handle = _Handle(task.name, order.where, task.wake)
        with disk_faults(task.log):
            task.log.parent.mkdir(parents=True, exist_ok=True)
            with task.log.open("wb" if task.attempt == 1 else "ab"):
                pass  # it is there to be followed from now on, while it waits for its place too
        broker = self._live()
        broker.meet(self._marked(task.ws.project.state))
        broker.submit(handle, order.document())
        return handle

    def poll(self, handle: Any, timeout_s: float) -> Done | None:
        """What came of a task, or None while it waits or runs."""
        if isinstance(handle, Done):
            return handle
        handle.over.wait(timeout_s)
        found: Done | None = handle.done
        return found

    def cancel(self, handle: Any, *, grace_s: float = 0.0) -> None:
        """End the step with everything that it started, at once or after a grace."""
        if isinstance(handle, _Handle) and not handle.over.is_set() and handle.broker is not None:
            handle.broker.tell({"do": "cancel", "number": handle.number, "grace_s": grace_s})

    def close(self) -> None:
        """Give back the cluster, with all that runs on it."""
        if self._broker is not None:
            self._broker.close()
            self._broker = None
        if self._mark is not None:
            self._mark.unlink(missing_ok=True)
            self._mark = None

    def require(self) -> None:
        """Raises: UsageError if the address is of another sort, or Ray is not installed."""
        if "://" in self._address:
            raise UsageError(
                f"{self._address} is not the address of a Ray cluster",
                hint='[run] address = "HOST:PORT" of its head, on a machine that is a node of it (ray start)',
            )
        if importlib.util.find_spec("ray") is None:
            raise UsageError("the executor ray needs Ray, which is not installed", hint="pip install 'noria[ray]'")

    def _live(self) -> _Broker:
        """The broker; another one if that one is gone."""
        if self._broker is None or self._broker.is_gone:
            if self._broker is not None:
                self._broker.close()
            self._broker = _Broker(self._address)
        return self._broker

    def _marked(self, state: Path) -> Path:
        """A file by which a node knows that it sees this very folder."""
        if self._mark is None:
            self._mark = state / "ray" / f"{os.getpid()}-{secrets.token_hex(8)}"
            with disk_faults(self._mark):
                self._mark.parent.mkdir(parents=True, exist_ok=True)
                self._mark.write_text(secrets.token_hex(16), encoding="ascii")
        return self._mark


class _Broker:
    """The broker's process as this one sees it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # it is read when the process has died
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", CHILD, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._handles: dict[int, _Handle] = {}
        self._changed = threading.Condition()
        self._capacity: dict[str, Any] | None = None
        self._error: NoriaError | None = None
        self._met: Path | None = None
        self._number = 0
        self.is_gone = False
        here = machine.capacity(keeps_limits=True)
        first = {"address": address, "devices": machine.devices(), "cpu": here.cpu, "memory_bytes": here.memory_bytes}
        self.tell(first)
        threading.Thread(target=self._listen, name="noria-ray", daemon=True).start()

    def capacity(self) -> dict[str, Any]:
        """What the cluster has. Raises: StoreUnavailable if it could not be reached."""
        with self._changed:
            self._changed.wait_for(lambda: self._capacity is not None or self.is_gone)
            if self._capacity is None:
                raise self._away()
            return dict(self._capacity)

    def meet(self, mark: Path) -> None:
        """Say once what nodes must agree with."""
        if self._met != mark:
            self._met = mark
            self.tell({"do": "terms", "terms": terms_of(mark)})

    def submit(self, handle: _Handle, order: dict[str, Any]) -> None:
        """Hand over an order."""
        with self._changed:
            self._number += 1
            handle.number, handle.broker = self._number, self
            self._handles[self._number] = handle
        self.tell({"do": "submit", "number": handle.number, "order": order})
        if self.is_gone:
            self._give_up()

    def tell(self, told: dict[str, Any]) -> None:
        """Send a line."""
        with contextlib.suppress(OSError):  # it is gone: the listener tells
            self._channel.sendall(json.dumps(told, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """End it, and wait until everything is given back. Idempotent."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._channel.makefile("rb") as lines:
            for line in lines:
                told = json.loads(line)
                if "over" in told:
                    with self._changed:
                        handle = self._handles.pop(told["over"])
                    handle.end(_done(handle, told))
                    continue
                with self._changed:
                    if "capacity" in told:
                        self._capacity = told["capacity"]
                    else:
                        self._error = self._refused(told["refused"])
                    self._changed.notify_all()
        self._process.wait()
        with self._changed:
            self.is_gone = True
            self._changed.notify_all()
        self._give_up()
        self._channel.close()

    def _give_up(self) -> None:
        """Every attempt that it had is lost. One that never had a cluster has failed; else it begins again."""
        with self._changed:
            lost, self._handles = list(self._handles.values()), {}
        for handle in lost:
            if self._capacity is None:
                handle.end(Done(error=self._away(), is_killed=True))
            else:
                text = f"the Ray cluster that step {handle.name} ran on is gone"
                hint = "noria run --resume goes on from the steps that are done"
                error = StepKilled(text, where=handle.where, hint=hint)
                handle.end(Done(error=error, is_killed=True, is_preempted=True))

    def _refused(self, why: str) -> NoriaError:
        if self._address:
            hint = "ray status, on a node of it; then noria run --resume"
            return StoreUnavailable(f"the Ray cluster at {self._address} is not reached: {why}", hint=hint)
        return StoreUnavailable(f"Ray could not be started: {why}", hint="noria run --executor pool needs no Ray")

    def _away(self) -> NoriaError:
        if self._error is not None:
            return self._error
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return self._refused(said[-1][:200] if said else "its process died")


def _done(handle: _Handle, told: dict[str, Any]) -> Done:
    if "done" in told:
        done = journal.done_from(told["done"])
        return replace(done, where=f"{told['host']}, {done.where}") if done.where else done
    if "cancelled" in told:
        error: NoriaError = StepKilled(f"step {handle.name} was cancelled", where=handle.where)
        return Done(error=error, is_killed=True)
    kind, message, where, hint = told["lost"]
    error = getattr(errors, kind)(message, where=where or handle.where, hint=hint)
    return Done(error=error, is_killed=True, is_preempted=isinstance(error, StepKilled))
