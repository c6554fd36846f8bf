"""What a step that runs in this process prints to: its log, and that also after its end.

A thread that a step left running goes on printing, and a handler of `logging` that a step made keeps the stream that
it found. Closed files would make each of their lines an error on the terminal; so a log is closed when nobody holds
it any more, and what such a thread prints goes to the log of its step, whatever the streams of the process are by then.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["StepLog", "settle", "stray_log"]

_STRAYS: dict[int, tuple[threading.Thread, StepLog]] = {}
"""The threads that steps left, by their identifiers, which the system gives anew once a thread is over."""
_SERVING = ("concurrent.futures.thread", "multiprocessing.pool", "tqdm._monitor")
"""Whose threads do what they are given, and so may be at work for the step that runs now."""
_CURRENT: dict[int, StepLog] = {}
"""The log of the step that a thread is in."""


class StepLog(io.TextIOWrapper):
    """A step's log as its standard streams. What is begun here goes on here, and a line is there when it is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("ab"), encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self._is_over = False

    def __del__(self) -> None:
        self.close()

    @property
    def mode(self) -> str:
        """As that of a file that was opened so."""
        return "a"

    def begin(self) -> None:
        """The step begins, in this thread."""
        _CURRENT[threading.get_ident()] = self

    def end(self, left: Iterable[threading.Thread]) -> None:
        """The step is over, and has left these threads."""
        _CURRENT.pop(threading.get_ident(), None)
        _STRAYS.update({each.ident: (each, self) for each in left if each.ident is not None})
        self._is_over = True
        if not self.closed:
            self.flush()

    def write(self, text: str, /) -> int:
        """Write to the log of the step that the writing thread is in, or was left by; else to this one."""
        log = stray_log(is_in_step=not self._is_over)
        if log is None:
            log = _CURRENT.get(threading.get_ident(), self) if self._is_over else self
        if log._is_over and log.closed:  # by the step itself
            return len(text)
        return io.TextIOWrapper.write(log, text)


class _Apart:
    """A stream of this process for all but the threads that steps left."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def write(self, text: str) -> int:
        """Write what is ours; what is a step's goes to its log."""
        log = stray_log()
        written: int = self.real.write(text) if log is None else log.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def stray_log(*, is_in_step: bool = False) -> StepLog | None:
    """The log of the step that left the thread that asks; None for any other thread.

    Args:
        is_in_step: a step runs, which a thread that serves whoever asks it may be at work for: then None for that too.
    """
    if not _STRAYS:
        return None
    thread, log = _STRAYS.get(threading.get_ident(), (None, None))
    if thread is None or not thread.is_alive() or (is_in_step and _serves(thread)):
        return None
    return log


def _serves(thread: threading.Thread) -> bool:
    places = {getattr(getattr(thread, "_target", None), "__module__", ""), type(thread).__module__}
    return not places.isdisjoint(_SERVING)


def settle() -> None:
    """After a step: keep apart what the threads print that were left, as long as there are any."""
    for number, (thread, _) in list(_STRAYS.items()):
        if not thread.is_alive():
            _STRAYS.pop(number, None)
    for name in ("stdout", "stderr"):
        now = getattr(sys, name)
        if _STRAYS and now is not None and not isinstance(now, _Apart | StepLog):
            setattr(sys, name, _Apart(now))
        elif not _STRAYS and isinstance(now, _Apart):
            setattr(sys, name, now.real)
