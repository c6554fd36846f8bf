r"""Append-only log files of framed lines: what must be on disk before an answer leaves.

A line is eight hex digits of the payload's CRC-32, a space, the payload, a newline. One writer
appends to a file with one system call for a batch; after a kill -9 the file ends in whole lines and
at most one torn one, which readers leave alone. A whole line whose sum is wrong is damage, and is
reported with its place. Files are never rewritten; to seal and to remove them is the owner's work.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from noria.core.errors import Corrupt, StoreFull, UsageError
from noria.store.failpoint import failpoint
from noria.store.objects import disk_faults

__all__ = ["LineWriter", "read_lines"]

_HEAD = 9
_TAIL_BLOCK = 1 << 16


class LineWriter:
    """The one writer of a file; makes it, and cuts a torn line that a killed writer left.

    Lines survive the death of the process once `append` has returned; `sync` makes them survive
    the machine's. Not safe between threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_faults(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self.size_bytes = _whole(self._handle)
            if self.size_bytes != os.fstat(self._handle).st_size:
                os.ftruncate(self._handle, self.size_bytes)

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write all payloads as lines, in one system call, before returning.

        Raises: UsageError for a payload with a newline; StoreFull, with nothing of the batch left.
        """
        if not payloads:
            return
        block = b"".join([b"%08x %s\n" % (zlib.crc32(payload), payload) for payload in payloads])
        if block.count(b"\n") != len(payloads):
            raise UsageError("a line may not hold a newline", where=str(self.path))
        with disk_faults(self.path):
            written = self._write(block)
        if written != len(block):
            raise StoreFull("no space is left; the lines were not written", where=str(self.path))
        self.size_bytes += written
        failpoint("line.written")

    def sync(self) -> None:
        """Wait until everything written is on disk."""
        with disk_faults(self.path):
            os.fsync(self._handle)

    def close(self) -> None:
        """Close the file. Appending afterwards is a bug."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write(self, block: bytes) -> int:
        try:
            written = os.write(self._handle, block)
        except OSError:
            os.ftruncate(self._handle, self.size_bytes)
            raise
        if written != len(block):
            os.ftruncate(self._handle, self.size_bytes)
        return written


def read_lines(path: Path, offset: int = 0, *, limit_bytes: int = 0) -> tuple[list[bytes], int]:
    """The payloads of whole lines from a byte offset on, and the offset behind the last of them.

    A torn line at the end is left for the next time. A file that does not exist has no lines. A last line
    that is whole but for its end, which no torn write leaves, is damage.

    Args:
        limit_bytes: read no more than about this much at once (a longer line is read whole); 0 reads all.
    Raises: Corrupt with the byte position if a whole line does not match its sum.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            block = stream.read(limit_bytes or -1)
            if limit_bytes and b"\n" not in block:
                block += stream.readline()
    except FileNotFoundError:
        return [], offset
    end = block.rfind(b"\n") + 1
    payloads: list[bytes] = []
    position = offset
    for line in block[:end].split(b"\n")[:-1] if end else ():
        payload = line[_HEAD:]
        if line[:_HEAD] != b"%08x " % zlib.crc32(payload):
            raise Corrupt(f"the line at byte {position} does not match its checksum", where=str(path))
        payloads.append(payload)
        position += len(line) + 1
    rest = block[end:]
    if rest[:_HEAD] == b"%08x " % zlib.crc32(rest[_HEAD:-1]) and len(rest) > _HEAD:
        raise Corrupt(f"the line at byte {position} has lost its end", where=str(path))
    return payloads, position


def _whole(handle: int) -> int:
    """The length of a file up to and with its last newline."""
    size = os.fstat(handle).st_size
    end = size
    while end > 0:
        start = max(0, end - _TAIL_BLOCK)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
