"""What Parquet would lose of a table, noted in the file by `parquet.write` and put back here.

The exact Arrow schema (seconds, large text, nanosecond times), categories with the order of their
levels, pandas' own metadata, and the blocks of the logical digest.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["META", "blocks_of", "levels_of", "noted", "restored", "restored_schema"]

META = b"noria"


def noted(schema: pa.Schema, levels: Mapping[str, pa.Array[Any]], about: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a file: what is needed to put back its schema and levels, and what else is to be known."""
    document = {
        **about,
        "schema": base64.b64encode(schema.serialize().to_pybytes()).decode(),
        "levels": {name: _packed(found) for name, found in levels.items()},
    }
    own = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items() if key == b"pandas"}
    return {**own, META.decode(): json.dumps(document, separators=(",", ":"))}


def restored(table: pa.Table, metadata: Mapping[bytes, bytes] | None) -> pa.Table:
    """Columns read from a file of `write` with the exact types that were given to it.

    With all its columns pandas' metadata comes back too. A file of anybody else's stays as it is,
    without metadata.
    """
    document = _noted(metadata)
    if document is None:
        return table.replace_schema_metadata(None)
    exact = _schema_in(document)
    levels = {name: _unpacked(text) for name, text in document["levels"].items()}
    columns = {
        name: _restored_column(table[name], exact.field(name).type, levels.get(name)) for name in table.column_names
    }
    if not columns:
        return table.replace_schema_metadata(None)
    fields = [exact.field(name).with_nullable(True) for name in columns]
    whole: pa.Table = pa.table(list(columns.values()), schema=pa.schema(fields))
    return whole.replace_schema_metadata(exact.metadata if len(columns) == len(exact) else None)


def restored_schema(schema: pa.Schema, metadata: Mapping[bytes, bytes] | None) -> pa.Schema:
    """The schema that `restored` gives to a whole file."""
    document = _noted(metadata)
    return schema.remove_metadata() if document is None else _schema_in(document)


def blocks_of(metadata: Mapping[bytes, bytes] | None) -> tuple[str, ...] | None:
    """The full blocks of the logical digest up to the end of a file of `write`; None for another file."""
    document = _noted(metadata)
    return None if document is None else tuple(document["blocks"])


def levels_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, pa.Array[Any]]:
    """The levels of the category columns of a file of `write`."""
    document = _noted(metadata)
    return {} if document is None else {name: _unpacked(text) for name, text in document["levels"].items()}


def _noted(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any] | None:
    noted = (metadata or {}).get(META)
    if noted is None:
        return None
    found: dict[str, Any] = json.loads(noted)
    return found


def _schema_in(document: Mapping[str, Any]) -> pa.Schema:
    found: pa.Schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(document["schema"])))
    return found


def _restored_column(values: Any, wanted: Any, levels: Any) -> Any:
    if pa.types.is_dictionary(wanted):
        levels = pa.array([], wanted.value_type) if levels is None else levels
        codes = [pc.index_in(chunk, value_set=levels).cast(wanted.index_type) for chunk in values.chunks]
        made: Any = [pa.DictionaryArray.from_arrays(each, levels, ordered=wanted.ordered) for each in codes]
        empty: Any = pa.array([], wanted)
        return pa.chunked_array(made or [empty])
    return values if values.type == wanted else values.cast(wanted)


def _packed(levels: pa.Array[Any]) -> str:
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays([levels], names=["levels"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return base64.b64encode(sink.getvalue().to_pybytes()).decode()


def _unpacked(text: str) -> pa.Array[Any]:
    with pa.ipc.open_stream(pa.py_buffer(base64.b64decode(text))) as reader:
        return reader.read_all()["levels"].combine_chunks()
