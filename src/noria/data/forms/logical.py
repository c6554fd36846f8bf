"""The identity of a table: its columns and values, whatever carries them.

A digest of an Arrow stream that depends on column names, logical types and values alone: not on
batches, row groups, offsets, what lies under a null, NaN payloads, or whether text came as string,
large_string or string_view. -0.0 and 0.0 are two values, null and NaN are two, all NaNs are one;
units, zones, precision and scale are part of a type. Of an ordered category the levels are part of its
column; those of an unordered one are how it was encoded, which writers of Parquet do as they like.
Nullability and metadata are not content.

Each column is hashed by itself as streams (positions of nulls, lengths, bytes), so that memory is
bounded by a batch and nothing depends on where a batch ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core import identity
from noria.core.errors import UsageError
from noria.core.identity import JSON, Digest, canonical
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["BLOCK_ROWS", "FORMAT", "Hasher", "digest", "type_name"]

FORMAT = "table/1"
BLOCK_ROWS = 1 << 16
_SAME_TEXT = {"large_string": "string", "string_view": "string", "large_binary": "binary", "binary_view": "binary"}


class Hasher:
    """Takes batches of one schema in order; `digest()` names what it has seen so far.

    Rows are hashed in blocks of BLOCK_ROWS, so that a table that grows at its end can be named from
    the blocks that were full, its rows behind them, and the new ones.

    Args:
        blocks: digests of the full blocks that come before the first row given here.
        levels: those of category columns in these blocks.
    """

    def __init__(
        self, schema: pa.Schema, blocks: Sequence[str] = (), levels: Mapping[str, pa.Array[Any]] | None = None
    ) -> None:
        self.schema = schema
        self.blocks = list(blocks)
        self.levels: dict[str, pa.Array[Any]] = dict(levels or {})
        self._types = [[field.name, type_name(field.type)] for field in schema]
        self._in_block = 0
        self._columns = self._fresh()

    @property
    def rows(self) -> int:
        """How many rows it has seen, those of the blocks before included."""
        return len(self.blocks) * BLOCK_ROWS + self._in_block

    def update(self, batch: pa.RecordBatch) -> None:
        """The next rows. Raises: UsageError if the batch has other columns than the schema."""
        if batch.schema.names != self.schema.names:
            raise UsageError(f"the rows have columns {batch.schema.names[:6]}, not {self.schema.names[:6]}")
        self._note_levels(batch)
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, BLOCK_ROWS - self._in_block)
            for column, values in zip(self._columns, part.columns, strict=True):
                column.update(values)
            start += part.num_rows
            self._in_block += part.num_rows
            if self._in_block == BLOCK_ROWS:
                self.blocks.append(self._block())
                self._columns, self._in_block = self._fresh(), 0

    def digest(self) -> Digest:
        """The name of the table."""
        blocks = [*self.blocks, self._block()] if self._in_block else self.blocks
        ordered = {each.name for each in self.schema if pa.types.is_dictionary(each.type) and each.type.ordered}
        levels = {name: _levels_digest(found) for name, found in self.levels.items() if name in ordered}
        about: JSON = {"rows": self.rows, "columns": self._types, "levels": levels, "blocks": blocks}
        return identity.digest(canonical({"format": FORMAT, "table": about}))

    def _fresh(self) -> list[_Column]:
        return [_Column(field.type) for field in self.schema]

    def _block(self) -> str:
        return identity.digest(canonical([column.digest() for column in self._columns]))

    def _note_levels(self, batch: pa.RecordBatch) -> None:
        """Levels in the order of their first dictionary; further dictionaries add what is new."""
        values: Any
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            if not pa.types.is_dictionary(values.type):
                continue
            found, known = values.dictionary, self.levels.get(name)
            if known is None:
                self.levels[name] = found
            elif not found.equals(known):
                more = found.filter(pc.invert(pc.is_in(found, value_set=known)))
                self.levels[name] = pa.concat_arrays([known, more]) if len(more) else known


def digest(rows: pa.Table | pa.RecordBatchReader) -> Digest:
    """The logical digest of a table or of a stream of batches, which is read to its end.

    Raises: UsageError for a column type that a table cannot hold (unions).
    """
    hasher = Hasher(rows.schema)
    for batch in rows.to_batches() if isinstance(rows, pa.Table) else rows:
        hasher.update(batch)
    return hasher.digest()


def type_name(kind: Any) -> str:
    """The logical type as text: widths of offsets, indices and decimals' storage are left out."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return f"{kind.extension_name}<{type_name(kind.storage_type)}>"
    if types.is_dictionary(kind):
        return f"category<{type_name(kind.value_type)}{', ordered' if kind.ordered else ''}>"
    if types.is_run_end_encoded(kind):
        return type_name(kind.value_type)
    if types.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if types.is_map(kind):
        return f"map<{type_name(kind.key_type)}, {type_name(kind.item_type)}>"
    if types.is_fixed_size_list(kind):
        return f"list[{kind.list_size}]<{type_name(kind.value_type)}>"
    if _is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if types.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name!r}: {type_name(field.type)}" for field in kind) + ">"
    if types.is_union(kind):
        raise UsageError(f"a column of {kind} cannot be part of a table", hint="give each type a column of its own")
    text = str(kind)
    return _SAME_TEXT.get(text, text)


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind)
    )


