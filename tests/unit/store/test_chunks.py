"""Chunks: boundaries move with the bytes, a recipe is checked, a part can be read without the rest."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.core.errors import Corrupt
from noria.core.identity import Digest, digest
from noria.store.chunks import Chunker, ChunkReader, Recipe, pack_recipe, pays, read_recipe

MEAN = 64 << 10


def cut(content: bytes, step: int, size_bytes: int | None = None) -> list[bytes]:
    chunker = Chunker(len(content) if size_bytes is None else size_bytes)
    found: list[bytes] = []
    rest = b""
    for at in range(0, len(content) + step, step):
        rest += content[at : at + step]
        ends = chunker.cuts(memoryview(rest), is_last=at >= len(content))
        found += [rest[begin:end] for begin, end in pairwise([0, *ends])]
        rest = rest[ends[-1] if ends else 0 :]
        assert len(rest) <= chunker.rest_bytes
    assert not rest
    return found


def slow_boundaries(content: bytes) -> tuple[set[int], set[int]]:
    """The rule in plain integers, one window at a time: an independent reading of the definition."""
    hard, easy = set(), set()
    words = {at: int.from_bytes(content[at : at + 4], "little") for at in range(len(content) - 3)}

    def mixed(at: int) -> int:
        value = words[at] * 0x9E3779B1 & 0xFFFFFFFF
        return value ^ value >> 15

    def pair(at: int) -> int:
        return (mixed(at) * 0x85EBCA6B + mixed(at + 4)) & 0xFFFFFFFF

    for at in range(len(content) - 15):
        if words[at] * 0x9E3779B1 & 0xFFFFFFFF <= 2**32 - 2**32 // 64:
            continue
        value = (pair(at) * 0xC2B2AE35 + pair(at + 8)) & 0xFFFFFFFF
        if value > 2**32 - 64 * (2**32 // (MEAN // 4)):
            easy.add(at + 16)
        if value > 2**32 - 64 * (2**32 // (MEAN * 4)):
            hard.add(at + 16)
    return hard, easy


def test_chunks_are_cut_where_the_rule_says() -> None:
    content = random.Random(3).randbytes(900_001)
    hard, easy = slow_boundaries(content)
    begin, expected = 0, []
    while begin < len(content):
        small, mean, most = begin + MEAN // 4, begin + MEAN, begin + 4 * MEAN
        strict = [at for at in sorted(hard) if small <= at <= mean]
        later = [at for at in sorted(easy) if mean <= at <= most]
        end = min((strict or later or [most])[0], len(content))
        expected.append(content[begin:end])
        begin = end
    assert len(expected) > 5
    assert cut(content, 1 << 20) == expected


@pytest.mark.parametrize("shift", range(5))
def test_a_boundary_at_the_very_end_of_what_was_read_is_seen(shift: int) -> None:
    content = bytes(shift) + random.Random(0).randbytes(80_000)
    at = min(at for at in slow_boundaries(content)[0] if at >= MEAN // 4)
    assert at <= MEAN, "the first strict boundary ends the first chunk"
    chunks = cut(content, at)
    assert len(chunks[0]) == at
    assert chunks == cut(content, 1 << 20)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 3_000_000), st.integers(1000, 2_000_000))
def test_chunks_are_the_content_and_do_not_depend_on_how_it_was_read(seed: int, size: int, step: int) -> None:
    content = random.Random(seed).randbytes(size)
    chunks = cut(content, step)
    assert b"".join(chunks) == content
    assert chunks == cut(content, 1 << 20)
    assert all(MEAN // 4 <= len(chunk) <= 4 * MEAN for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= 4 * MEAN for chunk in chunks)


def test_an_insertion_costs_the_chunks_around_it() -> None:
    chance = random.Random(5)
    content = chance.randbytes(20 << 20)
    before = set(cut(content, 4 << 20))
    for at in (0, 1, 7_000_001, len(content)):
        changed = content[:at] + b"a few bytes" + content[at:]
        assert len(set(cut(changed, 4 << 20)) - before) <= 3
    assert 0.5 * MEAN < len(content) / len(before) < 2 * MEAN


@pytest.mark.parametrize("alphabet", [b"ACGT", b"0123456789", b"0123456789,.\n", bytes(range(256))])
def test_text_of_few_letters_has_boundaries_too(alphabet: bytes) -> None:
    letters = np.frombuffer(alphabet, np.uint8)
    content = letters[np.random.default_rng(9).integers(0, len(letters), 20 << 20)].tobytes()
    chunks = cut(content, 4 << 20)
    assert 0.5 * MEAN < len(content) / len(chunks) < 2 * MEAN
    changed = content[:9_000_001] + b"AC" + content[9_000_001:]
    assert len(set(cut(changed, 4 << 20)) - set(chunks)) <= 3


def test_zeros_are_one_chunk_many_times() -> None:
    assert set(cut(bytes(3 << 20), 1 << 20)) == {bytes(4 * MEAN)}
    assert cut(b"", 10) == []


def test_large_files_have_larger_chunks_by_a_rule_that_has_a_name() -> None:
    assert (Chunker(1 << 29).mean, Chunker(1 << 29).rule) == (64 << 10, "cdc/2 64K")
    assert (Chunker(1 << 30).mean, Chunker(1 << 30).rule) == (1 << 20, "cdc/2 1024K")
    content = random.Random(5).randbytes(12 << 20)
    assert len(cut(content, 4 << 20, 1 << 30)) < 30


def test_a_sample_says_what_is_worth_it() -> None:
    chance = random.Random(5)
    noise, text = chance.randbytes(4 << 20), b"".join(b"%d,%d\n" % (n, n * n) for n in range(300_000))
    floats = np.random.default_rng(0).normal(size=500_000).astype("f8").tobytes()
    for content, expected in [
        (noise, False),
        (text, True),
        (floats, True),
        (b"PAR1" + noise, True),
        (text[:10_000], False),
        (noise + text, True),
    ]:
        stream = io.BytesIO(content)
        assert pays(stream, len(content)) is expected
        assert stream.tell() == 0


def test_what_is_large_is_cut_whatever_it_is() -> None:
    noise = random.Random(5).randbytes(1 << 20) * 64
    assert pays(io.BytesIO(noise), len(noise))
    assert not pays(io.BytesIO(noise[1:]), len(noise) - 1)


def recipe_of(parts: Sequence[bytes]) -> Recipe:
    return Recipe(digest(b"".join(parts)), tuple((digest(part), len(part)) for part in parts), "cdc/2 64K")


def test_a_recipe_comes_back_and_an_altered_one_is_refused() -> None:
    recipe = recipe_of([b"one", b"two", b"one"])
    packed = pack_recipe(recipe)
    assert read_recipe(recipe.digest, packed, Path("place")) == recipe
    assert recipe.size_bytes == 9
    for at in range(len(packed)):
        altered = packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]
        with pytest.raises(Corrupt, match="chunk list") as caught:
            read_recipe(recipe.digest, altered, Path("place"))
        assert "place" in str(caught.value)
    for short in (b"", packed[:40], packed[:-1]):
        with pytest.raises(Corrupt):
            read_recipe(recipe.digest, short, Path("place"))
    with pytest.raises(Corrupt):
        read_recipe(digest(b"another"), packed, Path("place"))


class Shelf:
    """Chunks in memory, and which of them were asked for."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = {digest(part): part for part in parts}
        self.asked: list[Digest] = []

    def fetch(self, names: Sequence[Digest]) -> Iterator[tuple[Digest, bytes]]:
        self.asked += names
        return ((name, self.parts[name]) for name in names)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=12), st.data())
