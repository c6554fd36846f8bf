"""A condition on rows as text: `amount > 100 and (zip = '02139' or zip is null)`.

A small language of its own instead of SQL, because conditions arrive over HTTP too and a database's
language can read files. Columns, literals, `= != <> < <= > >=`, `in (…)`, `is null`, `is not null`,
`and`, `or`, `not` and parentheses; names with other characters stand in double quotes, text in single
ones (doubled inside). A literal is read as its column's type, so '2013-01-31' is a time where the
column holds times. A comparison with null is never true, as in SQL.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["Condition", "columns_in", "parse", "value_as"]

LENGTH_MAX = 10_000
DEPTH_MAX = 100
"""Of parentheses and NOT within each other: each is a call, and Python ends deep ones with an error of its own."""
_WORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})
_COMPARE = {"=": "equal", "!=": "not_equal", "<>": "not_equal", "<": "less", "<=": "less_equal"}
_COMPARE |= {">": "greater", ">=": "greater_equal"}


@frozen
class Condition:
    """A parsed condition: an Arrow expression over columns by name, and which columns it looks at."""

    expression: Any
    columns: tuple[str, ...]


@frozen
class _Token:
    kind: str
    text: str
    at: int


@functools.cache
def _token() -> re.Pattern[str]:
    """What one word, literal or sign looks like; compiled when it is needed, because that takes 15 ms."""
    return re.compile(
        r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")+")"""
        r"""|(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"""
        r"""|(?P<sign><=|>=|<>|!=|=|<|>|\(|\)|,)|(?P<word>[^\W\d]\w*))"""
    )


def parse(text: str, schema: pa.Schema) -> Condition:
    """The condition that a text states about rows of a schema.

    Raises: UsageError naming the place that cannot be read, or a column or value that does not fit.
    """
    if len(text) > LENGTH_MAX:
        raise UsageError(f"a condition of {len(text)} characters is too long", hint=f"at most {LENGTH_MAX}")
    reader = _Reader(_tokens(text), text, schema)
    found = reader.either()
    reader.end()
    return Condition(found, tuple(reader.columns))


def columns_in(condition: Condition | None) -> Sequence[str]:
    """The columns that a condition looks at; none without one."""
    return () if condition is None else condition.columns


def value_as(value: Any, kind: Any) -> Any:
    """A plain value as an Arrow scalar of a column's type; text is read as the type would be written.

    Raises: pyarrow.ArrowInvalid, ArrowTypeError, ArrowNotImplementedError or OverflowError if it does not fit.
    """
    wanted = kind.value_type if pa.types.is_dictionary(kind) else kind
    if isinstance(value, str) and not (pa.types.is_string(wanted) or pa.types.is_large_string(wanted)):
        if pa.types.is_timestamp(wanted) and wanted.tz and not re.search(r"(Z|[+-]\d\d:?\d\d)$", value):
            return pc.assume_timezone(pa.scalar(value).cast(pa.timestamp("us")), wanted.tz).cast(wanted)
        if pa.types.is_timestamp(wanted) and wanted.tz:
            return pa.scalar(value).cast(pa.timestamp("us", tz="UTC")).cast(wanted)
        return pa.scalar(value).cast(wanted)
    if pa.types.is_string(wanted) and not isinstance(value, str) and value is not None:
        raise pa.ArrowTypeError("a number where the column holds text")
    if isinstance(value, float) and pa.types.is_integer(wanted) and value != int(value):
        return pa.scalar(value)
    return pa.scalar(value, wanted)


def _tokens(text: str) -> list[_Token]:
    found = []
    at = 0
    while text[at:].strip():
        match = _token().match(text, at)
        if match is None or match.lastgroup is None:
            raise UsageError(f"the condition cannot be read at {text[at:].strip()[:20]!r}", where=text[:80])
        found.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return found


