"""Which Arrow type a column of a database has, and its values in it, exactly."""

from __future__ import annotations

import datetime
import decimal
import re
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
psycopg = lazy("psycopg")

__all__ = ["Column", "Look", "declared", "driver_errors", "is_out_of_reach", "keep_text", "of_postgres"]

_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DECIMAL = re.compile(r"(?:DECIMAL|NUMERIC)\s*(?:\((\d+)(?:\s*,\s*(\d+))?\))?", re.IGNORECASE)
_MOST_DIGITS = 76
_SQLITE_OUT_OF_REACH = ("unable to open", "locked", "disk I/O")
_PG_TEXT = ("json", "jsonb", "interval", "money", "inet", "cidr", "timetz", "xml", "tsvector", "bit", "varbit")
"""Postgres types whose exact form is their text: Python's values of them lose digits or order."""


@frozen
class Column:
    """A column of a result: its name, Arrow type, and how a value becomes one that Arrow takes.

    `is_open` while the database has not said the type; `wish` is what a declaration asks for.
    """

    name: str
    kind: Any
    is_open: bool = False
    wish: str = ""
    convert: Callable[[Any], Any] | None = None

    def array(self, values: list[Any], first_row: int) -> Any:
        """The values as an Arrow array. Raises: UsageError naming column and row of one that does not fit."""
        convert = self.convert
        try:
            found = values if convert is None else [None if value is None else convert(value) for value in values]
            return pa.array(found, type=self.kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError, decimal.InvalidOperation) as error:
            row = first_row + self._bad(values)
            raise UsageError(
                f"column {self.name!r} holds a value that is no {self.kind}, in row {row + 1:,}",
                hint="cast it in a query, such as CAST(x AS TEXT)",
            ) from error

    def _bad(self, values: list[Any]) -> int:
        for place, value in enumerate(values):
            try:
                pa.array([value if self.convert is None or value is None else self.convert(value)], type=self.kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError, decimal.InvalidOperation):
                return place
        return 0


class Look:
    """What every value of a column says together, when the database does not say its type."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._kinds: set[type] = set()
        self._whole = self._scale = 0
        self._is_large = False
        self._forms = {"date": True, "time": True, "zoned": True, "flag": True}
        self._is_decimal = True

    def note(self, values: Sequence[Any]) -> None:
        """The next values of the column."""
        wish = self._column.wish
        for value in values:
            if value is None:
                continue
            kind = type(value)
            self._kinds.add(kind)
            if kind is decimal.Decimal or wish == "decimal":
                self._note_digits(value)
            elif kind is str and wish in ("date", "time"):
                self._note_form(value)
            elif kind is int:
                self._forms["flag"] &= value in (0, 1)
                self._is_large |= abs(value) > 2**53

    def decided(self) -> Column:
        """The column with its type. Raises: UsageError if its values have no one type."""
        kinds, wish = self._kinds, self._column.wish
        if not kinds:
            return replace(self._column, kind=_EMPTY.get(wish, pa.null)(), is_open=False)
        if decimal.Decimal in kinds or (wish == "decimal" and self._is_decimal and kinds <= {int, float, str}):
            return self._as_decimal()
        if wish == "flag" and kinds == {int} and self._forms["flag"]:
            return replace(self._column, kind=pa.bool_(), is_open=False, convert=bool)
        if kinds == {str} and wish in ("date", "time"):
            return self._as_time()
        if kinds == {int, float} and not self._is_large:
            return replace(self._column, kind=pa.float64(), is_open=False, convert=float)
        if len(kinds) == 1 and (made := _PLAIN.get(next(iter(kinds)))):
            return replace(self._column, kind=made(), is_open=False)
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UsageError(
            f"column {self._column.name!r} holds values of several types: {names}",
            hint="cast it in a query, such as CAST(x AS TEXT)",
        )

    def _as_decimal(self) -> Column:
        digits = self._whole + self._scale
        wanted = self._column.kind  # (precision, scale) as declared
        if isinstance(wanted, tuple) and wanted[1] >= self._scale and wanted[0] - wanted[1] >= self._whole:
            precision, scale = wanted
        else:
            precision, scale = max(digits, 1), self._scale
        if not self._is_decimal or precision > _MOST_DIGITS:
            raise UsageError(
                f"column {self._column.name!r} holds decimals that no exact type can (NaN, or {digits} digits)",
                hint="cast it in a query, such as CAST(x AS DOUBLE PRECISION) or CAST(x AS TEXT)",
            )
        kind = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
        return replace(self._column, kind=kind, is_open=False, convert=_exact)

    def _as_time(self) -> Column:
        if self._forms["date"]:
            return replace(self._column, kind=pa.date32(), is_open=False, convert=datetime.date.fromisoformat)
        if self._forms["zoned"]:
            kind = pa.timestamp("us", tz="UTC")
            return replace(self._column, kind=kind, is_open=False, convert=_moment)
        if self._forms["time"]:
            return replace(
                self._column, kind=pa.timestamp("us"), is_open=False, convert=datetime.datetime.fromisoformat
            )
        return replace(self._column, kind=pa.string(), is_open=False)

    def _note_form(self, value: str) -> None:
        found = _TIME.fullmatch(value)
        self._forms["date"] &= bool(_DATE.fullmatch(value))
        self._forms["time"] &= bool(found) and not (found and found[3])
        self._forms["zoned"] &= bool(found and found[3])

    def _note_digits(self, value: Any) -> None:
        try:
            exact = _exact(value)
            _, digits, exponent = exact.as_tuple()
        except (decimal.InvalidOperation, ValueError, TypeError):
            self._is_decimal = False
            return
        if not isinstance(exponent, int):  # NaN or infinite
            self._is_decimal = False
            return
        self._scale = max(self._scale, -exponent)
        self._whole = max(self._whole, len(digits) + exponent if any(digits) else 0)


def _moment(text: str) -> datetime.datetime:
    return _in_utc(datetime.datetime.fromisoformat(text))


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    """The same moment, said in UTC here: PYARROW_IGNORE_TIMEZONE, which pandera's import sets, drops offsets."""
    return moment.astimezone(datetime.UTC)


