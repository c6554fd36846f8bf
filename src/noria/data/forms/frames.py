"""Frames of Python as Arrow, without a value, a type or a column lost on the way.

pandas, polars, Arrow, anything that speaks Arrow's C stream, and plain rows or columns. What could
not come back as it was is refused by name: a column of mixed types, an index without a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pd = lazy("pandas")

__all__ = ["arrow_of", "is_frame"]


def is_frame(value: object) -> bool:
    """Whether a value is a table of Python's, rather than the name of a place."""
    return not isinstance(value, str) and not hasattr(value, "__fspath__")


def arrow_of(frame: Any) -> pa.Table | pa.RecordBatchReader:
    """The rows of a frame as an Arrow table, or as a stream if it is one.

    Of pandas, index levels with a name become columns, and the missing marks NaN, None, NA and NaT
    become null. Raises: UsageError naming the column that cannot be kept.
    """
    found = _arrow_of(frame)
    fields = [each.with_type(_viewless(each.type)) for each in found.schema]
    metadata: Any = found.schema.metadata
    schema = pa.schema(fields, metadata)
    if schema.types == found.schema.types:
        return found
    if isinstance(found, pa.Table):
        return pa.Table.from_batches(_without_views(found.to_batches(), schema), schema)
    return pa.RecordBatchReader.from_batches(schema, _without_views(found, schema))


def _arrow_of(frame: Any) -> pa.Table | pa.RecordBatchReader:
    root = type(frame).__module__.partition(".")[0]
    if isinstance(frame, pa.Table | pa.RecordBatchReader):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if root == "pandas":
        return _of_pandas(frame)
    if hasattr(frame, "__arrow_c_stream__"):
        return _of_stream(frame)
    if isinstance(frame, Mapping):
        return _plain(lambda: pa.table(dict(frame)))
    if isinstance(frame, Sequence) and all(isinstance(row, Mapping) for row in frame):
        return _plain(lambda: pa.Table.from_pylist([dict(row) for row in frame]))
    hint = (
        "call .collect() first" if hasattr(frame, "collect") else "a pandas, polars or Arrow table, or a list of rows"
    )
    raise UsageError(f"a {type(frame).__qualname__} is no table", hint=hint)


def _viewless(kind: Any) -> Any:
    """The same type without string and binary views, on which Arrow computes little yet."""
    types = pa.types
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _viewless(kind.value_type), kind.ordered)
    if types.is_large_list(kind):
        return pa.large_list(_viewless(kind.value_type))
    if types.is_list(kind):
        return pa.list_(_viewless(kind.value_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(_viewless(kind.value_type), kind.list_size)
    if types.is_struct(kind):
        return pa.struct([pa.field(each.name, _viewless(each.type)) for each in kind])
    return kind


def _without_views(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        columns = [_cast(values, each.type) for values, each in zip(batch.columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(values: Any, kind: Any) -> Any:
    if values.type == kind:
        return values
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(
            values.indices, values.dictionary.cast(kind.value_type), ordered=kind.ordered
        )
    try:
        return values.cast(kind)
    except pa.ArrowNotImplementedError:
        return pa.array(values.to_pylist(), kind)


def _of_pandas(frame: Any) -> pa.Table:
    if isinstance(frame, pd.Series):
        frame = frame.to_frame(name="value" if frame.name is None else frame.name)
    index = frame.index
    is_counted = isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1 and index.name is None
    if not is_counted and any(name is None for name in index.names):
        raise UsageError(
            "the index of the frame has no name, and would be lost",
            hint="reset_index(drop=True), or name it: frame.rename_axis('id')",
        )
    if not all(isinstance(name, str) for name in frame.columns):
        odd = next(name for name in frame.columns if not isinstance(name, str))
        raise UsageError(f"a column is named {odd!r}, which is no text", hint="frame.columns = frame.columns.map(str)")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UsageError(f"two columns are named {twice[0]!r}", hint="rename one of them")
    for name, kind in frame.dtypes.items():
        if isinstance(kind, pd.SparseDtype):
            raise UsageError(f"column {name!r} is sparse, which no table keeps", hint="frame.sparse.to_dense()")
    try:
        return pa.Table.from_pandas(frame, preserve_index=not is_counted)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        raise UsageError(_mixed(frame), hint="give every value of the column one type") from error


def _mixed(frame: Any) -> str:
    for name in frame.columns:
        try:
            pa.array(frame[name], from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError):
            kinds = sorted({type(value).__name__ for value in frame[name].dropna()})
            return f"column {name!r} holds values of several types: {', '.join(kinds[:4])}"
    return "the frame cannot be kept as a table"


def _of_stream(frame: Any) -> pa.RecordBatchReader:
    try:
        return pa.RecordBatchReader.from_stream(frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        raise UsageError(f"the frame cannot be kept as a table: {str(error).splitlines()[0][:120]}") from error


def _plain(make: Any) -> pa.Table:
    try:
        made: pa.Table = make()
        return made
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, TypeError) as error:
        raise UsageError(f"the rows are no table: {str(error).splitlines()[0][:120]}") from error
