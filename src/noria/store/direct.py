"""Objects that go past the server: the seam for stores that clients can be sent to.

A server that hands on every byte of a large file is as fast as one machine. A store that gives out signed
addresses lets a client read an object, or send the parts of a new one, where it lies. The server still says
who may, and what the bytes are: an upload becomes an object when it was read once and named by its content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from noria.core.frozen import frozen
from noria.core.identity import Digest

__all__ = ["Begun", "Direct", "HasDirect", "Underway"]


@frozen
class Begun:
    """An upload that was begun: its id (32 hexadecimal digits), and where each part is sent by PUT, in order."""

    id: str
    addresses: tuple[str, ...]


@frozen
class Underway:
    """An upload that is under way: what whoever began it noted of it, and how many parts it has.

    `place` is what the store calls it.
    """

    id: str
    note: str
    count: int
    place: str


class Direct(Protocol):
    """Signed addresses of one store. Safe for many threads, processes and machines."""

    def address_of(self, digest: Digest, name: str) -> str:
        """Where an object is read by GET, also in stretches, as a file of that name; empty if it has no such place.

        Whoever has the address may read the object for an hour, and nothing else.
        """
        ...

    def begin(self, note: str, count: int) -> Begun:
        """Begin an upload of so many parts. What nobody ended for a week goes."""
        ...

    def find(self, upload: str) -> Underway | None:
        """An upload that was begun, and neither ended nor aborted."""
        ...

    def parts(self, upload: Underway) -> Mapping[int, tuple[str, int]]:
        """(tag, size in bytes) of the parts that are there, by number from 1."""
        ...

    def join(self, upload: Underway, tags: Sequence[str]) -> tuple[Digest, int]:
        """Make one object of all parts, which are named by their tags in order; gives its name and size in bytes.

        Once it was done it is done again without the parts. Raises: UsageError if a part is not as it was named;
        NotFound if the upload ended meanwhile.
        """
        ...

    def end(self, upload: Underway) -> None:
        """Forget an upload whose object is kept; that it ended stays known for a week."""
        ...

    def has_ended(self, upload: str, note: str) -> bool:
        """Whether the upload with this id and note was ended."""
        ...

    def abort(self, upload: Underway) -> None:
        """Take away what was sent."""
        ...


@runtime_checkable
class HasDirect(Protocol):
    """A store that gives out signed addresses."""

    @property
    def direct(self) -> Direct:
        """Its addresses."""
        ...
