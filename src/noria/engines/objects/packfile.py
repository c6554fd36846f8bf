"""Packs for stores where a request is dear: many small objects as one, with their places at its end.

A pack is written once and never changed: the objects' bytes, one after the other, then a table of
(digest, offset, size), then how many rows the table has and a mark. Whoever has its last bytes knows
what is in it, and a pack without its end is no pack. The format is the store's own; objects keep
their digests, and readers verify each.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from noria.core.errors import Corrupt
from noria.core.frozen import frozen
from noria.core.identity import Digest

__all__ = ["ROW_BYTES", "TAIL_BYTES", "Place", "Places", "Rows", "pack", "table_of", "table_size"]

MARK = b"noriapk1"
ROW_BYTES = 32 + 8 + 4
TAIL_BYTES = 4 + len(MARK)
_ROW = np.dtype([("digest", np.void, 32), ("offset", ">u8"), ("size", ">u4")])
_KEY = np.dtype(">u8")
Rows = npt.NDArray[np.void]


@frozen
class Place:
    """Where an object is: in which pack, from which byte on, how many bytes."""

    pack: str
    offset: int
    size: int


def pack(items: Sequence[tuple[Digest, bytes]]) -> bytes:
    """The bytes of a pack of these objects."""
    table = np.zeros(len(items), dtype=_ROW)
    offset = 0
    for number, (name, content) in enumerate(items):
        table[number] = (bytes.fromhex(name[7:]), offset, len(content))
        offset += len(content)
    body = [content for _, content in items]
    return b"".join([*body, table.tobytes(), struct.pack(">I", len(items)), MARK])


def table_size(tail: bytes, where: str) -> int:
    """How many bytes at the end of a pack are its table and its tail. Raises: Corrupt."""
    if len(tail) < TAIL_BYTES or not tail.endswith(MARK):
        raise Corrupt("a pack has no end: it was cut short or altered", where=where, hint="delete it and push again")
    return int(struct.unpack(">I", tail[-TAIL_BYTES : -len(MARK)])[0]) * ROW_BYTES + TAIL_BYTES


def table_of(tail: bytes, size_bytes: int, where: str) -> Rows:
    """The table of a pack of that size, from its last bytes. Raises: Corrupt if it cannot be one."""
    length = table_size(tail, where)
    found: Rows = np.frombuffer(tail[-length:-TAIL_BYTES], dtype=_ROW)
    ends = found["offset"].astype(np.uint64) + found["size"]
    if length > len(tail) or (len(found) and int(ends.max()) > size_bytes - length):
        raise Corrupt("a pack's table names bytes that it does not have", where=where, hint="delete it and push again")
    return found


class Places:
    """Where every packed object is, over all packs: about 50 bytes an object in memory. Thread safe."""

    def __init__(self) -> None:
        self._packs: list[str] = []
        self._tables: list[Rows] = []
        self._keys: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._rows: Rows = np.zeros(0, dtype=_ROW)
        self._of: npt.NDArray[np.uint32] = np.zeros(0, dtype=np.uint32)
        self._is_sorted = True
        self._lock = threading.Lock()

    def packs(self) -> set[str]:
        """The names of the packs that are known."""
        with self._lock:
            return set(self._packs)

    def add(self, name: str, table: Rows) -> None:
        """Learn what a pack holds."""
        with self._lock:
            if name not in self._packs:
                self._packs.append(name)
                self._tables.append(table)
                self._is_sorted = False

    def keep(self, names: Iterable[str]) -> None:
        """Forget the packs that are not among these."""
        wanted = set(names)
        with self._lock:
            kept = [number for number, name in enumerate(self._packs) if name in wanted]
            if len(kept) != len(self._packs):
                self._packs = [self._packs[number] for number in kept]
                self._tables = [self._tables[number] for number in kept]
                self._is_sorted = False

    def find(self, digests: Sequence[Digest]) -> dict[Digest, Place]:
        """The places of those that are in a pack."""
        with self._lock:
            self._sort()
            if not len(self._rows) or not digests:
                return {}
            raw = np.frombuffer(b"".join(bytes.fromhex(each[7:]) for each in digests), dtype=np.void(32).dtype)
            wanted = raw.view(_KEY)[::4].astype(np.uint64)
            at = np.searchsorted(self._keys, wanted)
            found: dict[Digest, Place] = {}
            for number in np.flatnonzero(at < len(self._keys)).tolist():
                row = int(at[number])
                while row < len(self._keys) and self._keys[row] == wanted[number]:
                    if self._rows[row]["digest"] == raw[number]:
                        place = self._rows[row]
                        found[digests[number]] = Place(
                            self._packs[self._of[row]], int(place["offset"]), int(place["size"])
                        )
                        break
                    row += 1
            return found

    def of(self, name: str) -> list[tuple[Digest, int]]:
        """The objects in a pack with their sizes; none if it is not known."""
        with self._lock:
            if name not in self._packs:
                return []
            table = self._tables[self._packs.index(name)]
        return [(Digest(f"sha256:{bytes(row['digest']).hex()}"), int(row["size"])) for row in table]

    def _sort(self) -> None:
        if self._is_sorted:
            return
        if self._tables:
            rows = np.concatenate(self._tables)
            owner = np.repeat(np.arange(len(self._tables), dtype=np.uint32), [len(table) for table in self._tables])
            keys = np.ascontiguousarray(rows["digest"]).view(_KEY).reshape(-1, 4)[:, 0].astype(np.uint64)
            order = np.argsort(keys, kind="stable")
            self._rows, self._of, self._keys = rows[order], owner[order], keys[order]
        else:
            self._rows, self._of = np.zeros(0, dtype=_ROW), np.zeros(0, dtype=np.uint32)
            self._keys = np.zeros(0, dtype=np.uint64)
        self._is_sorted = True
