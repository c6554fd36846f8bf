"""Objects in this process's memory: for tests and throw-away workspaces. Nothing survives it."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from noria.core import identity
from noria.core.identity import Digest
from noria.store.objects import Trashed, gone

__all__ = ["MemoryObjects"]

Names = list[Digest]


class MemoryObjects:
    """An object store in a dict; atomic because dict assignment is."""

    def __init__(self) -> None:
        self._contents: dict[Digest, bytes] = {}
        self._seen: dict[Digest, float] = {}
        self._trash: dict[Digest, tuple[bytes, int]] = {}

    def put(self, source: BinaryIO) -> Digest:
        """Store the bytes of a stream; see the protocol."""
        return self.put_many([source.read()])[0]

    def get(self, digest: Digest) -> BinaryIO:
        """The bytes of an object. Raises: NotFound."""
        content = self._contents.get(digest, self._trash.get(digest, (None, 0))[0])
        if content is None:
            raise gone(digest)
        return io.BytesIO(content)

    def has(self, digest: Digest) -> bool:
        """Whether the object is there."""
        return digest in self._contents

    def list(self) -> Iterator[tuple[Digest, int]]:
        """Every object with its size in bytes."""
        for name, content in list(self._contents.items()):
            yield name, len(content)

    def delete(self, digest: Digest) -> None:
        """Take an object away. Raises: NotFound."""
        if self._contents.pop(digest, None) is None and self._trash.pop(digest, None) is None:
            raise gone(digest)

    def put_many(self, items: Iterable[bytes]) -> Names:
        """Store many things; gives their names in order."""
        found = []
        for content in items:
            name = identity.digest(content)
            self._contents[name] = content
            self._seen[name] = time.time()
            self._trash.pop(name, None)
            found.append(name)
        return found

    def has_many(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those that are there."""
        return {name for name in digests if name in self._contents}

    def get_many(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """The bytes of objects. Raises: NotFound."""
        for name in dict.fromkeys(digests):
            yield name, self.get(name).read()

    def ages(self) -> Iterator[tuple[Digest, int, float]]:
        """Every object: name, size in bytes, when it was stored last."""
        for name, content in list(self._contents.items()):
            yield name, len(content), self._seen[name]

    def chunked(self) -> Iterator[Digest]:
        """Every object that is a list of chunks, in the trash or not."""
        yield from ()

    def trash(self, digests: Sequence[Digest], *, at: int, unseen_since: float) -> Names:
        """Move to the trash those that nobody stored since; gives them."""
        moved = [name for name in digests if name in self._contents and self._seen[name] < unseen_since]
        for name in moved:
            self._trash[name] = (self._contents[name], at)
            del self._contents[name]
        return moved

    def trashed(self) -> Iterator[Trashed]:
        """Everything in the trash, and since when."""
        for name, (content, since) in list(self._trash.items()):
            yield Trashed(name, len(content), since)

    def restore(self, digests: Sequence[Digest]) -> None:
        """Bring objects back from the trash."""
        self.put_many([self._trash[name][0] for name in digests if name in self._trash])

    def purge(self, items: Sequence[Trashed]) -> Names:
        """Take away for good what is still in the trash since the same time; gives what went."""
        gone = [item.digest for item in items if self._trash.get(item.digest, (b"", -1))[1] == item.since]
        for name in gone:
            del self._trash[name]
        return gone

    def compact(self) -> int:
        """There is no space to give back."""
        return 0
