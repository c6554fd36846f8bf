"""Objects in this process's memory: for tests and throw-away workspaces. Nothing survives it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from noria.core import identity
from noria.core.errors import NotFound
from noria.core.identity import Digest, short

__all__ = ["MemoryObjects"]


class MemoryObjects:
    """An object store in a dict; atomic because dict assignment is."""

    def __init__(self) -> None:
        self._contents: dict[Digest, bytes] = {}

    def put(self, source: BinaryIO) -> Digest:
        """Store the bytes of a stream; see the protocol."""
        content = source.read()
        name = identity.digest(content)
        self._contents[name] = content
        return name

    def get(self, digest: Digest) -> BinaryIO:
        """The bytes of an object. Raises: NotFound."""
        try:
            return io.BytesIO(self._contents[digest])
        except KeyError as error:
            raise NotFound(f"there is no object {short(digest)}") from error

    def has(self, digest: Digest) -> bool:
        """Whether the object is there."""
        return digest in self._contents

    def list(self) -> Iterator[tuple[Digest, int]]:
        """Every object with its size in bytes."""
        for name, content in list(self._contents.items()):
            yield name, len(content)

    def delete(self, digest: Digest) -> None:
        """Take an object away. Raises: NotFound."""
        try:
            del self._contents[digest]
        except KeyError as error:
            raise NotFound(f"there is no object {short(digest)}") from error
