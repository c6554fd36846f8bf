"""JSON lines as a table in which no number is rounded.

Arrow reads a number with a fraction, and one beyond 64 bits, as a double. Where that would change a number, its
column is decimal, or text where 38 digits are too few, as in a CSV (`text`). Nearly all files hold no such number:
a pass over the bytes looks at those of 16 digits and more, and only where one of them may be another as a double is
the file read number by number. It refuses nothing but what Arrow refuses.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.identity import JSON
from noria.core.lazy import lazy
from noria.data.forms import text
from noria.data.forms.opening import compression, open_text, openable, reason

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")
pajson = lazy("pyarrow.json")

__all__ = ["long_columns", "number_texts", "read"]

_BLOCK_BYTES = 16 * 1024 * 1024
_SCAN_BYTES = 4 * 1024 * 1024
_LONG = text.EXACT_DIGITS + 1
_EXACT_WHOLE = 1 << 53
_LEAST_LONG = 10**text.EXACT_DIGITS
"""The least whole number of so many digits."""
_NUMERALS = bytes(48 if byte in b"0123456789." else 32 for byte in range(256))
_BEFORE = list(b":,[- \t\r\n")
"""What may stand before a number: not a quotation mark."""
_BLANKS = re.compile(r"[ \t\r\n]*")
_CONSTANTS = frozenset({"NaN", "Infinity", "-Infinity"})
"""Arrow takes them as numbers, though they are no JSON. No decimal holds them: beside exact numbers they are null."""
_NUMBERS = ("int64", "double")
_TOO_BIG = "too big to be stored in double"
"""What Arrow says of such a number wherever it stands. Which row that is it counts by blocks, so it is not told."""

Leaf = tuple[str | None, ...]
"""Where a number stands in an object: keys, and None for the items of a list."""


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def read(path: Path, name: str, kinds: Mapping[str, str]) -> pa.Table:
    """The rows of a JSON lines file; texts that are all dates, or all times, are that, as in a CSV.

    Arrow's own reading makes a timestamp of seconds of both, and a text of what has fractions or a zone.

    Args:
        kinds: the types of columns where they are known already: a column of numbers is read as the double, decimal
            or text that is said here.
    Raises: UsageError if the file is no JSON lines, or a number does not fit a decimal that is said.
    """
    try:
        table = _parsed(path, name)
        guessed = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
        if guessed:
            # a stated column comes first: put all of them where the first object has them
            table = _parsed(path, name, pa.schema([(column, pa.string()) for column in guessed])).select(
                table.column_names
            )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if _TOO_BIG in str(error):
            raise UsageError(
                f"{name} holds a number of 1.8e308 or more, which no double holds",
                hint='write these numbers as text ("1e309"), or leave them out',
            ) from error
        raise UsageError(
            f"{name} is not JSON lines: {reason(error)}", hint="one JSON object a line, each with the same keys"
        ) from error
    exact = _exact_leaves(path, name, table, kinds)
    if exact:
        table = _exact(path, name, table, exact)
    for place, field in enumerate(table.schema):
        values = table.column(place)
        if pa.types.is_string(field.type) and (field.name,) not in exact and not text.has_missing(values):
            kind = text.kind_of(values)
            if kind.startswith(("date32", "timestamp")):
                table = table.set_column(place, field.name, text.cast(values, kind))
    return table


def long_columns(table: pa.Table) -> tuple[str, ...]:
    """The columns of whole numbers of which a double does not hold each."""
    return tuple(
        field.name
        for place, field in enumerate(table.schema)
        if pa.types.is_int64(field.type) and _count_beyond([table.column(place)], _EXACT_WHOLE + 1)
    )


def number_texts(path: Path, name: str, columns: Sequence[str]) -> Iterator[tuple[str, pa.Array[Any]]]:
    """The numbers of columns as they are written, of those that the file has. Raises: UsageError."""
    for leaf, written in _texts(path, name, {(column,) for column in columns}).items():
        yield str(leaf[0]), pa.array(written, pa.string())


def _parsed(path: Path, name: str, schema: pa.Schema | None = None) -> pa.Table:
    with pa.input_stream(openable(path), compression=compression(name)) as stream:
        return _read(stream, schema)


def _read(stream: Any, schema: pa.Schema | None) -> pa.Table:
    options = pajson.ParseOptions(explicit_schema=schema) if schema is not None and len(schema) else None
    rows: pa.Table = pajson.read_json(
        stream, read_options=pajson.ReadOptions(block_size=_BLOCK_BYTES), parse_options=options
    )
    return rows


def _exact_leaves(path: Path, name: str, table: pa.Table, kinds: Mapping[str, str]) -> dict[Leaf, str]:
    """The numbers that must not be doubles, by their place: a decimal, or "string"."""
    exact: dict[Leaf, str] = {}
    open_leaves: set[Leaf] = set()
    for field in table.schema:
        known, own = kinds.get(field.name, ""), str(field.type)
        if known == own:
            continue
        if own in _NUMBERS and (text.is_decimal(known) or known == "string"):
            exact[field.name,] = known
        elif not (own == "double" and known == "double"):
            open_leaves |= {where for where, kind in _leaves(field.type, (field.name,)) if kind == pa.float64()}
    if open_leaves and _may_round(path, name, table):
        for where, written in _texts(path, name, open_leaves).items():
            width, is_rounded = text.rounded_width(pa.array(written, pa.string()))
            if is_rounded:
                exact[where] = text.decimal_kind(width)
    return exact


def _leaves(kind: pa.DataType, where: Leaf) -> Iterator[tuple[Leaf, pa.DataType]]:
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            field = kind.field(number)
            yield from _leaves(field.type, (*where, field.name))
    elif pa.types.is_list(kind):
        yield from _leaves(kind.value_type, (*where, None))
    else:
        yield where, kind


def _may_round(path: Path, name: str, table: pa.Table) -> bool:
    """Whether the file may hold a number that is another one as a double; False only if it holds none.

    Long whole numbers are counted: as many as the columns of whole numbers hold are theirs.
    """
    has_zero = any(pc.any(pc.equal(values, 0)).as_py() for values in _arrays(table, "double"))
    whole = 0
    for block in _blocks(path, name):
        if has_zero and _has_tiny(block):
            return True
        found = _long_numbers(block)
        is_whole = pc.invert(pc.match_substring_regex(found, "[.eE]"))
        whole += pc.sum(is_whole).as_py() or 0
        if _rounds(found.filter(pc.invert(is_whole))):
            return True
    return whole != _count_beyond(list(_arrays(table, "int64")), _LEAST_LONG)


def _arrays(table: pa.Table, kind: str) -> Iterator[Any]:
    for column in table.columns:
        for chunk in column.chunks:
            yield from _leaf_arrays(chunk, kind)


def _leaf_arrays(values: Any, kind: str) -> Iterator[Any]:
    if pa.types.is_struct(values.type):
        for child in values.flatten():
            yield from _leaf_arrays(child, kind)
    elif pa.types.is_list(values.type):
        yield from _leaf_arrays(values.flatten(), kind)
    elif str(values.type) == kind:
        yield values


def _count_beyond(arrays: Sequence[Any], least: int) -> int:
    """How many whole numbers are so large, or so far below 0."""
    beyond = (pc.or_(pc.greater_equal(values, least), pc.less_equal(values, -least)) for values in arrays)
    return sum(pc.sum(each).as_py() or 0 for each in beyond)


def _blocks(path: Path, name: str) -> Iterator[bytes]:
    """The file in parts that end with a line, so that no number is cut; between blanks."""
    with open_text(path, name) as stream:
        rest: list[bytes] = []
        while part := stream.read(_SCAN_BYTES):
            end = part.rfind(b"\n") + 1
            if end:
                yield b"".join([b"\n", *rest, part[:end]]) + b"\n"
                rest = []
            rest.append(part[end:])
        yield b"".join([b"\n", *rest]) + b"\n"


def _has_tiny(block: bytes) -> bool:
    """Whether there is an exponent below -99: such a number may be too small for a double, however short it is."""
    content = np.frombuffer(block, np.uint8)
    signs = np.flatnonzero(content == ord("-"))
    signs = signs[(signs < len(content) - 3) & ((content[signs - 1] | 32) == ord("e"))]
    digits = [(content[signs + place] >= 48) & (content[signs + place] <= 57) for place in (1, 2, 3)]
    return bool((digits[0] & digits[1] & digits[2]).any())


def _long_numbers(block: bytes) -> pa.Array[Any]:
    """What may be a number of 16 digits or more, without its sign, as text; what stands in a text mostly not."""
    numerals = block.translate(_NUMERALS)
    if b"0" * _LONG not in numerals:
        return pa.array([], pa.string())
    is_numeral = np.frombuffer(numerals, np.uint8) == 48
    edges = np.flatnonzero(is_numeral[1:] != is_numeral[:-1]) + 1  # a block begins and ends with a blank
    starts, ends = edges[0::2], edges[1::2]
    content = np.frombuffer(block, np.uint8)
    chosen = (ends - starts >= _LONG) & np.isin(content[starts - 1], _BEFORE)
    starts, ends = starts[chosen], ends[chosen]
    goes_on = (content[ends] | 32) == ord("e")
    while goes_on.any():
        ends = ends + goes_on
        following = content[ends]
        goes_on &= ((following >= 48) & (following <= 57)) | (following == ord("+")) | (following == ord("-"))
    if not len(starts):
        return pa.array([], pa.string())
    offsets = np.stack([starts, ends], axis=1).ravel().astype(np.int32)  # of a number, of what is up to the next, …
    parts = pa.Array.from_buffers(
        pa.binary(), len(offsets) - 1, [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(block)]
    )
    return parts.take(pa.array(np.arange(0, len(offsets) - 1, 2), pa.int64())).cast(pa.string())


def _rounds(numbers: pa.Array[Any]) -> bool:
    """Whether one of what looks like numbers is another one as a double; True too for one that is none."""
    if not len(numbers):
        return False
    try:
        return text.rounds(pc.unique(numbers))
    except (pa.ArrowInvalid, ValueError):
        return True  # the digits of a text, such as 1.2.3: the numbers are read one by one


def _texts(path: Path, name: str, leaves: Collection[Leaf]) -> dict[Leaf, list[str]]:
    """The numbers at these places as they are written."""
    found: dict[Leaf, list[str]] = {leaf: [] for leaf in leaves}

    def note(leaf: Leaf, number: _Number) -> _Number:
        if leaf in found and number not in _CONSTANTS:
            found[leaf].append(str(number))
        return number

    for row in _objects(path, name):
        _mapped(row, (), note)
    return found


def _exact(path: Path, name: str, table: pa.Table, exact: Mapping[Leaf, str]) -> pa.Table:
    """The table again, its exact numbers read from their texts."""

    def written(leaf: Leaf, number: _Number) -> JSON:
        if leaf in exact:
            return None if number in _CONSTANTS else str(number)
        return int(number) if number.lstrip("-").isdecimal() else float(number)

    rewritten = io.StringIO()
    for row in _objects(path, name):
        json.dump(_mapped(row, (), written), rewritten, ensure_ascii=False)
        rewritten.write("\n")
    touched = {leaf[0] for leaf in exact}
    texts = dict.fromkeys(exact, "string")
    as_text = pa.schema([(field.name, _retyped(field.type, (field.name,), texts)) for field in table.schema])
    try:
        read = _read(io.BytesIO(rewritten.getvalue().encode()), as_text).select(table.column_names)
        for place, field in enumerate(table.schema):
            if field.name in touched:
                values = read.column(place).cast(_retyped(field.type, (field.name,), exact))
                read = read.set_column(place, field.name, values)
    except pa.ArrowInvalid as error:
        raise UsageError(
            f"a number of {name} does not fit the type of its column",
            hint="the data set has that type: mend the value, or add the table as another data set",
        ) from error
    return read


def _retyped(kind: pa.DataType, where: Leaf, exact: Mapping[Leaf, str]) -> pa.DataType:
    if pa.types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return pa.struct([(f.name, _retyped(f.type, (*where, f.name), exact)) for f in fields])
    if pa.types.is_list(kind):
        return pa.list_(_retyped(kind.value_type, (*where, None), exact))
    return text.arrow_type(exact[where]) if where in exact else kind


def _mapped(value: JSON, where: Leaf, change: Callable[[Leaf, _Number], JSON]) -> JSON:
    if isinstance(value, _Number):
        return change(where, value)
    if isinstance(value, dict):
        return {key: _mapped(each, (*where, key), change) for key, each in value.items()}
    if isinstance(value, list):
        return [_mapped(each, (*where, None), change) for each in value]
    return value


def _objects(path: Path, name: str) -> Iterator[JSON]:
    """Every row, its numbers as they are written."""
    decoder = json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_Number)
    try:
        with open_text(path, name) as stream:
            content = stream.read().decode("utf-8-sig")
        place = _after_blanks(content, 0)
        while place < len(content):
            row, end = decoder.raw_decode(content, place)
            yield row
            place = _after_blanks(content, end)
    except ValueError as error:
        raise UsageError(f"{name} is not JSON lines", hint="one JSON object a line, each with the same keys") from error


def _after_blanks(content: str, place: int) -> int:
    found = _BLANKS.match(content, place)
    assert found is not None, "it matches nothing too"
    return found.end()
