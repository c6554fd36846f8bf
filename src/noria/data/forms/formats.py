"""Table files: which formats there are, what a file holds, and how it is read.

CSV (also TSV), Parquet and JSON lines; `.gz` of the text formats too. Reading changes nothing:
types come from the file (Parquet, JSON) or from `text.kind_of` (CSV). A file that cannot be read
is a `UsageError` with the file and the row, never a value of the row.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.clock import utc_text
from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.data.forms import exact, jsonlines, logical, text
from noria.data.forms.opening import check_end, compression, open_text, openable, reason

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pacsv = lazy("pyarrow.csv")
pq = lazy("pyarrow.parquet")

__all__ = [
    "Columns",
    "Inspected",
    "as_utc",
    "exact_kinds",
    "format_of",
    "has_numbers",
    "holds_rows",
    "inspect",
    "is_doubtful",
    "read_file",
    "stream",
    "time_range",
    "unify",
]

Columns = tuple[tuple[str, str, bool], ...]
"""(name, Arrow type as text, may be null), in the file's order."""

_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_BLOCK_BYTES = 16 * 1024 * 1024
_HEADER_BYTES = 1024 * 1024
_STREAM_ROWS = 1 << 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("timestamp", "date32")
_MICROSECONDS: Mapping[str, int | Fraction] = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": Fraction(1, 1000)}


@frozen
class Inspected:
    """What a table file holds; `time_min` and `time_max` are UTC texts, or empty without a time column.

    `logical` is the digest of its columns and values, where it was asked for. `long` are the columns of whole
    numbers, in a file of text, that a double might round.
    """

    rows: int
    columns: Columns
    time_min: str = ""
    time_max: str = ""
    logical: str = ""
    long: tuple[str, ...] = ()


def format_of(name: str) -> str:
    """`csv`, `parquet`, `jsonl`, or "" for a file that is no table. Asked of every file, so without a Path."""
    last = name.lower().rpartition("/")[2]
    inner = last.removesuffix(".gz")
    dot = inner.rfind(".")
    found = _SUFFIXES.get(inner[dot:], "") if dot > 0 else ""
    return "" if found == "parquet" and inner != last else found


def holds_rows(path: str, *, is_one: bool = False) -> bool:
    """Whether a file of a data set is one of its tables: not below a name that starts with a dot.

    Such files are content, byte by byte, but copies and drafts (`.ipynb_checkpoints/`) are no rows. With
    `is_one` the file itself is what was asked for.
    """
    return bool(format_of(path)) and (is_one or not (path[0] == "." or "/." in path))


def inspect(path: Path, name: str, time: str = "", *, is_named: bool = False) -> Inspected:
    """Read a table file's schema, number of rows and time range. Streams CSV: memory is bounded.

    Args:
        name: the name in messages, whose suffix gives the format.
        time: the time column, or "".
        is_named: also read every value, for the digest of what the table says.
    Raises: UsageError if the file is empty, broken, or its time column holds no times.
    """
    found = _inspect(path, name, time)
    if not is_named:
        return found
    kinds = {column: kind for column, kind, _ in found.columns}
    return dataclasses.replace(found, logical=logical.digest(stream(path, name, kinds)))


def _inspect(path: Path, name: str, time: str) -> Inspected:
    kind = format_of(name)
    long: tuple[str, ...] = ()
    if path.stat().st_size == 0:
        raise UsageError(f"{name} is empty: it has no bytes", hint="remove the file, or write it again")
    if kind == "csv":
        return _inspect_csv(path, name, time)
    if kind == "parquet":
        file = _parquet(path, name)
        schema = exact.restored_schema(file.schema_arrow, file.metadata.metadata)
        rows = file.metadata.num_rows
        _unique(schema.names, name)
        low, high = time_range(_parquet_column(file, time, name), time, name) if time in schema.names else ("", "")
    else:
        table = jsonlines.read(path, name, {})
        schema, rows = table.schema, table.num_rows
        long = jsonlines.long_columns(table)
        _unique(schema.names, name)
        low, high = time_range(table[time], time, name) if time in schema.names else ("", "")
    columns = tuple((field.name, str(field.type), bool(field.nullable)) for field in schema)
    return Inspected(rows, columns, low, high, long=long)


