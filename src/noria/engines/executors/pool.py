"""Runs steps in warm processes of this machine: beside each other, with limits, and out of harm's way.

A step that states `memory=`, `timeout=`, `gpu=` or `isolated=True` has a worker of its own, which
then goes; other workers stay for the next step.
"""

from __future__ import annotations

from noria.engines.executors import machine
from noria.engines.executors.orders import Editions, order_of
from noria.engines.executors.workers import Attempt, Workers
from noria.pipeline.executor import Capacity, Done, Task

__all__ = ["PoolExecutor"]


class PoolExecutor:
    """See `noria.pipeline.executor.Executor`."""

    def __init__(self) -> None:
        self._workers, self._editions = Workers(), Editions()
        self._devices = machine.devices()

    def capacity(self) -> Capacity:
        """This machine."""
        return machine.capacity(keeps_limits=True)

    def submit(self, task: Task) -> Attempt:
        """Give the task to a worker."""
        order = order_of(task, self._editions.of(task.definition))
        return self._workers.submit(order, devices=self._devices_for(task), wake=task.wake)

    def poll(self, handle: Attempt, timeout_s: float) -> Done | None:
        """What came of a task, or None while it runs."""
        handle.over.wait(timeout_s)
        return handle.done

    def cancel(self, handle: Attempt, *, grace_s: float = 0.0) -> None:
        """End the worker with everything that it started, at once or after a grace."""
        self._workers.cancel(handle, grace_s=grace_s)

    def close(self) -> None:
        """End every process."""
        self._workers.close()

    def _devices_for(self, task: Task) -> str | None:
        """The devices of a task: the free ones of those there are; None leaves the choice alone."""
        wanted = task.node.step.options.gpu
        if not self._devices:
            return None
        if not wanted:
            return ""
        held = self._workers.held_devices()
        free = [name for name in self._devices if name not in held] or self._devices
        return ",".join(free[: max(1, round(wanted))])
