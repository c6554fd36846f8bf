"""Cuts a stream of rows into row groups at places that the rows themselves choose.

A row group ends behind a row whose hash has a rare form, so an insertion or a deletion changes the
group that it is in and leaves all others byte for byte as they were: a chunk store keeps them. Row
groups of a fixed length would all shift. Between a least and a greatest length, set by the width
of the first rows, so that a group is some 64 MiB in memory whatever the table looks like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Words: TypeAlias = npt.NDArray[np.uint64]
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["SAMPLE_ROWS", "groups", "row_words"]

SAMPLE_ROWS = 1 << 16
GROUP_BYTES = 64 << 20
LEAST_ROWS = 1 << 12
MOST_ROWS = 1 << 20
_SEED = 0x9E3779B97F4A7C15
_FACTOR = 0xD6E8FEB86659FD93


def groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in order as row groups; together they are the stream, and none of them is empty.

    Where a group ends depends on the rows alone, not on how they came in batches.
    """
    held: list[pa.RecordBatch] = []
    rows = 0
    target = 0
    cutter = _Cutter()
    for batch in batches:
        for piece in _pieces(batch):
            held.append(piece)
            rows += piece.num_rows
            if not target:
                if rows < SAMPLE_ROWS:
                    continue
                target = _target(pa.Table.from_batches(held, schema).slice(0, SAMPLE_ROWS))
            table = pa.Table.from_batches(held, schema)
            for length in cutter.cuts(held, target):
                yield table.slice(0, length)
                table = table.slice(length)
            if table.num_rows != rows:
                held, rows = table.to_batches(), table.num_rows
    if rows:
        table = pa.Table.from_batches(held, schema)
        for length in cutter.cuts(held, target or _target(table)):
            yield table.slice(0, length)
            table = table.slice(length)
        if table.num_rows:
            yield table


def row_words(batch: pa.RecordBatch) -> Words:
    """A number for each row that depends on its values, shape (n_rows,): to choose by, not to identify."""
    mixed = np.full(batch.num_rows, _SEED, dtype=np.uint64)
    for place, values in enumerate(batch.columns):
        for word in _words(values):
            mixed ^= word * np.uint64((_FACTOR + 2 * place * 0x5851F42D4C957F2D) & (2**64 - 1) | 1)
            mixed = (mixed << np.uint64(23)) | (mixed >> np.uint64(41))
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(_FACTOR)
    mixed ^= mixed >> np.uint64(32)
    found: Words = mixed * np.uint64(_FACTOR)
    return found


class _Cutter:
    """Finds the lengths of finished groups at the front of what is held; looks at each batch once."""

    def __init__(self) -> None:
        self._marks: list[int] = []
        self._seen = 0
        self._gone = 0
        self._pending: list[Words] = []

    def cuts(self, held: list[pa.RecordBatch], target: int) -> list[int]:
        """The lengths of the groups that are finished. The caller takes them all away."""
        offset = self._gone
        for batch in held:
            end = offset + batch.num_rows
            if end > self._seen:
                fresh = batch.slice(max(self._seen - offset, 0))
                start = max(self._seen, offset)
                rare = row_words(fresh) >> np.uint64(64 - _bits(target))
                self._marks += (np.flatnonzero(rare == 0) + start + 1).tolist()
                self._seen = end
            offset = end
        found: list[int] = []
        while True:
            length = self._next(target)
            if not length:
                return found
            found.append(length)
            self._gone += length

    def _next(self, target: int) -> int:
        least, most = target // 4, target * 2
        self._marks = [mark for mark in self._marks if mark > self._gone]
        for mark in self._marks:
            length = mark - self._gone
            if length > most:
                break
            if length >= least:
                return length
        return most if self._seen - self._gone >= most else 0


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, SAMPLE_ROWS):
        yield batch.slice(start, SAMPLE_ROWS)


def _target(sample: pa.Table) -> int:
    """The usual rows of a group: a power of two whose groups are about GROUP_BYTES."""
    width = max(sample.nbytes // max(sample.num_rows, 1), 1)
    wanted = min(max(GROUP_BYTES // width, LEAST_ROWS), MOST_ROWS)
    return 1 << (int(wanted).bit_length() - 1)


def _bits(target: int) -> int:
    """Rare enough that a mark comes once in three quarters of the target, behind the least length."""
    return max(target.bit_length() - 1, 1)


def _words(values: Any) -> Iterator[Words]:
    """A column as numbers of 64 bits, nothing of what lies under a null; lists by their lengths."""
    kind = values.type
    if pa.types.is_null(kind) or not len(values):
        return
    if pa.types.is_boolean(kind):
        yield np.asarray(pc.fill_null(values, False)).astype(np.uint64)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        yield _text_words(values.cast(pa.binary()), "<i4")
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        yield _text_words(values.cast(pa.large_binary()), "<i8")
    elif pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        yield from _fixed_words(values)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield np.asarray(pc.fill_null(pc.list_value_length(values), 0)).astype(np.uint64)


def _fixed_words(values: Any) -> Iterator[Words]:
    width = values.type.bit_width // 8
    data = memoryview(values.buffers()[1])[values.offset * width : (values.offset + len(values)) * width]
    gone = np.asarray(values.is_null()) if values.null_count else None
    if width in (1, 2, 4, 8):
        parts = [np.frombuffer(data, f"<u{width}").astype(np.uint64)]
    elif width % 8 == 0:
        cells = np.frombuffer(data, "<u8").reshape(len(values), width // 8)
        parts = [cells[:, place].copy() for place in range(width // 8)]
    else:
        cells8 = np.frombuffer(data, np.uint8).reshape(len(values), width)
        parts = [cells8[:, place].astype(np.uint64) for place in range(min(width, 8))]
    for part in parts:
        if gone is not None:
            part[gone] = 0
        yield part


def _text_words(values: Any, offset_type: str) -> Words:
    """Length, first, middle and last byte: enough to choose by, at the cost of four looks a value."""
    offsets = np.frombuffer(values.buffers()[1], offset_type)[values.offset : values.offset + len(values) + 1]
    starts, lengths = offsets[:-1].astype(np.int64), np.diff(offsets).astype(np.int64)
    if values.null_count:
        lengths = np.where(np.asarray(values.is_null()), 0, lengths)
    words = lengths.astype(np.uint64)
    data = values.buffers()[2]
    if data is None or not len(memoryview(data)):
        return words
    content = np.frombuffer(data, np.uint8)
    last = len(content) - 1
    for turn, place in enumerate((starts, starts + lengths // 2, starts + lengths - 1)):
        byte = np.where(lengths > 0, content[np.clip(place, 0, last)], 0).astype(np.uint64)
        words ^= byte << np.uint64(16 + 16 * turn)
    return words