def read_file(path: Path, name: str, kinds: Mapping[str, str], columns: list[str] | None = None) -> pa.Table:
    """The rows of a table file, in its order, without metadata.

    Args:
        kinds: the type of each column of a CSV file, from its data set's one inference; of a JSON lines file that of
            columns of numbers.
        columns: only these, of those that the file has; None for all.
    """
    kind = format_of(name)
    if kind == "parquet":
        file = _parquet(path, name)
        wanted = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
        try:
            table = exact.restored(file.read(columns=wanted), file.metadata.metadata)
        except (pa.ArrowInvalid, OSError) as error:
            raise UsageError(f"{name} is not a whole Parquet file: {reason(error)}") from error
    elif kind == "jsonl":
        table = jsonlines.read(path, name, kinds)
    else:
        table = _read_csv(path, name, kinds)
    if columns is not None:
        table = table.select([c for c in columns if c in table.column_names])
    plain: pa.Table = table.replace_schema_metadata(None)
    return plain


def stream(path: Path, name: str, kinds: Mapping[str, str]) -> pa.RecordBatchReader:
    """The rows of a table file as a stream of batches, in its order.

    Args:
        kinds: the type of each column of a CSV file, as `inspect` found it or the data set has it.
    Raises: UsageError for a broken file, or a CSV value that its kind does not take, while it is read.
    """
    kind = format_of(name)
    if kind == "csv":
        names = _named(_header(path, name)[0])
        known = {column: kinds.get(column, "string") for column in names}
        schema = pa.schema([(column, text.arrow_type(known[column])) for column in names])
        return pa.RecordBatchReader.from_batches(schema, _typed(path, name, known))
    if kind == "jsonl":
        return jsonlines.read(path, name, kinds).to_reader(max_chunksize=_STREAM_ROWS)
    file = _parquet(path, name)
    schema = exact.restored_schema(file.schema_arrow, file.metadata.metadata)
    return pa.RecordBatchReader.from_batches(schema, _parquet_batches(file, name))


def unify(schemas: Mapping[str, pa.Schema], *, is_kept: bool = False) -> pa.Schema:
    """One schema for the files of a data set: columns by name, the wider type where two differ.

    Args:
        is_kept: they are those of a version that is kept already: what it took is read.
    Raises: UsageError naming the column and the two files whose types have nothing in common, or of which one has
        exact decimals that the other's doubles would round.
    """
    merged: pa.Schema | None = None
    owner: dict[str, str] = {}
    for name, schema in schemas.items():
        plain = pa.schema([pa.field(f.name, f.type, True) for f in schema])
        if merged is None:
            merged = plain
        elif not plain.equals(merged):
            merged = _widen(merged, _exact(merged, plain, name, owner, is_kept=is_kept), name, owner)
        for column in plain.names:
            owner.setdefault(column, name)
    assert merged is not None, "a data set has a table"
    return merged


