"""Requests as values: JSON or a query read the way MLflow's server reads them.

A request is read twice there: as a protobuf message, leniently (unknown fields are left out, a number may
come as a text), and by a list of checks, whose types are looked at only if the first reading failed. Both
are kept, since clients see which of them refuses.

Source: mlflow/server/handlers.py `_get_request_message`, protobuf's JSON mapping
(https://protobuf.dev/programming-guides/json/).
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.faces.http.body import require_shallow
from noria.faces.protocols.mlflow.refusals import Refused, invalid, invalid_value

__all__ = [
    "BOOL",
    "DOUBLE",
    "INT",
    "INT32",
    "TEXT",
    "VALUE",
    "Check",
    "Enum",
    "Map",
    "Message",
    "Repeated",
    "Spec",
    "fields_present",
    "read",
]

_LARGEST = sys.float_info.max
TEXT, INT, INT32, DOUBLE, BOOL, VALUE = "text", "int", "int32", "double", "bool", "value"


@frozen
class Enum:
    """Words with their numbers."""

    words: Mapping[str, int]


@frozen
class Message:
    """Fields by name, each of a kind."""

    fields: Mapping[str, Any]
    names: Mapping[str, str] = field(init=False, repr=False)
    """The field that each spelling means: its own name, and protobuf's JSON name."""

    doubles: Sequence[tuple[str, str, Message | None]] = field(init=False, repr=False)
    """What may be given twice: (name, the other spelling, what it holds), of fields where one of both can be."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _spellings(self.fields))
        object.__setattr__(self, "doubles", _doubles(self.fields))


@frozen
class Repeated:
    """A list of a kind."""

    kind: Any


@frozen
class Map:
    """Texts by name: whatever names a client likes."""


Check = Callable[[Any], bool]
"""Whether a value may stand; it may raise Refused with words of its own."""


@frozen
class Spec:
    """What a request holds: its fields, and the checks by parameter, in their order.

    A check is "required", the name of a type, or a function. A strict one refuses what does not fit where the
    other server takes what it has read so far, and logs a 0 in the place of a number.
    """

    fields: Mapping[str, Any]
    checks: Mapping[str, Sequence[str | Check]] = field(default_factory=dict)
    is_strict: bool = False
    names: Mapping[str, str] = field(init=False, repr=False)
    """As a message's."""
    doubles: Sequence[tuple[str, str, Message | None]] = field(init=False, repr=False)
    """As a message's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _spellings(self.fields))
        object.__setattr__(self, "doubles", _doubles(self.fields))


class _Unfit(Exception):
    """A value does not fit its field."""


def read(spec: Spec, method: str, query: Sequence[tuple[str, str]], kind: str, body: bytes) -> dict[str, Any]:
    """The fields that a request gives. Raises: Refused as MLflow's server does."""
    given = _query(spec, query) if method == "GET" and query else _body(kind, body)
    _require_one_spelling(spec, given)
    values: dict[str, Any] = {}
    is_whole = True
    try:
        _fill(spec, given, values)
    except _Unfit:
        is_whole = False
    for name, checks in spec.checks.items():
        if name not in given and "required" not in checks:
            continue
        value = given.get(name)
        if name == "run_id" and value is None and "run_uuid" in given:
            value = given["run_uuid"]
        _check(name, value, checks, is_whole=is_whole)
    if spec.is_strict and not is_whole:
        raise invalid("A value of the request does not fit its field." + _DOCS)
    return values