class _Reader:
    """Reads tokens by the grammar: or < and < not < comparison."""

    def __init__(self, tokens: list[_Token], text: str, schema: pa.Schema) -> None:
        self._tokens = tokens
        self._text = text
        self._schema = schema
        self._next = 0
        self._depth = 0
        self.columns: dict[str, None] = {}

    def either(self) -> Any:
        found = self._both()
        while self._takes("or"):
            found = found | self._both()
        return found

    def end(self) -> None:
        if self._next < len(self._tokens):
            raise self._wrong("it ends before this")

    def _both(self) -> Any:
        found = self._one()
        while self._takes("and"):
            found = found & self._one()
        return found

    def _one(self) -> Any:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._wrong(f"parentheses and NOT stand within each other more than {DEPTH_MAX} deep")
        found = self._not_or_nested()
        self._depth -= 1
        return found

    def _not_or_nested(self) -> Any:
        if self._takes("not"):
            return ~self._one()
        if self._takes("("):
            found = self.either()
            self._must(")")
            return found
        return self._comparison()

    def _comparison(self) -> Any:
        name = self._column()
        kind = self._schema.field(name).type
        column = pc.field(name)
        if self._takes("is"):
            is_not = self._takes("not")
            self._must("null")
            return ~column.is_null() if is_not else column.is_null()
        is_not = self._takes("not")
        if self._takes("in"):
            self._must("(")
            values = [self._literal(name, kind)]
            while self._takes(","):
                values.append(self._literal(name, kind))
            self._must(")")
            found = column == values[0]
            for value in values[1:]:
                found = found | (column == value)
            return ~found if is_not else found
        if is_not:
            raise self._wrong("after NOT there must be IN")
        sign = self._token("a comparison")
        if sign.text not in _COMPARE:
            raise self._wrong("a comparison is one of = != < <= > >=, IN, IS NULL", back=1)
        value = self._literal(name, kind)
        return getattr(pc, _COMPARE[sign.text])(column, value)

    def _column(self) -> str:
        token = self._token("a column")
        name = token.text
        if token.kind == "quoted":
            name = name[1:-1].replace('""', '"')
        elif token.kind != "word" or name.lower() in _WORDS:
            raise self._wrong("a column's name must stand here", back=1)
        if name not in self._schema.names:
            known = ", ".join(self._schema.names[:12])
            raise UsageError(f"there is no column {name!r}", where=self._text[:80], hint=f"columns: {known}")
        self.columns[name] = None
        return name

    def _literal(self, name: str, kind: Any) -> Any:
        token = self._token("a value")
        value: Any
        if token.kind == "text":
            value = token.text[1:-1].replace("''", "'")
        elif token.kind == "number":
            value = token.text if pa.types.is_decimal(kind) else _number(token.text)
        elif token.text.lower() in ("true", "false"):
            value = token.text.lower() == "true"
        else:
            raise self._wrong("a value must stand here: a number, 'text', true or false", back=1)
        if token.kind == "number" and pa.types.is_temporal(kind):  # Arrow would take it for days or ticks since 1970
            raise UsageError(
                f"{token.text[:40]} is a number, and column {name!r} is {kind}",
                where=self._text[:80],
                hint="write a time in quotes, such as '2013-01-31'",
            )
        try:
            return value_as(value, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
            raise UsageError(
                f"{token.text[:40]} cannot be compared with column {name!r}, which is {kind}", where=self._text[:80]
            ) from error

    def _takes(self, text: str) -> bool:
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            if token.kind in ("word", "sign") and token.text.lower() == text:
                self._next += 1
                return True
        return False

    def _must(self, text: str) -> None:
        if not self._takes(text):
            raise self._wrong(f"{text.upper()!r} must stand here")

    def _token(self, wanted: str) -> _Token:
        if self._next == len(self._tokens):
            raise UsageError(f"the condition ends where {wanted} must stand", where=self._text[:80])
        self._next += 1
        return self._tokens[self._next - 1]

    def _wrong(self, why: str, back: int = 0) -> UsageError:
        place = self._next - back
        at = self._tokens[place].at if place < len(self._tokens) else len(self._text)
        near = self._text[at : at + 20] or "its end"
        return UsageError(f"the condition cannot be read at {near!r}: {why}", where=self._text[:80])


def _number(text: str) -> int | float:
    return float(text) if any(mark in text for mark in ".eE") else int(text)
