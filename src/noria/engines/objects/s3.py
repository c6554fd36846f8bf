"""Objects in S3, or in any store that speaks its protocol.

Below the prefix lie `ab/cdef…` (one object), `packs/NAME.pack` (many small ones, see packfile.py) and
`ab/cdef….chunks` (a large object as the list of its pieces, which are objects themselves, so that a
changed gigabyte costs what changed). Everything is written once, under the name of its content, with
If-None-Match, so writers need no lock. What packs hold is remembered in a cache folder that may be
deleted at any time. What nothing names waits in `trash/` (see s3trash.py), where it can still be read.
Readers verify, as for every store.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar, cast

from noria.core import identity
from noria.core.errors import Corrupt, NotFound
from noria.core.identity import Digest, short
from noria.engines.objects.bucket import S3Bucket
from noria.engines.objects.packfile import ROW_BYTES, TAIL_BYTES, Place, Places, Rows, pack, table_of, table_size
from noria.engines.objects.s3direct import S3Direct
from noria.engines.objects.s3trash import CHUNKS, REWRITE_SHARE, S3Trash, named
from noria.store.bucket import Item
from noria.store.chunks import upcoming
from noria.store.objects import BLOCK_BYTES, Trashed, gone

__all__ = ["S3Objects"]

T = TypeVar("T")
Group = list[tuple[Digest, bytes]]
Span = list[tuple[Digest, Place]]
Names = list[Digest]
PACK_BYTES = 16 << 20
PACKED_MAX_BYTES = 4 << 20
"""Larger objects are keys of their own. No chunk is: a request costs as much as half a megabyte."""
SPAN_BYTES = 8 << 20
"""So much is asked for at once: eight such answers wait in memory at the most."""
THREADS = 8
ASK_EACH_MAX = 256
"""Up to so many objects are asked for one by one; for more the keys are listed."""
LOOKS = 2
"""An object that is brought back from the trash between two looks is found at the next."""
_GAP_BYTES = 256 << 10
_TAIL_READ_BYTES = 128 << 10
_RECIPE = struct.Struct(">32sI")
_RECIPE_MARK = b"noriach1"
QUARANTINE = "quarantine/"


class S3Objects:
    """An object store in a bucket. Safe for many threads, processes and machines.

    Args:
        url: `s3://bucket/prefix`.
        endpoint, region: as for S3Bucket.
        cache: a folder where the tables of packs are kept between runs; none if it is not given.
        bucket: that place, where it is open already.
        share: a pack is written anew by a collection when at most this part of its bytes is in use.
        clock: gives the seconds since the epoch.
    """

    collects_whole: Literal[True] = True
    """What goes to the trash, or out of it, is told at once: many objects are one key."""

    def __init__(
        self,
        url: str,
        endpoint: str = "",
        region: str = "",
        cache: Path | None = None,
        *,
        bucket: S3Bucket | None = None,
        share: float = REWRITE_SHARE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.bucket = bucket or S3Bucket(url, endpoint, region)
        self._places = Places()
        self._cache = (
            cache / hashlib.sha256(f"{endpoint} {self.bucket.url}".encode()).hexdigest()[:16] if cache else None
        )
        self._lock = threading.Lock()
        self._clock = clock
        self._trash = S3Trash(self.bucket, self._table_at, self._put_group, share)

    @property
    def direct(self) -> S3Direct:
        """Signed addresses of what is a key of its own."""
        return S3Direct(self.bucket, _key, self._clock)

    def put(self, source: BinaryIO) -> Digest:
        """Store the bytes of a stream; see the protocol. Raises: StoreUnavailable; StoreFull; Denied."""
        hasher = hashlib.sha256()
        size = 0
        with tempfile.SpooledTemporaryFile(max_size=PACK_BYTES) as spool:
            while block := source.read(BLOCK_BYTES):
                hasher.update(block)
                size += len(block)
                spool.write(block)
            name = Digest("sha256:" + hasher.hexdigest())
            self.put_known(name, cast("BinaryIO", spool), size)
        return name

    def put_known(
        self, digest: Digest, source: BinaryIO, size: int, sent: Callable[[int], None] = lambda _: None
    ) -> None:
        """Store a seekable stream whose digest is known: in parts, in parallel, continuing what was broken off.

        The caller has verified the bytes. `sent` is told the bytes as they arrive.
        """
        self.bucket.upload(_key(digest), source, size, sent)

    def get(self, digest: Digest) -> BinaryIO:
        """The raw bytes of an object, from the trash too, as a stream that can seek. Raises: NotFound."""
        for _ in range(LOOKS):
            for look in (self._packed, self._whole, self._packed_now, self._in_pieces, self._in_trash):
                with contextlib.suppress(NotFound):  # it is not there, or was moved since the place was learned
                    found = look(digest)
                    if found is not None:
                        return found
        raise gone(digest, where=self.bucket.url)

    def has(self, digest: Digest) -> bool:
        """Whether the object is there, and not in the trash."""
        place = self._places.find([digest]).get(digest)
        if place is not None and self.bucket.stat(_pack_key(place.pack)) is not None:
            return True
        return self._has_key(digest) or self._place(digest, is_fresh=True) is not None

    def list(self) -> Iterator[tuple[Digest, int]]:
        """Every object with its size in bytes; pieces are objects too."""
        for name, size, _ in self.ages():
            yield name, size

    def delete(self, digest: Digest) -> None:
        """Take an object away; one that is packed takes its pack to be written anew. Raises: NotFound."""
        is_there = False
        for key in (_key(digest), _key(digest) + CHUNKS):
            if self.bucket.stat(key) is not None:
                self.bucket.delete(key)
                is_there = True
        while (place := self._place(digest, is_fresh=True)) is not None:
            self._rewrite(place.pack, digest)
            is_there = True
        if not self._trash.delete(digest) and not is_there:
            raise gone(digest, where=self.bucket.url)

    def put_many(self, items: Iterable[bytes]) -> Names:
        """Store many small objects in few requests; gives their names in order.

        A pack is there whole or not at all. Raises: as put.
        """
        return self.put_named((identity.digest(content), content) for content in items)

    def put_named(self, items: Iterable[tuple[Digest, bytes]]) -> Names:
        """Store small objects whose digests the caller has verified; gives their names in order. As put_many."""
        names: Names = []
        with ThreadPoolExecutor(THREADS) as pool:
            running: deque[Future[None]] = deque()
            for group in _grouped(items, names):
                running.append(pool.submit(self._put_group, group))
                while len(running) >= THREADS:
                    running.popleft().result()
            for each in running:
                each.result()
        return names

    def has_many(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those that are there."""
        wanted = list(dict.fromkeys(digests))
        if not wanted:
            return set()
        self._refresh()
        found = set(self._places.find(wanted))
        rest = [name for name in wanted if name not in found]
        if len(rest) <= ASK_EACH_MAX:
            with ThreadPoolExecutor(THREADS) as pool:
                return found | {
                    name for name, is_there in zip(rest, pool.map(self._has_key, rest), strict=True) if is_there
                }
        with ThreadPoolExecutor(THREADS) as pool:
            shards = sorted({name[7:9] for name in rest})
            listed = pool.map(lambda shard: {named(key) for key, _ in self._keys(f"{shard}/")}, shards)
            there = set().union(*listed)
        return found | (there & set(rest))

    def get_many(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """The bytes of many objects, in the order that costs least. Raises: NotFound."""
        wanted = list(dict.fromkeys(digests))
        places = self._places.find(wanted)
        if len(places) < len(wanted):
            self._refresh()
            places = self._places.find(wanted)
        tasks: list[Callable[[], Group]] = [partial(self._read_span, span) for span in _spans(places)]
        tasks += [partial(self._read_one, name) for name in wanted if name not in places]
        for answer in _windowed(tasks):
            yield from answer

    def read_range(self, digest: Digest, start: int, length: int) -> bytes:
        """Some bytes of a large object in one request; may be fewer at its end. Raises: NotFound."""
        with contextlib.suppress(NotFound):
            return self.bucket.read(_key(digest), start, length)
        with self.get(digest) as stream:
            stream.seek(start)
            return stream.read(length)

    def chunks_of(self, digest: Digest) -> tuple[tuple[Digest, int], ...] | None:
        """The pieces of an object in order, with their sizes; None if it is stored whole. Raises: NotFound."""
        try:
            content = self.bucket.read(_key(digest) + CHUNKS)
        except NotFound as error:
            if self.has(digest):
                return None
            trashed = self._trash.recipe(digest)
            if trashed is None:
                if self._trash.read(digest) is not None:
                    return None
                raise gone(digest, where=self.bucket.url) from error
            content = self.bucket.read(trashed)
        if not content.startswith(_RECIPE_MARK) or (len(content) - len(_RECIPE_MARK)) % _RECIPE.size:
            raise Corrupt(f"the list of pieces of {short(digest)} was altered", where=self.bucket.url)
        found = _RECIPE.iter_unpack(content[len(_RECIPE_MARK) :])
        return tuple((Digest(f"sha256:{raw.hex()}"), size) for raw, size in found)

    def put_chunked(self, digest: Digest, chunks: Sequence[tuple[Digest, int]]) -> None:
        """Say of which pieces an object is made; they are stored already."""
        rows = [_RECIPE.pack(bytes.fromhex(name[7:]), size) for name, size in chunks]
        content = b"".join([_RECIPE_MARK, *rows])
        self.bucket.upload(_key(digest) + CHUNKS, io.BytesIO(content), len(content))

    def mend(self, digest: Digest, content: BinaryIO, size: int) -> None:
        """Replace whatever is stored under a name by these bytes, which the caller has verified."""
        with contextlib.suppress(NotFound):  # where nothing is, it is simply put
            self.delete(digest)
        self.put_known(digest, content, size)

    def set_aside_unreadable(self) -> int:
        """Move packs whose table cannot be read out of the way, to `quarantine/`, where nobody looks; gives how many.

        Until then nothing of the store can be asked for. What they held is not there any more, and is put again.
        """
        count = 0
        for item in list(self.bucket.list("packs/")):
            try:
                self._table_at(item.key, item.size_bytes)
            except NotFound:
                continue  # it went to the trash between the two looks
            except Corrupt:
                self.bucket.copy(item.key, f"{QUARANTINE}{Path(item.key).name}")
                self.bucket.delete(item.key)
                if self._cache is not None:
                    (self._cache / Path(item.key).stem).unlink(missing_ok=True)
                count += 1
        self._refresh()
        return count

    # The trash, for collection; see s3trash.py.

    def ages(self) -> Iterator[tuple[Digest, int, float]]:
        """Every object that is not in the trash: name, size in bytes, when it was stored."""
        keys = self._live_keys()
        seen: set[Digest] = set()
        for item in keys:
            if not item.key.startswith("packs/") and (name := named(item.key)) not in seen:
                seen.add(name)
                size = item.size_bytes
                if item.key.endswith(CHUNKS):
                    size = sum(length for _, length in self.chunks_of(name) or ())
                yield name, size, item.modified
        for item in keys:
            if item.key.startswith("packs/"):
                for name, size in self._places.of(Path(item.key).stem):
                    if name not in seen:
                        seen.add(name)
                        yield name, size, item.modified

    def chunked(self) -> Iterator[Digest]:
        """Every object that is a list of pieces, in the trash or not."""
        found = set(self._trash.chunked())
        found.update(named(item.key) for item in self._live_keys() if item.key.endswith(CHUNKS))
        found.update(self._trash.chunked())  # again: one that was on its way there was in neither
        yield from found

    def trash(self, digests: Sequence[Digest], *, at: int, unseen_since: float) -> Names:
        """Move to the trash those that nobody stored since; gives them. What shares a pack with much else stays."""
        self._trash.trash(digests, self._live_keys(), at=at, unseen_since=unseen_since)
        there = self._live() if digests else set()
        return [name for name in dict.fromkeys(digests) if name not in there]

    def trashed(self) -> Iterator[Trashed]:
        """Everything that is in the trash and nowhere else, and since when."""
        yield from self._trash.trashed(self._live)

    def restore(self, digests: Sequence[Digest]) -> None:
        """Bring objects back from the trash; those that are not in it are left alone."""
        self._trash.restore(digests, self._live)

    def purge(self, items: Sequence[Trashed]) -> Names:
        """Take away for good what is still in the trash since the same time; gives what went."""
        return self._trash.purge(items, self._live)

    def compact(self) -> int:
        """Give back the space of what killed collections left twice; how many bytes that is."""
        return self._trash.sweep(self._live, self._clock())

    def _live(self) -> set[Digest]:
        """Everything that is in its own place now."""
        found: set[Digest] = set()
        for item in self._live_keys():
            if item.key.startswith("packs/"):
                found.update(name for name, _ in self._places.of(Path(item.key).stem))
            else:
                found.add(named(item.key))
        return found

    def _live_keys(self) -> Sequence[Item]:
        """The keys of objects and of packs; what the packs hold is known when this returns."""
        found = [each for each in self.bucket.list() if each.key.startswith("packs/") or each.key[2:3] == "/"]
        self._learn_packs({Path(each.key).stem: each.size_bytes for each in found if each.key.startswith("packs/")})
        return found

    def _packed(self, digest: Digest) -> BinaryIO | None:
        place = self._places.find([digest]).get(digest)
        if place is None:
            return None
        return io.BytesIO(self.bucket.read(_pack_key(place.pack), place.offset, place.size))

    def _whole(self, digest: Digest) -> BinaryIO:
        return self.bucket.open(_key(digest))

    def _packed_now(self, digest: Digest) -> BinaryIO | None:
        self._refresh()
        return self._packed(digest)

    def _in_pieces(self, digest: Digest) -> BinaryIO | None:
        chunks = self.chunks_of(digest)
        return None if chunks is None else cast("BinaryIO", io.BufferedReader(_Joined(self, chunks), BLOCK_BYTES))

    def _in_trash(self, digest: Digest) -> BinaryIO | None:
        place = self._trash.read(digest)
        return None if place is None else self.bucket.open(*place)

    def _has_key(self, digest: Digest) -> bool:
        return self.bucket.stat(_key(digest)) is not None or self.bucket.stat(_key(digest) + CHUNKS) is not None

    def _keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        for item in self.bucket.list(prefix):
            if len(item.key.partition("/")[0]) == 2:
                yield item.key, item.size_bytes

    def _put_group(self, group: Group) -> None:
        if len(group) == 1 and len(group[0][1]) > PACKED_MAX_BYTES:
            self.put_known(group[0][0], io.BytesIO(group[0][1]), len(group[0][1]))
            return
        content = pack(group)
        sha256 = hashlib.sha256(content).digest()
        name = sha256.hex()
        self.bucket.write(_pack_key(name), content, sha256)
        self._learn(name, content[-table_size(content, name) :], len(content))

    def _read_one(self, name: Digest) -> Group:
        with self.get(name) as stream:
            return [(name, stream.read())]

    def _read_span(self, span: Span) -> Group:
        """Objects that lie side by side in one pack, by one request."""
        start = span[0][1].offset
        end = max(place.offset + place.size for _, place in span)
        try:
            content = self.bucket.read(_pack_key(span[0][1].pack), start, end - start) if end > start else b""
        except NotFound:  # the pack was written anew, or went to the trash, since
            return [each for name, _ in span for each in self._read_one(name)]
        found = []
        for name, place in span:
            at = place.offset - start
            found.append((name, content[at : at + place.size]))
        return found

    def _place(self, digest: Digest, *, is_fresh: bool = False) -> Place | None:
        found = None if is_fresh else self._places.find([digest]).get(digest)
        if found is None:
            self._refresh()
            found = self._places.find([digest]).get(digest)
        return found

    def _refresh(self) -> None:
        """Learn the packs that are there now."""
        self._learn_packs({Path(item.key).stem: item.size_bytes for item in self.bucket.list("packs/")})

    def _learn_packs(self, there: dict[str, int]) -> None:
        with self._lock:
            self._places.keep(there)
            fresh = [name for name in there if name not in self._places.packs()]
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(lambda name: self._learn_from_store(name, there[name]), fresh))

    def _learn_from_store(self, name: str, size: int) -> None:
        kept = self._cache / name if self._cache else None
        if kept is not None and kept.is_file():
            self._places.add(name, table_of(kept.read_bytes(), size, f"{self.bucket.url}/{_pack_key(name)}"))
            return
        try:
            self._learn(name, self._tail_of(_pack_key(name), size), size)
        except NotFound:
            return  # it went to the trash between the two looks

    def _tail_of(self, key: str, size: int) -> bytes:
        """The table of a pack, as it stands at its end."""
        tail = self.bucket.read(key, max(size - _TAIL_READ_BYTES, 0))
        length = table_size(tail, f"{self.bucket.url}/{key}")
        if length > len(tail):
            tail = self.bucket.read(key, max(size - length, 0))
        return tail[-length:]

    def _table_at(self, key: str, size: int) -> Rows:
        return table_of(self._tail_of(key, size), size, f"{self.bucket.url}/{key}")

    def _learn(self, name: str, tail: bytes, size: int) -> None:
        self._places.add(name, table_of(tail, size, f"{self.bucket.url}/{_pack_key(name)}"))
        if self._cache is not None:
            self._cache.mkdir(parents=True, exist_ok=True)
            part = self._cache / f".{name}.{threading.get_ident()}.{id(tail)}"
            part.write_bytes(tail)
            part.replace(self._cache / name)

    def _rewrite(self, name: str, without: Digest) -> None:
        """A pack without one object; the new pack is there before the old one goes."""
        content = self.bucket.read(_pack_key(name))
        table = table_of(content, len(content), name)
        group = []
        for row in table:
            each = Digest(f"sha256:{bytes(row['digest']).hex()}")
            if each != without:
                at = int(row["offset"])
                group.append((each, content[at : at + int(row["size"])]))
        if group:
            self._put_group(group)
        self.bucket.delete(_pack_key(name))
        self._places.keep(self._places.packs() - {name})


