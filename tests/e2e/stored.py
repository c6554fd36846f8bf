"""Objects of a store, read from its files alone: nothing of the package is imported.

An object is a file of its own (`ab/cdef…`), a record in a pack (`packs/*.pack`: magic, size, sha-256
and checksum, then the bytes), or a list of chunks (`ab/cdef….chunks`) that are objects again.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

RECORD = struct.Struct("<4sQ32sI")
RECIPE_MAGIC = b"noria chunks/1\n"
RECIPE_HEAD = struct.Struct("<QI16s")
RECIPE_PART = struct.Struct("<32sI")


class Stored:
    """The objects below a folder, by their digests; every byte is checked against its name."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._packed: dict[bytes, tuple[Path, int, int]] = {}
        for pack in sorted(root.glob("packs/*.pack")):
            self._index(pack)

    def read(self, digest: str) -> bytes:
        """The bytes of an object. Fails if they are not there or not what their name says."""
        name = digest.removeprefix("sha256:")
        content = self._bytes(name)
        assert hashlib.sha256(content).hexdigest() == name
        return content

    def _bytes(self, name: str) -> bytes:
        path = self._root / name[:2] / name[2:]
        if path.exists():
            return path.read_bytes()
        recipe = path.with_name(path.name + ".chunks")
        if recipe.exists():
            body = recipe.read_bytes()[:-32]
            assert body.startswith(RECIPE_MAGIC + bytes.fromhex(name))
            parts = RECIPE_PART.iter_unpack(body[len(RECIPE_MAGIC) + 32 + RECIPE_HEAD.size :])
            return b"".join(self.read(key.hex()) for key, _ in parts)
        pack, start, size = self._packed[bytes.fromhex(name)]
        with pack.open("rb") as stream:
            stream.seek(start)
            return stream.read(size)

    def _index(self, pack: Path) -> None:
        with pack.open("rb") as stream:
            while len(head := stream.read(RECORD.size)) == RECORD.size:
                magic, size, key, _ = RECORD.unpack(head)
                if magic == b"nrP1":
                    self._packed[key] = (pack, stream.tell(), size)
                if magic in (b"nrP1", b"nrX1"):
                    stream.seek(size, 1)
