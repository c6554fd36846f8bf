"""Runs a step in this process: nothing to start, and values kept in memory.

What the step prints goes to its log file as it is printed, with what compiled code and child processes
write to standard output; what those write to standard error is not caught. Limits on memory and time cannot
be kept here: a pipeline with steps that state them is refused, or `auto` takes the pool for those.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

from noria.core.lazy import lazy
from noria.engines.executors import machine, streams
from noria.pipeline.executor import Capacity, Done, Task

if TYPE_CHECKING:
    from noria.pipeline.attempt import call, exits, threads
else:
    threads = lazy("noria.pipeline.attempt.threads")
    call = lazy("noria.pipeline.attempt.call")  # nothing is called where all is found in the cache
    exits = lazy("noria.pipeline.attempt.exits")

__all__ = ["InlineExecutor"]

STDOUT, STDERR = 1, 2

ctypes = lazy("ctypes")


class InlineExecutor:
    """See `noria.pipeline.executor.Executor`. A task is over when `submit` returns."""

    def __init__(self) -> None:
        self._leftover: threads.Leftover | None = None

    def capacity(self) -> Capacity:
        """This machine, for one task at a time."""
        return machine.capacity(slots=1, keeps_limits=False)

    def submit(self, task: Task) -> Done:
        """Run the task now."""
        task.log.parent.mkdir(parents=True, exist_ok=True)
        if task.attempt == 1:
            task.log.write_bytes(b"")
        own = task.node.step.function.__globals__
        log = streams.StepLog(task.log)
        with _printing_to(log), exits.kept(task.name, own):
            handle = os.dup(log.fileno())  # the step has the log itself, and may close it
            before, running = os.fstat(handle), set(threading.enumerate())
            log.begin()
            try:
                done = call.run(task)
            finally:
                exits.require_open(task.name, handle, before)
                os.close(handle)
                self._leftover = self._leftover or threads.Leftover()
                log.end(self._leftover.add(task.name, running))
        streams.settle()
        task.wake()
        return done

    def poll(self, handle: Done, timeout_s: float) -> Done | None:
        """The result, which is there already."""
        return handle

    def cancel(self, handle: Done, *, grace_s: float = 0.0) -> None:
        """Nothing is going on any more."""

    def close(self) -> None:
        """Nothing is held."""
        streams.settle()


@contextlib.contextmanager
def _printing_to(log: TextIO) -> Any:
    """Send what is printed to the log, for this block, and what anything writes to standard output below Python."""
    sink: io.TextIOBase = log  # type: ignore[assignment]  # a text file is one
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        handle = log.fileno()  # asked now: the step may close what it is given as standard output
        _stdout().send(handle)
        try:
            yield
        finally:
            _stdout().release(handle)


class _Stdout:
    """Where descriptor 1 of this process goes: to the log of the step that began last, after all of them where it was.

    A step in another thread may begin and end meanwhile; only one log can have the descriptor.
    """

    def __init__(self) -> None:
        self._logs: list[int] = []
        self._before = self._errors = -1
        self._lock = threading.Lock()

    def send(self, log: int) -> None:
        """Let a log have it. A process that has closed its standard output is left as it is."""
        with self._lock:
            if sys.__stdout__ is not None and not sys.__stdout__.closed:
                sys.__stdout__.flush()
            if not self._logs:
                try:
                    self._before = os.dup(STDOUT)
                except OSError:
                    return
                with contextlib.suppress(OSError):
                    self._errors = os.dup(STDERR)
            self._logs.append(log)
            os.dup2(log, STDOUT)

    def release(self, log: int) -> None:
        """A log no longer has it."""
        with self._lock:
            if log not in self._logs:
                return
            ctypes.CDLL(None).fflush(None)  # what compiled code has printed may be in the C library still
            self._logs.remove(log)
            if self._logs:
                os.dup2(self._logs[-1], STDOUT)
                return
            os.dup2(self._before, STDOUT)
            os.close(self._before)
            if self._errors >= 0:
                if not _is_open(STDERR):  # a step closed it: the next file that is opened would get its number
                    os.dup2(self._errors, STDERR)
                os.close(self._errors)
                self._errors = -1


def _is_open(handle: int) -> bool:
    try:
        os.fstat(handle)
    except OSError:
        return False
    return True


@functools.cache
def _stdout() -> _Stdout:
    """That of this process."""
    return _Stdout()
