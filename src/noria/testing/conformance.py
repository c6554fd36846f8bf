"""One published class per seam: what every implementation must do, ours and third parties'.

Subclass in a test module and give what is asked for; pytest then runs every test on it:

    class TestMyStore(ObjectStoreConformance):
        @pytest.fixture
        def store(self, tmp_path): return MyStore(...)

Needs pytest.
"""

from __future__ import annotations

import hashlib
import io
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import pytest

from noria.core.errors import NotFound
from noria.core.identity import Digest, digest
from noria.store.objects import HasBatches, HasChunks, HasNamed, HasTrash, ObjectStore
from noria.testing.executors import ExecutorConformance, IsolatedExecutorConformance

__all__ = ["ExecutorConformance", "IsolatedExecutorConformance", "ObjectStoreConformance"]


class _Zeros(io.RawIOBase):
    """A stream of zero bytes that is never in memory as a whole; fails after `fails_after` bytes."""

    def __init__(self, size: int, fails_after: int = -1) -> None:
        self._left = size
        self._fuse = fails_after

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        count = min(self._left, size if size >= 0 else self._left)
        if 0 <= self._fuse < count:
            raise ConnectionResetError("the source broke")
        self._fuse -= count if self._fuse >= 0 else 0
        self._left -= count
        return bytes(count)


