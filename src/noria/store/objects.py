"""Immutable bytes named by their sha-256: the seam for stores, and the verified face on it.

An `ObjectStore` only moves bytes. `Objects` is what everybody uses: it never hands out bytes whose
digest it has not checked, and it turns the machine's failures into the error tree. Objects are
written before the fact that names them, so a crash leaves an orphan object at worst. Nothing here
knows what the bytes mean, and nothing here deletes.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from noria.core import identity
from noria.core.errors import Conflict, Corrupt, NotFound, StoreFull, StoreUnavailable
from noria.core.identity import JSON, Digest, canonical, is_digest, short

__all__ = ["HasPaths", "ObjectStore", "Objects", "disk_faults", "hash_file", "sync_folder"]

BLOCK_BYTES = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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
    """A store whose objects are already files on this machine, so that no copy is needed."""

    def path_of(self, digest: Digest) -> Path:
        """Where the object would be; it need not exist."""
        ...


@contextmanager
def disk_faults(where: Path) -> Iterator[None]:
    """Turn the operating system's refusals into StoreFull and StoreUnavailable."""
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        if error.errno in _FULL:
            raise StoreFull(
                f"no space is left ({name})", where=str(where), hint="free some space, then run the command again"
            ) from error
        raise StoreUnavailable(
            f"the store cannot be used: {error.strerror or error} ({name})",
            where=str(where),
            hint="check the folder's permissions and that the disk is mounted for writing",
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames and new names inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hash_file(path: Path) -> Digest:
    """The digest of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return Digest("sha256:" + hashlib.file_digest(stream, "sha256").hexdigest())


class Objects:
    """The verified face of an object store.

    `cache` is a folder for local copies of objects whose store has no files of its own.
    Thread safe; processes may share a store and a cache.
    """

    def __init__(self, store: ObjectStore, cache: Path) -> None:
        self._store = store
        self._cache = cache
        self._verified: dict[str, tuple[int, int, int]] = {}
        self._lock = threading.Lock()

    @property
    def store(self) -> ObjectStore:
        """The store below, for collection and transfer."""
        return self._store

    def put_bytes(self, content: bytes) -> Digest:
        """Store bytes. Idempotent and atomic; an altered object of that name is put right."""
        return self._store.put(io.BytesIO(content))

    def put_file(self, path: Path) -> Digest:
        """Store a file's bytes; the file itself is never moved or changed.

        Raises: NotFound if there is no such file; Conflict if it changes while it is read.
        """
        try:
            stream = path.open("rb")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise NotFound(f"there is no file {path}") from error
        except OSError as error:
            raise StoreUnavailable(f"the file cannot be read: {error.strerror}", where=str(path)) from error
        with stream:
            before = _stamp(os.fstat(stream.fileno()))
            stored = self._store.put(stream)
            if _stamp(os.fstat(stream.fileno())) != before:
                raise Conflict("the file changed while it was read", where=str(path), hint="run the command again")
        return stored

    def put_json(self, value: JSON) -> Digest:
        """Store a JSON value by its canonical bytes."""
        return self.put_bytes(canonical(value))

    def get_bytes(self, digest: str) -> bytes:
        """The object's bytes, verified. Raises: NotFound; Corrupt if they do not match their name."""
        name = _parsed(digest)
        with self._open(name) as stream, disk_faults(self._cache):
            content = stream.read()
        found = identity.digest(content)
        if found != name:
            raise _corrupt(name, found)
        return content

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
        Raises: NotFound; Corrupt.
        """
        name = _parsed(digest)
        if isinstance(self._store, HasPaths):
            place = self._store.path_of(name)
        else:
            place = self._cache / name[7:9] / name[9:]
            if not place.exists():
                self.copy_to(name, place)
        self._verify(name, place)
        return place

    def copy_to(self, digest: str, target: Path) -> None:
        """Write the object's bytes to `target`, atomically, verified before the name appears.

        A file that is there is replaced. Raises: NotFound; Corrupt; StoreFull.
        """
        name = _parsed(digest)
        hasher = hashlib.sha256()
        with self._open(name) as source, disk_faults(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            try:
                with temporary.open("xb") as sink:
                    while block := source.read(BLOCK_BYTES):
                        hasher.update(block)
                        sink.write(block)
                    sink.flush()
                    os.fsync(sink.fileno())
                found = "sha256:" + hasher.hexdigest()
                if found != name:
                    raise _corrupt(name, found)
                temporary.replace(target)
                sync_folder(target.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def has(self, digest: str) -> bool:
        """Whether the object is there; its bytes are not looked at."""
        return self._store.has(_parsed(digest))

    def names(self) -> Iterator[Digest]:
        """The name of every object, in no order; their bytes are not looked at."""
        return (name for name, _ in self._store.list())

    def size(self, digest: str) -> int:
        """The object's size in bytes. Raises: NotFound."""
        name = _parsed(digest)
        if isinstance(self._store, HasPaths):
            try:
                return self._store.path_of(name).stat().st_size
            except FileNotFoundError as error:
                raise NotFound(f"there is no object {short(name)}") from error
        with self._open(name) as stream:
            return stream.seek(0, io.SEEK_END) if stream.seekable() else _length(stream)

    def _open(self, name: Digest) -> BinaryIO:
        return self._store.get(name)

    def _verify(self, name: Digest, place: Path) -> None:
        try:
            stamp = _stamp(place.stat())
        except FileNotFoundError as error:
            raise NotFound(f"there is no object {short(name)}") from error
        with self._lock:
            if self._verified.get(name) == stamp:
                return
        with disk_faults(place):
            found = hash_file(place)
        if found != name:
            raise _corrupt(name, found)
        with self._lock:
            self._verified[name] = stamp


def _length(stream: BinaryIO) -> int:
    total = 0
    while block := stream.read(BLOCK_BYTES):
        total += len(block)
    return total


def _parsed(text: str) -> Digest:
    if not is_digest(text):
        raise NotFound(f"{text[:80]!r} is not the digest of an object", hint="a digest is sha256: and 64 hex digits")
    return Digest(text)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _corrupt(name: str, found: str) -> Corrupt:
    return Corrupt(
        f"object {short(name)} was altered: its bytes are now {short(found)}",
        hint="it was not handed out; noria audit verify says what it is; restore it from a backup",
    )
