"""Request rows, checked and typed: from JSON-like mappings to the exact columns of training.

A model's inputs are fields: a column as people see it, and the pandas dtype it had in training.
Rows are checked column by column with set operations, so 64 rows of 20 columns cost about as
much as 20 of 1 column; a row that does not fit gives one error that names the column, what was
expected and what came, never the value itself. Nothing here knows a model.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from noria.core.clock import instant
from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.core.schema import Column, ColumnType, Signature

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np, pd = lazy("numpy"), lazy("pandas")

__all__ = ["Columns", "Field", "RowRefused", "Rows", "fields_of"]

Columns: TypeAlias = "dict[str, list[Any]]"
"""Checked values by column: JSON values in request order, None for missing."""

_NONE = type(None)
_WIDTH = re.compile(r"(u?)(int|float)(\d+)(?:\[pyarrow\])?")
_EXPECTED: Mapping[ColumnType, str] = {
    "bool": "true or false",
    "int64": "a whole number",
    "float64": "a number",
    "text": "a text",
    "category": "a text",
    "timestamp": "an ISO 8601 time",
    "date": "an ISO 8601 date",
    "decimal": "a number or a decimal text",
    "bytes": "bytes",
}


class RowRefused(UsageError):
    """A request row does not fit the model's signature. `column` is empty when it is not about one."""

    code = "row-refused"

    def __init__(self, message: str, *, column: str = "", row: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.column = column
        self.row = row


@frozen
class Field:
    """One input of a model: the column, the pandas dtype of training, and its category levels.

    `levels` are JSON values in the order of training (`column.levels` are the same as text);
    `strict` means that a level unseen in training is refused, because the model cannot take it;
    `nan` means that a column of objects marks the missing by NaN, not by None: encoders tell them apart.
    """

    column: Column
    dtype: str
    levels: tuple[Any, ...] = ()
    ordered: bool = False
    strict: bool = False
    nan: bool = False

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.name


def fields_of(frame: pd.DataFrame, *, names: Sequence[str]) -> tuple[Field, ...]:
    """The fields that the named columns of a frame are, in that order. Nullable if the dtype can hold null.

    Raises: UsageError naming a column whose values are of no type that a request can carry.
    """
    return tuple(_field(frame[name], str(name)) for name in names)


def _field(series: pd.Series[Any], name: str) -> Field:
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        levels = tuple(_plain(level) for level in dtype.categories)
        if not all(isinstance(level, str | int | float | bool) for level in levels):
            raise UsageError(f"column {name}: category levels must be texts or numbers")
        column = Column(name, "category", nullable=True, levels=tuple(str(level) for level in levels))
        return Field(column, "category", levels, bool(dtype.ordered))
    kind, nullable = _kind(series, name)
    nan = str(dtype) == "object" and any(isinstance(value, float) for value in series[series.isna()].tolist())
    return Field(Column(name, kind, nullable=nullable), str(dtype), nan=nan)


def _kind(series: pd.Series[Any], name: str) -> tuple[ColumnType, bool]:
    types, dtype = pd.api.types, series.dtype
    is_numpy = isinstance(dtype, np.dtype)
    has_null = bool(series.isna().any())
    if types.is_bool_dtype(dtype):
        return "bool", not is_numpy or has_null
    if types.is_integer_dtype(dtype):
        return "int64", not is_numpy
    if types.is_float_dtype(dtype):
        return "float64", True
    if types.is_datetime64_any_dtype(dtype):
        return "timestamp", True
    found = types.infer_dtype(series, skipna=True)
    kinds: dict[str, ColumnType] = {
        "string": "text",
        "empty": "text",
        "boolean": "bool",
        "integer": "int64",
        "floating": "float64",
        "mixed-integer-float": "float64",
        "date": "date",
        "datetime": "timestamp",
        "decimal": "decimal",
    }
    if found not in kinds:
        raise UsageError(
            f"column {name} of dtype {dtype} holds {found} values, which a request row cannot carry",
            hint="turn it into numbers, texts, times or categories before the model",
        )
    return kinds[found], True


class Rows:
    """The checker and builder of one model's inputs. Safe between threads."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self._names = frozenset(field.name for field in fields)
        self._accepted = tuple((field.name, field, _accepted(field)) for field in fields)
        self._convert = {field.name: _converter(field) for field in fields if field.column.type in _CONVERTED}
        self._ranges = {field.name: _range(field) for field in fields if field.column.type in ("int64", "float64")}
        self._known = {field.name: frozenset(field.levels) for field in fields if field.strict}
        self._slow = (*self._convert, *self._known)
        self._quick: tuple[tuple[str, frozenset[type], float | None, float | None], ...] = tuple(
            (name, types, *self._ranges.get(name, (None, None))) for name, _, types in self._accepted
        )
        self._categories: dict[str, tuple[pd.CategoricalDtype, dict[Any, int]]] = {}

    @property
    def signature(self) -> Signature:
        """The inputs as columns, and the one output: a score."""
        return Signature(tuple(f.column for f in self.fields), (Column("score", "float64"),))

    def check(self, row: Mapping[str, Any]) -> None:
        """Refuse a row that does not fit. About 0.1 µs a column. Raises: RowRefused naming the column."""
        if type(row) is not dict or row.keys() != self._names:
            self.columns((row,))
            return
        for name, accepted, low, high in self._quick:
            value = row[name]
            if type(value) not in accepted or (
                low is not None and high is not None and value is not None and not low <= value <= high
            ):
                self.columns((row,))  # refuses, or takes what only looks wrong, such as 3.0 for 3
                return
        for name in self._slow:
            if row[name] is not None:
                self.columns((row,))
                return

    def columns(self, rows: Sequence[object]) -> Columns:
        """The rows as checked columns; null for missing. Raises: RowRefused for the first misfit."""
        names = self._names
        mappings = cast("Sequence[Mapping[str, Any]]", rows)
        for index, row in enumerate(rows):
            if not isinstance(row, Mapping) or row.keys() != names:
                raise self._misfit(row, index)
        found: Columns = {}
        for name, field, accepted in self._accepted:
            values = [row[name] for row in mappings]
            if not accepted.issuperset(map(type, values)):
                values = [self._value(field, accepted, value, index) for index, value in enumerate(values)]
            if name in self._ranges:
                _bounded(field, self._ranges[name], values)
            convert = self._convert.get(name)
            if convert is not None:
                values = [None if v is None else _converted(field, convert, v, i) for i, v in enumerate(values)]
            known = self._known.get(name)
            if known is not None and not known.issuperset(values):
                self._refuse_level(field, known, values)
            found[name] = values
        return found

    def frame(self, columns: Columns) -> pd.DataFrame:
        """Checked columns as a frame with the dtypes of training."""
        return pd.DataFrame({field.name: self._array(field, columns[field.name]) for field in self.fields})

    def conformed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The model's columns of a frame, in its order and with the dtypes of training.

        A column that already has its dtype is passed as it is; another is converted value by
        value under the same rules as request rows. Raises: RowRefused naming the column.
        """
        made: dict[str, Any] = {}
        for field in self.fields:
            if field.name not in frame.columns:
                raise RowRefused(f"column {field.name} is missing: expected {_expected(field)}", column=field.name)
            series = frame[field.name]
            made[field.name] = series if _has_dtype(series, field) else self._converted(field, series)
        return pd.DataFrame(made, index=frame.index)

    def _converted(self, field: Field, series: pd.Series[Any]) -> Any:
        single = Rows((field,))
        rows = [{field.name: _jsonable(value)} for value in series.tolist()]
        return self._array(field, single.columns(rows)[field.name])

    def _array(self, field: Field, values: list[Any]) -> Any:
        """One column with its dtype of training. An int column of numpy stays int: its nulls were refused."""
        kind, dtype = field.column.type, field.dtype
        if kind == "category":
            if field.name not in self._categories:
                codes = {level: code for code, level in enumerate(field.levels)}
                self._categories[field.name] = (_category(field), codes)
            found, codes = self._categories[field.name]
            return pd.Categorical.from_codes([codes.get(value, -1) for value in values], dtype=found)
        if kind == "timestamp":
            return _times(values, dtype)
        if dtype == "object":
            made = np.empty(len(values), dtype=object)
            made[:] = [math.nan if value is None else value for value in values] if field.nan else values
            return pd.Series(made, dtype="object")
        exact = cast("Any", dtype)
        return np.array(values, dtype=exact) if _is_numpy(dtype) else pd.array(values, dtype=exact)

    def plain(self, frame: pd.DataFrame) -> list[dict[str, Any]]:
        """Rows of a frame as JSON values that `columns` accepts: texts for times, None for missing."""
        names = [field.name for field in self.fields]
        columns = [[_jsonable(value) for value in frame[name].tolist()] for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def _misfit(self, row: object, index: int) -> RowRefused:
        if not isinstance(row, Mapping):
            return RowRefused(f"a row must be an object, not {_word(row)}", row=index)
        missing = [field for field in self.fields if field.name not in row]
        extra = sorted(str(name)[:100] for name in row.keys() - self._names)
        told = []
        if len(missing) == 1:
            told.append(f"column {missing[0].name} is missing: expected {_expected(missing[0])}")
        elif missing:
            told.append(f"columns {_listed([field.name for field in missing])} are missing")
        if extra:
            verb = "is no input" if len(extra) == 1 else "are no inputs"
            told.append(f"column{'s' * (len(extra) > 1)} {_listed(extra)} {verb} of this model")
        names = _listed([field.name for field in self.fields])
        beside = (
            "; the request's id, key and time (at) stand beside the row" if extra else "; what is not known is null"
        )
        hint = f"inputs: {names}{beside}"
        column = missing[0].name if missing else extra[0]
        return RowRefused("; ".join(told), column=column, row=index, hint=hint)

    def _value(self, field: Field, accepted: frozenset[type], value: Any, index: int) -> Any:
        """One value that is not plainly of an accepted type: unwrap numpy's, take 3.0 for 3, or refuse."""
        if type(value) in accepted:
            return value
        plain = _plain(value)
        if type(plain) in accepted:
            return plain
        if type(plain) is float and int in accepted and plain.is_integer():
            return int(plain)
        word = "null" if plain is None else _word(plain)
        raise RowRefused(f"column {field.name} must be {_expected(field)}, not {word}", column=field.name, row=index)

    def _refuse_level(self, field: Field, known: frozenset[Any], values: Sequence[Any]) -> None:
        for index, value in enumerate(values):
            if value is not None and value not in known:
                raise RowRefused(
                    f"column {field.name} holds a level that was not in training, and this model cannot take one",
                    column=field.name,
                    row=index,
                    hint=f"levels: {_listed(sorted(map(str, known)))}",
                )


_CONVERTED = frozenset({"timestamp", "date", "decimal"})


def _accepted(field: Field) -> frozenset[type]:
    null = {_NONE} if field.column.nullable else set()
    kinds: dict[ColumnType, set[type]] = {
        "bool": {bool},
        "int64": {int},
        "float64": {float, int},
        "text": {str},
        "category": _level_types(field),
        "timestamp": {str, datetime.datetime},
        "date": {str, datetime.date},
        "decimal": {int, float, str, decimal.Decimal},
        "bytes": {bytes},
    }
    return frozenset(kinds[field.column.type] | null)


def _level_types(field: Field) -> set[type]:
    found = {type(level) for level in field.levels} or {str}
    return found | {int, float} if found & {int, float} else found


def _range(field: Field) -> tuple[float, float]:
    """The least and greatest number that the column's machine type holds."""
    found = _WIDTH.fullmatch(field.dtype.lower())
    sign, kind, bits = (found[1], found[2], int(found[3])) if found else ("", field.column.type[:-2], 64)
    if kind == "float":
        top = float(np.finfo(f"float{bits}").max)
        return -top, top
    return (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _bounded(field: Field, bounds: tuple[float, float], values: list[Any]) -> None:
    """Refuse what the column's machine type cannot hold; NaN becomes None. A few passes in C when all is well."""
    present = [value for value in values if value is not None] if field.column.nullable else values
    if not present:
        return
    is_whole = field.column.type == "int64"
    try:
        is_fine = is_whole or math.isfinite(sum(present))
    except OverflowError:
        is_fine = False
    if is_fine and bounds[0] <= min(present) and max(present) <= bounds[1]:
        return
    for index, value in enumerate(values):
        if value is not None and value != value and field.column.nullable:
            values[index] = None
        elif value is not None and not bounds[0] <= value <= bounds[1]:
            word = "a whole number" if is_whole else "a finite number"
            raise RowRefused(
                f"column {field.name} must be {word} that {field.dtype} can hold", column=field.name, row=index
            )


def _converter(field: Field) -> Callable[[Any], Any]:
    if field.column.type == "timestamp":
        return lambda value: instant(value) if isinstance(value, str) else _utc(value)
    if field.column.type == "date":
        return lambda value: datetime.date.fromisoformat(value) if isinstance(value, str) else value
    return lambda value: value if isinstance(value, decimal.Decimal) else _finite_decimal(value)


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)


def _finite_decimal(value: Any) -> decimal.Decimal:
    found = decimal.Decimal(str(value))
    if not found.is_finite():
        raise ValueError("not finite")
    return found


def _converted(field: Field, convert: Callable[[Any], Any], value: Any, index: int) -> Any:
    try:
        return convert(value)
    except (ValueError, OverflowError, decimal.InvalidOperation) as error:
        raise RowRefused(
            f"column {field.name} must be {_expected(field)}, and this text is none", column=field.name, row=index
        ) from error


def _category(field: Field) -> pd.CategoricalDtype:
    index = pd.Index(list(field.levels), dtype=None if field.levels else "str")
    return pd.CategoricalDtype(index, ordered=field.ordered)


def _times(values: list[Any], dtype: str) -> Any:
    texts = pd.to_datetime(pd.Series(values, dtype="object"), utc=True)
    if dtype == "object":
        return texts.dt.to_pydatetime()
    zone = pd.api.types.pandas_dtype(dtype)
    if isinstance(zone, pd.DatetimeTZDtype):
        return texts.dt.tz_convert(zone.tz).astype(zone)
    return texts.dt.tz_localize(None).astype(cast("Any", dtype))


def _has_dtype(series: pd.Series[Any], field: Field) -> bool:
    if field.column.type != "category":
        return str(series.dtype) == field.dtype
    dtype = series.dtype
    return (
        isinstance(dtype, pd.CategoricalDtype)
        and bool(dtype.ordered) == field.ordered
        and tuple(dtype.categories) == field.levels
    )


def _is_numpy(dtype: str) -> bool:
    return dtype.startswith(("int", "uint", "float", "bool")) and not dtype.endswith("]") and dtype != "boolean"


def _plain(value: Any) -> Any:
    """A numpy or pandas scalar as Python's own; pandas' marks of the missing as None."""
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value


def _jsonable(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    return value


def _expected(field: Field) -> str:
    return _EXPECTED[field.column.type] + (" or null" if field.column.nullable else "")


def _word(value: Any) -> str:
    words = {bool: "a boolean", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return words.get(type(value), "an object" if isinstance(value, Mapping) else type(value).__name__)


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
