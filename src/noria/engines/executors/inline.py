"""Runs a step in this process: the default, with nothing to start and values kept in memory.

What the step prints goes to its log file as it is printed. An exception of the step is its failure;
a limit on memory or time cannot be kept here, so steps that state one run in the pool.
"""

from __future__ import annotations

import contextlib
import io
import resource
import time
import traceback
from typing import Any, TextIO

from noria.core.errors import NoriaError, StepFailed
from noria.pipeline.ambient import around
from noria.pipeline.call import failure, outputs_of
from noria.pipeline.executor import Done, Task

__all__ = ["InlineExecutor"]


class InlineExecutor:
    """See `noria.pipeline.executor.Executor`. A task is over when `submit` returns."""

    def submit(self, task: Task) -> Done:
        """Run the task now."""
        began, cpu = time.perf_counter(), time.process_time()
        task.log.parent.mkdir(parents=True, exist_ok=True)
        outputs: tuple[Any, ...] = ()
        error: NoriaError | None = None
        with task.log.open("w", encoding="utf-8", buffering=1) as log:
            try:
                with _printing_to(log), around(task.ambient):
                    result = task.node.step.function(**task.arguments)
                outputs = outputs_of(task.ws.objects, task.node, result, memory=task.memory)
            except NoriaError as raised:
                error = raised
            except MemoryError as raised:
                error = StepFailed(f"step {task.node.name} ran out of memory", where=failure(raised, task).where)
            except (Exception, SystemExit) as raised:  # noqa: BLE001  # the boundary to the project's code
                traceback.print_exception(raised, file=log)
                error = failure(raised, task)
        return Done(
            outputs=outputs,
            error=error,
            seconds=time.perf_counter() - began,
            cpu_seconds=time.process_time() - cpu,
            memory_peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )

    def poll(self, handle: Done, timeout_s: float) -> Done | None:
        """The result, which is there already."""
        return handle

    def cancel(self, handle: Done) -> None:
        """Nothing is going on any more."""


@contextlib.contextmanager
def _printing_to(log: TextIO) -> Any:
    """Send what is printed to the log, for this block. Output of compiled code is not caught."""
    sink: io.TextIOBase = log  # type: ignore[assignment]  # a text file is one
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield
