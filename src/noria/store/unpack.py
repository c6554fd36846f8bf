"""Packed objects into files, each verified before its name is there: the work, and a process that only does this.

Written to be run as a file by itself, so that starting it costs a few milliseconds: it imports the
standard library alone. It reads frames of work from its input and answers each; when its input ends,
so does it. See `unpackers` for who asks it, and what happens with the objects that it does not write.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

__all__ = ["Packed", "framed", "serve", "unpack", "write_copy"]

_READ_BYTES = 1 << 20
_FIELDS = 5


class Packed(NamedTuple):
    """One object and where it goes: the file it lies in, offset and size of its bytes there, its sha-256, the target.

    Both paths are as the operating system has them.
    """

    file: bytes
    at: int
    size: int
    key: bytes
    target: bytes


def unpack(work: Sequence[Packed]) -> tuple[int, list[int]]:
    """Write objects to their targets; neighbours are read together, so they come in the order of the disk.

    Gives how many bytes were written, and the places in `work` of those whose bytes are not where they
    should be, or are not theirs: nothing is written of them. Raises: OSError if a target cannot be written.
    """
    done, left, start = 0, [], 0
    while start < len(work):
        stop = _neighbours(work, start)
        first = work[start]
        block = memoryview(_read(first.file, first.at, work[stop - 1].at + work[stop - 1].size - first.at))
        for number in range(start, stop):
            _, at, size, key, target = work[number]
            content = block[at - first.at : at - first.at + size]
            if hashlib.sha256(content).digest() == key:
                write_copy(content, target)
                done += size
            else:
                left.append(number)
        start = stop
    return done, left


def _neighbours(work: Sequence[Packed], start: int) -> int:
    """Where those end that are read together with the one at `start`: one at least, about a megabyte of others."""
    first, stop = work[start], start + 1
    while stop < len(work) and work[stop].file == first.file:
        if work[stop].at < first.at or work[stop].at + work[stop].size - first.at > _READ_BYTES:
            break
        stop += 1
    return stop


def _read(file: bytes, at: int, size: int) -> bytes:
    """A part of a file; less or nothing where there is not so much."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(handle, size, at)
    finally:
        os.close(handle)


def write_copy(content: Buffer, target: bytes) -> None:
    """Write small content, which the caller has verified, to a file that is there or not. Not synced.

    A file that is there is replaced atomically. Raises: OSError; nothing is left of the file then.
    """
    try:
        _write(target, content)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120  # a Path costs as much as writing
        _write(target, content)
    except FileExistsError:
        folder, name = os.path.split(target)
        temporary = os.path.join(folder, b".%b.%b" % (name[:200], os.urandom(16).hex().encode()))  # noqa: PTH118
        _write(temporary, content)
        try:
            os.replace(temporary, target)  # noqa: PTH105
        except BaseException:
            os.unlink(temporary)  # noqa: PTH108
            raise


def _write(path: bytes, content: Buffer) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_EXCL, 0o666)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
    except BaseException:
        os.unlink(path)  # noqa: PTH108
        raise
    finally:
        os.close(handle)


def framed(work: Iterable[Packed]) -> bytes:
    """A frame of work for `serve`: its size in 8 bytes, then the fields, with a zero byte between them."""
    fields = [
        field
        for each in work
        for field in (each.file, b"%d" % each.at, b"%d" % each.size, each.key.hex().encode(), each.target)
    ]
    body = b"\0".join(fields)
    return len(body).to_bytes(8, "little") + body


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Do each frame of work, and answer by a line: the bytes that were written, and the places of what is left.

    Raises: OSError if a target cannot be written; who asked then finds out for itself.
    """
    while len(head := source.read(8)) == 8:
        size = int.from_bytes(head, "little")
        body = source.read(size)
        if len(body) < size:
            return  # who asked died; a path that is cut off is another path
        fields = body.split(b"\0")
        rows = [fields[start : start + _FIELDS] for start in range(0, len(fields), _FIELDS)]
        done, left = unpack(
            [Packed(row[0], int(row[1]), int(row[2]), bytes.fromhex(row[3].decode()), row[4]) for row in rows]
        )
        sink.write(b"%b\n" % b" ".join(b"%d" % number for number in (done, *left)))
        sink.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
