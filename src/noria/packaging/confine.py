"""Giving up what a process that runs somebody's code does not need: the network, new programs, resources.

Each measure is tried, and what is in force is told. On Linux the network goes by a namespace of its own; a filter of
system calls keeps the process from making sockets, starting programs and looking into other processes. Elsewhere,
and where the system refuses, the limits of resources are all there is, and `Confinement` says so.

Source: unshare(2), seccomp(2), setrlimit(2); filter: kernel.org, userspace-api/seccomp_filter (BPF over seccomp_data).
"""

from __future__ import annotations

import ctypes
import platform
import resource
import struct
from collections.abc import Mapping

from noria.core.frozen import frozen

__all__ = ["Confinement", "confine"]

_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
"""CLONE_NEWNET and CLONE_NEWUSER of unshare(2)."""
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _ERRNO_EPERM = 0x7FFF0000, 0x00050001
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_X32 = 0x40000000
OPEN_FILES_MAX, FILE_BYTES_MAX = 1024, 1 << 30

_REFUSED: Mapping[str, tuple[int, tuple[int, ...]]] = {
    # audit architecture, then: socket, connect, execve, execveat, ptrace, process_vm_readv, process_vm_writev,
    # io_uring_setup, pidfd_getfd, bpf, mount
    "x86_64": (0xC000003E, (41, 42, 59, 322, 101, 310, 311, 425, 438, 321, 165)),
    "aarch64": (0xC00000B7, (198, 203, 221, 281, 117, 270, 271, 425, 438, 280, 40)),
}


@frozen
class Confinement:
    """What holds for a process: `network` is whether it still has one, `programs` whether it may start others."""

    network: bool
    programs: bool

    def text(self) -> str:
        """As people read it, such as `without a network, without new programs`."""
        network = "with this machine's network, which the system did not let go of"
        programs = "free to start programs, which the system did not forbid"
        return ", ".join(
            (
                network if self.network else "without a network",
                programs if self.programs else "without new programs",
            )
        )


def confine(*, cpu_s: int = 0) -> Confinement:
    """Give up all that can be; never undone. For the one thread of a new process.

    Args:
        cpu_s: processor seconds after which the system ends the process; 0 sets no limit.
    """
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, OPEN_FILES_MAX)]
    limits += [(resource.RLIMIT_FSIZE, FILE_BYTES_MAX), *([(resource.RLIMIT_CPU, cpu_s)] if cpu_s else [])]
    for limit, most in limits:
        _, hard = resource.getrlimit(limit)
        top = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (top, top))
    has_left = _leave_network()
    is_filtered = _filter_calls()
    return Confinement(network=not (has_left or is_filtered), programs=not is_filtered)


def _leave_network() -> bool:
    """Go where there is no network; whether that worked."""
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    if unshare is None:
        return False
    return any(unshare(flags) == 0 for flags in (_NEW_NETWORK, _NEW_NETWORK | _NEW_USER))


def _filter_calls() -> bool:
    """Let the system answer EPERM to what is in `_REFUSED`; whether that worked."""
    known = _REFUSED.get(platform.machine())
    control = getattr(ctypes.CDLL(None), "prctl", None)
    if known is None or control is None or platform.system() != "Linux":
        return False
    architecture, calls = known
    body = b"".join(struct.pack("HBBI", *each) for each in _program(architecture, calls))
    held = ctypes.create_string_buffer(body, len(body))
    program = struct.pack("HxxxxxxP", len(body) // 8, ctypes.addressof(held))
    told = ctypes.create_string_buffer(program, len(program))
    none = ctypes.c_ulong(0)
    if control(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), none, none, none) != 0:
        return False
    return bool(control(_SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(told), none, none) == 0)


def _program(architecture: int, calls: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """(code, jump if true, jump if false, value) of each step: a call of the list ends at the last step, EPERM."""
    head = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _ERRNO_EPERM), (_LOAD, 0, 0, 0)]
    tests = [(_AT_LEAST, _X32), *((_EQUAL, call) for call in calls)]  # from _X32 on: another numbering of the same
    asked = [(code, len(tests) - place, 0, value) for place, (code, value) in enumerate(tests)]
    return [*head, *asked, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO_EPERM)]
