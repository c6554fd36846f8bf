"""Files read and hashed by a fork, on their way to its parent through memory that both share.

The memory is a few slots. The fork fills one with the bytes of some hundred files and what is to be known of
them, tells its number through a pipe, and goes on with the next; whoever has taken over a slot gives it back
through another pipe. So the fork is ahead by some megabytes, and never by more, and when either side is gone
the other sees the end of a pipe. What a fork tells of a file is a guess until its stamp is looked at again.
"""

from __future__ import annotations

import hashlib
import marshal
import mmap
import os
import signal
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from noria.core.frozen import frozen

__all__ = ["Read", "Reader", "Slots", "Stamp"]

SLOT_BYTES = 4 << 20
SLOTS = 12
"""What a fork may be ahead by: about what it reads while the command loads what it needs."""
SMALL_BYTES = 64 << 10
"""Larger files are left to whoever stores them: they are not hashed as one piece only."""
_GROUP = 256
_TABLE_BYTES = 512 << 10
"""The room for what is told of the files of a slot: names are at most 4096 bytes long, most of them a hundredth."""
_ROOM = SLOT_BYTES - _TABLE_BYTES
_MESSAGE = struct.Struct("<III")
"""The number of a slot, and where in it the table of its files begins and how long it is."""

Stamp = tuple[int, int, int, int]
"""Size, mtime_ns, ctime_ns, inode: see `walk.File`."""


class Read(NamedTuple):
    """A file as it was read: `stamp` was so before and after."""

    path: str
    stamp: Stamp
    key: bytes
    content: bytes


@frozen
class Slots:
    """The shared memory and both pipes, made before the fork: (read end, write end)."""

    memory: mmap.mmap
    filled: tuple[int, int]
    free: tuple[int, int]

    @staticmethod
    def made() -> Slots:
        """New ones, all free. Memory is taken as it is used."""
        return Slots(mmap.mmap(-1, SLOTS * SLOT_BYTES), os.pipe(), os.pipe())

    def fill(self, files: Iterable[tuple[str, Stamp]]) -> None:
        """In the fork: read and hash small files until there are none, or until nobody takes them any more."""
        os.close(self.filled[0])
        os.close(self.free[1])
        view, turn, free = memoryview(self.memory), 0, SLOTS
        with suppress(BrokenPipeError):
            for group in _groups(files):
                if not free:
                    if not os.read(self.free[0], 1):
                        return
                    free += 1
                begin = turn * SLOT_BYTES
                table, end = _read_all(group, view[begin : begin + _ROOM])
                told = marshal.dumps(table)
                if len(told) <= SLOT_BYTES - end:  # else names without end: whoever waits for them reads them
                    view[begin + end : begin + end + len(told)] = told
                    os.write(self.filled[1], _MESSAGE.pack(turn, end, len(told)))
                    turn, free = (turn + 1) % SLOTS, free - 1


class Reader:
    """The parent's end: what the fork has read, as it comes. Close it, whether it is at its end or not."""

    def __init__(self, slots: Slots, process: int) -> None:
        self._slots = slots
        self._process = process
        os.close(slots.filled[1])
        os.close(slots.free[0])

    def __iter__(self) -> Iterator[Read]:
        view = memoryview(self._slots.memory)
        while len(message := os.read(self._slots.filled[0], _MESSAGE.size)) == _MESSAGE.size:
            turn, at, size = _MESSAGE.unpack(message)
            slot = view[turn * SLOT_BYTES : (turn + 1) * SLOT_BYTES]
            begin = 0
            for path, stamp, key in marshal.loads(slot[at : at + size]):  # our own fork's
                yield Read(path, stamp, key, bytes(slot[begin : begin + stamp[0]]))
                begin += stamp[0]
            with suppress(BrokenPipeError):  # the fork has read everything, and is gone
                os.write(self._slots.free[1], b"\0")

    def close(self) -> None:
        """Let the fork go: it has done nothing that must be brought to an end."""
        os.close(self._slots.filled[0])
        os.close(self._slots.free[1])
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


def _groups(files: Iterable[tuple[str, Stamp]]) -> Iterator[list[tuple[str, Stamp]]]:
    """Small files, so many together as fit into a slot."""
    group: list[tuple[str, Stamp]] = []
    held = 0
    for path, stamp in files:
        if stamp[0] >= SMALL_BYTES:
            continue
        if len(group) == _GROUP or held + stamp[0] >= _ROOM:
            yield group
            group, held = [], 0
        group.append((path, stamp))
        held += stamp[0] + 1
    if group:
        yield group


def _read_all(group: list[tuple[str, Stamp]], room: memoryview) -> tuple[list[tuple[str, Stamp, bytes]], int]:
    """Read files one behind the other; what cannot be read, or is not what its stamp says, is left out."""
    table = []
    end = 0
    for path, stamp in group:
        size = stamp[0]
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                done = os.readv(handle, [room[end : end + size + 1]])  # one more byte: it may have grown
                found = os.fstat(handle)
            finally:
                os.close(handle)
        except OSError:
            continue
        if done == size and stamp == (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino):
            table.append((path, stamp, hashlib.sha256(room[end : end + size]).digest()))
            end += size
    return table, end
