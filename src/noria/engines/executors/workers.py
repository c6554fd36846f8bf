"""Warm processes of this machine that run attempts: beside each other, with limits, and out of harm's way.

One process, the template, imports the project once; workers are forks of it, ready in a few
milliseconds. A worker stays for the next attempt, unless it is to have a process of its own. A worker takes its
inputs from the object store and puts its outputs there; what it answers here is only where they are.
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
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from noria.core.errors import NoriaError, ProjectError, StepKilled, WorldError
from noria.core.frozen import slotted
from noria.engines.executors import machine
from noria.engines.executors.orders import Order
from noria.pipeline import generators
from noria.pipeline.attempt import journal
from noria.pipeline.executor import Done, Usage

__all__ = ["Attempt", "Workers", "optimized"]

CHILD = "noria.faces.step"
BURIAL_S = 2.0
"""How long the template may take to wait for workers that were killed."""
STATUS_WAIT_S = 5.0
"""How long the template may take to tell how a worker ended."""


@slotted
class Attempt:
    """An order at work: its worker, since when, and what came of it."""

    order: Order
    wake: Callable[[], None]
    began: float
    memory_kills: int = 0
    worker: _Worker | None = None
    over: threading.Event = field(default_factory=threading.Event)
    done: Done | None = None
    is_cancelled: bool = False
    is_timed_out: bool = False

    def end(self, done: Done) -> None:
        """It is over; whoever waits is told."""
        self.done = done
        self.over.set()
        self.wake()


class Workers:
    """A template and its forks. `environ` are the variables they are given: those of this process, if None."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = environ
        self._template: _Template | None = None

    def submit(self, order: Order, *, devices: str | None, wake: Callable[[], None]) -> Attempt:
        """Give the order to a worker: an idle one, or a new fork of the template.

        Args:
            devices: what CUDA_VISIBLE_DEVICES is to say; None leaves it alone.
            wake: called, from any thread, when it is over.
        """
        attempt = Attempt(order, wake, time.monotonic(), machine.memory_kills())
        log = Path(order.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb" if order.attempt == 1 else "ab"):
            pass  # it is there to be followed from now on
        template = self._template_of(order)
        worker = template.worker(order.own)
        if worker is None and template.was_killed:
            template = self._template_of(order)  # once: nothing has begun yet, so that nothing is done twice
            worker = template.worker(order.own)
        if worker is None:
            attempt.end(Done(error=template.refusal(), is_killed=True))
            return attempt
        worker.devices = devices
        attempt.worker = worker
        worker.run(attempt, json.dumps({**order.told, "devices": devices}, separators=(",", ":")).encode() + b"\n")
        return attempt

    def cancel(self, attempt: Attempt, *, grace_s: float = 0.0) -> None:
        """End the worker with everything that it started, at once or after a grace."""
        worker = attempt.worker
        if attempt.over.is_set() or worker is None:
            return
        attempt.is_cancelled = True
        if not grace_s:
            worker.kill()
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
        late = threading.Timer(grace_s, lambda: None if attempt.over.is_set() else worker.kill())
        late.daemon = True
        late.start()

    def held_devices(self) -> set[str]:
        """The devices that attempts have now."""
        workers = self._template.workers if self._template else []
        return {name for each in workers if each.attempt is not None for name in (each.devices or "").split(",")}

    def close(self) -> None:
        """End every process. Idempotent."""
        if self._template is not None:
            self._template.close()
            self._template = None

    def _template_of(self, order: Order) -> _Template:
        """The template that has read this pipeline. One of another pipeline goes once its workers are done."""
        if self._template is not None and self._template.edition != order.edition:
            self._template.retire()
            self._template = None
        if self._template is None or not self._template.is_alive:
            self._template = _Template(order, self._environ)
        return self._template


def optimized() -> dict[str, str]:
    """The variable by which other processes run the code as `python -O` runs it here: the key of a step says so."""
    return {"PYTHONOPTIMIZE": str(sys.flags.optimize)} if sys.flags.optimize else {}


class _Template:
    """The process that has imported the project, and its forks."""

    def __init__(self, order: Order, environ: Mapping[str, str] | None) -> None:
        self.root, self.edition = order.root, order.edition
        self.workers: list[_Worker] = []
        self._is_retired = False
        self._lock = threading.Lock()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # it is read when this process has died
        self._control, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", CHILD, str(theirs.fileno()), order.root, order.pipeline],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd=order.root,
                env={**(generators.environment() if environ is None else environ), **optimized()},
            )
        self._answers: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._is_gone = False
        self._ends: dict[int, int] = {}
        self._forks: set[int] = set()
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

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it: the machine's doing, or a person's, and not the project's."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_gone, STATUS_WAIT_S)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it does something else then, and was not killed
            return self._is_gone and self.process.wait(STATUS_WAIT_S) == -signal.SIGKILL
        return False

    def refusal(self) -> NoriaError:
        """Why there is no worker: what the template said, or how it died."""
        for answer in self._answers:
            if "error" in answer:
                message, where, hint = answer["error"]
                return ProjectError(message, where=where, hint=hint)
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().splitlines()
        if self.was_killed:
            return WorldError(
                "the process that starts workers was killed by SIGKILL",
                where=self.root,
                hint="noria run --resume goes on; if memory ran out: noria run --resume --workers 1",
            )
        return StepKilled(
            "the process that starts workers died" + (f": {said[-1][:200]}" if said else ""),
            where=self.root,
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
        if self._is_retired and all(worker.attempt is None for worker in self.workers):
            self.close()

    def close(self) -> None:
        """End it with its workers, which it buries: else they stay as zombies where nobody waits for orphans."""
        for worker in list(self.workers):
            worker.close()
        with self._changed:
            for pid in self._forks:  # those too that have just done their only attempt, or begin just now
                _kill(pid)
            self._changed.wait_for(lambda: not self._forks or self._is_gone, BURIAL_S)
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
                        self._forks.discard(told["died"])
                    else:
                        self._forks.update([told["pid"]] if "pid" in told else ())
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
        self.attempt: Attempt | None = None
        self.devices: str | None = None
        self._template, self._channel, self._stays = template, channel, stays
        self._is_gone = False
        self._limit = threading.Event()
        threading.Thread(target=self._listen, name=f"noria-worker-{pid}", daemon=True).start()

    @property
    def is_idle(self) -> bool:
        """Whether it may be given a task."""
        return self._stays and self.attempt is None and not self._is_gone

    def run(self, attempt: Attempt, told: bytes) -> None:
        """Begin a task."""
        self.attempt = attempt
        limit_s = attempt.order.timeout_s
        if limit_s:
            clock = threading.Timer(limit_s, self._too_late, [attempt])
            clock.daemon = True
            clock.start()
        with contextlib.suppress(OSError):  # it is gone: the listener tells
            self._channel.sendall(told)

    def kill(self) -> None:
        """End the process and everything it started."""
        _kill(self.pid)

    def close(self) -> None:
        """No more tasks. Idempotent."""
        if not self._is_gone:
            self.kill()
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def _too_late(self, attempt: Attempt) -> None:
        if self.attempt is attempt and not attempt.over.is_set():
            attempt.is_timed_out = True
            self.kill()

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._channel.makefile("rb") as lines:
            for line in lines:
                attempt, self.attempt = self.attempt, None
                assert attempt is not None, "a worker answers once for each task"
                told = json.loads(line)
                is_last = not self._stays or told.get("leaves")
                if is_last:
                    self._go()
                attempt.end(journal.done_from(told["done"]))
                if is_last:
                    break
                self._template.left()
        self._go()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # it has done its work; and what the step started, if it died before
        status = self._template.end_of(self.pid)
        self._channel.close()
        if self.attempt is not None:
            attempt, self.attempt = self.attempt, None
            attempt.end(_lost(attempt, status))
        self._template.left()

    def _go(self) -> None:
        self._is_gone = True
        with contextlib.suppress(ValueError):
            self._template.workers.remove(self)


def _kill(pid: int) -> None:
    """End a fork with everything it started; one that has not come to lead a group yet has started nothing."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _lost(attempt: Attempt, status: int | None) -> Done:
    """What is told of an attempt whose process is gone: its result, if it was written before."""
    order, seconds = attempt.order, time.monotonic() - attempt.began
    if order.journal:
        found = journal.result_of(Path(order.journal), order.name, order.attempt)
        if found is not None:
            return found
    code = None if status is None else os.waitstatus_to_exitcode(status)
    is_preempted = code == -signal.SIGTERM and not attempt.is_timed_out
    is_asked = attempt.is_timed_out or attempt.is_cancelled
    is_of_memory = code == -signal.SIGKILL and not is_asked and machine.memory_kills() > attempt.memory_kills
    return Done(
        error=_killed(attempt, code, is_of_memory=is_of_memory),
        is_killed=True,
        is_preempted=is_preempted,
        is_lost=code == -signal.SIGKILL and not is_asked and not is_of_memory,
        usage=Usage(seconds=seconds),
    )


def _killed(attempt: Attempt, code: int | None, *, is_of_memory: bool) -> StepKilled:
    order = attempt.order
    if attempt.is_timed_out:
        text = f"step {order.name} was stopped after its limit of {order.timeout_s:g} s"
        hint = "give it a longer timeout=, or less to do"
    elif attempt.is_cancelled:
        text, hint = f"step {order.name} was cancelled", ""
    elif is_of_memory:
        text = f"the process of step {order.name} was killed by SIGKILL as the system ran out of memory"
        hint = "state memory= so that fewer steps run beside it, or take fewer --workers"
    elif code is not None and code < 0:
        text = f"the process of step {order.name} was killed by {_signal(-code)}"
        hint = _ADVICE.get(-code, "the step, or somebody else, sent that signal; its log: {log}").format(log=order.log)
    else:
        how = "is gone" if code is None else f"ended with exit code {code} and no result"
        text, hint = f"the process of step {order.name} {how}", f"its log: {order.log}"
    return StepKilled(text, where=order.where, hint=hint)


_ADVICE: dict[int, str] = {
    signal.SIGKILL: "out of memory, if nobody sent the signal: see dmesg, or state memory= to get a clear error",
    signal.SIGXCPU: "it used more processor time than `ulimit -t` allows",
    signal.SIGXFSZ: "it wrote a larger file than `ulimit -f` allows",
    signal.SIGALRM: "the step set an alarm (signal.alarm) and did not handle it",
    **dict.fromkeys(
        (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT),
        "compiled code that the step called crashed; the line that called it: {log}",
    ),
}
"""What to do about a signal that ended a step's process. A worker writes to `log` where it crashed."""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # of those that only real-time programs use
