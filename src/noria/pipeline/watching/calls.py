"""Which code runs while a step is watched: each code object once, by what the version of Python has for it.

`sys.monitoring` from 3.12, the interpreter's C profiler before. Where that is taken by somebody else, the
watch is blind, and says why.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import CodeType
from typing import Any, Protocol

__all__ = ["Seen", "calls"]


class Seen(Protocol):
    """What the code that ran is told to: a watch."""

    codes: set[CodeType]
    blind: str

    def ran(self, code: CodeType) -> None:
        """A code object ran."""


if sys.version_info >= (3, 12):

    @contextlib.contextmanager
    def calls(made: Seen) -> Iterator[None]:
        """Note each code object that runs, once."""
        monitoring = sys.monitoring
        tool = next((number for number in (4, 3, 2) if monitoring.get_tool(number) is None), None)
        if tool is None:
            made.blind = "every monitoring tool of Python is taken"
            yield
            return

        def started(code: CodeType, _offset: int) -> object:
            made.ran(code)
            return monitoring.DISABLE

        monitoring.use_tool_id(tool, "noria")
        monitoring.register_callback(tool, monitoring.events.PY_START, started)
        monitoring.restart_events()
        monitoring.set_events(tool, monitoring.events.PY_START)
        try:
            yield
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, monitoring.events.PY_START, None)
            monitoring.free_tool_id(tool)

else:
    import _lsprof

    @contextlib.contextmanager
    def calls(made: Seen) -> Iterator[None]:
        """Note each code object that runs, in this thread and those that it starts, by the C profiler."""
        if sys.getprofile() is not None:
            made.blind = "a profiler is on"
            yield
            return
        started: list[Any] = []

        def begin(*_: object) -> None:
            one = _lsprof.Profiler(subcalls=False, builtins=False)
            started.append(one)
            one.enable()

        begin()
        threading.setprofile(begin)
        try:
            yield
        finally:
            if sys.getprofile() is not started[0]:
                made.blind = "the step has a profiler of its own"
            started[0].disable()
            threading.setprofile(None)
            for one in started:
                made.codes.update(entry.code for entry in one.getstats() if isinstance(entry.code, CodeType))
