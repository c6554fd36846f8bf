"""What a fork of a command does while the command itself loads what it needs: on two cores it costs no time.

It walks the folder that is to be added, and reads and hashes its files if the project has never seen it. Only a
face that is about to add a folder begins one, while it is the only thread of its process. What was seen so is as
old as the command, which is the moment of which a version is anyway; whoever takes it looks again at each folder
that is not as it is remembered, and at the stamp of each file. It is a guess, and may come to nothing: the
arguments are not parsed yet, so it may be of another folder than what is added, and then nobody asks for it.
"""

from __future__ import annotations

import contextvars
import marshal
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from noria.core.frozen import frozen
from noria.data.folders.roots import is_known
from noria.data.folders.slots import Reader, Slots, Stamp
from noria.data.folders.walk import Folder, walk

__all__ = ["Seen", "begin", "taken"]

FILES_MAX = 200_000
"""A larger folder is not held in memory: whoever adds it walks it, a folder at a time."""
FRESH_S = 5.0
"""What was seen is not believed for longer: whoever waited for another process looks again."""
_PROJECT = "noria.toml"
_WALKED, _FAILED = b"\1", b"\0"


@frozen
class Seen:
    """The folders under a root as they were a moment ago, parents first, and the files that are new as they are read.

    Close `files`.
    """

    folders: list[Folder]
    files: Reader
    begun: float

    def age_ns(self) -> int:
        """How long ago it began."""
        return int((time.monotonic() - self.begun) * 1e9)


@frozen
class _Walking:
    """A fork at work: what it sees goes to a file in memory, and it says when that is whole."""

    root: Path
    process: int
    handle: int
    told: int
    slots: Slots
    begun: float


_WALKING: contextvars.ContextVar[_Walking | None] = contextvars.ContextVar("noria_walking", default=None)


def begin(arguments: Sequence[str]) -> None:
    """Let a fork walk the first folder that the arguments name, if they name one and nothing else runs here."""
    place = next((each for each in arguments if not each.startswith("-") and os.path.isdir(each)), None)  # noqa: PTH112
    if place is None or sys.platform != "linux" or len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        return  # elsewhere a process does not tell its threads, and a fork of one among several may hang
    root = Path(place).resolve()
    begun = time.monotonic()
    handle = os.memfd_create("noria-walk")
    slots = Slots.made()
    told, tell = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(told)
        _work(root, handle, tell, slots)
    os.close(tell)
    _WALKING.set(_Walking(root, process, handle, told, slots, begun))


def taken(root: Path) -> Seen | None:
    """What was seen of a root; None if nobody has looked, or too long ago. Given once."""
    walking = _WALKING.get()
    if walking is None or walking.root != root:
        return None
    _WALKING.set(None)
    files = Reader(walking.slots, walking.process)
    try:
        has_walked = os.read(walking.told, 1) == _WALKED
        content = os.pread(walking.handle, os.fstat(walking.handle).st_size, 0)
    finally:
        os.close(walking.told)
        os.close(walking.handle)
    if not has_walked or time.monotonic() - walking.begun > FRESH_S:
        files.close()
        return None
    folders = [
        Folder(place, prefix, files, folders, frozenset(repeated), left_out)
        for place, prefix, files, folders, repeated, left_out in marshal.loads(content)  # our own fork's
    ]
    return Seen(folders, files, walking.begun)


def _work(root: Path, handle: int, tell: int, slots: Slots) -> None:
    """In the fork: look, tell, read, and end. What goes wrong is found again, and told, by whoever then does it."""
    try:
        found = _walked(root, handle)
        os.write(tell, _WALKED if found is not None else _FAILED)
        os.close(tell)
        if found:
            slots.fill(_new(found, root))
    finally:
        os._exit(0)


def _walked(root: Path, handle: int) -> list[Folder] | None:
    """Every folder under a root, also as bytes in a file; None if there are too many files."""
    found, files = [], 0
    for each in walk(root):
        files += len(each.files)
        if files > FILES_MAX:
            return None
        found.append(each)
    told = [(each.place, each.prefix, each.files, each.folders, tuple(each.repeated), each.left_out) for each in found]
    content = memoryview(marshal.dumps(told))
    while content:
        content = content[os.write(handle, content) :]
    return found


def _new(found: Sequence[Folder], root: Path) -> Iterator[tuple[str, Stamp]]:
    """The files of a folder that the project has never seen; of another one few are new, and none is read ahead."""
    here = Path.cwd()
    project = next((each for each in (here, *here.parents) if (each / _PROJECT).is_file()), None)
    if project is not None and not is_known(project / ".noria", root):
        yield from ((folder.path(file[0]), file[1:]) for folder in found for file in folder.files)
