"""The default: in this process until two steps are ready at once, or one asks for a process of its own.

A quick chain pays for no process, and a wide pipeline uses every core. A step goes to the pool when
something else could run beside it, or when it states `memory=`, `timeout=`, `gpu=` or
`isolated=True`. A pipeline that is in no file (a notebook's) cannot be read by another process, so
all of it stays here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.engines.executors import machine
from noria.engines.executors.inline import InlineExecutor
from noria.pipeline.executor import Capacity, Done, Executor, Task

if TYPE_CHECKING:
    from noria.engines.executors import pool
else:
    pool = lazy("noria.engines.executors.pool")  # a chain needs none

__all__ = ["AutoExecutor"]


class AutoExecutor:
    """See `noria.pipeline.executor.Executor`."""

    def __init__(self) -> None:
        self._inline = InlineExecutor()
        self._pool: pool.PoolExecutor | None = None

    def capacity(self) -> Capacity:
        """This machine."""
        return machine.capacity(keeps_limits=True)

    def submit(self, task: Task) -> tuple[Executor, Any]:
        """Run the task here and now, or hand it to the pool."""
        needs_pool = task.node.step.options.needs_own_process or not task.is_alone
        if not needs_pool or not task.is_in_file:
            return self._inline, self._inline.submit(task)
        if self._pool is None:
            self._pool = pool.PoolExecutor()
        return self._pool, self._pool.submit(task)

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
        if self._pool is not None:
            self._pool.close()
