"""The language of searches: MLflow's filters and orders, parsed into plain clauses. Pure.

    metrics.auc > 0.8 and params.`learning rate` = '0.1' and tags.team ILIKE 'fraud%'
    attributes.status IN ('FINISHED', 'RUNNING') and datasets.name = 'churn'

Clauses are joined by `and` only; there is no `or` and there are no brackets but those of a list. Names
that hold more than letters, digits, `_`, `-`, `/` and `.` stand in backquotes or double quotes. A refusal
says what was found and what may stand there.

Source: https://mlflow.org/docs/latest/ml/search/search-runs/ (the grammar of `search_runs`).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Literal

from noria.core.errors import UsageError
from noria.core.frozen import frozen

__all__ = ["ATTRIBUTES", "Clause", "Order", "parse_filter", "parse_order"]

Kind = Literal["attribute", "metric", "param", "tag", "dataset"]
Value = str | float | tuple[str, ...]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
    **dict.fromkeys(("metric", "metrics"), "metric"),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "param"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("dataset", "datasets"), "dataset"),
}
ATTRIBUTES: dict[str, str] = {
    **dict.fromkeys(("run_id", "run id", "run"), "run"),
    **dict.fromkeys(("run_name", "run name", "name"), "name"),
    **dict.fromkeys(("start_time", "start time", "created", "Created"), "started_at"),
    **dict.fromkeys(("end_time", "end time"), "finished_at"),
    **dict.fromkeys(("user_id", "user id", "user"), "actor"),
    "status": "status",
    "experiment": "experiment",
    "pipeline": "pipeline",
    "parent": "parent",
    "cause": "cause",
    "seconds": "seconds",
    "stage": "stage",
}
"""Every name of an attribute, and the column that it stands for."""
TIMES = frozenset({"started_at", "finished_at"})
_NUMBER_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_TEXT_OPERATORS = ("=", "!=", "LIKE", "ILIKE", "IN", "NOT IN", "IS NULL", "IS NOT NULL")
CLAUSES_MAX = 50
LENGTH_MAX = 20_000

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"[^"]*")
    | (?P<quoted>`[^`]*`)
    | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    | (?P<operator><=|>=|!=|<>|==|=|<|>)
    | (?P<mark>[(),])
    | (?P<word>[A-Za-z_][\w\-/]*)
    | (?P<dot>\.)
    )""",
    re.VERBOSE,
)


@frozen
class Clause:
    """One condition. `key` of an attribute is the column; `value` is a number, a text, or the texts of a list."""

    kind: Kind
    key: str
    operator: str
    value: Value = ""


@frozen
class Order:
    """One key to order by."""

    kind: Kind
    key: str
    is_descending: bool = False


@frozen
class _Token:
    kind: str
    text: str


class _Reader:
    """Tokens of a text, one after the other."""

    def __init__(self, text: str) -> None:
        if len(text) > LENGTH_MAX:
            raise UsageError(f"an expression of {len(text)} characters is over the limit of {LENGTH_MAX}")
        self.text = text
        self._tokens = _tokens(text)
        self._place = 0

    def peek(self) -> _Token:
        """The next token; one of kind "end" behind the last."""
        return self._tokens[self._place] if self._place < len(self._tokens) else _Token("end", "")

    def take(self) -> _Token:
        """The next token, and go on behind it."""
        found = self.peek()
        self._place += 1
        return found

    def take_word(self, *words: str) -> bool:
        """Whether the next token is one of the words, in any case; if so go on behind it."""
        found = self.peek()
        if found.kind == "word" and found.text.upper() in words:
            self._place += 1
            return True
        return False

    def fail(self, found: _Token, wanted: str) -> UsageError:
        """What is wrong, as an error to raise."""
        shown = "the end" if found.kind == "end" else repr(found.text[:60])
        return UsageError(
            f"the expression {self.text[:120]!r} has {shown} where {wanted} should stand",
            hint="for example: metrics.auc > 0.8 and params.model = 'tree' and attributes.status = 'FINISHED'",
        )


def parse_filter(text: str) -> tuple[Clause, ...]:
    """The clauses of a filter; none for an empty text. Raises: UsageError saying what stands where it may not.

    Example:
        >>> parse_filter("metrics.auc > 0.8")
        (Clause(kind='metric', key='auc', operator='>', value=0.8),)
    """
    reader = _Reader(text)
    if reader.peek().kind == "end":
        return ()
    found = [_clause(reader)]
    while reader.peek().kind != "end":
        if not reader.take_word("AND"):
            raise reader.fail(reader.peek(), "`and`")
        found.append(_clause(reader))
        if len(found) > CLAUSES_MAX:
            raise UsageError(f"a filter may have {CLAUSES_MAX} conditions")
    return tuple(found)


def parse_order(texts: Sequence[str]) -> tuple[Order, ...]:
    """What to order by, from texts such as `metrics.auc DESC`. Raises: UsageError."""
    return tuple(_order(_Reader(text)) for text in texts if text.strip())


