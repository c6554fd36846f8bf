"""Being asked to leave (SIGTERM) while a step runs: at once, or at the end of a pass that can be taken up again.

A preempted machine gives its processes some seconds. A step that goes through `nr.checkpointed`
finishes its pass, saves, and leaves; any other step is left where it stands, since it starts anew
anyway. What is being stored or written is finished first: only the step's own code is interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from noria.pipeline.ambient import Preempted

__all__ = ["Leaving", "leaving", "on_sigterm"]


class Leaving:
    """Whether this process was asked to leave, whether a step's own code runs in it, and what waits to be written."""

    def __init__(self) -> None:
        self.is_asked = False
        self._is_calling = False
        self._passes = 0
        self._is_recorded = threading.Event()
        self._is_recorded.set()

    def ask(self) -> None:
        """Leave as soon as may be. On the main thread only: it raises Preempted there, in the step's code."""
        self.is_asked = True
        if self._is_calling and not self._passes:
            raise Preempted

    def forget(self) -> None:
        """Nobody asks any more: a new execution in a process that stayed."""
        self.is_asked = False

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """The block is a step's own code. What it did to the world is done when it ends, and not on record yet."""
        self._is_calling = True
        try:
            yield
        finally:
            self._is_recorded.clear()
            self._is_calling = False

    def recorded(self) -> None:
        """What came of the step is on record, or never will be."""
        self._is_recorded.set()

    def wait_recorded(self, limit_s: float) -> None:
        """Return, in any thread, when what a step's code gave is on record; at once if none has ended."""
        self._is_recorded.wait(limit_s)

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """The block goes pass by pass, and looks at `is_asked` after each."""
        self._passes += 1
        try:
            yield
        finally:
            self._passes -= 1


@functools.cache
def leaving() -> Leaving:
    """That of this process."""
    return Leaving()


@contextlib.contextmanager
def on_sigterm(told: Callable[[], None]) -> Iterator[None]:
    """For the block, SIGTERM calls `told` and then asks the running step to leave. Elsewhere than on the main
    thread signals cannot be taken: then nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        told()
        leaving().ask()

    leaving().forget()
    before: Any = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        leaving().forget()