def as_utc(values: pa.ChunkedArray[Any], column: str, name: str) -> pa.ChunkedArray[Any]:
    """A time column as UTC microseconds; times without a zone are taken as UTC.

    Raises: UsageError if the values are no times.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if _is_text(kind):
        found = text.kind_of(values)
        if found.startswith(_TIMES):
            values = text.cast(values, found)
            kind = values.type
    if pa.types.is_timestamp(kind):
        micro = values.cast(pa.timestamp("us", tz=kind.tz), safe=False)
        return micro.cast(pa.timestamp("us", tz="UTC")) if kind.tz else _assume_utc(micro)
    if pa.types.is_date(kind):
        return _assume_utc(values.cast(pa.timestamp("us")))
    if pa.types.is_null(kind):
        return values.cast(pa.timestamp("us", tz="UTC"))
    odd = _first_odd(values)
    if odd is not None:
        raise UsageError(
            f"column {column!r} is not a time: row {odd:,} (from 0) is not written as the rows before it are",
            where=name,
            hint="every row in one form, such as 2013-01-31T05:00:00Z, or 2013-01-31 in all of them",
        )
    hint = "a time column holds timestamps, dates, or text such as 2013-01-31T05:00:00Z"
    if _is_text(kind) and text.is_day_or_month_first(values):
        raise UsageError(
            f"column {column!r} is text, not a time: its dates begin with a day or a month, which they do not say",
            where=name,
            hint=f"write 2013-01-31: pandas.to_datetime(rows[{column!r}], format='%d/%m/%Y'), then nr.add_data(rows)",
        )
    raise UsageError(f"column {column!r} is {kind}, not a time", where=name, hint=hint)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _first_odd(values: pa.ChunkedArray[Any]) -> int | None:
    """The first row of a text column with which it stops to be times; None if it does not begin as such."""
    if not _is_text(values.type):
        return None
    low, high = 0, len(values)
    while high - low > 1:  # the first `low` rows are times or missing, the first `high` are not
        half = (low + high) // 2
        is_time = text.kind_of(values.slice(0, half)).startswith((*_TIMES, "null"))
        low, high = (half, high) if is_time else (low, half)
    return high - 1 if text.kind_of(values.slice(0, low)).startswith(_TIMES) else None


def time_range(values: pa.ChunkedArray[Any], column: str, name: str) -> tuple[str, str]:
    """The least and greatest time of a column as UTC texts; empty if all are null.

    The usual case, timestamps without nulls, is read from the buffers: `as_py` of a timestamp imports
    pandas and the compute functions take 0.2 s to load (2026-11), which a quick `add` need not pay.
    Raises: UsageError if the values are no times.
    """
    if pa.types.is_timestamp(values.type) and not values.null_count and len(values):
        parts = [_whole_numbers(chunk) for chunk in values.chunks if len(chunk)]
        per_unit = _MICROSECONDS[values.type.unit]
        bounds = min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)
        return _text_of(bounds[0] * per_unit), _text_of(bounds[1] * per_unit)
    micro = as_utc(values, column, name).cast(pa.int64())
    low, high = pc.min(micro).as_py(), pc.max(micro).as_py()
    return ("", "") if low is None else (_text_of(low), _text_of(high))


def _whole_numbers(chunk: pa.Array[Any]) -> Any:
    data = chunk.buffers()[1]
    assert data is not None, "an array without nulls has values"
    return np.frombuffer(memoryview(data), np.int64)[chunk.offset : chunk.offset + len(chunk)]


def _text_of(micro: Fraction | int) -> str:
    return utc_text(_EPOCH + timedelta(microseconds=int(micro // 1)))


def _assume_utc(values: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    zoned: pa.ChunkedArray[Any] = pc.assume_timezone(values, "UTC")
    return zoned


def _widen(merged: pa.Schema, schema: pa.Schema, name: str, owner: Mapping[str, str]) -> pa.Schema:
    try:
        return pa.unify_schemas([merged, schema], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        pass  # one column at a time below: categories may only differ in their index
    fields = {field.name: field.type for field in merged}
    for field in schema:
        if field.name not in fields:
            fields[field.name] = field.type
            continue
        one, other = (_decoded(t) if fields[field.name] != field.type else t for t in (fields[field.name], field.type))
        try:
            both = [pa.schema([pa.field("x", one)]), pa.schema([pa.field("x", other)])]
            fields[field.name] = pa.unify_schemas(both, promote_options="permissive").field("x").type
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise UsageError(
                f"column {field.name!r} is {field.type} in {name} but {fields[field.name]} in {owner[field.name]}",
                hint="write both files with one type, or add them as two data sets",
            ) from error
    return pa.schema(list(fields.items()))


def _exact(merged: pa.Schema, schema: pa.Schema, name: str, owner: Mapping[str, str], *, is_kept: bool) -> pa.Schema:
    """The schema, its whole numbers as wide decimals where the others are decimals: Arrow leaves no room for both.

    Raises: UsageError for decimals beside doubles, of which Arrow would make doubles.
    """
    for place, field in enumerate(schema):
        if field.name not in merged.names or merged.field(field.name).type == field.type:
            continue
        known = merged.field(field.name).type
        if not is_kept and _is_rounded(known, field.type):
            raise UsageError(
                f"column {field.name!r} is {field.type} in {name} but {known} in {owner[field.name]}:"
                " a double would round decimals",
                hint="write both files with one type, or add them as two data sets",
            )
        if pa.types.is_decimal(known) and pa.types.is_integer(field.type):
            schema = schema.set(place, field.with_type(_as_decimal(field.type)))
        elif pa.types.is_integer(known) and pa.types.is_decimal(field.type):
            both = pa.unify_schemas(
                [pa.schema([pa.field("x", _as_decimal(known))]), pa.schema([pa.field("x", field.type)])],
                promote_options="permissive",
            )
            schema = schema.set(place, field.with_type(both.field("x").type))
    return schema


def _is_rounded(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether one holds decimals where the other holds doubles, at any depth."""
    types = pa.types
    if types.is_decimal(one) or types.is_decimal(other):
        return bool(types.is_floating(one) or types.is_floating(other))
    if types.is_struct(one) and types.is_struct(other):
        there = {field.name: field.type for field in other}
        return any(field.name in there and _is_rounded(field.type, there[field.name]) for field in one)
    if types.is_map(one) and types.is_map(other):
        return _is_rounded(one.item_type, other.item_type)
    return _is_list(one) and _is_list(other) and _is_rounded(_item(one), _item(other))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _item(kind: Any) -> pa.DataType:
    found: pa.DataType = kind.value_type
    return found


