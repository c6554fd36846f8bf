"""The default: in this process until two steps are ready at once, or one asks for a process of its own.

A quick chain pays for no process, and a wide pipeline uses every core. A step goes to the pool when
something else could run beside it, or when it states `memory=`, `timeout=`, `gpu=` or
`isolated=True`. A pipeline that is in no file (a notebook's) cannot be read by another process, so
all of it stays here.
"""

from __future__ import annotations

from typing import Any

from noria.engines.executors.inline import InlineExecutor
from noria.engines.executors.pool import PoolExecutor
from noria.pipeline.executor import Capacity, Done, Executor, Task

__all__ = ["AutoExecutor"]


class AutoExecutor:
    """See `noria.pipeline.executor.Executor`."""

    def __init__(self) -> None:
        self._inline, self._pool = InlineExecutor(), PoolExecutor()

    def capacity(self) -> Capacity:
        """This machine."""
        return self._pool.capacity()

    def submit(self, task: Task) -> tuple[Executor, Any]:
        """Run the task here and now, or hand it to the pool."""
        needs_pool = task.node.step.options.needs_own_process or not task.is_alone
        chosen: Executor = self._pool if needs_pool and task.is_in_file else self._inline
        return chosen, chosen.submit(task)

    def poll(self, handle: tuple[Executor, Any], timeout_s: float) -> Done | None:
        """What came of a task."""
        executor, inner = handle
        return executor.poll(inner, timeout_s)

    def cancel(self, handle: tuple[Executor, Any], *, grace_s: float = 0.0) -> None:
        """End a task of the pool."""
        executor, inner = handle
        executor.cancel(inner, grace_s=grace_s)

    def close(self) -> None:
        """End the pool's processes."""
        self._pool.close()
