"""Arrow arrays of NumPy arrays and of text, and back, without pandas.

`pa.array`, `pa.scalar`, `Schema.empty_table`, `Array.to_numpy` and `parquet.read_table` import pandas where it is
installed, to tell its types from others: 45 MB and half a second for a server that only keeps metrics. What is here
hands the buffers over as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow
else:
    np = lazy("numpy")

pa = lazy("pyarrow")

__all__ = ["named", "numbers", "texts", "values_of"]


def numbers(values: npt.NDArray[Any], kind: pyarrow.DataType) -> pyarrow.Array[Any]:
    """An array of `kind` without nulls, of the shape (n,); the values have as many bytes each as `kind` has."""
    whole = np.ascontiguousarray(values)
    assert whole.itemsize * 8 == kind.bit_width, (whole.dtype, kind)
    found: pyarrow.Array[Any] = pa.Array.from_buffers(kind, len(whole), [None, pa.py_buffer(whole)])
    return found


def texts(values: Sequence[str]) -> pyarrow.Array[Any]:
    """An array of strings. Raises: OverflowError for more than 2 GiB of text."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    if int(ends[-1]) > np.iinfo(np.int32).max:
        raise OverflowError(f"{int(ends[-1])} bytes of text are too many for one array")
    offsets, content = pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(encoded))
    found: pyarrow.Array[Any] = pa.StringArray.from_buffers(len(encoded), offsets, content)
    return found


def named(names: Sequence[str], places: npt.NDArray[np.int32]) -> pyarrow.Array[Any]:
    """The name at each place, shape (n_places,)."""
    indices = numbers(np.asarray(places, np.int32), pa.int32())
    found: pyarrow.Array[Any] = pa.DictionaryArray.from_arrays(indices, texts(names)).cast(pa.string())
    return found


def values_of(column: pyarrow.ChunkedArray[Any], dtype: Any) -> npt.NDArray[Any]:
    """A column's numbers, or times as `dtype` of the same width, shape (n,). Raises: ValueError for nulls."""
    if column.null_count:
        raise ValueError(f"{column.null_count} of {len(column)} values are null")
    filled: list[Any] = [each for each in column.chunks if len(each)]
    parts = [np.frombuffer(each.buffers()[1], dtype)[each.offset :][: len(each)] for each in filled]
    return np.concatenate(parts) if parts else np.empty(0, dtype)
