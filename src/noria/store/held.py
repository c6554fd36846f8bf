"""The face of an object store that brings small objects there together, before a fact names any of them.

A step that returns a number would otherwise cost its object two syncs of the disk. What is put "soon" is
held in memory and in no other place until `settle`: the caller keeps it against a kill in a way of its own
(the journal of a run), and settles before it commits a fact that names it, so that a fact never names
what is not there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from noria.core.identity import Digest, digest
from noria.store.objects import Objects

__all__ = ["HeldObjects"]

SOON_BYTES = 64 << 10
"""What is larger is stored at once."""
HELD_BYTES = 4 << 20
"""So much is held at most."""


class HeldObjects(Objects):
    """Another face of the same store. What it holds, only it knows; whoever asks it for more than bytes settles it.

    Thread safe.
    """

    def __init__(self, below: Objects) -> None:
        super().__init__(below.store, below._cache, below.copies)
        self._held: dict[str, bytes] = {}
        self._held_bytes = 0
        self._holding = threading.RLock()

    def put_soon(self, content: bytes) -> Digest:
        """Name small bytes now, and store them with the next `settle`."""
        if len(content) > SOON_BYTES:
            return self.put_bytes(content)
        name = digest(content)
        with self._holding:
            if name not in self._held:
                self._held[name] = content
                self._held_bytes += len(content)
            if self._held_bytes > HELD_BYTES:
                self.settle()
        return name

    def held(self, digests: Iterable[str]) -> dict[str, bytes]:
        """Those that are not stored yet, with their bytes."""
        with self._holding:
            return {name: self._held[name] for name in digests if name in self._held}

    def settle(self) -> None:
        """Store what is held, with one append and one sync where the store can. Raises: StoreFull; StoreUnavailable.

        After a failure it is held still.
        """
        with self._holding:
            if self._held:
                self.put_many(self._held.values())
                self._held, self._held_bytes = {}, 0

    def get_bytes(self, digest: str) -> bytes:
        """See Objects."""
        held = self._held.get(digest)
        return super().get_bytes(digest) if held is None else held

    def require(self, digest: str) -> None:
        """See Objects."""
        if digest not in self._held:
            super().require(digest)

    def _named(self, text: str) -> Digest:
        if text in self._held:
            self.settle()
        return super()._named(text)
