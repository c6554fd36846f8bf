"""MLflow's filters and orders, read and refused in its server's words, as plain comparisons.

`noria.experiments.grammar` reads the same language and tells more about a mistake; clients of MLflow expect
these sentences.

Source: mlflow/utils/search_utils.py of MLflow 3.17; the token kinds are those of sqlparse that it uses.
"""

from __future__ import annotations

import operator as operators
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from noria.core.frozen import frozen
from noria.faces.protocols.mlflow.refusals import invalid

__all__ = [
    "EXPERIMENTS",
    "MODELS",
    "RUNS",
    "VERSIONS",
    "Comparison",
    "Language",
    "alias",
    "clauses",
    "matches",
    "parse_filter",
    "parse_order",
    "parse_order_word",
    "texts_of_list",
]

LENGTH_MAX = 20_000
COMPARISONS_MAX = 50
_KINDS = ["metric", "parameter", "tag", "attribute", "dataset"]
_WORDS = {
    **{kind: kind for kind in _KINDS},
    **dict.fromkeys(("metrics",), "metric"),
    **dict.fromkeys(("parameters", "param", "params"), "parameter"),
    **dict.fromkeys(("tags",), "tag"),
    **dict.fromkeys(("attr", "attributes", "run"), "attribute"),
    **dict.fromkeys(("datasets",), "dataset"),
}
_NUMERIC = ("=", "!=", "<", "<=", ">", ">=")
_TEXTUAL = ("=", "!=", "LIKE", "ILIKE")
_NULLS = ("IS NULL", "IS NOT NULL")
_QUOTED = "Expected a quoted string value or a list of quoted string values for attributes."


@frozen
class Language:
    """What may be asked of one kind of thing; `prefixes` are the words before a dot, None for all."""

    attributes: frozenset[str]
    numeric: frozenset[str]
    lists: tuple[str, ...]
    prefixes: tuple[str, ...] | None = None
    nulls: tuple[str, ...] = ("tag", "parameter")
    is_registry: bool = False
    """Whether it is one of the two of the registry, which are refused in other words."""


_ALIASES = {"created": "start_time", "Created": "start_time"}
_ALIASES |= dict.fromkeys(("run name", "Run name", "Run Name"), "run_name")
RUNS = Language(
    attributes=frozenset(
        ("artifact_uri", "end_time", "run_id", "run_name", "start_time", "status", "user_id", *_ALIASES)
    ),
    numeric=frozenset(("start_time", "end_time", "created", "Created")),
    lists=("run_id",),
)
EXPERIMENTS = Language(
    attributes=frozenset(("name", "experiment_id", "creation_time", "last_update_time")),
    numeric=frozenset(("creation_time", "last_update_time")),
    lists=("experiment_id",),
    prefixes=("attribute", "tag", "tags"),
    nulls=("tag",),
)
MODELS = Language(
    attributes=frozenset(("name",)),
    numeric=frozenset(),
    lists=("name",),
    prefixes=("attribute", "tag", "tags"),
    nulls=(),
    is_registry=True,
)
VERSIONS = Language(
    attributes=frozenset(("name", "version_number", "run_id", "source_path")),
    numeric=frozenset(("version_number", "creation_timestamp", "last_updated_timestamp")),
    lists=("name", "run_id"),
    prefixes=("attribute", "tag", "tags"),
    nulls=(),
    is_registry=True,
)


@frozen
class Comparison:
    """One condition: `value` is a number for metrics and times, else a text, or the texts of a list."""

    kind: str
    key: str
    operator: str
    value: str | float | tuple[str, ...] = ""


@frozen
class _Token:
    kind: str
    text: str


_TOKEN = re.compile(
    r"""
      (?P<text>'(?:[^']|'')*')
    | (?P<list>\([^()]*\))
    | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    | (?P<name>(?:[A-Za-z_][\w\-/]*|`[^`]*`|"[^"]*")(?:\.(?:[\w\-/]+|`[^`]*`|"[^"]*"))*)
    | (?P<operator><=|>=|!=|<>|==|=|<|>|~)
    | (?P<end>;)
    | (?P<other>\S)
    """,
    re.VERBOSE,
)


