"""How much may run at once: cores, memory and devices, given out and taken back, never more than there are.

Pure: what a machine has is looked up by executors (`Capacity`), what a step needs is in its options.
"""

from __future__ import annotations

import math

from noria.core.frozen import frozen
from noria.pipeline.options import StepOptions

__all__ = ["Capacity", "Need", "Room", "lacking", "need_of"]

_GRAIN = 1e-9
"""Sums of shares such as 0.1 are compared with this much grace."""


@frozen(kw_only=True)
class Need:
    """What one attempt takes while it runs."""

    cpu: float = 1.0
    memory_bytes: int = 0
    gpu: float = 0.0


@frozen(kw_only=True)
class Capacity:
    """What an executor has: cores, bytes of memory (0: not known), devices.

    `slots` bounds the tasks at once whatever they need. `keeps_limits` says whether it can keep
    `memory=`, `timeout=` and `isolated=True`. `each` is what one task can have at most, where that is
    less than all: that of the largest machine.
    """

    cpu: float
    memory_bytes: int = 0
    gpu: float = 0.0
    slots: int = 1
    keeps_limits: bool = True
    each: Need | None = None

    @property
    def largest(self) -> Need:
        """What one task can have at most."""
        return self.each or Need(cpu=self.cpu, memory_bytes=self.memory_bytes, gpu=self.gpu)


def need_of(options: StepOptions, capacity: Capacity) -> Need:
    """What a step takes of an executor. More cores than there are is all of them: it is slower, and right."""
    return Need(cpu=min(options.cpu, capacity.largest.cpu), memory_bytes=options.memory_bytes, gpu=options.gpu)


def lacking(options: StepOptions, capacity: Capacity) -> str:
    """What a step asks for and an executor can never give, in words; "" if it can."""
    most = capacity.largest
    if options.gpu > most.gpu:
        return f"gpu={options.gpu:g}, and there {'is none' if not most.gpu else f'are {most.gpu:g}'}"
    if most.memory_bytes and options.memory_bytes > most.memory_bytes:
        return f"memory of {_gib(options.memory_bytes)}, and there is {_gib(most.memory_bytes)}"
    if options.needs_own_process and not capacity.keeps_limits:
        return "a process of its own (memory=, timeout=, gpu= or isolated=True)"
    return ""


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"


class Room:
    """What of a capacity is free. Not thread safe: the one loop that starts attempts asks it."""

    def __init__(self, capacity: Capacity) -> None:
        assert capacity.slots > 0, "an executor runs at least one task"
        self.capacity = capacity
        self._taken: dict[str, Need] = {}

    @property
    def running(self) -> int:
        """How many attempts hold something."""
        return len(self._taken)

    def take(self, name: str, need: Need) -> bool:
        """Reserve for an attempt; False, and nothing reserved, if there is not enough."""
        assert name not in self._taken, f"{name} holds its part already"
        if not self._fits(need):
            return False
        self._taken[name] = need
        return True

    def give(self, name: str) -> None:
        """The attempt is over. Idempotent."""
        self._taken.pop(name, None)

    def used(self) -> Need:
        """The sum of what is reserved."""
        held = self._taken.values()
        return Need(
            cpu=math.fsum(need.cpu for need in held),
            memory_bytes=sum(need.memory_bytes for need in held),
            gpu=math.fsum(need.gpu for need in held),
        )

    def _fits(self, need: Need) -> bool:
        if len(self._taken) >= self.capacity.slots:
            return False
        used, has = self.used(), self.capacity
        return (
            used.cpu + need.cpu <= has.cpu + _GRAIN
            and (not has.memory_bytes or used.memory_bytes + need.memory_bytes <= has.memory_bytes)
            and used.gpu + need.gpu <= has.gpu + _GRAIN
        )
