"""Runs steps in warm processes of this machine: beside each other, with limits, and out of harm's way.

One process, the template, imports the project once; workers are forks of it, ready in a few
milliseconds. A worker stays for the next step. A step that states `memory=`, `timeout=`, `gpu=` or
`isolated=True` has a worker of its own, which then goes. A worker takes its inputs from the object
store and puts its outputs there; what it answers here is only where they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from noria.core.errors import ProjectError, StepKilled
from noria.engines.executors import machine
from noria.pipeline import journal
from noria.pipeline.arguments import document
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.executor import Capacity, Done, Task, Usage

__all__ = ["PoolExecutor"]

CHILD = "noria.faces.step"
STATUS_WAIT_S = 5.0
"""How long the template may take to tell how a worker ended."""


@dataclass(slots=True)
class _Handle:
    """An attempt at work: its worker, since when, and what came of it."""

    task: Task
    worker: _Worker | None
    began: float
    over: threading.Event = field(default_factory=threading.Event)
    done: Done | None = None
    is_cancelled: bool = False
    is_timed_out: bool = False

    def end(self, done: Done) -> None:
        """It is over; whoever waits is told."""
        self.done = done
        self.over.set()
        self.task.wake()


class PoolExecutor:
    """See `noria.pipeline.executor.Executor`."""

    def __init__(self) -> None:
        self._template: _Template | None = None
        self._devices = machine.devices()

    def capacity(self) -> Capacity:
        """This machine."""
        return machine.capacity(keeps_limits=True)

    def submit(self, task: Task) -> _Handle:
        """Give the task to a worker: an idle one, or a new fork of the template."""
        handle = _Handle(task, None, time.monotonic())
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("wb" if task.attempt == 1 else "ab"):
            pass  # it is there to be followed from now on
        own = task.node.step.options.needs_own_process
        given = self._devices_for(task)
        template = self._template_of(task.definition)
        worker = template.worker(own)
        if worker is None:
            handle.end(Done(error=template.refusal(), is_killed=True))
            return handle
        worker.devices = given
        handle.worker = worker
        worker.run(handle, _told(task, given))
        return handle

    def poll(self, handle: _Handle, timeout_s: float) -> Done | None:
        """What came of a task, or None while it runs."""
        handle.over.wait(timeout_s)
        return handle.done

    def cancel(self, handle: _Handle, *, grace_s: float = 0.0) -> None:
        """End the worker with everything that it started, at once or after a grace."""
        if handle.over.is_set() or handle.worker is None:
            return
        handle.is_cancelled = True
        if not grace_s:
            handle.worker.kill()
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(handle.worker.pid, signal.SIGTERM)
        late = threading.Timer(grace_s, lambda: None if handle.over.is_set() else handle.worker.kill())  # type: ignore[union-attr]  # it has one: see above
        late.daemon = True
        late.start()

    def close(self) -> None:
        """End every process."""
        if self._template is not None:
            self._template.close()
            self._template = None

    def _template_of(self, definition: PipelineDefinition) -> _Template:
        """The template that has read this pipeline. One of another pipeline goes once its workers are done."""
        if self._template is not None and self._template.definition is not definition:
            self._template.retire()
            self._template = None
        if self._template is None or not self._template.is_alive:
            self._template = _Template(definition)
        return self._template

    def _devices_for(self, task: Task) -> str | None:
        """The devices of a task: the free ones of those there are; None leaves the choice alone."""
        wanted = task.node.step.options.gpu
        if not self._devices:
            return None
        if not wanted:
            return ""
        held = {name for worker in (self._template.workers if self._template else []) if worker.handle is not None
                for name in (worker.devices or "").split(",")}  # fmt: skip
        free = [name for name in self._devices if name not in held] or self._devices
        return ",".join(free[: max(1, round(wanted))])


class _Template:
    """The process that has imported the project, and its forks."""

    def __init__(self, definition: PipelineDefinition) -> None:
        self.definition = definition
        self.workers: list[_Worker] = []
        self._is_retired = False
        self._lock = threading.Lock()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # it is read when this process has died
        self._control, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", CHILD, str(theirs.fileno()), str(definition.root), definition.name],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd=definition.root,
            )
        self._answers: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._is_gone = False
        self._ends: dict[int, int] = {}
        threading.Thread(target=self._listen, name="noria-template", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it can still be forked."""
        return not self._is_gone

    def worker(self, own: bool) -> _Worker | None:
        """An idle worker, or a new one; None if there can be none, as `refusal` tells."""
        if not own:
            for known in self.workers:
                if known.is_idle:
                    return known
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
            except OSError:
                ours.close()
                return None
        answer = self._next_answer()
        if answer is None or "pid" not in answer:
            ours.close()
            return None
        made = _Worker(self, ours, int(answer["pid"]), stays=not own)
        self.workers.append(made)
        return made

    def refusal(self) -> ProjectError:
        """Why there is no worker: what the template said, or how it died."""
        for answer in self._answers:
            if "error" in answer:
                message, where, hint = answer["error"]
                return ProjectError(message, where=where, hint=hint)
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return StepKilled(
            "the process that starts workers died" + (f": {said[-1][:200]}" if said else ""),
            where=str(self.definition.root),
            hint="try again; if it stays so, NORIA_DEBUG=1 noria run --executor inline shows more",
        )

    def end_of(self, pid: int) -> int | None:
        """How a worker ended, as waitpid(2) tells it; None if nobody knows."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._ends or self._is_gone, STATUS_WAIT_S)
            return self._ends.pop(pid, None)

    def retire(self) -> None:
        """Take no more tasks; go when the last worker is done."""
        self._is_retired = True
        self.left()

    def left(self) -> None:
        """A worker is free or gone."""
        if self._is_retired and all(worker.handle is None for worker in self.workers):
            self.close()

    def close(self) -> None:
        """End it with its workers. Idempotent."""
        for worker in list(self.workers):
            worker.close()
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        with self._lock:
            if self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            self._said.close()  # under the lock: the last worker's thread and the driver may both come here

    def _next_answer(self) -> dict[str, Any] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._answers or self._is_gone)
            if not self._answers or "error" in self._answers[0]:
                return None
            return self._answers.pop(0)

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._control.makefile("rb") as lines:
            for line in lines:
                told = json.loads(line)
                with self._changed:
                    if "died" in told:
                        self._ends[told["died"]] = told["status"]
                    else:
                        self._answers.append(told)
                    self._changed.notify_all()
        with self._changed:
            self._is_gone = True
            self._changed.notify_all()
        self._control.close()
        with self._lock:
            if self.process.poll() is None:
                self.process.wait()


class _Worker:
    """One forked process: at most one task at a time."""

    def __init__(self, template: _Template, channel: socket.socket, pid: int, *, stays: bool) -> None:
        self.pid = pid
        self.handle: _Handle | None = None
        self.devices: str | None = None
        self._template, self._channel, self._stays = template, channel, stays
        self._is_gone = False
        self._limit = threading.Event()
        threading.Thread(target=self._listen, name=f"noria-worker-{pid}", daemon=True).start()

    @property
    def is_idle(self) -> bool:
        """Whether it may be given a task."""
        return self._stays and self.handle is None and not self._is_gone

    def run(self, handle: _Handle, told: bytes) -> None:
        """Begin a task."""
        self.handle = handle
        limit_s = handle.task.node.step.options.timeout_s
        if limit_s:
            clock = threading.Timer(limit_s, self._too_late, [handle])
            clock.daemon = True
            clock.start()
        with contextlib.suppress(OSError):  # it is gone: the listener tells
            self._channel.sendall(told)

    def kill(self) -> None:
        """End the process and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """No more tasks. Idempotent."""
        if not self._is_gone:
            self.kill()
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def _too_late(self, handle: _Handle) -> None:
        if self.handle is handle and not handle.over.is_set():
            handle.is_timed_out = True
            self.kill()

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._channel.makefile("rb") as lines:
            for line in lines:
                handle, self.handle = self.handle, None
                assert handle is not None, "a worker answers once for each task"
                told = json.loads(line)
                if not self._stays or told.get("leaves"):
                    self._go()
                handle.end(journal.done_from(told["done"]))
                self._template.left()
        self._go()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what the step started, if it died before
        status = self._template.end_of(self.pid)
        self._channel.close()
        if self.handle is not None:
            handle, self.handle = self.handle, None
            handle.end(_lost(handle, status))
        self._template.left()

    def _go(self) -> None:
        self._is_gone = True
        with contextlib.suppress(ValueError):
            self._template.workers.remove(self)


