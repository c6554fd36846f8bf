"""Immutable bytes named by their sha-256: the seam for stores, and the verified face on it.

An `ObjectStore` only moves bytes; what else a store can do well it says by the optional protocols.
`Objects` is what everybody uses: it never hands out bytes whose digest it has not checked, and it
turns the machine's failures into the error tree. Objects are written before the fact that names them,
so a crash leaves an orphan object at worst. Nothing here knows what the bytes mean, and nothing here deletes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, Protocol, cast, runtime_checkable

from noria.core import identity
from noria.core.errors import Conflict, Corrupt, NotFound, ObjectGone, StoreUnavailable
from noria.core.identity import JSON, Digest, canonical, is_digest, short
from noria.core.lazy import lazy
from noria.store.disk import BLOCK_BYTES, disk_faults, hash_file, length_of, stamp_of, sync_folder
from noria.store.localcopies import LocalCopies

if TYPE_CHECKING:
    from noria.store import chunks as chunking
    from noria.store import copies as copying
    from noria.store import unpack as unpacking
    from noria.store import unpackers
else:
    chunking = lazy("noria.store.chunks")
    copying = lazy("noria.store.copies")
    unpacking = lazy("noria.store.unpack")
    unpackers = lazy("noria.store.unpackers")

__all__ = [
    "BLOCK_BYTES",
    "CollectsWhole",
    "HasBatches",
    "HasChunks",
    "HasFiles",
    "HasForms",
    "HasNamed",
    "HasPaths",
    "HasPlaces",
    "HasTrash",
    "HasUnfinished",
    "ObjectStore",
    "Objects",
    "Progress",
    "SealsChunks",
    "Trashed",
    "disk_faults",
    "gone",
    "hash_file",
    "ignore_progress",
    "stamp_of",
    "sync_folder",
]

FRESH_S = 3600
"""A store notes that an object was asked for again only when it was last noted this long ago, at the most."""

_SMALL_BYTES = 1 << 20
_AT_ONCE = 512

Progress = Callable[[int], None]
"""Called with the bytes done since the last call, from any thread."""


def ignore_progress(size_bytes: int) -> None:
    """Nobody looks."""


def gone(name: str, where: str = "") -> ObjectGone:
    """The error of an object that is not there, with the way back."""
    hint = "noria audit verify says what it belonged to; noria data verify heals it from a remote"
    return ObjectGone(f"there is no object {short(name)}", where=where, hint=hint)


class ObjectStore(Protocol):
    """Where the bytes of objects live. Safe for many threads and processes.

    `put` is atomic and idempotent: after a crash an object is there whole or not at all.
    `get` and `delete` raise NotFound; `get` does not verify. `list` gives (digest, size in bytes).
    """

    def put(self, source: BinaryIO) -> Digest:
        """Store everything that `source` gives, from where it stands, and name it."""
        ...

    def get(self, digest: Digest) -> BinaryIO:
        """The raw bytes, as a stream that the caller closes."""
        ...

    def has(self, digest: Digest) -> bool:
        """Whether the object is there."""
        ...

    def list(self) -> Iterator[tuple[Digest, int]]:
        """Every object with its size in bytes, in no order."""
        ...

    def delete(self, digest: Digest) -> None:
        """Take the object away. Only garbage collection and erasure call this."""
        ...


@runtime_checkable
class HasPaths(Protocol):
    """A store whose objects may be files on this machine already, so that no copy is needed."""

    def path_of(self, digest: Digest) -> Path:
        """Where the object's file would be; it need not exist, also where the object does."""
        ...


