"""Keeping what a process, and all that it starts, writes inside some folders: for code that is run again elsewhere.

The system itself refuses every other write: opening for writing, making, renaming, cutting and removing of files and
folders, whoever asks, also a compiled library or another program. Reading stays free. Never undone. Linux from 6.2
has it (Landlock, third interface); where the system has it not, `can_fence` says so, and nothing is run.
Not refused: other modes, owners and times of files that are there, and what another process does that is asked to.

Source: kernel.org, userspace-api/landlock; landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noria.packaging.readonly import only_readable

__all__ = ["can_fence", "fence"]

_CREATE, _ADD, _RESTRICT = 444, 445, 446
"""The system calls; their numbers are the same on every processor."""
_VERSION, _BENEATH, _NO_NEW_PRIVILEGES = 1, 1, 38
_LEAST = 3
"""The interface that also refuses truncate(2)."""
_WRITE = 1 << 1 | 1 << 14
"""To write to a file, and to cut it."""
_CHANGES = _WRITE | sum(1 << bit for bit in range(4, 14))
"""To remove files and folders, make each kind of file, and rename between folders, too."""
_DEVICES = ("null", "zero", "full", "tty", "ptmx", "pts", "kfd", "dri", "nvidia*")
"""Devices that programs write to: nothing, terminals, graphics processors."""
_SHARED = Path("/dev/shm")


def can_fence() -> bool:
    """Whether the system can do it."""
    if not sys.platform.startswith("linux"):
        return False
    return _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)) >= _LEAST


def fence(folders: Sequence[Path], *, guarded: Sequence[Path] = ()) -> bool:
    """Let this thread, and what it starts from now on, write in the folders only; whether that worked.

    Terminals and the like can be written to as before. So can the memory that processes share (`/dev/shm`), which
    semaphores need: where one of the `guarded` paths lies there, all that is beside it in its folder of `/dev/shm`
    is made read-only first, and if the system refuses that, nothing can be written in `/dev/shm`. For a process
    with one thread, or whose other threads write nothing.
    """
    if not can_fence():
        return False
    shared = {_SHARED / path.relative_to(_SHARED).parts[0] for path in guarded if _SHARED in path.parents}
    below = [each for each in folders if any(each.is_relative_to(top) for top in shared)]
    is_shared = _SHARED.is_dir() and _SHARED not in guarded
    if is_shared and shared:
        is_shared = only_readable(sorted(top for top in shared if top.exists()), but=below)
    asked = struct.pack("Q", _CHANGES)
    rules = _call(_CREATE, asked, ctypes.c_size_t(len(asked)), ctypes.c_uint32(0))
    if rules < 0:
        return False
    try:
        known = [(folder, _CHANGES) for folder in folders]
        known += [(place, _WRITE) for name in _DEVICES for place in Path("/dev").glob(name)]
        if is_shared:
            known.append((_SHARED, _CHANGES))
        if not all(_allow(rules, place, rights) for place, rights in known):
            return False
        none = ctypes.c_ulong(0)
        if ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), none, none, none) != 0:
            return False
        return _call(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0)) == 0
    finally:
        os.close(rules)


def _allow(rules: int, place: Path, rights: int) -> bool:
    handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, handle)
        return _call(_ADD, ctypes.c_int(rules), ctypes.c_int(_BENEATH), rule, ctypes.c_uint32(0)) == 0
    finally:
        os.close(handle)


def _call(number: int, *given: Any) -> int:
    return int(ctypes.CDLL(None).syscall(ctypes.c_long(number), *given))