def parse_filter(language: Language, text: str) -> list[Comparison]:
    """The comparisons of a filter, all of which must hold. Raises: Refused."""
    if not text:
        return []
    if len(text) > LENGTH_MAX:
        raise invalid(f"Error on parsing filter of {len(text)} characters, over the limit of {LENGTH_MAX}")
    if not text.strip():
        raise invalid(f"Invalid filter '{text}'. Could not be parsed.")
    tokens = [_Token(str(match.lastgroup), match[0]) for match in _TOKEN.finditer(text)]
    ends = [place for place, token in enumerate(tokens) if token.kind == "end"]
    if ends and ends[0] < len(tokens) - 1:
        raise invalid(f"Search filter contained multiple expression {text!r}. Provide AND-ed expression list.")
    found, strays = _split(tokens)
    if strays:
        quote = "'" if language.prefixes is None else ""
        raise invalid(f"Invalid clause(s) in filter string: {', '.join(f'{quote}{each}{quote}' for each in strays)}")
    if len(found) > COMPARISONS_MAX:
        raise invalid(f"A filter may have {COMPARISONS_MAX} comparisons, got {len(found)}.")
    return [_comparison(language, *each) for each in found]


def clauses(text: str) -> tuple[list[tuple[str, str, str]], list[str]]:
    """The comparisons of a text as they stand (left, operator, right), and what is neither one nor AND."""
    tokens = [_Token(str(match.lastgroup), match[0]) for match in _TOKEN.finditer(text)]
    found, strays = _split(tokens)
    return [(left.text, operator, "" if right is None else right.text) for left, operator, right in found], strays


def texts_of_list(text: str) -> tuple[str, ...]:
    """The texts of a list in parentheses. Raises: Refused."""
    return _list(text)


def alias(key: str) -> str:
    """The name that an attribute is known by."""
    return _ALIASES.get(key, key)


def parse_order(language: Language, text: str) -> tuple[str, str, bool]:
    """(kind, key, is it descending) of one text to order by. Raises: Refused."""
    bad = invalid(f"Invalid order_by clause '{text[:500]}'. Could not be parsed.")
    tokens = [_Token(str(match.lastgroup), match[0]) for match in _TOKEN.finditer(text[:LENGTH_MAX])]
    if not 1 <= len(tokens) <= 2 or tokens[0].kind != "name" or text != text.strip():
        raise bad
    is_descending = False
    if len(tokens) == 2:
        word = tokens[1].text.lower()
        if word not in ("asc", "desc"):
            raise (
                invalid(f"Invalid ordering key in order_by clause '{text[:500]}'.") if tokens[1].kind == "name" else bad
            )
        is_descending = word == "desc"
    kind, key = _identifier(language, tokens[0].text)
    return kind, key, is_descending


def parse_order_word(text: str) -> tuple[str, bool]:
    """(word, is it descending) of one text to order by; what the word means is asked later. Raises: Refused."""
    parts = re.findall(r"`[^`]*`|\"[^\"]*\"|\S+", text[:LENGTH_MAX])
    if not 1 <= len(parts) <= 2 or text != text.strip():
        raise invalid(f"Invalid order_by clause '{text[:500]}'. Could not be parsed.")
    if len(parts) == 2 and parts[1].lower() not in ("asc", "desc"):
        raise invalid(f"Invalid ordering key in order_by clause '{text[:500]}'.")
    return _unquoted(parts[0]), len(parts) == 2 and parts[1].lower() == "desc"


def matches(value: Any, operator: str, wanted: Any) -> bool:
    """Whether a value that is there fits a comparison with one that is asked for."""
    if operator in ("LIKE", "ILIKE"):
        pattern = "".join({"%": ".*", "_": "."}.get(mark, re.escape(mark)) for mark in wanted)
        return re.fullmatch(pattern, value, re.DOTALL | (re.IGNORECASE if operator == "ILIKE" else 0)) is not None
    return bool(_OPERATORS[operator](value, wanted))


