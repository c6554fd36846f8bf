"""Objects in a folder of a local file system: packs, read-only files, and lists of chunks.

Small objects that come many at a time are appended to packs (`packs/`), whatever comes alone and what
does not compress is a file of its own (`ab/cdef…`), and a large file that may have a next version is
a list of chunks (`ab/cdef….chunks`) that are packed objects themselves. The name of an object is the
digest of its bytes in every form. A put of an object that is already there checks the bytes on disk
and puts altered ones right. Files are read-only against accidents, not against an enemy: readers verify.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from noria.core import identity
from noria.core.errors import Corrupt, NotFound
from noria.core.identity import Digest, short
from noria.core.lazy import lazy
from noria.engines.objects.loose import RECIPE, Loose
from noria.store.failpoint import failpoint
from noria.store.objects import BLOCK_BYTES, Progress, Trashed, disk_faults, gone, hash_file, ignore_progress
from noria.store.packs import HEADER, Packs, as_key, as_name

if TYPE_CHECKING:
    from concurrent import futures

    from noria.engines.objects import adding as bulk
    from noria.store import chunks as chunking
    from noria.store import copies as copying
else:
    bulk = lazy("noria.engines.objects.adding")
    chunking = lazy("noria.store.chunks")
    copying = lazy("noria.store.copies")
    futures = lazy("concurrent.futures")

__all__ = ["FileObjects"]

Names = list[Digest]
Sizes = list[int]
Places = list[tuple[Digest, Path, int, int]]

_THREADED_BYTES = 8 << 20
_BLOCKS_AHEAD = 4
_CHUNKS_AT_ONCE = 16


class FileObjects:
    """An object store in a folder of a local file system. Thread safe; processes share it."""

    seals_chunks: Literal[True] = True
    """A list of chunks is made while the whole is hashed or read, and read only where its seal is whole."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._loose = Loose(root)
        self._packs = Packs(root / "packs")
        self._verified: dict[str, tuple[int, int, int]] = {}

    # The five methods of the seam.

    def put(self, source: BinaryIO) -> Digest:
        """Store the bytes of a stream as a file; see the protocol. Raises: StoreFull; StoreUnavailable."""
        return self._put(source, 0)

    def put_sized(self, source: BinaryIO, size_bytes: int) -> Digest:
        """Store a stream whose size is known, which saves a large one half of the time."""
        return self.put(source) if size_bytes < _THREADED_BYTES else self._put(source, size_bytes)

    def _put(self, source: BinaryIO, size_bytes: int) -> Digest:
        with disk_faults(self._root), self._loose.temporary() as temporary:
            name, handle = self._write(source, temporary, size_bytes)
            try:
                if self._is_there(name):
                    return name
                os.fsync(handle)
            finally:
                os.close(handle)
            failpoint("object.synced")
            self._loose.place(temporary, name)
            return name

    def get(self, digest: Digest) -> BinaryIO:
        """The raw bytes of an object, from the trash too. Raises: NotFound."""
        try:
            return self.path_of(digest).open("rb")
        except FileNotFoundError:
            pass  # it may be there in another form
        except IsADirectoryError as error:
            raise copying.not_a_file(digest) from error
        content = self._packs.read(as_key(digest))
        if content is not None:
            return io.BytesIO(content)
        recipe = self._recipe(digest)
        if recipe is not None:
            return cast("BinaryIO", io.BufferedReader(chunking.ChunkReader(recipe, self._chunks), BLOCK_BYTES))
        trashed = self._loose.find_trashed(digest)
        if trashed is None:
            raise self._absent(digest)
        return trashed.open("rb")

    def has(self, digest: Digest) -> bool:
        """Whether the object is there, and not in the trash."""
        return bool(self.has_many([digest]))

    def list(self) -> Iterator[tuple[Digest, int]]:
        """Every object with its size in bytes; chunks are objects too."""
        for name, size, _ in self.ages():
            yield name, size

    def delete(self, digest: Digest) -> None:
        """Take an object away for good, in every form. Raises: NotFound."""
        with disk_faults(self._root):
            is_packed = self._packs.delete(as_key(digest))
            if not self._loose.delete(digest) and not is_packed:
                raise self._absent(digest)

    # Many at once.

    def put_many(self, items: Iterable[bytes]) -> Names:
        """Store small things by one append and one sync; gives their names in order."""
        return self.put_named((identity.digest(content), content) for content in items)

    def put_named(self, items: Iterable[tuple[Digest, bytes]]) -> Names:
        """Store small things whose digests the caller has verified; gives their names in order."""
        found: list[Digest] = []
        with self.adding() as adding:
            for name, content in items:
                found.append(name)
                adding.add(as_key(name), content)
            adding.commit()
        return found

    def put_file(self, path: Path) -> Digest:
        """Store a file's bytes, as chunks where a sample says that it pays. Raises: NotFound; Conflict; StoreFull."""
        with disk_faults(self._root):
            return bulk.add_large(self, path)

    def put_files(self, paths: Sequence[str | Path], progress: Progress = ignore_progress) -> Names:
        """Store many files; gives their names in order. Raises: as put_file, naming the file."""
        with disk_faults(self._root):
            return bulk.add_files(self, paths, progress)

    def has_many(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those that are there, and not in the trash."""
        names = list(digests)
        packed = self._packs.find_live([as_key(name) for name in names])
        folders = self._loose.folders()
        return {
            name
            for name in names
            if as_key(name) in packed
            or (name[7:9] in folders and (self.path_of(name).exists() or self._loose.path_of(name, RECIPE).exists()))
        }

    def get_many(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """The raw bytes of objects, packed ones first and in the order of the disk. Raises: NotFound."""
        names = dict.fromkeys(digests)
        for key, content in self._packs.read_many([as_key(name) for name in names]):
            name = as_name(key)
            del names[name]
            yield name, content
        for name in names:
            with self.get(name) as stream:
                yield name, stream.read()

    # Forms.

    def path_of(self, digest: Digest) -> Path:
        """Where the object's file is, if it is a file of its own."""
        return self._loose.path_of(digest)

    def size_of(self, digest: Digest) -> int:
        """The size of an object in bytes. Raises: NotFound; Corrupt for an altered chunk list."""
        with suppress(FileNotFoundError):
            return self.path_of(digest).stat().st_size
        place = self._packs.find([as_key(digest)]).get(as_key(digest))
        if place is not None:
            return place.size
        recipe = self._recipe(digest)
        if recipe is not None:
            return recipe.size_bytes
        trashed = self._loose.find_trashed(digest)
        if trashed is None:
            raise self._absent(digest)
        return trashed.stat().st_size

    def packed(self, digests: Iterable[Digest]) -> Names:
        """Those of the objects that are in packs, so small that many fit in memory, in the order of the disk."""
        return [name for name, _, _, _ in self.places(digests)]

    def places(self, digests: Iterable[Digest]) -> Places:
        """The same, each with its pack and the offset and size of its bytes there."""
        found = self._packs.find([as_key(name) for name in dict.fromkeys(digests)])
        small = [(key, place) for key, place in found.items() if place.size <= 4 * bulk.PACKED_BYTES]
        small.sort(key=lambda item: (item[1].pack, item[1].at))
        files = {pack: self._packs.folder / pack for pack in {place.pack for _, place in small}}
        return [(as_name(key), files[place.pack], place.at + HEADER.size, place.size) for key, place in small]

    def chunks_of(self, digest: Digest) -> tuple[tuple[Digest, int], ...] | None:
        """The chunks of an object in order with their sizes, or None if it is stored whole.

        Raises: NotFound; Corrupt for an altered chunk list.
        """
        if self.path_of(digest).exists() or self._packs.find([as_key(digest)]):
            return None
        recipe = self._recipe(digest)
        if recipe is not None:
            return recipe.chunks
        if self._loose.find_trashed(digest) is None:
            raise self._absent(digest)
        return None

    def put_chunked(self, digest: Digest, chunks: Sequence[tuple[Digest, int]]) -> None:
        """Make an object of chunks that are there. Raises: NotFound for a missing one; Corrupt if they are not it."""
        recipe = chunking.Recipe(digest, tuple(chunks))
        with disk_faults(self._root):
            found = self._digest_of(recipe)
        if found != digest:
            raise Corrupt(f"the given chunks are not object {short(digest)}", hint="send the object again")
        self.put_recipe(recipe)

    def put_recipe(self, recipe: chunking.Recipe) -> None:
        """Name an object whose chunks are stored and known to be right."""
        with disk_faults(self._root):
            if self._is_loose(recipe.digest):
                return
            path = self._loose.path_of(recipe.digest, RECIPE)
            content = chunking.pack_recipe(recipe)
            if path.exists() and path.read_bytes() == content:
                self._loose.touch(path)
            else:
                self._loose.place_recipe(recipe.digest, content)
            self._packs.touch([as_key(name) for name, _ in recipe.chunks])

    def quarantine(self, digest: Digest) -> None:
        """Move an altered form of the object aside: of a chunked one its list, and those chunks that are altered.

        What is well stays. The next put stores the object anew. Raises: NotFound.
        """
        with disk_faults(self._root):
            is_there = False
            path = self.path_of(digest)
            if path.exists():
                is_there = True
                if path.is_dir() or hash_file(path) != digest:
                    self._loose.set_aside(digest)
            key = as_key(digest)
            if self._packs.find([key]):
                is_there = True
                if not self._is_packed_well(key):
                    self._packs.delete(key, is_erased=False)
            if self._loose.path_of(digest, RECIPE).exists():
                is_there = True
                self._quarantine_chunks(digest)
            if not is_there:
                raise self._absent(digest)

    # The trash, for collection.

    def ages(self) -> Iterator[tuple[Digest, int, float]]:
        """Every object that is not in the trash: name, size in bytes, when it was stored or asked for last."""
        loose: set[bytes] = set()
        for name, status in self._loose.files():
            loose.add(as_key(name))
            yield name, status.st_size, status.st_mtime
        for name, status in self._loose.files(RECIPE):
            if as_key(name) not in loose:
                loose.add(as_key(name))
                yield name, self._recipe_size(name), status.st_mtime
        for key, place in self._packs.objects():
            if key not in loose:
                yield as_name(key), place.size, place.seen

    def chunked(self) -> Iterator[Digest]:
        """Every object that is a list of chunks, in the trash or not."""
        for name, _ in self._loose.files(RECIPE):
            yield name
        for name, kind, _, _ in self._loose.trashed():
            if kind == RECIPE:
                yield name

    def trash(self, digests: Sequence[Digest], *, at: int, unseen_since: float) -> Names:
        """Move to the trash those that nobody stored or asked for since; gives them. Atomic for each."""
        with disk_faults(self._root):
            done = self._loose.trash(digests, at=at, unseen_since=unseen_since)
            keys = list(self._packs.find_live([as_key(name) for name in digests]))
            if keys:
                moved = self._packs.trash(keys, at=at, unseen_since=int(unseen_since))
                done += [as_name(key) for key in moved]
        return list(dict.fromkeys(done))

    def trashed(self) -> Iterator[Trashed]:
        """Everything in the trash, and since when."""
        for name, _, since, path in self._loose.trashed():
            yield Trashed(name, path.stat().st_size, since)
        for key, place in self._packs.objects(trashed=True):
            yield Trashed(as_name(key), place.size, place.trashed)

    def restore(self, digests: Sequence[Digest]) -> None:
        """Bring objects back from the trash; those that are not in it are left alone. Atomic for each."""
        with disk_faults(self._root):
            for name in digests:
                self._loose.restore(name)
            trashed = [key for key, place in self._packs.find([as_key(n) for n in digests]).items() if place.trashed]
            if trashed:
                self._packs.touch(trashed)

    def purge(self, items: Sequence[Trashed]) -> Names:
        """Take away for good what is still in the trash since the same time; gives what went."""
        done = []
        with disk_faults(self._root):
            places = self._packs.find([as_key(item.digest) for item in items])
            for item in items:
                place = places.get(as_key(item.digest))
                is_gone = place is not None and place.trashed == item.since
                if is_gone and place is not None:
                    is_gone = self._packs.purge(as_key(item.digest), place)
                if self._loose.purge(item.digest, item.since) or is_gone:
                    done.append(item.digest)
        return done

    def unfinished(self, *, unused_since: float, is_dry_run: bool) -> Sizes:
        """Take away what nobody wrote since then and for a day; gives the sizes of what goes."""
        with disk_faults(self._root):
            return self._loose.unfinished(unused_since, is_dry_run=is_dry_run)

    def idle_bytes(self) -> int:
        """How many bytes `compact` would give back."""
        with disk_faults(self._root):
            return self._packs.idle_bytes()

    def compact(self) -> int:
        """Give back the space of what was taken out of packs; how many bytes that is."""
        with disk_faults(self._root):
            return self._packs.repack()

    @contextmanager
    def adding(self) -> Iterator[bulk.Adding]:
        """A turn to add small objects. Raises: StoreFull; StoreUnavailable."""
        with disk_faults(self._root), self._packs.batch() as batch:
            folders = self._loose.folders()

            def is_loose(key: bytes) -> bool:
                return key[:1].hex() in folders and self._is_loose(as_name(key))

            yield bulk.Adding(self._packs, batch, is_loose)

    # Inside.

    def _write(self, source: BinaryIO, temporary: Path, size_bytes: int) -> tuple[Digest, int]:
        """Copy and hash at once; gives the digest and the open descriptor."""
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        hasher = hashlib.sha256()
        try:
            if size_bytes >= _THREADED_BYTES:
                _copy_in_threads(source, handle, hasher, size_bytes)
            else:
                while block := source.read(BLOCK_BYTES):
                    hasher.update(block)
                    _write_all(handle, block)
            failpoint("object.temp")
        except BaseException:
            os.close(handle)
            raise
        return Digest("sha256:" + hasher.hexdigest()), handle

    def _is_there(self, name: Digest) -> bool:
        """Whether the object is stored in any form, unaltered and not in the trash."""
        if self._is_loose(name):
            return True
        key = as_key(name)
        place = self._packs.find_live([key]).get(key)
        if place is not None and self._is_packed_well(key):
            self._packs.touch([key])
            return True
        return self._is_chunked(name)

    def _is_loose(self, name: Digest) -> bool:
        """Whether it is an unaltered file of its own; hashed once per process and file stamp."""
        target = self.path_of(name)
        try:
            self._loose.touch(target)
            status = target.stat()
        except FileNotFoundError:
            return False
        stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
        if self._verified.get(name) != stamp:
            if target.is_dir():
                return False
            if hash_file(target) != name:
                return False
            self._verified[name] = stamp
        return True

    def _is_packed_well(self, key: bytes) -> bool:
        try:
            content = self._packs.read(key)
        except Corrupt:
            return False
        return content is not None and hashlib.sha256(content).digest() == key

    def _is_chunked(self, name: Digest) -> bool:
        """Whether it is a list of chunks that are all there, and are it."""
        path = self._loose.path_of(name, RECIPE)
        if not path.exists():
            return False
        try:
            recipe = chunking.read_recipe(name, path.read_bytes(), path)
            if self._digest_of(recipe) != name:
                return False
        except (Corrupt, NotFound):
            return False
        self._loose.touch(path)
        self._packs.touch([as_key(chunk) for chunk, _ in recipe.chunks])
        return True

    def _digest_of(self, recipe: chunking.Recipe) -> Digest:
        """What the chunks of a list make up. Raises: NotFound; Corrupt for a chunk of another size."""
        whole = hashlib.sha256()
        for start in range(0, len(recipe.chunks), _CHUNKS_AT_ONCE):
            part = recipe.chunks[start : start + _CHUNKS_AT_ONCE]
            found = dict(self._chunks([name for name, _ in part]))
            for name, size in part:
                if len(found[name]) != size:
                    raise Corrupt(f"chunk {short(name)} has {len(found[name])} bytes, not {size}")
                whole.update(found[name])
        return Digest("sha256:" + whole.hexdigest())

    def _recipe(self, digest: Digest) -> chunking.Recipe | None:
        """The chunk list of an object, also one in the trash. Raises: Corrupt."""
        for path in (self._loose.path_of(digest, RECIPE), self._loose.find_trashed(digest, RECIPE)):
            if path is not None and path.exists():
                return chunking.read_recipe(digest, path.read_bytes(), path)
        return None

    def _recipe_size(self, digest: Digest) -> int:
        """The size of a chunked object; 0 where its list is altered, which a reader is told."""
        try:
            recipe = self._recipe(digest)
        except Corrupt:
            return 0
        return recipe.size_bytes if recipe else 0

    def _chunks(self, digests: Sequence[Digest]) -> Iterator[tuple[Digest, bytes]]:
        return self.get_many(digests)

    def _quarantine_chunks(self, digest: Digest) -> None:
        try:
            recipe = self._recipe(digest)
        except Corrupt:
            recipe = None
        for name, _ in recipe.chunks if recipe else ():
            if self._packs.find([as_key(name)]) and not self._is_packed_well(as_key(name)):
                self._packs.delete(as_key(name), is_erased=False)
        self._loose.set_aside(digest, RECIPE)

    def _absent(self, digest: Digest) -> NotFound:
        return gone(digest, where=str(self._root))


def _write_all(handle: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(handle, view) :]


def _copy_in_threads(source: BinaryIO, handle: int, hasher: hashlib._Hash, size_bytes: int) -> None:
    """Hash in a second thread, and let the disk work in a third: a large file takes as long as the slowest."""
    os.posix_fallocate(handle, 0, size_bytes)
    copied = 0
    under_way: list[futures.Future[None]] = []
    stop = threading.Event()
    with futures.ThreadPoolExecutor(1) as hashing, futures.ThreadPoolExecutor(1) as syncing:
        synced = syncing.submit(os.fdatasync, handle)
        try:
            while block := source.read(BLOCK_BYTES):
                under_way.append(hashing.submit(hasher.update, block))
                _write_all(handle, block)
                copied += len(block)
                if len(under_way) > _BLOCKS_AHEAD:
                    under_way.pop(0).result()
                if synced.done():
                    synced.result()
                    synced = syncing.submit(os.fdatasync, handle)
            for each in under_way:
                each.result()
            synced.result()
        finally:
            stop.set()
    os.ftruncate(handle, copied)