def _as_decimal(kind: pa.DataType) -> pa.DataType:
    """The decimal of any whole number of a type."""
    digits = {8: 3, 16: 5, 32: 10, 64: 20 if pa.types.is_unsigned_integer(kind) else 19}
    return pa.decimal128(digits[kind.bit_width], 0)


def _decoded(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _parquet(path: Path, name: str) -> Any:
    try:
        return pq.ParquetFile(openable(path), memory_map=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"{name} is not a whole Parquet file: {reason(error)}", hint="write it again") from error


def _parquet_column(file: Any, column: str, name: str) -> pa.ChunkedArray[Any]:
    try:
        values: pa.ChunkedArray[Any] = file.read(columns=[column])[column]
        return values
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"{name} is not a whole Parquet file: {reason(error)}", hint="write it again") from error


def _header(path: Path, name: str) -> tuple[list[str], str]:
    """The column names as written, and the delimiter that splits the first line into most of them."""
    try:
        with open_text(path, name) as stream:
            lines = io.TextIOWrapper(io.BytesIO(stream.read(_HEADER_BYTES)), "utf-8-sig", newline="")
            first = lines.readline()
            delimiter = max(",;\t|", key=first.count)
            lines.seek(0)
            names = next(csv.reader(lines, delimiter=delimiter), [])
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from error
    except (EOFError, OSError, zlib.error) as error:
        raise UsageError(f"{name} is not a whole gzip file", hint="write it again") from error
    except csv.Error as error:
        raise UsageError(f"{name} has no readable header: {error}", hint="the first line names the columns") from error
    if any(ord(mark) < 32 for column in names for mark in column):
        raise UsageError(f"{name} is not CSV: its first line holds control characters", hint="is it another format?")
    if not any(column.strip() for column in names):
        raise UsageError(f"{name} has no header", hint="the first line names the columns")
    _unique(_named(names), name)
    return names, delimiter


def _typed(path: Path, name: str, kinds: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    first = 0
    for batch in _batches(path, name):
        arrays = []
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            try:
                arrays.append(text.cast(pa.chunked_array([values]), kinds[column]).combine_chunks())
            except pa.ArrowInvalid as error:
                row = first + text.first_misfit(values, kinds[column])
                raise UsageError(
                    f"column {column!r} of {name} holds a value that is no {kinds[column]}: row {row:,}, from 0",
                    hint="the data set has that type: mend the value, or add the table as another data set",
                ) from error
        first += batch.num_rows
        yield pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _parquet_batches(file: Any, name: str) -> Iterator[pa.RecordBatch]:
    try:
        for batch in file.iter_batches(_STREAM_ROWS):
            yield from exact.restored(pa.Table.from_batches([batch]), file.metadata.metadata).to_batches()
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"{name} is not a whole Parquet file: {reason(error)}") from error


def _named(names: list[str]) -> list[str]:
    """Column names without padding; a nameless column (a written-out index) becomes column_N."""
    return [column.strip() or f"column_{index + 1}" for index, column in enumerate(names)]


def _batches(path: Path, name: str) -> Iterator[pa.RecordBatch]:
    """A CSV file in blocks, every column as text; at least one block. Raises: UsageError."""
    names, delimiter = _header(path, name)
    read = pacsv.ReadOptions(block_size=_BLOCK_BYTES)
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    convert = pacsv.ConvertOptions(
        column_types={column: pa.string() for column in names},
        strings_can_be_null=False,
        quoted_strings_can_be_null=False,
    )
    schema = pa.schema([(column, pa.string()) for column in _named(names)])
    yield pa.RecordBatch.from_pylist([], schema=schema)
    try:
        with (
            pa.input_stream(openable(path), compression=compression(name)) as stream,
            pacsv.open_csv(stream, read, parse, convert) as reader,
        ):
            for batch in reader:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as error:
        raise _broken_csv(path, name, parse, convert, error) from error