_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operators.eq,
    "!=": operators.ne,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
    "IN": lambda value, wanted: value in wanted,
    "NOT IN": lambda value, wanted: value not in wanted,
}


def _split(tokens: Sequence[_Token]) -> tuple[list[tuple[_Token, str, _Token | None]], list[str]]:
    """The comparisons (left, operator, right), and what is neither a comparison nor AND."""
    found: list[tuple[_Token, str, _Token | None]] = []
    strays: list[str] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.kind == "end" or (token.kind == "name" and token.text.upper() == "AND"):
            place += 1
            continue
        operator, width = _operator(tokens, place + 1)
        right = tokens[place + 1 + width] if place + 1 + width < len(tokens) else None
        if operator in _NULLS and token.kind == "name":
            found.append((token, operator, None))
            place += 1 + width
        elif (
            operator
            and operator not in _NULLS
            and right is not None
            and right.kind in ("text", "name", "number", "list")
        ):
            found.append((token, operator, right))
            place += 2 + width
        else:
            strays.append(token.text)
            place += 1
    return found, strays


def _operator(tokens: Sequence[_Token], place: int) -> tuple[str, int]:
    """The operator at a place, and how many tokens it takes; empty if there is none."""
    if place < len(tokens) and tokens[place].kind == "operator":
        return tokens[place].text, 1
    words = [token.text.upper() if token.kind == "name" else "" for token in tokens[place : place + 3]]
    for operator in ("IS NOT NULL", "IS NULL", "NOT IN", "NOT LIKE", "NOT ILIKE", "IN", "LIKE", "ILIKE"):
        parts = operator.split()
        if words[: len(parts)] == parts:
            return operator, len(parts)
    return "", 0


def _comparison(language: Language, left: _Token, operator: str, right: _Token | None) -> Comparison:
    if left.kind != "name":
        raise invalid(f"Invalid comparison clause. Expected 'Identifier' found '{left.text}'")
    kind, key = _identifier(language, left.text)
    if right is None:
        if kind not in language.nulls:
            shown = "tags and params, " if "parameter" in language.nulls else "tags, "
            what = f"'{kind}' '{key}'" if "parameter" in language.nulls else f"attribute '{key}'"
            raise invalid(f"IS NULL / IS NOT NULL is only supported for {shown}not for {what}")
        return Comparison(kind, key, operator)
    value = _value(language, kind, key, right)
    if language.is_registry:
        value = _registry_value(language, kind, key, operator, value)
    else:
        _require_operator(language, kind, key, operator)
    return Comparison(kind, alias(key) if kind == "attribute" else key, operator, value)


def _identifier(language: Language, text: str) -> tuple[str, str]:
    prefix, dot, key = text.partition(".")
    if not dot:
        prefix, key = "attribute", text
    elif language.prefixes is not None and prefix not in language.prefixes:
        raise invalid(f"Invalid entity type '{prefix}'. Valid entity types are {language.prefixes}")
    prefix = prefix.strip("`")
    if prefix not in _WORDS:
        raise invalid(f"Invalid entity type '{prefix}'. Valid values are {_KINDS}")
    kind, key = _WORDS[prefix], _unquoted(key)
    if kind == "attribute" and key not in language.attributes:
        raise invalid(f"Invalid attribute key '{key}' specified. Valid keys are '{set(language.attributes)}'")
    if kind == "dataset" and key not in ("name", "digest", "context"):
        raise invalid(f"Invalid dataset key '{key}' specified. Valid keys are '{ {'name', 'digest', 'context'} }'")
    return kind, key


