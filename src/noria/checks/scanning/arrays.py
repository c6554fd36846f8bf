"""Between Arrow and NumPy without copies, and without pandas.

Where pandas is installed, `pa.array`, `pa.scalar` and `Array.to_numpy` import it (0.3 s and 40 MB,
measured 2026-11). A check of a file needs none of it, so the few ways that it needs are here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Whole = NDArray[np.int64]
    Mask = NDArray[np.bool_]
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
    Floats = Whole = Mask = Any
pc = lazy("pyarrow.compute")

__all__ = ["Floats", "Mask", "Whole", "doubles", "is_null", "mask", "texts", "view", "whole"]


def view(array: pa.Array[Any], dtype: Any, *, more: int = 0) -> Any:
    """The values of a flat array of this dtype as they lie in memory; where it is null, anything.

    Args:
        more: so many values behind the last row, as the places where texts end have one.
    """
    data = array.buffers()[1]
    if data is None or not len(array):
        return np.zeros(len(array) + more, dtype)
    memory: Any = data
    return np.frombuffer(memory, dtype, count=array.offset + len(array) + more)[array.offset :]


def mask(array: pa.Array[Any] | pa.ChunkedArray[Any]) -> Mask:
    """A bool array, null as false, shape (n,)."""
    if isinstance(array, pa.ChunkedArray):
        return np.concatenate([mask(chunk) for chunk in array.chunks]) if array.num_chunks else np.zeros(0, bool)
    found: Mask = view(array.cast(pa.uint8()), np.uint8).view(bool)
    return found & ~is_null(array) if array.null_count else found


def is_null(array: pa.Array[Any] | pa.ChunkedArray[Any], *, or_nan: bool = False) -> Mask:
    """Which values are null (or NaN), shape (n,)."""
    return mask(pc.is_null(array, nan_is_null=or_nan))


def whole(values: Any) -> pa.Array[Any]:
    """Whole numbers as an Arrow array that shares their memory."""
    flat = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(flat), [None, _buffer(flat)])


def doubles(values: Any) -> pa.Array[Any]:
    """Numbers as an Arrow array that shares their memory; NaN stays NaN."""
    flat = np.ascontiguousarray(values, np.float64)
    return pa.Array.from_buffers(pa.float64(), len(flat), [None, _buffer(flat)])


def texts(values: Iterable[str]) -> pa.Array[Any]:
    """Texts as an Arrow array."""
    parts = [value.encode() for value in values]
    ends = np.zeros(len(parts) + 1, np.int32)
    np.cumsum([len(part) for part in parts], out=ends[1:])
    return pa.Array.from_buffers(pa.string(), len(parts), [None, _buffer(ends), pa.py_buffer(b"".join(parts))])


def _buffer(values: Any) -> pa.Buffer:
    return pa.py_buffer(values)