def _broken_csv(path: Path, name: str, parse: Any, convert: Any, error: Exception) -> UsageError:
    """Read again on one thread, where Arrow counts the rows, to name the row that does not fit."""
    text_of = str(error)
    try:
        pacsv.read_csv(openable(path), pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES), parse, convert)
    except (pa.ArrowInvalid, pa.ArrowException, OSError) as again:
        text_of = str(again)
    found = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", text_of)
    if found:
        row = f"line {found[1]}" if found[1] else "a line"
        return UsageError(
            f"{name} is broken: {row} has {found[3]} values where the header names {found[2]}",
            hint="is the delimiter or a quote missing there?",
        )
    if "UTF8" in text_of or "UTF-8" in text_of:
        return UsageError(f"{name} is not UTF-8 text", hint="save it as UTF-8")
    return UsageError(f"{name} is not whole CSV: {reason(error)}", hint="is a quote left open, or is it cut off?")


def _inspect_csv(path: Path, name: str, time: str) -> Inspected:
    found: dict[str, set[str]] = {}
    long: set[str] = set()
    blanks: set[str] = set()
    times: list[pa.Array[Any]] = []
    rows, last = 0, ""
    for batch in _batches(path, name):
        rows += batch.num_rows
        last = batch.column(-1)[-1].as_py() if batch.num_rows else last
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            if column not in blanks and text.has_missing(values):
                blanks.add(column)
            seen = found.setdefault(column, set())
            if "string" not in seen:
                kind = text.kind_of(values)
                seen.add(kind)
                if kind == "int64" and text.is_long(values):
                    long.add(column)
            if column == time:
                times.append(values)
    if rows:
        check_end(path, name, last)
    kinds = {column: text.join(sorted(seen)) for column, seen in found.items()}
    doubtful = [column for column, seen in found.items() if is_doubtful(seen, is_long=column in long)]
    kinds |= exact_kinds({name: path}, doubtful)
    low, high = "", ""
    if times:
        low, high = time_range(text.cast(pa.chunked_array(times), kinds[time]), time, name)
    columns = tuple((column, kind, column in blanks) for column, kind in kinds.items())
    return Inspected(
        rows, columns, low, high, long=tuple(c for c, kind in kinds.items() if c in long and kind == "int64")
    )


def is_doubtful(seen: Collection[str], *, is_long: bool) -> bool:
    """Whether the kinds of a column's parts do not tell that of all its numbers, of which a double may round some.

    Args:
        is_long: whether some of its whole numbers may be such.
    """
    decimals = {kind for kind in seen if text.is_decimal(kind)}
    rest = text.join(set(seen) - decimals)
    return (rest in ("int64", "double") and bool(decimals)) or (rest == "double" and is_long)


def exact_kinds(places: Mapping[str, Path], columns: Sequence[str]) -> dict[str, str]:
    """The kinds of columns by all of their numbers in files of text: double only if that rounds none.

    Reads the files once more. Args: places: each file by its name. Raises: UsageError.
    """
    widths = dict.fromkeys(columns, (0, 0))
    rounded: set[str] = set()
    for name, path in places.items() if columns else ():
        for column, values in _number_texts(path, name, columns):
            (before, behind), is_rounded = text.rounded_width(values)
            widths[column] = max(widths[column][0], before), max(widths[column][1], behind)
            rounded |= {column} if is_rounded else set()
    return {column: text.decimal_kind(widths[column]) if column in rounded else "double" for column in columns}


def has_numbers(path: Path, name: str, column: str) -> bool:
    """Whether a column of a JSON lines file, which is read as text, is of numbers. Raises: UsageError."""
    return any(len(values) for _, values in jsonlines.number_texts(path, name, [column]))


def _number_texts(path: Path, name: str, columns: Sequence[str]) -> Iterator[tuple[str, pa.Array[Any]]]:
    if format_of(name) == "jsonl":
        yield from jsonlines.number_texts(path, name, columns)
        return
    for batch in _batches(path, name):
        yield from ((column, batch.column(column)) for column in columns if column in batch.schema.names)


def _read_csv(path: Path, name: str, kinds: Mapping[str, str]) -> pa.Table:
    raw = pa.Table.from_batches(list(_batches(path, name)))
    columns: dict[str, Any] = {}
    for column in raw.column_names:
        kind = kinds.get(column) or text.kind_of(raw[column])
        columns[column] = text.cast(raw[column], kind)
    return pa.table(columns)


def _unique(names: list[str], name: str) -> None:
    if "" in names:
        raise UsageError(f"{name} has a column without a name", hint="give it one")
    twice = next((column for index, column in enumerate(names) if column in names[:index]), None)
    if twice is not None:
        raise UsageError(f"{name} has two columns named {twice!r}", hint="rename one of them")