def _value(language: Language, kind: str, key: str, token: _Token) -> str | float | tuple[str, ...]:
    if kind == "metric":
        if token.kind != "number":
            raise invalid(f"Expected numeric value type for metric. Found {token.text}")
        return float(token.text)
    if language.is_registry and kind == "attribute" and token.kind == "number":
        if key not in language.numeric:
            numeric = set(language.numeric)
            raise invalid(
                f"Only the '{numeric}' attributes support comparison with numeric values."
                if numeric
                else f"{_QUOTED} Got value {token.text}"
            )
        return float(token.text)
    if kind == "attribute" and key in language.numeric and not language.is_registry:
        if token.kind != "number":
            raise invalid(f"Expected numeric value type for numeric attribute: {key}. Found {token.text}")
        return float(token.text)
    if token.kind == "text":
        return token.text[1:-1]
    if token.kind == "name":
        if not re.fullmatch(r'"[^"]*"', token.text):
            raise invalid(
                "Parameter value is either not quoted or unidentified quote "
                f"types used for string value {token.text}. Use either single or double quotes."
            )
        return token.text[1:-1]
    if token.kind == "list" and kind in ("attribute", "dataset"):
        if kind == "attribute" and key not in language.lists:
            raise invalid(
                f"Only {sorted(language.lists)} attributes support comparison with a list of quoted string values."
            )
        return _list(token.text)
    if kind == "attribute" and language.is_registry:
        raise invalid(f"{_QUOTED} Got value {token.text}")
    if kind == "attribute":
        raise invalid(f"Expected a quoted string value for attributes. Got value {token.text}")
    if kind == "dataset":
        raise invalid(f"Expected a quoted string value for dataset attributes. Got value {token.text}")
    raise invalid(f"Expected a quoted string value for {kind} (e.g. 'my-value'). Got value {token.text}")


def _registry_value(
    language: Language, kind: str, key: str, operator: str, value: str | float | tuple[str, ...]
) -> str | float | tuple[str, ...]:
    """What a value of the registry is compared as. Raises: Refused for an operator or a value that cannot be."""
    if kind == "tag":
        if operator not in _TEXTUAL:
            raise invalid(f"Invalid comparator for tag: {operator}")
        return value
    if key not in language.numeric:
        if operator not in (*_TEXTUAL, "IN", "NOT IN"):
            raise invalid(f"Invalid comparator for attribute: {operator}")
        if operator in ("IN", "NOT IN") and key not in language.lists:
            raise invalid(f"Invalid comparator for attribute: {operator}")
        return value
    if operator not in _NUMERIC:
        raise invalid(f"Invalid comparator for attribute {key}: {operator}")
    try:
        if isinstance(value, tuple) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError(value)
        return float(int(value))
    except ValueError as error:
        raise invalid(f"Invalid value for numeric attribute '{key}': {value!r}") from error


def _list(text: str) -> tuple[str, ...]:
    inner = text[1:-1].strip().removesuffix(",")
    if not inner:
        raise invalid(
            "While parsing a list in the query, expected a non-empty list of string values, but got empty list"
        )
    parts = re.findall(r"""\s*('[^']*'|"[^"]*")\s*(?:,|$)""", inner)
    if re.fullmatch(r"""(?:\s*(?:'[^']*'|"[^"]*")\s*(?:,|$))+""", inner) is None:
        raise invalid(
            f"While parsing a list in the query, expected string value, punctuation, or whitespace, got {text}"
        )
    return tuple(part[1:-1] for part in parts)


def _require_operator(language: Language, kind: str, key: str, operator: str) -> None:
    if key == "experiment_id" and kind == "attribute":
        return  # refused by who knows that it is a number
    is_numeric = kind == "metric" or (kind == "attribute" and key in language.numeric)
    allowed: tuple[str, ...] = _NUMERIC if is_numeric else _TEXTUAL
    if kind == "dataset" or (kind == "attribute" and not is_numeric):
        allowed = (*_TEXTUAL, "IN", "NOT IN")
    if operator not in allowed:
        raise invalid(f"Invalid comparator '{operator}' not one of '{set(allowed)}'")


def _unquoted(text: str) -> str:
    for mark in ("'", '"', "`"):
        if len(text) >= 2 and text[0] == mark and text[-1] == mark:
            return text[1:-1]
    return text