def _order(reader: _Reader) -> Order:
    kind, key = _identifier(reader)
    if kind == "dataset":
        raise UsageError("runs cannot be ordered by data sets", hint="metrics.NAME, params.NAME, tags.NAME, attributes")
    is_descending = reader.take_word("DESC")
    if not is_descending:
        reader.take_word("ASC")
    if reader.peek().kind != "end":
        raise reader.fail(reader.peek(), "ASC or DESC")
    return Order(kind, key, is_descending)


def _clause(reader: _Reader) -> Clause:
    kind, key = _identifier(reader)
    operator = _operator(reader)
    is_number = kind == "metric" or (kind == "attribute" and key == "seconds")
    is_time = kind == "attribute" and key in TIMES
    allowed = _NUMBER_OPERATORS if is_number or is_time else _TEXT_OPERATORS
    if operator not in allowed:
        raise UsageError(f"{operator} cannot be asked of {kind} {key!r}", hint=f"one of: {', '.join(allowed)}")
    if operator in ("IS NULL", "IS NOT NULL"):
        if kind not in ("param", "tag"):
            raise UsageError(f"{operator} can be asked of params and tags, not of {kind} {key!r}")
        return Clause(kind, key, operator)
    if operator in ("IN", "NOT IN"):
        return Clause(kind, key, operator, _list(reader))
    return Clause(kind, key, operator, _value(reader, is_number=is_number, is_time=is_time))


def _identifier(reader: _Reader) -> tuple[Kind, str]:
    first = reader.take()
    if first.kind not in ("word", "quoted", "text"):
        raise reader.fail(first, "a name such as metrics.auc")
    if reader.peek().kind != "dot":
        return "attribute", _attribute(_bare(first))
    reader.take()
    kind = _KINDS.get(first.text.lower())
    if kind is None:
        raise UsageError(
            f"there is nothing to search called {first.text[:60]!r}",
            hint="one of: attributes, metrics, params, tags, datasets",
        )
    part = reader.take()
    if part.kind in ("quoted", "text"):
        key = _bare(part)
    elif part.kind in ("word", "number"):
        key = part.text
        while reader.peek().kind == "dot":
            reader.take()
            more = reader.take()
            if more.kind not in ("word", "number"):
                raise reader.fail(more, "the rest of a name")
            key += f".{more.text}"
    else:
        raise reader.fail(part, "a name")
    if not key:
        raise reader.fail(part, "a name that is not empty")
    if kind == "dataset" and key not in ("name", "digest", "context"):
        raise UsageError(f"a data set has no {key!r} to search", hint="one of: name, digest, context")
    return kind, _attribute(key) if kind == "attribute" else key


def _attribute(name: str) -> str:
    if name not in ATTRIBUTES:
        near = difflib.get_close_matches(name, ATTRIBUTES, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(sorted(set(ATTRIBUTES)))}"
        raise UsageError(f"a run has no attribute {name[:60]!r}", hint=hint)
    return ATTRIBUTES[name]


def _operator(reader: _Reader) -> str:
    found = reader.take()
    if found.kind == "operator":
        return {"<>": "!=", "==": "="}.get(found.text, found.text)
    word = found.text.upper() if found.kind == "word" else ""
    if word in ("LIKE", "ILIKE", "IN"):
        return word
    if word == "NOT" and reader.take_word("IN"):
        return "NOT IN"
    if word == "IS":
        is_not = reader.take_word("NOT")
        if reader.take_word("NULL"):
            return "IS NOT NULL" if is_not else "IS NULL"
    raise reader.fail(found, "an operator such as = or LIKE")


def _value(reader: _Reader, *, is_number: bool, is_time: bool) -> Value:
    found = reader.take()
    if found.kind == "number" and (is_number or is_time):
        number = float(found.text)
        if not math.isfinite(number):
            raise UsageError(f"{found.text[:40]} is no finite number")
        return number
    if found.kind == "text" and not is_number:
        return _bare(found)
    raise reader.fail(found, "a number" if is_number else "a time" if is_time else "a text in quotes")


def _list(reader: _Reader) -> tuple[str, ...]:
    if reader.take().text != "(":
        raise reader.fail(reader.peek(), "a list such as ('a', 'b')")
    found: list[str] = []
    while True:
        item = reader.take()
        if item.kind != "text":
            raise reader.fail(item, "a text in quotes")
        found.append(_bare(item))
        mark = reader.take()
        if mark.text == ")" and mark.kind == "mark":
            return tuple(found)
        if mark.text != "," or mark.kind != "mark":
            raise reader.fail(mark, "`,` or `)`")


def _bare(token: _Token) -> str:
    if token.kind == "quoted":
        return token.text[1:-1]
    if token.kind == "text":
        inner = token.text[1:-1]
        return inner.replace("''", "'") if token.text[0] == "'" else inner
    return token.text


def _tokens(text: str) -> list[_Token]:
    found = []
    place = 0
    end = len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise UsageError(
                f"the expression {text[:120]!r} cannot be read at {text[place : place + 20].strip()!r}",
                hint="texts stand in quotes, names with blanks in backquotes",
            )
        found.append(_Token(match.lastgroup, match[match.lastgroup]))
        place = match.end()
    return found