class _Column:
    """The streams of one column: where its nulls are, how long its values, their bytes; and its children's."""

    def __init__(self, kind: pa.DataType) -> None:
        self._rows = 0
        self._nulls = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._bytes = hashlib.sha256()
        self._children = [_Column(child) for child in _children(_storage(kind))]

    def update(self, values: Any) -> None:
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        if pa.types.is_run_end_encoded(values.type):
            values = pc.run_end_decode(values)
        kind = values.type
        if values.null_count and not pa.types.is_null(kind):
            gone = np.flatnonzero(np.asarray(values.is_null()))
            self._nulls.update((gone.astype("<i8") + self._rows).tobytes())
        self._rows += len(values)
        if pa.types.is_null(kind) or not len(values):
            return
        if pa.types.is_dictionary(kind):
            self._children[0].update(values.dictionary_decode())
        elif pa.types.is_struct(kind):
            for child, part in zip(self._children, values.flatten(), strict=True):
                child.update(part)
        elif pa.types.is_nested(kind):
            self._update_list(values)
        elif _is_text(kind):
            self._update_text(values)
        else:
            self._update_fixed(values)

    def digest(self) -> str:
        streams = [stream.hexdigest() for stream in (self._nulls, self._lengths, self._bytes)]
        return identity.digest(canonical([self._rows, *streams, *(child.digest() for child in self._children)]))

    def _update_list(self, values: Any) -> None:
        if pa.types.is_map(values.type):
            lengths = np.diff(np.asarray(values.offsets).astype("<i8"))
            valid = np.asarray(values.is_valid())
            entries = values.cast(pa.list_(pa.struct([("k", values.type.key_type), ("v", values.type.item_type)])))
            self._lengths.update(np.where(valid, lengths, 0).astype("<i8").tobytes())
            for child, part in zip(self._children, entries.flatten().flatten(), strict=True):
                child.update(part)
            return
        if not pa.types.is_fixed_size_list(values.type):
            lengths = pc.fill_null(pc.list_value_length(values), 0)
            self._lengths.update(np.asarray(lengths).astype("<i8").tobytes())
        self._children[0].update(values.flatten())

    def _update_text(self, values: Any) -> None:
        wide = pa.large_binary()
        if values.type != wide:
            binary = values.cast(pa.large_string()) if pa.types.is_string_view(values.type) else values
            values = binary.cast(wide) if binary.type != wide else binary
        if values.null_count:
            values = pc.fill_null(values, b"")  # what lies under a null is no content
        offsets = np.frombuffer(values.buffers()[1], "<i8")[values.offset : values.offset + len(values) + 1]
        self._lengths.update(np.diff(offsets).tobytes())
        data = values.buffers()[2]
        if data is not None and offsets[-1] > offsets[0]:
            self._bytes.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])

    def _update_fixed(self, values: Any) -> None:
        kind = values.type
        if pa.types.is_boolean(kind):
            flags = np.asarray(pc.fill_null(values, False)).astype(np.uint8)
            self._bytes.update(flags.tobytes())
            return
        if pa.types.is_decimal(kind):
            wide = pa.decimal256(max(kind.precision, 39), kind.scale)
            values = values.cast(wide)
        width = values.type.bit_width // 8
        data = memoryview(values.buffers()[1])[values.offset * width : (values.offset + len(values)) * width]
        if pa.types.is_floating(kind):
            found = np.frombuffer(data, np.dtype(f"<f{width}"))
            if np.isnan(found).any():
                found = np.where(np.isnan(found), found.dtype.type(np.nan), found)
            data = np.ascontiguousarray(found).data.cast("B")
        if values.null_count:
            cells = np.frombuffer(data, np.uint8).reshape(len(values), width).copy()
            cells[np.asarray(values.is_null())] = 0
            data = cells.reshape(-1).data
        self._bytes.update(data)


def _children(kind: Any) -> list[pa.DataType]:
    if pa.types.is_map(kind):
        return [kind.key_type, kind.item_type]
    if pa.types.is_struct(kind):
        return [field.type for field in kind]
    if pa.types.is_dictionary(kind) or _is_list(kind) or pa.types.is_fixed_size_list(kind):
        return [kind.value_type]
    return []


def _levels_digest(levels: pa.Array[Any]) -> str:
    column = _Column(levels.type)
    column.update(levels)
    return column.digest()


def _storage(kind: Any) -> Any:
    while isinstance(kind, pa.BaseExtensionType) or pa.types.is_run_end_encoded(kind):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return kind


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
    )
