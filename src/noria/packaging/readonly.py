"""Folders that this process, and what it starts, can only read: in a view of the mounts of their own.

For what a fence (`packaging/fence.py`) cannot say: that a folder may be written in, but for some below it. Where the
system does not let an ordinary process have such a view, nothing is changed and that is told.

Source: unshare(2), mount(2), user_namespaces(7), mount_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["only_readable"]

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
"""CLONE_NEWNS and CLONE_NEWUSER of unshare(2)."""
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_KEPT = 2 | 4 | 8 | 1024 | 2048 | (1 << 21)
"""Flags of a mount that may not be taken away in a view of one's own: nosuid, nodev, noexec, noatime and such."""


def only_readable(folders: Iterable[Path], *, but: Iterable[Path]) -> bool:
    """Make the folders read-only, but for those below that are named; whether that worked. Never undone.

    For the one thread of a process. What was open before can be written to as before.
    """
    if not _own_view():
        return False
    kept = [os.fsencode(each) for each in but]
    if not all(_mount(each, each, _BIND) for each in kept):
        return False
    for folder in folders:
        name = os.fsencode(folder)
        flags = os.statvfs(folder).f_flag & _KEPT
        if not (_mount(name, name, _BIND | _RECURSIVE) and _mount(None, name, _REMOUNT | _BIND | _READ_ONLY | flags)):
            return False
    os.chdir(Path.cwd())  # the current folder is that of the new view
    return True


def _own_view() -> bool:
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    if unshare is None:
        return False
    user, group = os.getuid(), os.getgid()
    if unshare(_NEW_MOUNTS) != 0:
        if unshare(_NEW_MOUNTS | _NEW_USER) != 0:
            return False
        own = Path("/proc/self")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            (own / name).write_text(text, encoding="ascii")
    return _mount(None, b"/", _RECURSIVE | _PRIVATE)


def _mount(source: bytes | None, target: bytes, flags: int) -> bool:
    return int(ctypes.CDLL(None).mount(source, target, None, ctypes.c_ulong(flags), None)) == 0
