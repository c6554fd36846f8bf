"""Types of columns that arrive as text (CSV), found without ever changing what a value says.

A column is a number only if every value is written as a number would be written back: "02139",
"+5" and "1e5" stay text, because an id or a code would be destroyed by reading them as numbers.
The type of a column over many files is the join of its types in each, so one odd file makes the
column text everywhere instead of giving it two meanings. Words such as NA mean "missing" only in
columns whose other values are numbers, times or booleans; in text they are text (Namibia).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["KINDS", "arrow_type", "cast", "has_missing", "join", "kind_of"]

KINDS = ("null", "bool", "int64", "double", "date32[day]", "timestamp[us]", "timestamp[us, tz=UTC]", "string")
"""What a text column can turn out to be, named as Arrow names it."""

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
            _convert(found, kind)
        except pa.ArrowInvalid:  # 2013-02-30, or a whole number beyond 64 bits: it has the form but no value
            return "string"
        return kind
    return "string"


def join(kinds: Iterable[str]) -> str:
    """The one type for values of all these kinds; "string" where nothing narrower holds both."""
    wide = "null"
    for kind in kinds:
        if kind == wide or kind == "null":
            continue
        joined = _WIDER.get((wide, kind)) or _WIDER.get((kind, wide)) or "string"
        wide = kind if wide == "null" else joined
    return wide


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


def arrow_type(kind: str) -> pa.DataType:
    """The Arrow type of a kind."""
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