class _Joined(io.RawIOBase):
    """The pieces of an object as one stream; a few pieces are read at a time."""

    AHEAD, AHEAD_BYTES = 64, 16 << 20

    def __init__(self, store: S3Objects, chunks: Sequence[tuple[Digest, int]]) -> None:
        self._store, self._chunks = store, chunks
        self._ready: dict[Digest, bytes] = {}
        self._number, self._inside, self._at = 0, 0, 0
        self._size = sum(size for _, size in chunks)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence], 0)
        self._number, self._inside = 0, self._at
        while self._number < len(self._chunks) and self._inside >= self._chunks[self._number][1]:
            self._inside -= self._chunks[self._number][1]
            self._number += 1
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer)).cast("B")
        while self._number < len(self._chunks):
            name, _ = self._chunks[self._number]
            if name not in self._ready:
                ahead = upcoming(self._chunks, self._number, self.AHEAD, self.AHEAD_BYTES)
                self._ready = {}  # what was read goes before more comes
                self._ready = dict(self._store.get_many(dict.fromkeys(ahead)))
            content = self._ready[name][self._inside : self._inside + len(view)]
            if content:
                view[: len(content)] = content
                self._inside += len(content)
                self._at += len(content)
                return len(content)
            self._number, self._inside = self._number + 1, 0
        return 0