@runtime_checkable
class HasBatches(Protocol):
    """A store that moves many small objects in few operations."""

    def put_many(self, items: Iterable[bytes]) -> list[Digest]:
        """Store small things; gives their names in order."""
        ...

    def has_many(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those that are there."""
        ...

    def get_many(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """The raw bytes of each, in the order that suits the store. Raises: NotFound."""
        ...


@runtime_checkable
class HasNamed(HasBatches, Protocol):
    """A store that takes the caller's word for the names of small objects."""

    def put_named(self, items: Iterable[tuple[Digest, bytes]]) -> list[Digest]:
        """Store small objects whose digests were just verified; gives their names in order."""
        ...


@runtime_checkable
class HasChunks(Protocol):
    """A store that may keep a large object as a list of chunks, which are objects themselves."""

    def chunks_of(self, digest: Digest) -> tuple[tuple[Digest, int], ...] | None:
        """Digest and size of each chunk in order, or None for an object that is stored whole. Raises: NotFound."""
        ...

    def put_chunked(self, digest: Digest, chunks: Sequence[tuple[Digest, int]]) -> None:
        """Make an object of chunks that are stored already. Raises: NotFound; Corrupt."""
        ...


@runtime_checkable
class SealsChunks(HasChunks, Protocol):
    """A store whose lists of chunks are known to be right: made with the whole, and sealed since."""

    seals_chunks: Literal[True]


@runtime_checkable
class HasFiles(Protocol):
    """A store that takes the files of this machine in better ways than as streams."""

    def put_file(self, path: Path) -> Digest:
        """Store a file's bytes. Raises: NotFound; Conflict if it changes while it is read."""
        ...

    def put_files(self, paths: Sequence[str | Path], progress: Progress) -> list[Digest]:
        """Store many files; gives their names in order. Raises: NotFound; Conflict."""
        ...


@runtime_checkable
class HasForms(Protocol):
    """A store that keeps objects in several forms and knows which."""

    def size_of(self, digest: Digest) -> int:
        """The object's size in bytes. Raises: NotFound."""
        ...

    def packed(self, digests: Iterable[Digest]) -> list[Digest]:
        """Those that are small, in the order in which they are best read."""
        ...

    def quarantine(self, digest: Digest) -> None:
        """Move what is altered of an object out of the way, so that a put stores it anew. Raises: NotFound."""
        ...


@runtime_checkable
class HasPlaces(Protocol):
    """A store whose small objects lie one after the other in files of this machine."""

    def places(self, digests: Iterable[Digest]) -> list[tuple[Digest, Path, int, int]]:
        """Those that are small, in the order of the disk: each with its file, and offset and size of its bytes there.

        Nothing is held: an object may be elsewhere when it is looked for. Who reads there verifies.
        """
        ...


class Trashed(NamedTuple):
    """An object in the trash: its name, its size in bytes, and since when (seconds since the epoch)."""

    digest: Digest
    size_bytes: int
    since: int


@runtime_checkable
class HasTrash(Protocol):
    """A store that can be collected: nothing is deleted that was not in its trash for long.

    What is in the trash is not there for `has` and `list`, is given by `get` all the same, and is
    brought back by a put of the same bytes. All are atomic for each object, against every process.
    """

    def ages(self) -> Iterator[tuple[Digest, int, float]]:
        """Every object that is not in the trash: name, size, when it was stored or put again last."""
        ...

    def chunked(self) -> Iterator[Digest]:
        """Every object that is a list of chunks, in the trash or not."""
        ...

    def trash(self, digests: Sequence[Digest], *, at: int, unseen_since: float) -> list[Digest]:
        """Move to the trash, as of `at`, those that nobody put since; gives them."""
        ...

    def trashed(self) -> Iterator[Trashed]:
        """Everything in the trash."""
        ...

    def restore(self, digests: Sequence[Digest]) -> None:
        """Bring back those that are in the trash."""
        ...

    def purge(self, items: Sequence[Trashed]) -> list[Digest]:
        """Delete what is still in the trash since the same moment; gives what went."""
        ...

    def compact(self) -> int:
        """Give back the space of what went; how many bytes that is."""
        ...


@runtime_checkable
class HasIdleBytes(Protocol):
    """A store that knows how much space `compact` would give back."""

    def idle_bytes(self) -> int:
        """What nothing names where many objects lie together."""


@runtime_checkable
class HasUnfinished(Protocol):
    """A store that keeps what is being written apart, where a killed writer leaves it."""

    def unfinished(self, *, unused_since: float, is_dry_run: bool) -> list[int]:
        """Take away what nobody wrote since then and for a day; gives the sizes of what goes."""
        ...


@runtime_checkable
class CollectsWhole(Protocol):
    """A store in which many objects share a place, so that a collection tells it everything at once."""

    collects_whole: Literal[True]


class Objects:
    """The verified face of an object store.

    `cache` is a folder for local copies of objects whose store has no files of its own; `copies` bounds
    what is kept there, and in the caches below it. Thread safe; processes may share a store and a cache.
    """

    def __init__(self, store: ObjectStore, cache: Path, copies: LocalCopies | None = None) -> None:
        self._store = store
        self._cache = cache
        self.copies = copies or LocalCopies(cache)
        self._verified: dict[str, tuple[int, int, int]] = {}
        self._lock = threading.Lock()

    @property
    def store(self) -> ObjectStore:
        """The store below, for collection and transfer."""
        return self._store

    def put_bytes(self, content: bytes) -> Digest:
        """Store bytes. Idempotent and atomic; an altered object of that name is put right."""
        return self._store.put(io.BytesIO(content))

    def put_small(self, content: bytes) -> Digest:
        """Store a few bytes by one append and one sync where the store is a folder, else as `put_bytes`."""
        if isinstance(self._store, HasBatches) and isinstance(self._store, HasPaths):
            return self._store.put_many([content])[0]
        return self.put_bytes(content)

    def put_soon(self, content: bytes) -> Digest:
        """Store bytes; where this face holds them back (`HeldObjects`), with the next `settle`."""
        return self.put_bytes(content)

    def settle(self) -> None:
        """Store what was to be stored soon."""

    def held(self, digests: Iterable[str]) -> dict[str, bytes]:
        """Of some objects those that are held back, with their bytes."""
        return {}

    def put_file(self, path: Path) -> Digest:
        """Store a file's bytes; the file itself is never moved or changed.

        Raises: NotFound if there is no such file; Conflict if it changes while it is read.
        """
        if isinstance(self._store, HasFiles):
            return self._store.put_file(path)
        try:
            stream = path.open("rb")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFound(f"there is no file {path}") from error
        except OSError as error:
            raise StoreUnavailable(f"the file cannot be read: {error.strerror}", where=str(path)) from error
        with stream:
            before = stamp_of(os.fstat(stream.fileno()))
            stored = self._store.put(stream)
            if stamp_of(os.fstat(stream.fileno())) != before:
                raise Conflict("the file changed while it was read", where=str(path), hint="run the command again")
        return stored

    def put_many(self, items: Iterable[bytes]) -> list[Digest]:
        """Store small things, together where the store can; gives their names in order."""
        if isinstance(self._store, HasBatches):
            return self._store.put_many(items)
        return [self.put_bytes(content) for content in items]

    def put_verified(self, items: Iterable[tuple[Digest, bytes]]) -> list[Digest]:
        """Store small objects under names that the caller has verified, without hashing them again; gives those."""
        if isinstance(self._store, HasNamed):
            return self._store.put_named(items)
        return self.put_many(content for _, content in items)

    def put_files(self, paths: Sequence[str | Path], progress: Progress = ignore_progress) -> list[Digest]:
        """Store many files, small ones together; gives their names in order. The files are not touched.

        Raises: NotFound, or Conflict if one changes while it is read; both name the file, and then no
        name is given for any.
        """
        if isinstance(self._store, HasFiles):
            return self._store.put_files(paths, progress)
        found = []
        for path in map(Path, paths):
            found.append(self.put_file(path))
            progress(path.stat().st_size)
        return found

    def put_json(self, value: JSON) -> Digest:
        """Store a JSON value by its canonical bytes."""
        return self.put_bytes(canonical(value))

    def get_bytes(self, digest: str) -> bytes:
        """The object's bytes, verified. Raises: NotFound; Corrupt if they do not match their name."""
        name = self._named(digest)
        with self._open(name) as stream, disk_faults(self._cache):
            content = stream.read()
        found = identity.digest(content)
        if found != name:
            raise copying.altered(name, found)
        return content

    def get_many(self, digests: Iterable[str]) -> Iterator[tuple[Digest, bytes]]:
        """The bytes of small objects, each verified, in the order that suits the store. Raises: NotFound; Corrupt."""
        names = [self._named(text) for text in digests]
        if isinstance(self._store, HasBatches):
            for name, content in self._store.get_many(names):
                found = identity.digest(content)
                if found != name:
                    raise copying.altered(name, found)
                yield name, content
        else:
            for name in dict.fromkeys(names):
                yield name, self.get_bytes(name)

    def open(self, digest: str) -> BinaryIO:
        """The object as a seekable stream whose bytes are verified before they are given.

        Of a chunked object only the chunks that are read are fetched; others are verified as a whole,
        once per process. The caller closes it. Raises: NotFound; Corrupt, for a chunk when it is read.
        """
        name = self._named(digest)
        chunks = self.chunks_of(name)
        if chunks is not None:
            reader = chunking.ChunkReader(chunking.Recipe(name, chunks), self.get_many)
            return cast("BinaryIO", io.BufferedReader(reader, BLOCK_BYTES))
        if self._is_packed(name):
            return io.BytesIO(self.get_bytes(name))
        return self.path(name).open("rb")

    def get_json(self, digest: str) -> Any:
        """The JSON value of an object. Raises: NotFound; Corrupt."""
        content = self.get_bytes(digest)
        try:
            return json.loads(content)
        except ValueError as error:
            raise Corrupt(f"object {short(digest)} is not JSON") from error

    def path(self, digest: str) -> Path:
        """A read-only local file with the object's bytes, verified.

        The bytes are hashed once per process, and again when size, time or inode of the file changed.
        A copy is kept for some hours at least (`COPY_GRACE_S`); who needs it later asks again.
        Raises: NotFound; Corrupt.
        """
        name = self._named(digest)
        if isinstance(self._store, HasPaths):
            place = self._store.path_of(name)
            if place.exists() or not self._store.has(name):  # it may be there in another form
                self._verify(name, place)
                return place
        place = self._cache / name[7:9] / name[9:]
        if self.copies.take(place):
            try:
                self._verify(name, place)
            except Corrupt:
                if isinstance(self._store, HasForms):
                    place.unlink()  # only a copy; the object itself is asked below
                else:
                    raise
        if not place.exists():
            self.copy_to(name, place)
            place.chmod(0o444)
            self._verify(name, place)
            self.copies.added(place)
        return place

    def copy_to(self, digest: str, target: Path) -> None:
        """Write the object's bytes to `target`, atomically, verified before the name appears.

        A file that is there is replaced. Raises: NotFound; Corrupt; StoreFull.
        """
        name = self._named(digest)
        self._copy(name, target, is_synced=True, progress=ignore_progress)

    def copy_many(self, pairs: Sequence[tuple[str, str | Path]], progress: Progress = ignore_progress) -> None:
        """Write objects to files, each verified before it is written. What dies is the process, not the machine:
        the bytes are with the system, which takes them to the disk in its own time, as Git's checkouts.

        A file that is there is replaced atomically, one that is not is made in place: after a crash it may
        be there in part. Made for a folder that gets its name at the end, of objects that are kept.
        Raises: NotFound; Corrupt, naming the first bad object; StoreFull. What was written by then stays.
        """
        wanted: dict[Digest, list[str | Path]] = {}
        for text, target in pairs:
            wanted.setdefault(self._named(text), []).append(target)
        if pairs:
            with disk_faults(Path(pairs[0][1])):
                small = self._unpack(wanted, progress)
                self._copy_all(wanted, small, progress)

    def _unpack(self, wanted: dict[Digest, list[str | Path]], progress: Progress) -> list[Digest]:
        """Write what lies packed on this machine, and take it out of `wanted`; gives the small objects that stay in."""
        if isinstance(self._store, HasPlaces):
            for each in unpackers.unpack_many(
                unpackers.packed_work(self._store.places, wanted), progress, count=len(wanted)
            ):
                wanted.setdefault(Digest("sha256:" + each.key.hex()), []).append(os.fsdecode(each.target))
        return self._store.packed(wanted) if wanted and isinstance(self._store, HasForms) else []

    def _copy_all(
        self, wanted: Mapping[Digest, Sequence[str | Path]], small: Sequence[Digest], progress: Progress
    ) -> None:
        stop, write_copy = threading.Event(), unpacking.write_copy

        def copy_small(names: Sequence[Digest]) -> None:
            for start in range(0, len(names), _AT_ONCE):
                for name, content in self.get_many(names[start : start + _AT_ONCE]):
                    if stop.is_set():
                        return
                    for target in wanted[name]:
                        write_copy(content, os.fsencode(target))
                        progress(len(content))

        def copy_large(names: Sequence[Digest]) -> None:
            for name in names:
                for target in wanted[name]:
                    if stop.is_set():
                        return
                    self._copy(name, Path(target), is_synced=False, progress=progress)

        large = list(wanted.keys() - set(small))
        if wanted:
            copying.in_two(stop, (copy_small, small), (copy_large, large))

    def has(self, digest: str) -> bool:
        """Whether the object is there; its bytes are not looked at."""
        return self._store.has(self._named(digest))

    def has_many(self, digests: Iterable[str]) -> set[Digest]:
        """Those of the objects that are there; their bytes are not looked at."""
        names = [self._named(text) for text in digests]
        if isinstance(self._store, HasBatches):
            return self._store.has_many(names)
        return {name for name in names if self._store.has(name)}

    def names(self) -> Iterator[Digest]:
        """The name of every object, in no order; their bytes are not looked at."""
        return (name for name, _ in self._store.list())

    def size(self, digest: str) -> int:
        """The object's size in bytes. Raises: NotFound."""
        name = self._named(digest)
        if isinstance(self._store, HasForms):
            return self._store.size_of(name)
        if isinstance(self._store, HasPaths):
            try:
                return self._store.path_of(name).stat().st_size
            except FileNotFoundError as error:
                raise gone(name) from error
        with self._open(name) as stream:
            return stream.seek(0, io.SEEK_END) if stream.seekable() else length_of(stream)

    def chunks_of(self, digest: str) -> tuple[tuple[Digest, int], ...] | None:
        """Digest and size of each chunk in order, or None for an object that is stored whole. Raises: NotFound."""
        name = self._named(digest)
        return self._store.chunks_of(name) if isinstance(self._store, HasChunks) else None

    def require(self, digest: str) -> None:
        """The object is whole; a file is hashed once per process, as by `path`. Raises: NotFound; Corrupt."""
        name = self._named(digest)
        if self._is_packed(name):
            self.get_bytes(name)
        else:
            self.path(name)

    def verify(self, digest: str) -> None:
        """Read the whole object anew and compare it with its name, in flat memory. Raises: NotFound; Corrupt."""
        name = self._named(digest)
        hasher = hashlib.sha256()
        with self._open(name) as stream, disk_faults(self._cache):
            while block := stream.read(BLOCK_BYTES):
                hasher.update(block)
        found = "sha256:" + hasher.hexdigest()
        if found != name:
            raise copying.altered(name, found)

    def quarantine(self, digest: str) -> None:
        """Move what is altered of an object out of the way; what is well stays. A put then stores it anew.

        Stores that replace altered objects by themselves have nothing to do. Raises: NotFound.
        """
        name = self._named(digest)
        if isinstance(self._store, HasForms):
            self._store.quarantine(name)
        elif not self._store.has(name):
            raise gone(name)

    def _is_packed(self, name: Digest) -> bool:
        return isinstance(self._store, HasForms) and bool(self._store.packed([name]))

    def _copy(self, name: Digest, target: Path, *, is_synced: bool, progress: Progress) -> None:
        chunks = self._store.chunks_of(name) if isinstance(self._store, SealsChunks) else None
        if chunks is not None:
            copying.copy_chunks(chunks, self.get_many, target, is_synced=is_synced, progress=progress)
            return
        with self._open(name) as source:
            copying.copy_stream(name, source, target, is_synced=is_synced, progress=progress)

    def _open(self, name: Digest) -> BinaryIO:
        return self._store.get(name)

    def _verify(self, name: Digest, place: Path) -> None:
        try:
            stamp = stamp_of(place.stat())
        except FileNotFoundError as error:
            raise gone(name) from error
        with self._lock:
            if self._verified.get(name) == stamp:
                return
        if place.is_dir():
            raise copying.not_a_file(name)
        with disk_faults(place):
            found = hash_file(place)
        if found != name:
            raise copying.altered(name, found)
        with self._lock:
            self._verified[name] = stamp

    def _named(self, text: str) -> Digest:
        if not is_digest(text):
            raise NotFound(f"{text[:80]!r} is not the digest of an object", hint="one is sha256: and 64 hex digits")
        return Digest(text)
