"""Types of columns that arrive as text (CSV), found without ever changing what a value says.

A column is a number only if every value is written as a number would be written back: "02139",
"+5" and "1e5" stay text, because an id or a code would be destroyed by reading them as numbers.
The type of a column over many files is the join of its types in each, so one odd file makes the
column text everywhere instead of giving it two meanings. Words such as NA mean "missing" only in
columns whose other values are numbers, times or booleans; in text they are text (Namibia).

A number that no double holds (12345678901234567.89) is never rounded: its column is decimal, or text where
38 digits are too few. Only texts of more than 15 digits can be such; what a program printed of a double,
however many digits it took, is that double.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = [
    "EXACT_DIGITS",
    "KINDS",
    "Width",
    "arrow_type",
    "cast",
    "decimal_kind",
    "has_missing",
    "is_day_or_month_first",
    "is_decimal",
    "is_long",
    "is_one_of_kinds",
    "join",
    "kind_of",
    "rounded_width",
    "rounds",
]

KINDS = ("null", "bool", "int64", "double", "date32[day]", "timestamp[us]", "timestamp[us, tz=UTC]", "string")
"""What a text column can turn out to be, named as Arrow names it; or a decimal, such as decimal128(20, 2)."""
Width = tuple[int, int]
"""The digits of decimals before the point, and behind it."""
EXACT_DIGITS = 15
"""A decimal of so many digits is the same again after it was a double (IEEE 754 binary64, DBL_DIG)."""
DECIMAL_DIGITS = 38
_DECIMAL = re.compile(r"decimal128\((\d+), (\d+)\)")

_MISSING = r"^\s*(NA|N/A|NaN|nan|null|NULL|None)?\s*$"
_NUMBER = r"-?(0|[1-9][0-9]*)"
_FORMS = {
    "bool": r"^\s*(true|false|True|False|TRUE|FALSE)\s*$",
    "int64": rf"^\s*{_NUMBER}\s*$",
    "double": rf"^\s*({_NUMBER}\.?|({_NUMBER}|-)?\.[0-9]+([eE][+-]?[0-9]+)?|{_NUMBER}[eE][+-][0-9]+)\s*$",
    "date32[day]": r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}\s*$",
    "timestamp[us]": r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?\s*$",
    "timestamp[us, tz=UTC]": (
        r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
        r"(Z|[+-][0-9]{2}:?[0-9]{2})\s*$"
    ),
}
_DAY_OR_MONTH_FIRST = r"^\s*[0-9]{1,2}[./-][0-9]{1,2}[./-]([0-9]{4}|[0-9]{2})([ T,].*)?$"
_INT64_DIGITS = 19
_WIDER = {("int64", "double"): "double", ("date32[day]", "timestamp[us]"): "timestamp[us]"}


def kind_of(values: pa.Array[Any] | pa.ChunkedArray[Any]) -> str:
    """The narrowest of `KINDS` that every value of a text column fits; "null" if all are missing."""
    found = pc.unique(values).drop_null()
    found = found.filter(pc.invert(pc.match_substring_regex(found, _MISSING)))
    if not len(found):
        return "null"
    for kind, form in _FORMS.items():
        if pc.match_substring_regex(found.slice(0, 64), form).false_count:
            continue
        if pc.match_substring_regex(found, form).false_count:
            continue
        try:
            typed = _convert(found, kind)
        except pa.ArrowInvalid:  # 2013-02-30, or a whole number beyond 64 bits: it has the form but no value
            if kind != "int64":
                return "string"
            return decimal_kind(_width(found)) if rounds(found) else "double"
        if kind == "double" and _is_rounded(found, typed):
            return decimal_kind(_width(found))
        return kind
    return "string"


def is_decimal(kind: str) -> bool:
    """Whether a kind is a decimal's."""
    return _DECIMAL.fullmatch(kind) is not None


def is_one_of_kinds(kind: str) -> bool:
    """Whether a text column can be of this kind."""
    return kind in KINDS or is_decimal(kind)


def decimal_kind(width: Width) -> str:
    """The kind that holds numbers of such a width; "string" if none does."""
    digits = max(sum(width), 1)
    return f"decimal128({digits}, {width[1]})" if digits <= DECIMAL_DIGITS else "string"


def is_long(values: pa.Array[Any] | pa.ChunkedArray[Any]) -> bool:
    """Whether a text column may hold whole numbers that a double would round."""
    return bool((pc.max(pc.binary_length(values)).as_py() or 0) > EXACT_DIGITS)


def rounded_width(values: pa.Array[Any] | pa.ChunkedArray[Any]) -> tuple[Width, bool]:
    """The width of the numbers in a text column, and whether doubles would round one of them.

    Raises: pyarrow.ArrowInvalid if a value is no number.
    """
    found = pc.unique(values).drop_null()
    found = found.filter(pc.invert(pc.match_substring_regex(found, _MISSING)))
    is_rounded = rounds(found)
    return _width(found), is_rounded


def rounds(numbers: pa.Array[Any]) -> bool:
    """Whether one of these numbers, as they are written, is another one as a double.

    Raises: pyarrow.ArrowInvalid if one is no number.
    """
    return _is_rounded(numbers, _convert(numbers, "double"))


def join(kinds: Iterable[str]) -> str:
    """The one type for values of all these kinds; "string" where nothing narrower holds both."""
    wide = "null"
    for kind in kinds:
        if kind == wide or kind == "null":
            continue
        joined = _joined_decimals(wide, kind) or _WIDER.get((wide, kind)) or _WIDER.get((kind, wide)) or "string"
        wide = kind if wide == "null" else joined
    return wide