class ObjectStoreConformance:
    """What every object store must do; give a fixture `store` that makes an empty one.

    `large_bytes` is the size of the large object: lower it for a store that is paid by the byte.
    """

    large_bytes = 64 << 20

    @pytest.fixture
    def store(self) -> ObjectStore:
        """An empty store."""
        raise NotImplementedError("give a fixture `store` that makes an empty object store")

    @pytest.mark.parametrize("content", [b"", b"x", b"\0" * 65536, bytes(range(256)) * 1000])
    def test_bytes_come_back_under_their_sha256(self, store: ObjectStore, content: bytes) -> None:
        """put names, has knows, get gives, list lists."""
        name = store.put(io.BytesIO(content))
        assert name == digest(content)
        assert store.has(name)
        assert _read(store, name) == content
        assert list(store.list()) == [(name, len(content))]

    def test_a_put_begins_where_the_stream_stands(self, store: ObjectStore) -> None:
        """What was read before is not part of the object."""
        stream = io.BytesIO(b"head and tail")
        stream.seek(9)
        assert store.put(stream) == digest(b"tail")

    def test_a_put_is_idempotent(self, store: ObjectStore) -> None:
        """The same bytes again are the same object."""
        assert len({store.put(io.BytesIO(b"same")) for _ in range(3)}) == 1
        assert len(list(store.list())) == 1

    def test_what_is_not_there_is_not_found(self, store: ObjectStore) -> None:
        """get and delete raise NotFound; has says no."""
        name = digest(b"never stored")
        assert not store.has(name)
        with pytest.raises(NotFound):
            store.get(name)
        with pytest.raises(NotFound):
            store.delete(name)

    def test_a_deleted_object_is_gone_and_can_be_stored_again(self, store: ObjectStore) -> None:
        """delete takes away exactly one object."""
        name, other = store.put(io.BytesIO(b"one")), store.put(io.BytesIO(b"two"))
        store.delete(name)
        assert not store.has(name)
        assert [found for found, _ in store.list()] == [other]
        assert store.put(io.BytesIO(b"one")) == name
        assert _read(store, name) == b"one"

    def test_a_source_that_breaks_leaves_no_object(self, store: ObjectStore) -> None:
        """A put that fails half way is not visible, and its error is passed on."""
        with pytest.raises(Exception, match="the source broke"):
            store.put(_stream(4 << 20, fails_after=3 << 20))
        assert list(store.list()) == []

    def test_a_large_object_is_streamed(self, store: ObjectStore) -> None:
        """An object larger than a comfortable buffer."""
        hasher = hashlib.sha256()
        for _ in range(self.large_bytes >> 20):
            hasher.update(bytes(1 << 20))
        name = store.put(_stream(self.large_bytes))
        assert name == "sha256:" + hasher.hexdigest()
        assert dict(store.list()) == {name: self.large_bytes}
        with store.get(name) as stream:
            assert sum(len(block) for block in _blocks(stream)) == self.large_bytes

    def test_batches_are_as_good_as_one_at_a_time(self, store: ObjectStore) -> None:
        """put_many names in order, has_many and get_many know what put stored, and the other way round."""
        if not isinstance(store, HasBatches):
            return  # an optional part of the seam
        contents = [bytes([number % 256]) * (number * 37 % 5000) for number in range(300)]
        alone = store.put(io.BytesIO(contents[7]))
        names = store.put_many(iter(contents))
        assert names == [digest(content) for content in contents]
        assert names[7] == alone
        assert store.put_many([]) == []
        absent = digest(b"never stored")
        assert store.has_many([*names, absent]) == set(names)
        assert dict(store.get_many(names)) == dict(zip(names, contents, strict=True))
        assert list(store.get_many([])) == []
        with pytest.raises(NotFound):
            list(store.get_many([names[0], absent]))
        assert {name: _read(store, name) for name in set(names)} == dict(zip(names, contents, strict=True))
        assert dict(store.list()) == {name: len(content) for name, content in zip(names, contents, strict=True)}
        assert len(list(store.list())) == len(set(names))
        assert store.put(io.BytesIO(contents[9])) == names[9]
        assert store.put_many(contents[:20]) == names[:20]
        store.delete(names[9])
        assert not store.has(names[9])
        assert store.has_many(names) == set(names) - {names[9]}
        with pytest.raises(NotFound):
            store.get(names[9])

    def test_names_that_were_verified_are_taken(self, store: ObjectStore) -> None:
        """put_named stores as put_many does, in the same order, without hashing again."""
        if not isinstance(store, HasNamed):
            return  # an optional part of the seam
        contents = [b"one", b"two" * 9000, b"", b"one"]
        names = [digest(content) for content in contents]
        assert store.put_named(zip(names, contents, strict=True)) == names
        assert dict(store.get_many(names)) == dict(zip(names, contents, strict=True))
        assert {name for name, _ in store.list()} == set(names)

    def test_an_object_of_chunks_is_an_object_like_others(self, store: ObjectStore) -> None:
        """put_chunked joins what is there, and refuses what is not."""
        if not isinstance(store, HasChunks) or not isinstance(store, HasBatches):
            return  # an optional part of the seam
        parts = [bytes([number]) * (70_000 + number) for number in range(20)]
        chunks = [(name, len(part)) for name, part in zip(store.put_many(parts), parts, strict=True)]
        whole = b"".join(parts)
        store.put_chunked(digest(whole), chunks)
        assert store.has(digest(whole))
        assert _read(store, digest(whole)) == whole
        assert store.chunks_of(digest(whole)) == tuple(chunks)
        assert store.chunks_of(chunks[0][0]) is None
        assert dict(store.list())[digest(whole)] == len(whole)
        with store.get(digest(whole)) as stream:
            stream.seek(700_000)
            assert stream.read(10) == whole[700_000:700_010]
        with pytest.raises(NotFound):
            store.chunks_of(digest(b"never stored"))
        store.delete(digest(whole))
        assert not store.has(digest(whole))
        assert store.has(chunks[0][0])

    def test_the_trash_takes_what_is_old_and_gives_it_back(self, store: ObjectStore) -> None:
        """trash, restore and purge move exactly what they are told to, and only what is as old as that."""
        if not isinstance(store, HasTrash) or not isinstance(store, HasBatches):
            return  # an optional part of the seam
        now = time.time()
        names = [store.put(io.BytesIO(b"alone")), *store.put_many([b"one", b"two", b"three"])]
        assert {name: size for name, size, _ in store.ages()} == dict(store.list())
        assert all(abs(seen - now) < 60 for _, _, seen in store.ages())
        assert store.trash(names, at=int(now), unseen_since=now - 100) == [], "they are younger than that"
        assert set(store.trash(names[:3], at=int(now), unseen_since=now + 100)) == set(names[:3])
        assert store.has_many(names) == {names[3]}
        assert [name for name, _ in store.list()] == [names[3]]
        assert {item.digest for item in store.trashed()} == set(names[:3])
        assert _read(store, names[0]) == b"alone"
        store.restore([names[0], names[3]])
        assert store.put_many([b"one"]) == [names[1]]
        assert store.has_many(names) == {names[0], names[1], names[3]}
        (item,) = [each for each in store.trashed() if each.digest == names[2]]
        assert store.purge([item._replace(since=item.since - 1)]) == [], "it went there at another time"
        assert store.purge([item]) == [names[2]]
        assert store.purge([item]) == []
        with pytest.raises(NotFound):
            store.get(names[2])
        assert store.compact() >= 0
        assert {name: _read(store, name) for name in (names[0], names[1], names[3])}

    def test_many_threads_put_get_and_list_at_once(self, store: ObjectStore) -> None:
        """Equal and different objects from eight threads: every read gives whole, right bytes."""
        contents = [bytes([number]) * (1000 + number) for number in range(20)]

        def work(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(30):
                content = chance.choice(contents)
                name = store.put(io.BytesIO(content))
                assert _read(store, name) == content
                for found, size in store.list():
                    assert store.has(found)
                    assert size >= 1000

        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(work, seed) for seed in range(8)]:
                future.result()
        assert len(list(store.list())) <= len(contents)


def _read(store: ObjectStore, name: Digest) -> bytes:
    with store.get(name) as stream:
        return stream.read()


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(1 << 20):
        yield block


def _stream(size: int, *, fails_after: int = -1) -> BinaryIO:
    return _Zeros(size, fails_after)  # type: ignore[return-value]  # a binary stream in all that is used