def declared(columns: Sequence[tuple[str, str]]) -> list[Column]:
    """Columns of SQLite: every one is open, since a declaration there is a wish that values may break."""
    found = []
    for name, text in columns:
        upper = text.upper()
        kind: Any = None
        wish = ""
        if match := _DECIMAL.match(upper):
            wish = "decimal"
            kind = (int(match[1]), int(match[2] or 0)) if match[1] else None
        elif "BOOL" in upper:
            wish = "flag"
        elif "TIMESTAMP" in upper or "DATETIME" in upper:
            wish = "time"
        elif upper == "DATE":
            wish = "date"
        elif "INT" in upper:
            wish = "int"
        elif any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
            wish = "text"
        elif any(word in upper for word in ("REAL", "FLOA", "DOUB")):
            wish = "real"
        found.append(Column(name, kind, is_open=True, wish=wish))
    return found


def of_postgres(description: Sequence[Any]) -> list[Column]:
    """Columns of Postgres by what the server says of them; only a numeric without a scale stays open."""
    return [_postgres_column(each) for each in description]


def keep_text(connection: Any) -> None:
    """Let psycopg hand over as text what Python's values would change."""
    loader = psycopg.types.string.TextLoader
    for name in _PG_TEXT:
        connection.adapters.register_loader(name, loader)


def driver_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What the drivers that are loaded raise, and these others."""
    found: list[type[Exception]] = [sqlite3.Error, *others]
    if "psycopg" in sys.modules:
        found.append(psycopg.Error)
    return tuple(found)


def is_out_of_reach(error: BaseException | None) -> bool:
    """Whether the database could not be asked, rather than refused what was asked."""
    if isinstance(error, sqlite3.OperationalError):
        return any(word in str(error) for word in _SQLITE_OUT_OF_REACH)
    return "psycopg" in sys.modules and isinstance(error, psycopg.OperationalError) and not error.sqlstate


def _postgres_column(each: Any) -> Column:
    info = psycopg.adapters.types.get(each.type_code)
    name = info.name if info is not None else ""
    is_list = info is not None and info.array_oid == each.type_code
    if name == "numeric":
        if each.precision is None:
            return Column(each.name, None, is_open=True) if not is_list else _unknown(each.name, "numeric[]")
        precision, scale = each.precision, each.scale
        kind = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
        if precision > _MOST_DIGITS or scale > precision or scale < 0:
            return Column(each.name, None, is_open=True)
        return Column(each.name, pa.list_(kind) if is_list else kind)
    made = _POSTGRES.get(name)
    if made is None:  # an enumeration, an address, a range: the text that psycopg gives, or that it stands for
        return Column(each.name, pa.string(), convert=str) if not is_list else _unknown(each.name, f"{name}[]")
    kind, convert = made()
    if is_list:
        return Column(each.name, pa.list_(kind), convert=_each(convert))
    return Column(each.name, kind, convert=convert)


def _unknown(name: str, kind: str) -> Column:
    raise UsageError(f"column {name!r} is {kind}, which cannot be read", hint="cast it in a query: CAST(x AS TEXT)")


def _each(convert: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if convert is None:
        return None
    one = convert
    return lambda values: [None if value is None else one(value) for value in values]


def _exact(value: Any) -> decimal.Decimal:
    """A number as the decimal that it is written as: 0.1 is 0.1, as its column was declared to hold."""
    if isinstance(value, decimal.Decimal):
        return value
    return decimal.Decimal(repr(value) if isinstance(value, float) else value)


_PLAIN: dict[type, Callable[[], Any]] = {
    int: pa.int64,
    float: pa.float64,
    str: pa.string,
    bytes: pa.binary,
    bool: pa.bool_,
}
_EMPTY: dict[str, Callable[[], Any]] = {
    "int": pa.int64,
    "real": pa.float64,
    "text": pa.string,
    "flag": pa.bool_,
    "date": pa.date32,
    "time": lambda: pa.timestamp("us"),
}
_POSTGRES: dict[str, Callable[[], tuple[Any, Callable[[Any], Any] | None]]] = {
    "bool": lambda: (pa.bool_(), None),
    "int2": lambda: (pa.int16(), None),
    "int4": lambda: (pa.int32(), None),
    "int8": lambda: (pa.int64(), None),
    "oid": lambda: (pa.int64(), None),
    "float4": lambda: (pa.float32(), None),
    "float8": lambda: (pa.float64(), None),
    "text": lambda: (pa.string(), None),
    "varchar": lambda: (pa.string(), None),
    "bpchar": lambda: (pa.string(), None),
    "name": lambda: (pa.string(), None),
    "bytea": lambda: (pa.binary(), bytes),
    "date": lambda: (pa.date32(), None),
    "time": lambda: (pa.time64("us"), None),
    "timestamp": lambda: (pa.timestamp("us"), None),
    "timestamptz": lambda: (pa.timestamp("us", tz="UTC"), _in_utc),
    "uuid": lambda: (pa.string(), str),
    **{name: lambda: (pa.string(), None) for name in _PG_TEXT},
}
