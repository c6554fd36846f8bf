"""The trash of objects in a bucket: what nothing names waits under names that nobody else ever uses.

A bucket has no transactions, so safety is in the names. What goes to the trash is copied to
`trash/…/SINCE-NONCE`, a key that is written once, and only then its own key is deleted; a purge
deletes such a copy and never an object's own key. So a writer that puts an object again while it is
collected has its own copy, one that only counted on it finds it in the trash, and of two collectors
that believe they are alone neither can take what the other brought back.

Many objects share a pack: it goes to the trash when nothing in it is in use, or when so much is not
that the rest is worth a new pack. Until then what is unnamed in it stays.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.identity import Digest, digest
from noria.engines.objects.packfile import Rows, table_of
from noria.store.bucket import Item
from noria.store.failpoint import failpoint
from noria.store.objects import Trashed

__all__ = ["CHUNKS", "REWRITE_SHARE", "S3Trash", "named"]

CHUNKS = ".chunks"
FOLDER = "trash/"
REWRITE_SHARE = 0.5
"""A pack is written anew when at most this part of its bytes is in use."""
LEFT_S = 7 * 24 * 3600.0
"""A copy in the trash of what is in its own place too is what a killed collection left, when it is that old."""

Group = list[tuple[Digest, bytes]]


class Keys(Protocol):
    """What the trash asks of a bucket."""

    url: str

    def read(self, key: str, start: int = 0, length: int = -1) -> bytes:
        """The bytes of a key. Raises: NotFound."""
        ...

    def list(self, prefix: str = "") -> Iterator[Item]:
        """Every key that begins with `prefix`."""
        ...

    def copy(self, key: str, target: str) -> None:
        """Write the bytes of a key to another key. Raises: NotFound."""
        ...

    def delete(self, key: str) -> None:
        """Take a key away, if it is there."""
        ...


@frozen
class Entry:
    """A key in the trash: where it is, whose it was, and since when it is there; `size_bytes` are its own."""

    key: str
    was: str
    since: int
    size_bytes: int

    @property
    def is_pack(self) -> bool:
        """Whether it is a pack."""
        return self.was.startswith("packs/")


def named(key: str) -> Digest:
    """The object that a key of its own is of."""
    return Digest(f"sha256:{key.replace('/', '').removesuffix(CHUNKS)}")


class S3Trash:
    """The trash below the objects of a bucket.

    Args:
        bucket: where the objects are.
        table: the table of a pack, by the key that it lies at and its size.
        put_group: stores objects together in a new pack.
    """

    def __init__(
        self, bucket: Keys, table: Callable[[str, int], Rows], put_group: Callable[[Group], None], share: float
    ) -> None:
        self._bucket = bucket
        self._table = table
        self._put_group = put_group
        self._share = share
        self._tables: dict[str, Rows] = {}

    def read(self, name: Digest) -> tuple[str, int, int] | None:
        """Where the bytes of an object are in the trash: key, offset and size (-1 for all of it); None if nowhere."""
        for item in self._bucket.list(f"{FOLDER}{_key(name)}/"):
            return item.key, 0, -1
        for entry in self._entries(f"{FOLDER}packs/"):
            for each, offset, size in self._rows(entry):
                if each == name:
                    return entry.key, offset, size
        return None

    def recipe(self, name: Digest) -> str | None:
        """The key of an object's list of chunks in the trash."""
        return next((item.key for item in self._bucket.list(f"{FOLDER}{_key(name)}{CHUNKS}/")), None)

    def chunked(self) -> Iterator[Digest]:
        """The objects whose lists of chunks are in the trash."""
        for entry in self._entries():
            if entry.was.endswith(CHUNKS):
                yield named(entry.was)

    def trashed(self, live: Callable[[], set[Digest]]) -> list[Trashed]:
        """What is in the trash and nowhere else; of several copies the youngest."""
        found: dict[Digest, Trashed] = {}
        entries = self._entries()
        there = live() if entries else set()
        for entry in entries:
            for name, _, size in self._rows(entry):
                if name not in there and (name not in found or found[name].since < entry.since):
                    found[name] = Trashed(name, size, entry.since)
        return list(found.values())

    def trash(self, names: Iterable[Digest], items: Iterable[Item], *, at: int, unseen_since: float) -> None:
        """Move what can go of these among the keys there are: their own, and the packs that are rid of enough."""
        dead = set(names)
        for item in items:
            if item.modified < unseen_since:
                is_pack = item.key.startswith("packs/")
                with contextlib.suppress(NotFound):  # another collection was quicker
                    if self._is_emptied(item, dead) if is_pack else named(item.key) in dead:
                        self._move(item.key, at)

    def restore(self, names: Iterable[Digest], live: Callable[[], set[Digest]]) -> None:
        """Bring back what is in the trash of these and nowhere else. A pack comes back as a whole."""
        wanted = set(names)
        if not wanted:
            return
        wanted -= live()
        for entry in sorted(self._entries(), key=lambda entry: -entry.since):
            back = {name for name, _, _ in self._rows(entry)} & wanted
            if back:
                with contextlib.suppress(NotFound):  # another collection was quicker
                    self._bucket.copy(entry.key, entry.was)
                    failpoint("trash.restored")
                    self._bucket.delete(entry.key)
                    if entry.is_pack:  # others of it may be in several; a list of chunks and a whole are both brought
                        wanted -= back

    def purge(self, items: Sequence[Trashed], live: Callable[[], set[Digest]]) -> list[Digest]:
        """Delete the copies of these that are there since the same time; a pack when all that is only there goes."""
        due = {item.digest: item.since for item in items}
        there = live()
        gone: list[Digest] = []
        for entry in self._entries():
            only = [name for name, _, _ in self._rows(entry) if name not in there]
            if only and all(name in due and entry.since <= due[name] for name in only):
                self._bucket.delete(entry.key)
                gone += only
        return list(dict.fromkeys(gone))

    def sweep(self, live: Callable[[], set[Digest]], now: float) -> int:
        """Take away old copies of what is in its own place as well; gives their bytes."""
        freed = 0
        old = [entry for entry in self._entries() if entry.since < now - LEFT_S]
        there = live() if old else set()
        for entry in old:
            rows = self._rows(entry)
            if rows and all(name in there for name, _, _ in rows):
                self._bucket.delete(entry.key)
                freed += entry.size_bytes
        return freed

    def delete(self, name: Digest) -> bool:
        """Take an object's own copies out of the trash, and the packs there that hold it; whether there were any."""
        is_there = False
        for entry in self._entries():
            if any(each == name for each, _, _ in self._rows(entry)):
                others = {each for each, _, _ in self._rows(entry)} - {name}
                if others:
                    self._put_group([item for item in self._contents(entry.key, entry.size_bytes) if item[0] != name])
                self._bucket.delete(entry.key)
                is_there = True
        return is_there

    def _move(self, key: str, at: int) -> None:
        self._bucket.copy(key, f"{FOLDER}{key}/{at:012d}-{uuid.uuid4().hex[:12]}")
        failpoint("trash.copied")
        self._bucket.delete(key)

    def _is_emptied(self, item: Item, dead: set[Digest]) -> bool:
        """Whether a pack can go: nothing in it is in use, or what is has a copy in a new pack."""
        rows = [(Digest(f"sha256:{bytes(r['digest']).hex()}"), int(r["size"])) for r in self._table_of(item.key, item)]
        live = sum(size for name, size in rows if name not in dead)
        if all(name not in dead for name, _ in rows) or live > self._share * sum(size for _, size in rows):
            return False
        kept = [each for each in self._contents(item.key, item.size_bytes) if each[0] not in dead]
        if any(digest(content) != name for name, content in kept):
            return False  # an altered object stays where it can be looked at, and so does its pack
        if kept:
            self._put_group(kept)
        return True

    def _contents(self, key: str, size_bytes: int) -> Group:
        content = self._bucket.read(key)
        found = []
        for row in table_of(content, size_bytes, f"{self._bucket.url}/{key}"):
            at = int(row["offset"])
            found.append((Digest(f"sha256:{bytes(row['digest']).hex()}"), content[at : at + int(row["size"])]))
        return found

    def _rows(self, entry: Entry) -> list[tuple[Digest, int, int]]:
        """Name, offset and size of what a key in the trash holds; a list of chunks has the size of the list."""
        if not entry.is_pack:
            return [(named(entry.was), 0, entry.size_bytes)]
        try:
            table = self._table_of(entry.was, entry)
        except NotFound:
            return []  # another collection was quicker
        return [(Digest(f"sha256:{bytes(r['digest']).hex()}"), int(r["offset"]), int(r["size"])) for r in table]

    def _table_of(self, was: str, found: Item | Entry) -> Rows:
        if was not in self._tables:  # a pack is named by its content
            self._tables[was] = self._table(found.key, found.size_bytes)
        return self._tables[was]

    def _entries(self, prefix: str = FOLDER) -> list[Entry]:
        found = []
        for item in self._bucket.list(prefix):
            was, _, mark = item.key.removeprefix(FOLDER).rpartition("/")
            since = mark.partition("-")[0]
            if was and since.isdigit():
                found.append(Entry(item.key, was, int(since), item.size_bytes))
        return found


def _key(name: Digest) -> str:
    return f"{name[7:9]}/{name[9:]}"
