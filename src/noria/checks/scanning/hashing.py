"""A 64-bit hash of the values of each row: equal rows have equal hashes, whatever type a file gave them.

Eight bytes a row are enough to see that no key is there twice. Where hashes meet, the values
themselves are compared, so chance finds nothing and hides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.checks.scanning.arrays import is_null, view
from noria.checks.scanning.chunk import family, floats
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
    Hashes = Any
pq = lazy("pyarrow.parquet")

__all__ = ["Hasher", "Hashes", "hashes_of", "met"]

_BATCH = 65_536
_COUNTED_MAX = 1_000_000
"""So many hashes take 32 MB of buckets; more are sorted."""
_SEED = 0x9E3779B97F4A7C15
_ODD = 0xD1342543DE82EF95
_NULL = 0x5851F42D4C957F2D
"""Three odd numbers without meaning; the first two are usual in generators of random numbers."""


class Hasher:
    """Hashes the rows of batches by some of their columns."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)

    def hash(self, batch: pa.RecordBatch | pa.Table) -> Hashes:
        """A hash for each row, shape (n_rows,). A column that is not there is null."""
        names = set(batch.schema.names)
        found = np.full(batch.num_rows, _SEED, np.uint64)
        for name in self._columns:
            mine = _hashed(batch.column(name)) if name in names else np.full(batch.num_rows, _NULL, np.uint64)
            found = _mixed(found * _ODD ^ mine)
        return found


def hashes_of(path: Path, columns: Sequence[str]) -> Hashes:
    """The hashes of the rows of a Parquet file, a batch at a time."""
    hasher = Hasher(columns)
    with pq.ParquetFile(path, pre_buffer=False) as file:
        wanted = [name for name in columns if name in file.schema_arrow.names]
        if not wanted:
            return hasher.hash(pa.table({"": pa.nulls(file.metadata.num_rows)}))
        found = [hasher.hash(batch) for batch in file.iter_batches(_BATCH, columns=wanted)]
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def met(hashes: Hashes) -> Hashes:
    """The hashes that more than one row has."""
    if len(hashes) <= _COUNTED_MAX:
        # most rows are alone in their bucket: only the others need to be sorted
        bits = max(len(hashes) * 4, 2).bit_length()
        buckets = (hashes >> np.uint64(64 - bits)).astype(np.int64)
        hashes = hashes[np.bincount(buckets)[buckets] > 1]
    ordered = np.sort(hashes)
    found: Hashes = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return found


def _hashed(values: Any) -> Hashes:
    """Numbers as float64 (-0 is 0), texts and times as text: the type of a file says nothing about a value."""
    of = family(values.type)
    if of in ("number", "bool"):
        numbers = floats(values.cast(pa.int8()) if of == "bool" else values) + 0.0
        found = _mixed(np.ascontiguousarray(numbers).view(np.uint64))
        missing = np.isnan(numbers)
        found[missing] = _NULL
        return found
    plain = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
    texts = plain.cast(pa.large_string()) if of in ("text", "time") else _listed(plain)
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    return np.concatenate([_of_texts(chunk) for chunk in chunks]) if chunks else np.zeros(0, np.uint64)


def _listed(values: Any) -> Any:
    """What is neither number, text nor time, as Python writes it; null stays null."""
    return pa.array([None if value is None else repr(value) for value in values.to_pylist()], pa.large_string())


def _of_texts(texts: Any) -> Hashes:
    """Eight bytes at a time, all rows at once; rows that have ended are left out of the next turn."""
    rows = len(texts)
    found = np.full(rows, _SEED, np.uint64)
    if not rows:
        return found
    ends = view(texts, np.int64, more=1)
    data = texts.buffers()[2]
    first, last = int(ends[0]), int(ends[-1])
    room = np.zeros(last - first + 8, np.uint8)
    if data is not None:
        room[: last - first] = np.frombuffer(data, np.uint8, count=last)[first:]
    words = np.ndarray((last - first + 1,), "<u8", buffer=room, strides=(1,))
    at, left = ends[:-1] - first, np.diff(ends)
    found ^= left.astype(np.uint64)
    going: Any = np.arange(rows)
    while len(going):
        some = left[going]
        going = going[some > 0]
        some = some[some > 0]
        mine = words[at[going]]
        short = some < 8
        if short.any():
            mine[short] &= (np.uint64(1) << (some[short].astype(np.uint64) * np.uint64(8))) - np.uint64(1)
        found[going] = _mixed(found[going] * _ODD ^ mine)
        at[going] += 8
        left[going] -= 8
    found = _mixed(found)
    if texts.null_count:
        found[is_null(texts)] = _NULL
    return found


def _mixed(values: Hashes) -> Hashes:
    """Every bit of the result depends on every bit given. Source: Stafford (2011), mix 13, as in SplitMix64."""
    found = values ^ (values >> np.uint64(30))
    found *= np.uint64(0xBF58476D1CE4E5B9)
    found ^= found >> np.uint64(27)
    found *= np.uint64(0x94D049BB133111EB)
    found ^= found >> np.uint64(31)
    return found