def _told(task: Task, devices: str | None) -> bytes:
    """A task as one line of JSON."""
    line = {
        "step": task.node.name,
        "is_item": task.is_item,
        "name": task.name,
        "key": task.key,
        "call": task.call,
        "attempt": task.attempt,
        "bindings": {name: document(binding) for name, binding in task.bindings.items()},
        "pins": {name: asdict(pin) for name, pin in task.pins.items()},
        "seed": task.ambient.seed,
        "made_in": task.ambient.made_in,
        "is_shared": task.ambient.is_shared,
        "roles": [[role.name, role.key, role.time, role.label] for role in task.ambient.roles],
        "is_watched": task.is_watched,
        "log": str(task.log),
        "journal": None if task.journal is None else str(task.journal),
        "devices": devices,
    }
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _lost(handle: _Handle, status: int | None) -> Done:
    """What is told of an attempt whose process is gone: its result, if it was written before."""
    task, seconds = handle.task, time.monotonic() - handle.began
    if task.journal is not None:
        found = journal.result_of(Path(task.journal), task.name, task.attempt)
        if found is not None:
            return found
    code = None if status is None else os.waitstatus_to_exitcode(status)
    is_preempted = code == -signal.SIGTERM and not handle.is_timed_out
    usage = Usage(seconds=seconds)
    return Done(error=_killed(handle, code), is_killed=True, is_preempted=is_preempted, usage=usage)


def _killed(handle: _Handle, code: int | None) -> StepKilled:
    task = handle.task
    name, where = task.name, task.node.step.where
    if handle.is_timed_out:
        text = f"step {name} was stopped after its limit of {task.node.step.options.timeout_s:g} s"
        hint = "give it a longer timeout=, or less to do"
    elif handle.is_cancelled:
        text, hint = f"step {name} was cancelled", ""
    elif code is not None and code < 0:
        text = f"the process of step {name} was killed by {signal.Signals(-code).name}"
        hint = "out of memory, if nobody sent the signal: see dmesg, or state memory= to get a clear error"
    else:
        how = "is gone" if code is None else f"ended with exit code {code} and no result"
        text, hint = f"the process of step {name} {how}", f"{task.log}"
    return StepKilled(text, where=where, hint=hint)
