"""Runs a step in this process: nothing to start, and values kept in memory.

What the step prints goes to its log file as it is printed. Limits on memory and time cannot be kept
here: a pipeline with steps that state them is refused, or `auto` takes the pool for those.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any, TextIO

from noria.engines.executors import machine
from noria.pipeline import call
from noria.pipeline.executor import Capacity, Done, Task

__all__ = ["InlineExecutor"]


class InlineExecutor:
    """See `noria.pipeline.executor.Executor`. A task is over when `submit` returns."""

    def capacity(self) -> Capacity:
        """This machine, for one task at a time."""
        return machine.capacity(slots=1, keeps_limits=False)

    def submit(self, task: Task) -> Done:
        """Run the task now."""
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("w" if task.attempt == 1 else "a", encoding="utf-8", buffering=1) as log, _printing_to(log):
            done = call.run(task)
        task.wake()
        return done

    def poll(self, handle: Done, timeout_s: float) -> Done | None:
        """The result, which is there already."""
        return handle

    def cancel(self, handle: Done, *, grace_s: float = 0.0) -> None:
        """Nothing is going on any more."""

    def close(self) -> None:
        """Nothing is held."""


@contextlib.contextmanager
def _printing_to(log: TextIO) -> Any:
    """Send what is printed to the log, for this block. Output of compiled code is not caught."""
    sink: io.TextIOBase = log  # type: ignore[assignment]  # a text file is one
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield
