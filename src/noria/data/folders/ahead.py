"""A walk that a fork of a command does while the command itself loads what it needs: on two cores it costs no time.

Only a face that is about to add a folder begins one, while it is the only thread of its process. What was
seen so is as old as the command, which is the moment of which a version is anyway; whoever takes it looks
again at each folder that is not as it is remembered. It is a guess, and may come to nothing: the arguments
are not parsed yet, so it may be of another folder than what is added, and then nobody asks for it.
"""

from __future__ import annotations

import contextvars
import marshal
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.data.folders.walk import Folder, walk

__all__ = ["begin", "taken"]

FILES_MAX = 200_000
"""A larger folder is not held in memory: whoever adds it walks it, a folder at a time."""
FRESH_S = 5.0
"""What was seen is not believed for longer: whoever waited for another process looks again."""


@dataclass(frozen=True, slots=True)
class _Walking:
    """A fork at work: what it sees goes to a file in memory, whole once it has ended well."""

    root: Path
    process: int
    handle: int
    begun: float


_WALKING: contextvars.ContextVar[_Walking | None] = contextvars.ContextVar("noria_walking", default=None)


def begin(arguments: Sequence[str]) -> None:
    """Let a fork walk the first folder that the arguments name, if they name one and nothing else runs here."""
    place = next((each for each in arguments if not each.startswith("-") and os.path.isdir(each)), None)  # noqa: PTH112
    if place is None or sys.platform != "linux" or len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        return  # elsewhere a process does not tell its threads, and a fork of one among several may hang
    root = Path(place).resolve()
    handle = os.memfd_create("noria-walk")
    process = os.fork()
    if process == 0:
        _walk(root, handle)
    _WALKING.set(_Walking(root, process, handle, time.monotonic()))


def taken(root: Path) -> list[Folder] | None:
    """The folders under a root as they were a moment ago, parents first; None if nobody has looked. Given once."""
    walking = _WALKING.get()
    if walking is None or walking.root != root:
        return None
    _WALKING.set(None)
    try:
        _, status = os.waitpid(walking.process, 0)
        if status or time.monotonic() - walking.begun > FRESH_S:
            return None
        content = os.pread(walking.handle, os.fstat(walking.handle).st_size, 0)
    finally:
        os.close(walking.handle)
    return [
        Folder(place, prefix, files, folders, frozenset(repeated), left_out)
        for place, prefix, files, folders, repeated, left_out in marshal.loads(content)  # our own fork's
    ]


def _walk(root: Path, handle: int) -> None:
    """In the fork: look, tell, and end. What goes wrong is found again, and told, by whoever then looks itself."""
    code = 1
    try:
        found, files = [], 0
        for each in walk(root):
            files += len(each.files)
            if files > FILES_MAX:
                break
            found.append((each.place, each.prefix, each.files, each.folders, tuple(each.repeated), each.left_out))
        else:
            content = memoryview(marshal.dumps(found))
            while content:
                content = content[os.write(handle, content) :]
            code = 0
    finally:
        os._exit(code)
