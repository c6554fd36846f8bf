"""Named bytes that are written once: the seam for places that many machines share.

An object store names bytes by their digest; a bucket has names of its own, and one promise that
digests do not need: of two writers of a new key exactly one succeeds. Records of versions and locks
live in buckets, and a foreign layout (DVC's) is read through one. A folder is a bucket too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol, runtime_checkable

from noria.core.frozen import frozen

__all__ = ["Bucket", "InBucket", "Item"]


@frozen
class Item:
    """A key with its size in bytes, its tag, which changes whenever the bytes do, and when it was written.

    The time is the place's own: seconds since the epoch by its clock, at least to the second.
    """

    key: str
    size_bytes: int
    tag: str
    modified: float


class Bucket(Protocol):
    """Keys are relative paths in POSIX form. Safe for many threads, processes and machines."""

    url: str

    def open(self, key: str, start: int = 0, length: int = -1) -> BinaryIO:
        """The bytes of a key, or `length` of them from `start` on, as a stream. Raises: NotFound."""
        ...

    def stat(self, key: str) -> Item | None:
        """Size and tag of a key, or None if it is not there."""
        ...

    def create(self, key: str, content: bytes, *, instead_of: str = "") -> str:
        """Write a key that is not there, or one whose tag is `instead_of`; gives its new tag.

        Atomic. Raises: Conflict if somebody else was first.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[Item]:
        """Every key that begins with `prefix`."""
        ...

    def delete(self, key: str) -> None:
        """Take a key away, if it is there."""
        ...


@runtime_checkable
class InBucket(Protocol):
    """Whatever keeps what it has in a bucket, and lets others keep notes beside it."""

    @property
    def bucket(self) -> Bucket:
        """The bucket."""
        ...
