"""A 64-bit hash of the values of each row: equal rows have equal hashes, whatever type a file gave them.

Eight bytes a row are enough to see that no key is there twice. Where hashes meet, the values
themselves are compared, so chance finds nothing and hides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.checks.scanning.arrays import with_nulls
from noria.checks.scanning.chunk import family, floats
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
else:
    duckdb = lazy("duckdb")
    np = lazy("numpy")
    pa = lazy("pyarrow")
    Hashes = Any
pq = lazy("pyarrow.parquet")

__all__ = ["Hasher", "Hashes", "hashes_of", "met"]

_BATCH = 65_536


class Hasher:
    """Hashes the rows of batches by some of their columns."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._connection = duckdb.connect(config={"enable_external_access": "false", "threads": "1"})
        self._query = f"select hash({', '.join(f'c{index}' for index in range(len(columns)))}) as h from rows"

    def close(self) -> None:
        """Let go of the engine."""
        self._connection.close()

    def hash(self, batch: pa.RecordBatch | pa.Table) -> Hashes:
        """A hash for each row, shape (n_rows,). A column that is not there is null."""
        names = set(batch.schema.names)
        made = {f"c{i}": _comparable(batch.column(c)) if c in names else None for i, c in enumerate(self._columns)}
        table = pa.table({k: pa.nulls(batch.num_rows, pa.float64()) if v is None else v for k, v in made.items()})
        self._connection.register("rows", table)
        return np.asarray(self._connection.execute(self._query).fetchnumpy()["h"], np.uint64)


def hashes_of(path: Path, columns: Sequence[str]) -> Hashes:
    """The hashes of the rows of a Parquet file, a batch at a time."""
    hasher = Hasher(columns)
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            wanted = [name for name in columns if name in file.schema_arrow.names]
            if not wanted:
                return hasher.hash(pa.table({"": pa.nulls(file.metadata.num_rows)}))
            found = [hasher.hash(batch) for batch in file.iter_batches(_BATCH, columns=wanted)]
    finally:
        hasher.close()
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def met(hashes: Hashes) -> Hashes:
    """The hashes that more than one row has."""
    ordered = np.sort(hashes)
    found: Hashes = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return found


def _comparable(values: Any) -> Any:
    """Numbers as float64 (-0 is 0), texts and times as text: the type of a file says nothing about a value."""
    of = family(values.type)
    if of == "number":
        numbers = floats(values)
        return with_nulls(numbers + 0.0)
    if of in ("text", "time"):
        plain = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
        return plain.cast(pa.string())
    return values
