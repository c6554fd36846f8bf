"""What every bucket must do: the conformance class of the seam `bucket`.

Subclass in a test module and give a fixture `bucket` that makes an empty one. Needs pytest.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from noria.core.errors import Conflict, NotFound
from noria.store.bucket import Bucket

__all__ = ["BucketConformance"]


class BucketConformance:
    """Named bytes, written once; give a fixture `bucket` that makes an empty one."""

    @pytest.fixture
    def bucket(self) -> Bucket:
        """An empty bucket."""
        raise NotImplementedError("give a fixture `bucket` that makes an empty bucket")

    @pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 4000])
    def test_bytes_come_back_under_their_key(self, bucket: Bucket, content: bytes) -> None:
        """create writes, stat and list know, open gives."""
        tag = bucket.create("some/key", content)
        found = bucket.stat("some/key")
        assert found is not None
        assert (found.key, found.size_bytes, found.tag) == ("some/key", len(content), tag)
        assert [item.key for item in bucket.list()] == ["some/key"]
        with bucket.open("some/key") as stream:
            assert stream.read() == content

    def test_a_part_of_a_key_can_be_read(self, bucket: Bucket) -> None:
        """From any byte on, some or all of the rest; a stream can seek."""
        bucket.create("key", b"0123456789")
        for start, length, expected in ((0, 3, b"012"), (4, -1, b"456789"), (8, 99, b"89"), (2, 0, b"")):
            with bucket.open("key", start, length) as stream:
                assert stream.read() == expected
        with bucket.open("key") as stream:
            stream.seek(7)
            assert stream.read(2) == b"78"
            stream.seek(1)
            assert stream.read() == b"123456789"

    def test_a_key_is_written_once(self, bucket: Bucket) -> None:
        """The second writer is told; the first one's bytes stay."""
        bucket.create("key", b"first")
        with pytest.raises(Conflict):
            bucket.create("key", b"second")
        with bucket.open("key") as stream:
            assert stream.read() == b"first"

    def test_of_many_writers_one_succeeds(self, bucket: Bucket) -> None:
        """Sixteen threads, one key."""

        def write(number: int) -> bool:
            try:
                bucket.create("key", b"%d" % number)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(write, range(16)))
        assert sum(won) == 1
        with bucket.open("key") as stream:
            assert stream.read() == b"%d" % won.index(True)

    def test_a_key_is_replaced_only_in_the_state_that_was_seen(self, bucket: Bucket) -> None:
        """instead_of is compare and set; a key that is gone is not brought back."""
        first = bucket.create("key", b"one")
        second = bucket.create("key", b"two", instead_of=first)
        assert second != first
        with pytest.raises(Conflict):
            bucket.create("key", b"three", instead_of=first)
        with bucket.open("key") as stream:
            assert stream.read() == b"two"
        bucket.delete("key")
        with pytest.raises((Conflict, NotFound)):
            bucket.create("key", b"four", instead_of=second)

    def test_what_is_not_there_is_not_found(self, bucket: Bucket) -> None:
        """open raises, stat says None, delete does nothing."""
        with pytest.raises(NotFound):
            bucket.open("nothing")
        assert bucket.stat("nothing") is None
        bucket.delete("nothing")
        assert list(bucket.list("not/here/")) == []

    def test_keys_are_listed_by_their_beginning(self, bucket: Bucket) -> None:
        """A beginning need not end at a slash."""
        for key in ("a/1", "a/2", "ab/1", "b"):
            bucket.create(key, b"")
        assert [item.key for item in bucket.list("a/")] == ["a/1", "a/2"]
        assert sorted(item.key for item in bucket.list("a")) == ["a/1", "a/2", "ab/1"]
        assert len(list(bucket.list())) == 4