def test_a_reader_reads_like_any_file(parts: list[bytes], data: st.DataObject) -> None:
    plain = io.BytesIO(b"".join(parts))
    chunks = ChunkReader(recipe_of(parts), Shelf(parts).fetch, ahead=3, ahead_bytes=data.draw(st.integers(0, 60)))
    with io.BufferedReader(chunks, 16) as reader:
        for _ in range(12):
            if data.draw(st.booleans()):
                at = data.draw(st.integers(0, 260))
                assert reader.seek(at) == plain.seek(at)
            size = data.draw(st.integers(0, 50))
            assert reader.read(size) == plain.read(size)
            assert reader.tell() == plain.tell()
        assert reader.seek(0, io.SEEK_END) == plain.seek(0, io.SEEK_END)
        assert reader.seek(0) == 0
        assert reader.read() == plain.getvalue()


def test_a_part_is_read_without_the_rest() -> None:
    parts = [bytes([number]) * 1000 for number in range(40)]
    shelf = Shelf(parts)
    reader = ChunkReader(recipe_of(parts), shelf.fetch)
    reader.seek(17_500)
    target = bytearray(600)
    assert reader.readinto(target) == 500
    assert reader.readinto(memoryview(target)[500:]) == 100
    assert bytes(target) == bytes([17]) * 500 + bytes([18]) * 100
    assert len(shelf.asked) <= 1 + 16, "one, then ahead where the reading goes on"
    with pytest.raises(ValueError, match="negative"):
        reader.seek(-1)


def test_what_is_read_ahead_has_a_number_and_a_size() -> None:
    parts = [bytes([number]) * 1000 for number in range(40)]
    for ahead, size_bytes, most in ((16, 1 << 20, 16), (16, 3999, 3), (16, 10, 1), (2, 1 << 20, 2)):
        asked: list[int] = []
        shelf = Shelf(parts)

        def fetch(
            names: Sequence[Digest], shelf: Shelf = shelf, asked: list[int] = asked
        ) -> Iterator[tuple[Digest, bytes]]:
            asked.append(len(names))
            return shelf.fetch(names)

        with io.BufferedReader(ChunkReader(recipe_of(parts), fetch, ahead=ahead, ahead_bytes=size_bytes)) as reader:
            assert reader.read() == b"".join(parts)
        assert max(asked) == most
        assert len(shelf.asked) == len(parts), "each was fetched once"


def test_a_chunk_of_another_size_is_refused() -> None:
    recipe = Recipe(digest(b"x"), ((digest(b"a"), 5),))
    with pytest.raises(Corrupt, match="not 5"):
        ChunkReader(recipe, Shelf([b"a"]).fetch).read(1)
