"""How a pack is written: records one after another, and what can be told of them from the bytes alone.

A record is a header (magic, size, digest, checksum) and the bytes of an object; a mark is a header of
its own. Whatever reads a pack here decides nothing: it says what stands there.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from io import FileIO

from noria.store.packindex import Row

__all__ = ["DEAD", "HEADER", "LIVE", "MARK", "NOTHING", "header", "is_whole", "parsed", "records", "scan"]

HEADER = struct.Struct("<4sQ32sI")
LIVE, DEAD, MARK = b"nrP1", b"nrX1", b"nrC1"
NOTHING = bytes(32)
"""In the place of a digest: a mark names no object."""
_READ_BYTES = 1 << 20


def records(handle: FileIO, begin: int, end: int, *, marks: bool = False) -> Iterator[Row]:
    """Every record that is alive between two offsets of a pack, by offset.

    Between records that make no sense the next one is searched for; if only a header was altered, its
    record is told by the digest of what stands there. A mark is given as a row of size -1 if asked for.
    """
    at = begin
    while at + HEADER.size <= end:
        kind, size, key = parsed(os.pread(handle.fileno(), HEADER.size, at))
        if not kind or at + HEADER.size + size > end:
            following = _next_header(handle, at + 1, end)
            content = os.pread(handle.fileno(), following - at - HEADER.size, at + HEADER.size)
            row = Row(hashlib.sha256(content).digest(), at, len(content))
            if following < end and _fits(os.pread(handle.fileno(), HEADER.size, at), row):
                yield row
            at = following
            continue
        if kind == LIVE:
            yield Row(key, at, size)
        elif kind == MARK and marks:
            yield Row(NOTHING, at, -1)
        at += HEADER.size + size


def _fits(head: bytes, row: Row) -> bool:
    """Whether a header that makes no sense was once that of the record which stands behind it."""
    _, size, key, _ = HEADER.unpack(head)
    return bool(key == row.digest or size == row.size)


def scan(handle: FileIO, begin: int, size: int) -> tuple[list[Row], int]:
    """What was committed in a pack from an offset on, and where it ends; what is behind the last mark is not."""
    rows: list[Row] = []
    committed, end = 0, begin
    for row in records(handle, begin, size, marks=True):
        if row.size < 0:
            committed, end = len(rows), row.at + HEADER.size
        else:
            rows.append(row)
    return rows[:committed], end


def header(magic: bytes, size: int, key: bytes) -> bytes:
    """The header of a record: its kind, the size of its content in bytes, its digest, a checksum of these."""
    return HEADER.pack(magic, size, key, zlib.crc32(key, size))


def parsed(head: bytes) -> tuple[bytes, int, bytes]:
    """Kind, size and digest of a header; the kind is empty if it is none."""
    magic, size, key, checksum = HEADER.unpack(head)
    if magic not in (LIVE, DEAD, MARK) or checksum != zlib.crc32(key, size):
        return b"", 0, b""
    return magic, size, key


def _next_header(handle: FileIO, begin: int, end: int) -> int:
    """Where the next header that makes sense begins, or the end."""
    at, overlap = begin, HEADER.size - 1
    while at < end:
        block = os.pread(handle.fileno(), min(_READ_BYTES, end - at), at)
        if not block:
            return end
        found = block.find(b"nr")
        while 0 <= found <= len(block) - HEADER.size:
            kind, size, _ = parsed(block[found : found + HEADER.size])
            if kind and at + found + HEADER.size + size <= end:
                return at + found
            found = block.find(b"nr", found + 1)
        at += max(len(block) - overlap, 1) if at + len(block) < end else len(block)
    return end


def is_whole(handle: FileIO, row: Row) -> bool:
    """Whether the bytes behind a header are those that the row's digest names."""
    return hashlib.sha256(os.pread(handle.fileno(), row.size, row.at + HEADER.size)).digest() == row.digest