def _query(spec: Spec, query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in spec.fields.items():
        values = [value for key, value in query if key == name]
        if not values:
            continue
        if isinstance(kind, Repeated):
            found[name] = values
        elif kind == BOOL:
            if values[0].lower() not in ("true", "false"):
                raise invalid(f"Invalid boolean value: {values[0]}, must be 'true' or 'false'.")
            found[name] = values[0].lower() == "true"
        else:
            found[name] = values[0]
    return found


def _body(kind: str, body: bytes) -> dict[str, Any]:
    name = kind.partition(";")[0].strip().lower()
    if body and name != "application/json":
        raise invalid("Bad Request. Content-Type must be one of ['application/json'].")
    given = _decoded(body)
    if isinstance(given, str):  # old clients encode twice
        given = _decoded(given.encode())
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise Refused("BAD_REQUEST", "The body of a request is a JSON object.")
    return given


def _decoded(body: bytes) -> Any:
    """What the JSON says; None for what is no JSON, as the other server has it. Raises: Refused."""
    try:
        require_shallow(body)
    except UsageError as error:
        raise Refused("BAD_REQUEST", error.message) from error
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _require_one_spelling(spec: Spec | Message, given: Any) -> None:
    """Raises: Refused where a field is given twice, in both its spellings; the first such field is named."""
    if not isinstance(given, dict):
        return
    for name, other, inner in spec.doubles:
        if other != name and name in given and other in given:
            raise invalid(f"Request specifies both '{name}' and '{other}'; provide only one of them.")
        if inner is not None:
            value = given.get(name, given.get(other))
            for item in value if isinstance(value, list) else [value]:
                _require_one_spelling(inner, item)


def _fill(spec: Spec | Message, given: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Put what fits into `values`, in the order given, up to the first that does not. Raises: _Unfit."""
    fields, names = spec.fields, spec.names
    for key, value in given.items():
        name = names.get(key)
        if name is None or value is None:
            continue
        kind = fields[name]
        if type(kind) is str:
            values[name] = _simple(kind, value)
        elif isinstance(kind, Repeated):
            if not isinstance(value, list):
                raise _Unfit
            values[name] = found = []
            for item in value:
                if item is None:
                    raise _Unfit
                found.append(_one(kind.kind, item))
        else:
            found_one = _one(kind, value)
            if found_one is not None:
                values[name] = found_one


def _one(kind: Any, value: Any) -> Any:
    if type(kind) is str:
        return _simple(kind, value)
    if isinstance(kind, Message):
        if not isinstance(value, dict):
            raise _Unfit
        inner: dict[str, Any] = {}
        _fill(kind, value, inner)
        return inner
    if isinstance(kind, Enum):
        return _word(kind, value)
    if isinstance(kind, Map):
        if not isinstance(value, dict):
            raise _Unfit
        return {_text(key): _text(item) for key, item in value.items()}
    raise AssertionError(f"{kind!r} is no kind of field")


def _simple(kind: str, value: Any) -> Any:
    """A value of one of the kinds that have a name; what most requests hold is seen first."""
    if kind == TEXT:
        return _text(value)
    if kind == DOUBLE:
        return value if type(value) is float and -_LARGEST <= value <= _LARGEST else _double(value)
    if kind == INT:
        return value if type(value) is int and -(1 << 63) <= value < 1 << 63 else _integer(value, 63)
    if kind == INT32:
        return _integer(value, 31)
    if kind == VALUE:
        return _any(value)
    assert kind == BOOL, f"{kind!r} is no kind of field"
    if not isinstance(value, bool):
        raise _Unfit
    return value


def _word(kind: Enum, value: Any) -> str | None:
    """The word of an enum; None for a word that it does not have, which is left out."""
    if isinstance(value, str) and not value.lstrip("-").isdigit():
        return value if value in kind.words else None
    number = _integer(value, 31)
    for word, known in kind.words.items():
        if known == number:
            return word
    raise _Unfit


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise invalid("A text holds half of a surrogate pair, which is no character.") from error
    if "\x00" in value:
        raise invalid("A text may not hold the character U+0000.")
    return value


def _any(value: Any) -> Any:
    """Any JSON, whose texts are texts."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return [_any(item) for item in value]
    return {_text(key): _any(item) for key, item in value.items()} if isinstance(value, dict) else value


def _integer(value: Any, bits: int) -> int:
    if isinstance(value, bool):
        raise _Unfit
    if isinstance(value, float):
        if not value.is_integer():
            raise _Unfit
        value = int(value)
    elif isinstance(value, str):
        if len(value) > 20 or value != value.strip() or not value.isascii():
            raise _Unfit
        try:
            value = int(value)
        except ValueError as error:
            raise _Unfit from error
    if not isinstance(value, int) or not -(1 << bits) <= value < 1 << bits:
        raise _Unfit
    return value


def _double(value: Any) -> float:
    if isinstance(value, str):
        words = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
        if value in words:
            return words[value]
        if len(value) > 400 or "nan" in value.lower() or "inf" in value.lower():
            raise _Unfit
    if not isinstance(value, int | float | str):
        raise _Unfit
    try:
        found = float(value)
    except (ValueError, OverflowError) as error:
        raise _Unfit from error
    if math.isinf(found) and not (isinstance(value, float) and math.isinf(value)):
        raise _Unfit
    return found


def _check(name: str, value: Any, checks: Sequence[str | Check], *, is_whole: bool) -> None:
    for check in checks:
        if check == "required":
            if value is None or value == "":
                raise invalid(f"Missing value for required parameter '{name}'.{_DOCS}")
        elif isinstance(check, str):
            if not is_whole and not _TYPES[check](value):
                raise _mistyped(name, value)
        elif not _holds(check, value):
            raise _mistyped(name, value)


def _holds(check: Check, value: Any) -> bool:
    """Whether a value may stand; one that the check cannot even be asked of may not."""
    try:
        return check(value)
    except (TypeError, ValueError, OverflowError):
        return False


_DOCS = " See the API docs for more information about request parameters."


def _mistyped(name: str, value: Any) -> Refused:
    hint = f" Hint: Value was of type '{type(value).__name__}'."
    return invalid(invalid_value(name, value, hint) + _DOCS)


def _is_intlike(value: Any) -> bool:
    try:
        return isinstance(value, int) or isinstance(int(value), int)
    except (ValueError, TypeError, OverflowError):
        return False


def _is_floatlike(value: Any) -> bool:
    try:
        return isinstance(float(value), float)
    except (ValueError, TypeError, OverflowError):
        return False


_TYPES: Mapping[str, Check] = {
    "text": lambda value: isinstance(value, str),
    "int": _is_intlike,
    "float": _is_floatlike,
    "bool": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "texts": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
}


def fields_present(name: str, *keys: str) -> Check:
    """A check that every item of a list has these keys, not empty."""

    def check(value: Any) -> bool:
        for place, item in enumerate(value if isinstance(value, list) else []):
            if not isinstance(item, dict):
                return False
            for key in keys:
                if item.get(key) is None or item.get(key) == "":
                    raise invalid(f"Missing value for required parameter '{name}[{place}].{key}'.{_DOCS}")
        return isinstance(value, list)

    return check


def _spellings(fields: Mapping[str, Any]) -> Mapping[str, str]:
    return {_json_name(name): name for name in fields} | {name: name for name in fields}


def _doubles(fields: Mapping[str, Any]) -> Sequence[tuple[str, str, Message | None]]:
    found: list[tuple[str, str, Message | None]] = []
    for name, kind in fields.items():
        inner = kind.kind if isinstance(kind, Repeated) else kind
        held = inner if isinstance(inner, Message) else None
        if held is not None or _json_name(name) != name:
            found.append((name, _json_name(name), held))
    return found


@functools.cache
def _json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
