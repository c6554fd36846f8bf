"""Who holds a lease: a process, by a name that no other process anywhere has.

A name says host, boot, process and the moment it began, the machine, and the space that its process
number is of. So a holder that died on this machine is seen to be gone at once, and what is said of
one process is never taken for another's: two machines may be called the same, a number is given
again, and each container counts its processes from 1. Of a process elsewhere nothing is claimed:
its lease runs out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

__all__ = ["is_dead", "is_stopped", "owner_id"]

_STOPPED = ("T", "t")
_OVER = ("Z", "X")


def owner_id() -> str:
    """The name of this process: host, boot, process id, the process's own start time, machine, space of process ids."""
    pid = os.getpid()
    return json.dumps([os.uname().nodename, _boot(), pid, _start_of(pid), _machine(), _space()])


def is_dead(owner: str) -> bool:
    """Whether an owner (`owner_id`) is a process of this machine that is no more. False where that is not known."""
    try:
        host, boot, pid, began, *rest = json.loads(owner)
        number = int(pid)
    except (ValueError, TypeError):
        return False
    machine, space = (*rest, "", "")[:2]
    if host != os.uname().nodename or (machine and _machine() and machine != _machine()):
        return False
    if boot != _boot():
        return True
    if space and space != _space():
        return False
    return bool(_start_of(number) != began)


def is_stopped(pid: int) -> bool:
    """Whether a process of this machine is stopped, by SIGSTOP, a terminal or a debugger."""
    return _state_of(pid)[0] in _STOPPED


def _boot() -> str:
    return _first_line("/proc/sys/kernel/random/boot_id")


def _machine() -> str:
    """The machine's own id; "" where it has none. Source: machine-id(5)."""
    return _first_line("/etc/machine-id")


def _space() -> str:
    """The space that process ids are of; "" where there are none. Source: pid_namespaces(7)."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it is no path
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """The start time of a process in clock ticks since boot; "" if there is none."""
    state, began = _state_of(pid)
    return "" if state in _OVER else began


def _state_of(pid: int) -> tuple[str, str]:
    """(state, start time) of a process; two empty texts if there is none.

    Source: proc(5), fields 3 and 22 of /proc/[pid]/stat; the name before them may hold any character.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
