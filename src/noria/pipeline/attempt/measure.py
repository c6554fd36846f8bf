"""What an attempt used, measured by the process that ran it.

Peak memory is that of the attempt alone: the kernel's high-water mark of resident memory is set back
at its start. Where that cannot be done it is read from the process as a whole, which is then an upper
bound. Children count once they were waited for.
Source: proc(5): /proc/self/clear_refs (5 resets VmHWM), /proc/self/status, /proc/self/io; getrusage(2).
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from time import perf_counter, process_time

from noria.pipeline.executor import Usage

__all__ = ["Meter"]

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = "/proc/self/status"
_IO = "/proc/self/io"


class Meter:
    """Begins to count when it is made; `read` gives what was used since."""

    def __init__(self) -> None:
        self._can_reset = _reset_peak()
        self._children_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        self._io = _io()
        self._cpu = _cpu()
        self._began = perf_counter()

    def read(self) -> Usage:
        """What was used since the meter was made."""
        read, written = _io()
        return Usage(
            seconds=perf_counter() - self._began,
            cpu_seconds=max(0.0, _cpu() - self._cpu),
            memory_peak_bytes=self._peak(),
            read_bytes=max(0, read - self._io[0]),
            written_bytes=max(0, written - self._io[1]),
        )

    def _peak(self) -> int:
        own = _peak_now() if self._can_reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return max(own, children * 1024 if children > self._children_peak else 0)


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + children.ru_utime + children.ru_stime


def _reset_peak() -> bool:
    try:
        handle = os.open(_CLEAR, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(handle, b"5")
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _peak_now() -> int:
    return int(_field(_STATUS, b"VmHWM:").split()[0]) * 1024


def _io() -> tuple[int, int]:
    try:
        return int(_field(_IO, b"rchar:")), int(_field(_IO, b"wchar:"))
    except OSError:
        return 0, 0


def _field(path: str, name: bytes) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(handle, 1 << 14)
    finally:
        os.close(handle)
    return text[text.index(name) + len(name) :].split(b"\n", 1)[0]