def _grouped(items: Iterable[tuple[Digest, bytes]], names: Names) -> Iterator[Group]:
    """The objects in groups that make a pack, each once; `names` gets every name in order."""
    group: list[tuple[Digest, bytes]] = []
    seen: set[Digest] = set()
    held = 0
    for name, content in items:
        names.append(name)
        if name in seen:
            continue
        seen.add(name)
        if len(content) > PACKED_MAX_BYTES:
            yield [(name, content)]
            continue
        group.append((name, content))
        held += len(content) + ROW_BYTES
        if held + TAIL_BYTES >= PACK_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _spans(places: dict[Digest, Place]) -> Iterator[list[tuple[Digest, Place]]]:
    """Objects of one pack that lie near each other, some megabytes together."""
    ordered = sorted(places.items(), key=lambda item: (item[1].pack, item[1].offset))
    span: list[tuple[Digest, Place]] = []
    for name, place in ordered:
        if span:
            first, last = span[0][1], span[-1][1]
            is_near = place.pack == first.pack and place.offset - (last.offset + last.size) <= _GAP_BYTES
            if not is_near or place.offset + place.size - first.offset > SPAN_BYTES:
                yield span
                span = []
        span.append((name, place))
    if span:
        yield span


def _windowed(tasks: Sequence[Callable[[], T]]) -> Iterator[T]:
    """The answers of tasks in order, a few of them running ahead."""
    with ThreadPoolExecutor(THREADS) as pool:
        running: deque[Future[T]] = deque()
        try:
            for task in tasks:
                running.append(pool.submit(task))
                if len(running) > THREADS:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for each in running:
                each.cancel()


def _key(digest: Digest) -> str:
    return f"{digest[7:9]}/{digest[9:]}"


def _pack_key(name: str) -> str:
    return f"packs/{name}.pack"
