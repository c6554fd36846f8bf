"""Arrow tables as bytes that depend on their logical content only.

Chunks, offsets, garbage under nulls, NaN payloads and the order of dictionary pages do not reach
the bytes, so equal tables have equal digests. The format is the Arrow IPC file, which any tool reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.core.lazy import lazy

__all__ = ["normal_array", "read_ipc", "write_ipc"]

np = lazy("numpy")
pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
ipc = lazy("pyarrow.ipc")


def write_ipc(table: Any, metadata: Mapping[str, str] | None = None) -> bytes:
    """An Arrow table (pyarrow.Table) as canonical IPC file bytes, zstd compressed, one batch."""
    arrays = [normal_array(column) for column in table.columns]
    fields = [field.with_type(array.type) for field, array in zip(table.schema, arrays, strict=True)]
    noted = dict(table.schema.metadata or {}) | {key.encode(): text.encode() for key, text in (metadata or {}).items()}
    schema = pa.schema(fields, metadata=dict(sorted(noted.items())) or None)
    sink = pa.BufferOutputStream()
    options = ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=False)
    with ipc.new_file(sink, schema, options=options) as writer:
        if arrays:
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return bytes(sink.getvalue())


def read_ipc(source: bytes | Path) -> Any:
    """The table of `write_ipc`; of a path, its pages are mapped, not copied."""
    if isinstance(source, Path):
        with pa.memory_map(str(source)) as mapped:
            return ipc.open_file(mapped).read_all()
    return ipc.open_file(pa.BufferReader(source)).read_all()


def normal_array(column: Any) -> Any:
    """One contiguous array (pyarrow.Array) with nothing but the logical content in its buffers."""
    array = _one_chunk(column)
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(kind, normal_array(array.storage))
    if pa.types.is_dictionary(kind):
        return _normal_dictionary(array)
    if pa.types.is_struct(kind):
        children = [normal_array(child) for child in array.flatten()]
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)
    if pa.types.is_nested(kind) or pa.types.is_union(kind) or "view" in str(kind):
        return pa.array(array.to_pylist(), type=kind)  # rare and small in practice; exact
    if pa.types.is_floating(kind):
        return _normal_floats(array)
    if array.null_count == 0:
        return _packed(array)
    if pa.types.is_null(kind):
        return array
    indices = pc.if_else(array.is_valid(), pa.array(np.arange(len(array)), type=pa.int64()), None)
    return array.take(indices)  # take leaves zeros, and empty text, under a null


def _one_chunk(column: Any) -> Any:
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks() if column.num_chunks else pa.array([], type=column.type)


def _packed(array: Any) -> Any:
    """The same array from offset 0 with trimmed buffers."""
    if array.offset == 0 and pa.types.is_primitive(array.type) and not pa.types.is_boolean(array.type):
        return array
    if pa.types.is_boolean(array.type):
        return pa.array(array.to_numpy(zero_copy_only=False), type=array.type)
    return pa.concat_arrays([array]) if array.offset == 0 else array.take(pa.array(np.arange(len(array))))


def _normal_floats(array: Any) -> Any:
    width = {16: np.float16, 32: np.float32, 64: np.float64}[array.type.bit_width]
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    values = np.frombuffer(array.buffers()[1], dtype=width, count=len(array) + array.offset)[array.offset :]
    hidden = np.isnan(values)
    if valid is not None:
        hidden |= ~valid
    if hidden.any():
        values = np.where(hidden, width(np.nan), values).astype(width)
    if valid is None:
        return pa.array(values, type=array.type, from_pandas=False)
    return pa.array(np.where(valid, values, width(0)).astype(width), mask=~valid, type=array.type, from_pandas=False)


def _normal_dictionary(array: Any) -> Any:
    """Categories keep their order, which has a meaning; codes are packed."""
    codes, levels = normal_array(array.indices), normal_array(array.dictionary)
    return pa.DictionaryArray.from_arrays(codes, levels, ordered=array.type.ordered)
