"""Rules about the values of one column, row by row. A null says nothing, but to `not_null` and `null`.

Each looks at what is distinct in a batch first: a text rule at its dictionary, a range at the ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from noria.checks.scanning.arrays import Mask, mask, texts, view
from noria.checks.scanning.chunk import Chunk
from noria.checks.scanning.tally import CannotEvaluate, Rows
from noria.checks.suites.rules import Rule
from noria.core.clock import instant
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = [
    "inside",
    "is_json",
    "is_length",
    "is_missing",
    "is_there",
    "matches",
    "matches_not",
    "outside",
    "reads_as",
    "within",
]

Broken = bool | Mask


def is_there(rule: Rule, rows: Rows) -> Broken:
    """`not_null`: every row has a value."""
    chunk = rows[rule.column]
    return chunk.missing if chunk.nulls else False


def is_missing(rule: Rule, rows: Rows) -> Broken:
    """`null`: no row has a value."""
    chunk = rows[rule.column]
    return ~chunk.missing if chunk.nulls < chunk.rows else False


def within(rule: Rule, rows: Rows) -> Broken:
    """`range`: from min to max; both ends belong to it unless strict_min, strict_max. Numbers, times or texts.

    With the format "time", of `earliest` and `latest`, times alone.
    """
    chunk = rows[rule.column]
    if rule.format == "time" and chunk.family in ("number", "text"):
        raise CannotEvaluate(f"{rule.column!r} is {chunk.family}, not a time")
    if chunk.family == "number":
        low, high = _bound(rule.min, float, rule), _bound(rule.max, float, rule)
        values = chunk.floats
        with np.errstate(invalid="ignore"):
            if chunk.nulls == chunk.rows or not any(_is_out(end, low, high, rule) for end in chunk.ends):
                return False
            return _out_of(values, low, high, rule)
    if chunk.family == "text":
        low_text, high_text = _bound(rule.min, str, rule), _bound(rule.max, str, rule)
        return _by_level(chunk, lambda word: _is_out(word, low_text, high_text, rule))
    if chunk.family == "time":
        return _times_within(rule, chunk)
    raise CannotEvaluate(f"{rule.column!r} is {chunk.family}, which has no range")


def is_length(rule: Rule, rows: Rows) -> Broken:
    """`length`: so many characters."""
    low, high = _bound(rule.min, float, rule), _bound(rule.max, float, rule)

    def is_wrong(words: pa.Array[Any]) -> Mask:
        return _out_of(view(pc.utf8_length(words), np.int32).astype(np.float64), low, high, rule)

    return _by_text(_text(rule, rows), is_wrong)


def inside(rule: Rule, rows: Rows) -> Broken:
    """`in`: one of the values."""
    return _members(rule, rows, is_in=True)


def outside(rule: Rule, rows: Rows) -> Broken:
    """`not_in`: none of the values."""
    return _members(rule, rows, is_in=False)


def matches(rule: Rule, rows: Rows) -> Broken:
    """`pattern`: the pattern is found in the text; of many patterns, all or (match = "any") one."""

    def is_wrong(words: pa.Array[Any]) -> Mask:
        found = _found(words, rule)
        none: Mask = ~(found.any(axis=0) if rule.match == "any" else found.all(axis=0))
        return none

    return _by_text(_text(rule, rows), is_wrong)


def matches_not(rule: Rule, rows: Rows) -> Broken:
    """`not_pattern`: no pattern is found in the text."""

    def is_wrong(words: pa.Array[Any]) -> Mask:
        found: Mask = _found(words, rule).any(axis=0)
        return found

    return _by_text(_text(rule, rows), is_wrong)


def reads_as(rule: Rule, rows: Rows) -> Broken:
    """`format`: the text is a time written in this strptime format."""

    def is_wrong(word: str) -> bool:
        try:
            datetime.strptime(word, rule.format)
        except ValueError:
            return True
        return False

    return _by_level(_text(rule, rows), is_wrong)


def is_json(rule: Rule, rows: Rows) -> Broken:
    """`json`: the text is JSON."""

    def is_wrong(word: str) -> bool:
        try:
            json.loads(word)
        except ValueError:
            return True
        return False

    return _by_level(_text(rule, rows), is_wrong)


def members_of(known: pa.Array[Any]) -> Callable[[Rule, Rows], Broken]:
    """The rule that every value is one of those that another data set has, whatever its type."""

    def is_known(rule: Rule, rows: Rows) -> Broken:
        chunk = rows[rule.column]
        try:
            values = chunk.texts if chunk.family == "text" else chunk.array
            found = pc.is_in(values, value_set=known.cast(values.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise CannotEvaluate(f"{chunk.array.type} cannot be compared with {known.type}") from error
        return ~mask(found)

    return is_known


def _text(rule: Rule, rows: Rows) -> Chunk:
    """A column as text; a whole number is the text of its digits, so that codes can have a pattern."""
    chunk = rows[rule.column]
    if chunk.family == "text":
        return chunk
    if not pa.types.is_integer(chunk.array.type):
        raise CannotEvaluate(f"{rule.column!r} is {chunk.family} ({chunk.array.type}), not text")
    return Chunk(chunk.array.cast(pa.string()))


def _by_text(chunk: Chunk, is_wrong: Callable[[pa.Array[Any]], Mask]) -> Broken:
    """By the dictionary where the batch has one, else by the texts themselves."""
    if chunk.has_levels:
        words, counts = chunk.levels
        return _rows_of(chunk, is_wrong(words) & (counts > 0))
    wrong = is_wrong(chunk.texts)
    return wrong if wrong.any() else False


def _by_level(chunk: Chunk, is_wrong: Callable[[str], bool]) -> Broken:
    words, counts = chunk.levels
    wrong: Mask = np.array([is_wrong(str(word)) for word in words.to_pylist()], np.bool_)
    return _rows_of(chunk, wrong & (counts > 0))


def _rows_of(chunk: Chunk, wrong: Mask) -> Broken:
    return chunk.rows_of(wrong) if wrong.any() else False


def _found(words: pa.Array[Any], rule: Rule) -> Any:
    patterns = rule.patterns or (rule.pattern,)
    found = [mask(pc.match_substring_regex(words, pattern)) for pattern in patterns]
    return np.array(found).reshape(len(patterns), len(words))


def _members(rule: Rule, rows: Rows, *, is_in: bool) -> Broken:
    chunk = rows[rule.column]
    if chunk.family == "number":
        known = np.array([_number(value, rule) for value in rule.values], np.float64)
        wrong: Mask = np.isin(chunk.floats, known) != is_in
        return wrong if wrong.any() else False
    if chunk.family == "text":
        known_texts = texts(_typed(value, str, rule) for value in rule.values)
        return _by_text(chunk, lambda words: mask(pc.is_in(words, value_set=known_texts)) != is_in)
    if chunk.family == "bool":
        flags = {_typed(value, bool, rule) for value in rule.values}
        unlike: Mask = np.isin(mask(chunk.array), list(flags)) != is_in
        return unlike
    if chunk.family == "time":
        moments = [_moment(_typed(value, str, rule), chunk.array.type, rule) for value in rule.values]
        moved: Mask = np.isin(_micros(chunk), moments) != is_in
        return moved
    raise CannotEvaluate(f"{rule.column!r} is {chunk.family}: its values cannot be compared")


def _times_within(rule: Rule, chunk: Chunk) -> Broken:
    kind = chunk.array.type
    low = None if rule.min is None else _moment(_typed(rule.min, str, rule), kind, rule)
    high = None if rule.max is None else _moment(_typed(rule.max, str, rule), kind, rule)
    return _out_of(_micros(chunk), low, high, rule)


def _micros(chunk: Chunk) -> Any:
    """A time column as whole microseconds since 1970 (UTC, or of its own wall)."""
    kind = chunk.array.type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise CannotEvaluate(f"{kind} is a time of day or a length, not a moment")
    plain = chunk.array.cast(pa.timestamp("us", tz=kind.tz if pa.types.is_timestamp(kind) else None), safe=False)
    return view(plain.cast(pa.int64()), np.int64)


def _moment(text: str, kind: pa.DataType, rule: Rule) -> int:
    try:
        moment = instant(text)
    except ValueError as error:
        raise CannotEvaluate(f"{text!r} is not a time, and {rule.column!r} is {kind}") from error
    return round(moment.timestamp() * 1_000_000)


def _bound(value: Any, wanted: type, rule: Rule) -> Any:
    if value is None:
        return None
    return _number(value, rule) if wanted is float else _typed(value, wanted, rule)


def _number(value: Any, rule: Rule) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CannotEvaluate(f"{rule.column!r} is a number and cannot be compared with {value!r}")
    return float(value)


def _typed(value: Any, wanted: type, rule: Rule) -> Any:
    if not isinstance(value, wanted):
        words = {str: "text", bool: "true or false"}
        raise CannotEvaluate(f"{rule.column!r} is {words[wanted]} and cannot be compared with {value!r}")
    return value


def _is_out(value: Any, low: Any, high: Any, rule: Rule) -> bool:
    is_low = low is not None and (value <= low if rule.strict_min else value < low)
    return bool(is_low or (high is not None and (value >= high if rule.strict_max else value > high)))


def _out_of(values: Any, low: Any, high: Any, rule: Rule) -> Mask:
    broken = np.zeros(len(values), bool)
    with np.errstate(invalid="ignore"):
        if low is not None:
            broken |= values <= low if rule.strict_min else values < low
        if high is not None:
            broken |= values >= high if rule.strict_max else values > high
    return broken


def needs(rule: Rule) -> Sequence[str]:
    """The columns that a rule looks at."""
    return (rule.column, *rule.columns) if rule.column else rule.columns
