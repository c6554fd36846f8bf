"""Large objects as lists of content-defined chunks: what did not change is stored once.

A boundary stands where a hash of the sixteen bytes before it is small, so an insertion moves the
boundaries with the bytes. The list of an object is its recipe; its chunks are objects like others.
The chunker is a function of the bytes and of the size of the file alone, and the recipe says by
which rule it cut, but a reader needs only the list. What does not compress is not chunked, because
equal parts are not to be expected in it, save Parquet, whose pages a writer can make repeat.

Source: Xia et al., FastCDC (USENIX ATC 2016), for the three sizes and the two thresholds; the hash
is another one, made of multiplications of 4-byte words, because those run at the speed of the
vector unit without a table; and most windows are passed over by their first word alone.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from noria.core.errors import Corrupt, NotFound
from noria.core.frozen import frozen
from noria.core.identity import Digest, short
from noria.core.lazy import lazy

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer
    from _typeshed import WriteableBuffer

__all__ = ["CHUNKED_BYTES", "ChunkReader", "Chunker", "Recipe", "pack_recipe", "pays", "read_recipe", "upcoming"]

np = lazy("numpy")

CHUNKED_BYTES = 1 << 20
"""Objects below this size are never chunked."""

_MAGIC = b"noria chunks/1\n"
_HEAD = struct.Struct("<QI16s")
_PART = struct.Struct("<32sI")
_WINDOW = 16
_STEP = 128 << 10
"""Searched at a time: what is worked on fits the cache of a core."""
ALWAYS_BYTES = 64 << 20
"""Objects of this size or more are chunked whatever a sample says: archives and weights often share most of
their bytes with the next version, and a second whole copy costs more than looking for boundaries."""
_SAMPLES, _SAMPLE_BYTES, _WORTH = 16, 32 << 10, 0.98
_LARGE_FILE = 1 << 30
_ONE_IN = 64
"""One window in so many is hashed: with fewer, text of four letters would have no boundaries."""
_K1, _K2, _K3 = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35


@frozen
class Recipe:
    """The chunks of an object in order, each with its size in bytes."""

    digest: Digest
    chunks: tuple[tuple[Digest, int], ...]
    rule: str = ""

    @property
    def size_bytes(self) -> int:
        """The size of the object."""
        return sum(size for _, size in self.chunks)


class Chunker:
    """Finds where to cut a stream into chunks of `mean` bytes on average, from a quarter to four times that."""

    def __init__(self, size_bytes: int) -> None:
        self.mean = (64 << 10) if size_bytes < _LARGE_FILE else (1 << 20)
        self.rule = f"cdc/2 {self.mean >> 10}K"
        self._min, self._max = self.mean // 4, self.mean * 4
        self._hard: list[int] = []
        self._easy: list[int] = []
        self._scanned = 0
        self._scratch = _Scratch()

    @property
    def rest_bytes(self) -> int:
        """At most so many bytes wait for more, unless more was read than that."""
        return self._max

    def cuts(self, content: Buffer, *, is_last: bool) -> list[int]:
        """Where the chunks end that are known by now, as offsets into `content`.

        Args:
            content: the bytes since the end of the last chunk that was told: what waited, and what is new.
            is_last: nothing follows, so that what is left is a chunk.
        """
        size, begin, ends = len(memoryview(content)), 0, []
        while begin < size:
            end = self._next(begin, size)
            while not end and self._scanned < size:
                self._scan(content, begin, size)
                end = self._next(begin, size)
            if not end and not is_last:
                break
            begin = end or size
            ends.append(begin)
        self._hard = [at - begin for at in self._hard[bisect_right(self._hard, begin) :]]
        self._easy = [at - begin for at in self._easy[bisect_right(self._easy, begin) :]]
        self._scanned = max(self._scanned - begin, 0)
        return ends

    def _next(self, begin: int, size: int) -> int:
        """The first strict boundary before the mean size, else the first easy one, else the largest size; 0: not known.

        A boundary that is known is the first one: those before it were looked at.
        """
        strict = bisect_left(self._hard, begin + self._min)
        if strict < len(self._hard) and self._hard[strict] <= begin + self.mean:
            return self._hard[strict]
        if self._scanned < min(begin + self.mean, size):
            return 0  # there may still be a strict one
        easy = bisect_left(self._easy, begin + self.mean)
        if easy < len(self._easy) and self._easy[easy] <= begin + self._max:
            return self._easy[easy]
        return begin + self._max if self._scanned >= begin + self._max else 0

    def _scan(self, content: Buffer, begin: int, size: int) -> None:
        """Find the boundaries in the next part that matters to the chunk that begins here."""
        start = max(self._scanned - _WINDOW + 1, begin + self._min - _WINDOW, 0)  # none ends a chunk below the minimum
        one_in_hard, one_in_easy = (1 << 32) // (4 * self.mean), (1 << 32) // (self.mean // 4)
        part = min(_STEP + _WINDOW - 1, size - start)
        if part >= _WINDOW:
            hard, easy = _boundaries(content, start, part, self._scratch, hard=one_in_hard, easy=one_in_easy)
            self._hard += hard
            self._easy += easy
        self._scanned = max(min(start + part, size), self._scanned) if part > 0 else size


class _Scratch:
    """Memory for one step of the search, kept between steps: fresh pages would cost more than the work."""

    def __init__(self) -> None:
        self.words = np.empty(_STEP + _WINDOW, "<u4")
        self.products = np.empty(_STEP + _WINDOW, np.uint32)
        self.hits = np.empty(_STEP + _WINDOW, np.bool_)


def _boundaries(
    block: Buffer, start: int, size: int, scratch: _Scratch, *, hard: int, easy: int
) -> tuple[list[int], list[int]]:
    """Where a chunk may end in a part of a block: offsets behind windows of 16 bytes with a great hash.

    The hash is worked out only where the window's first word alone is great, at one place in 64. Great,
    not small: the hash of nothing but zeros is 0, and they are no boundary. The four ways to cut the
    bytes into words are laid out one after the other: many small calls cost as much as the work in them.
    """
    count = size // 4
    if count < 4:
        return [], []
    words = scratch.words[: 4 * count]  # a copy, because unaligned words cost more at each step than this does
    each, source = words.view(np.uint8).reshape(4, 4 * count), np.frombuffer(block, np.uint8, size, start)
    for lane in range(4):
        whole = (size - lane) // 4 * 4
        each[lane, :whole] = source[lane : lane + whole]
    products = np.multiply(words, np.uint32(_K1), out=scratch.products[: 4 * count])
    great = np.greater(products, np.uint32((1 << 32) - (1 << 32) // _ONE_IN), out=scratch.hits[: 4 * count])
    for lane in range(4):
        great[count * lane + (size - lane) // 4 - 3 : count * (lane + 1)] = False  # windows that go over the end
    at = np.flatnonzero(great)
    first, second, third, fourth = (_mixed(products[at + place]) for place in range(4))
    found = (first * np.uint32(_K2) + second) * np.uint32(_K3) + third * np.uint32(_K2) + fourth
    hits = np.flatnonzero(found > np.uint32((1 << 32) - _ONE_IN * easy))
    lanes, places = np.divmod(at[hits], count)
    every = places * 4 + lanes + (start + _WINDOW)
    order = np.argsort(every)
    every, is_hard = every[order], (found[hits] > np.uint32((1 << 32) - _ONE_IN * hard))[order]
    return every[is_hard].tolist(), every.tolist()


def _mixed(products: Any) -> Any:
    return products ^ (products >> np.uint32(15))


def pays(source: BinaryIO, size_bytes: int) -> bool:
    """Whether a sample says that parts of the file may be found again in its next version.

    The stream is read at sixteen places and left at its beginning.
    """
    if size_bytes < CHUNKED_BYTES:
        return False
    if size_bytes >= ALWAYS_BYTES:
        return True
    try:
        if source.read(4) == b"PAR1":
            return True
        raw = packed = 0
        for number in range(_SAMPLES):
            source.seek((size_bytes - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
            sample = source.read(_SAMPLE_BYTES)
            raw, packed = raw + len(sample), packed + len(zlib.compress(sample, 1))
        return packed < _WORTH * raw
    finally:
        source.seek(0)


def pack_recipe(recipe: Recipe) -> bytes:
    """The bytes of a recipe: what it is of, the chunks, and a digest of all that."""
    parts = [
        _MAGIC,
        bytes.fromhex(recipe.digest[7:]),
        _HEAD.pack(recipe.size_bytes, len(recipe.chunks), recipe.rule.encode()),
        *(_PART.pack(bytes.fromhex(name[7:]), size) for name, size in recipe.chunks),
    ]
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def read_recipe(digest: Digest, content: bytes, where: Path) -> Recipe:
    """The recipe in a file. Raises: Corrupt if it was altered, or is that of another object."""
    body, seal = content[:-32], content[-32:]
    start = len(_MAGIC) + 32 + _HEAD.size
    is_well = hashlib.sha256(body).digest() == seal and body.startswith(_MAGIC + bytes.fromhex(digest[7:]))
    if not is_well or len(body) < start:
        raise Corrupt(
            f"the chunk list of object {short(digest)} was altered",
            where=str(where),
            hint="it was not used; put the object again, or heal it from a remote",
        )
    size, count, rule = _HEAD.unpack_from(body, len(_MAGIC) + 32)
    chunks = tuple((Digest("sha256:" + key.hex()), length) for key, length in _PART.iter_unpack(body[start:]))
    recipe = Recipe(digest, chunks, rule.rstrip(b"\0").decode())
    assert (recipe.size_bytes, len(chunks)) == (size, count), "the seal is right, so are the sums"
    return recipe


def upcoming(chunks: Sequence[tuple[Digest, int]], number: int, count: int, size_bytes: int) -> list[Digest]:
    """Chunk `number` and those behind it: at most `count`, and beyond the first no more than `size_bytes` in all."""
    names: list[Digest] = []
    for name, size in chunks[number : number + count]:
        size_bytes -= size
        if names and size_bytes < 0:
            break
        names.append(name)
    return names


class ChunkReader(io.RawIOBase):
    """A chunked object as a seekable stream: only the chunks that are read are fetched.

    `fetch` gives the bytes of some chunks in any order, whole and as they should be. Where the reading goes
    straight on it is asked for `ahead` of them, unless they have more than `ahead_bytes`: a server has many readers.
    """

    def __init__(
        self,
        recipe: Recipe,
        fetch: Callable[[Sequence[Digest]], Iterator[tuple[Digest, bytes]]],
        *,
        ahead: int = 16,
        ahead_bytes: int = 4 << 20,
    ) -> None:
        super().__init__()
        self._chunks = recipe.chunks
        self._ends = list(accumulate(size for _, size in recipe.chunks))
        self._fetch = fetch
        self._ahead = ahead, ahead_bytes
        self._at = 0
        self._next = -1
        self._known: dict[Digest, bytes] = {}

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset; nothing is read."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1] if self._ends else 0}[whence]
        if origin + offset < 0:
            raise ValueError(f"negative seek position {origin + offset}")
        self._at = origin + offset
        return self._at

    def readinto(self, target: WriteableBuffer) -> int:
        """Fill `target` from the chunk at hand; 0 at the end."""
        number = bisect_right(self._ends, self._at)
        if number == len(self._ends):
            return 0
        content = self._chunk(number)
        begin = self._at - (self._ends[number] - len(content))
        view = memoryview(target).cast("B")
        part = content[begin : begin + len(view)]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)

    def _chunk(self, number: int) -> bytes:
        """A chunk, and those behind it where the reading goes straight on."""
        name, size = self._chunks[number]
        if name not in self._known:
            ahead = upcoming(self._chunks, number, *self._ahead) if number == self._next else [name]
            self._known = {}  # what was read goes before more comes
            try:
                self._known = dict(self._fetch(list(dict.fromkeys(ahead))))
            except (Corrupt, NotFound):
                self._known = dict(self._fetch([name]))  # a bad chunk ahead is for whoever comes to it
            self._next = number + len(ahead)
        content = self._known[name]
        if len(content) != size:
            raise Corrupt(f"chunk {short(name)} has {len(content)} bytes, not {size}")
        return content