def is_day_or_month_first(values: pa.Array[Any] | pa.ChunkedArray[Any]) -> bool:
    """Whether every text that is no word for "missing" is a date as people write it: 31/12/2020, 12-31-20, 31.12.2020.

    Which of the first two numbers is the month such a text does not say, and as texts they are not in order of time.
    """
    found = pc.unique(values).drop_null()
    found = found.filter(pc.invert(pc.match_substring_regex(found, _MISSING)))
    return bool(len(found)) and not pc.match_substring_regex(found, _DAY_OR_MONTH_FIRST).false_count


def has_missing(values: pa.Array[Any] | pa.ChunkedArray[Any]) -> bool:
    """Whether a text column holds empty text, or a word that means "missing" in a typed column."""
    return bool(pc.any(pc.match_substring_regex(pc.unique(values), _MISSING)).as_py())


def cast(values: pa.ChunkedArray[Any], kind: str) -> pa.ChunkedArray[Any]:
    """Text values as their kind. Empty text is null; in typed columns so are NA, NaN, null, None.

    Raises: pyarrow.ArrowInvalid if a value does not fit, which `kind_of` excludes.
    """
    if kind == "string":
        kept: pa.ChunkedArray[Any] = pc.if_else(pc.equal(values, ""), None, values)
        return kept
    missing = pc.match_substring_regex(values, _MISSING)
    if kind == "null":
        return pa.chunked_array([pa.nulls(len(values))])
    return _convert(pc.if_else(missing, pa.scalar(None, pa.string()), values), kind)


def first_misfit(values: pa.Array[Any], kind: str) -> int:
    """The number of the first text that is not of a kind, from 0, where there is one."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            cast(pa.chunked_array([values.slice(low, middle - low)]), kind)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def arrow_type(kind: str) -> pa.DataType:
    """The Arrow type of a kind."""
    found = _DECIMAL.fullmatch(kind)
    if found:
        return pa.decimal128(int(found[1]), int(found[2]))
    types: dict[str, pa.DataType] = {
        "null": pa.null(),
        "date32[day]": pa.date32(),
        "timestamp[us]": pa.timestamp("us"),
        "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
        "bool": pa.bool_(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "string": pa.string(),
    }
    return types[kind]


def _convert(values: pa.Array[Any] | pa.ChunkedArray[Any], kind: str) -> pa.ChunkedArray[Any]:
    trimmed = pc.utf8_trim_whitespace(values)
    if kind == "bool":
        trimmed = pc.utf8_lower(trimmed)
    typed: pa.ChunkedArray[Any] = pc.cast(trimmed, arrow_type(kind))
    return typed


def _joined_decimals(one: str, other: str) -> str:
    """The decimal that holds two kinds, of which one is a decimal and none a double; "" for others."""
    if not (is_decimal(one) or is_decimal(other)):
        return ""
    widths = []
    for kind in (one, other):
        found = _DECIMAL.fullmatch(kind)
        if found is None and kind != "int64":
            return ""
        widths.append((int(found[1]) - int(found[2]), int(found[2])) if found else (_INT64_DIGITS, 0))
    return decimal_kind((max(widths[0][0], widths[1][0]), max(widths[0][1], widths[1][1])))


def _is_rounded(texts: Any, typed: Any) -> bool:
    """Whether one of these numbers is another one as a double.

    What Arrow writes of a double is compared in one pass; the rest one by one: a text is exact if it is what
    printing the double with as many digits gives.
    """
    texts = pc.utf8_trim_whitespace(texts)
    if pc.any(pc.is_inf(typed)).as_py():
        return True
    if any(re.search("[1-9]", text.lower().partition("e")[0]) for text in texts.filter(pc.equal(typed, 0)).to_pylist()):
        return True  # too small for a double: it would be 0
    is_short = pc.less_equal(pc.binary_length(texts), EXACT_DIGITS)
    doubt = pc.invert(pc.or_(is_short, pc.equal(pc.cast(typed, pa.string()), texts)))
    pairs = list(zip(texts.filter(doubt).to_pylist(), typed.filter(doubt).to_pylist(), strict=True))
    spec = _spec_of(pairs[0][0]) if pairs else ""  # most files are printed in one way: a third of the time
    return not all(spec % value == text or _is_printed(text, value) for text, value in pairs)


def _spec_of(text: str) -> str:
    """How a program would have printed a double to get this text."""
    mantissa, mark, _ = text.partition("e")
    return f"%.{len(mantissa.partition('.')[2])}{mark or 'f'}"


def _is_printed(text: str, value: float) -> bool:
    mantissa = text.lower().partition("e")[0]
    digits = mantissa.lstrip("-").replace(".", "").lstrip("0")
    count = len(digits)
    if count <= EXACT_DIGITS or f"{value:.{count - 1}e}" == text or repr(value) == text:
        return True
    exact = Decimal(text)
    stripped = max(len(digits.rstrip("0")), 1)
    return any(Decimal(f"{value:.{each - 1}e}") == exact for each in {count, stripped})


def _width(texts: pa.Array[Any]) -> Width:
    before = behind = 0
    for text in pc.utf8_trim_whitespace(texts).to_pylist():
        _, digits, exponent = Decimal(text).as_tuple()
        if not isinstance(exponent, int):
            raise pa.ArrowInvalid("an infinity is no number that has digits")
        count = len(digits)
        while count > 1 and not digits[count - 1]:
            count, exponent = count - 1, exponent + 1
        if digits[:count] != (0,):
            before, behind = max(before, count + exponent), max(behind, -exponent)
    return before, behind
