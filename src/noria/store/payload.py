"""Payloads of facts as canonical JSON and back: dataclasses, tuples, mappings, optionals.

What a projection sees at append is decoded from what was stored, so that a replay sees the same
value to the last bit. A missing field takes its default, and one that a newer Noria added is left
alone (the stored fact keeps it). There is one decoder a type, built once from its annotations.

A field of the type int that JSON's numbers cannot say exactly, such as a step in nanoseconds, is stored as its
decimal text, up to 64 bits: what a database's column holds.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from noria.core.errors import Corrupt
from noria.core.identity import JSON, is_exact

__all__ = ["decode", "encode"]

Decoder = Callable[[Any], Any]
_SIMPLE = frozenset({str, int, bool, float, types.NoneType})
"""Types whose values are JSON as they are."""
_EXACT = (str, int, bool)
EXACT = 1 << 53
LARGEST = 1 << 63


def encode(payload: object) -> dict[str, JSON]:
    """The data of a payload: its fields as JSON values. Raises: TypeError for a value JSON lacks."""
    assert dataclasses.is_dataclass(payload), "a payload is a dataclass"
    cls: Any = type(payload)
    found: dict[str, JSON] = {}
    for name in _names(cls):
        value = getattr(payload, name)
        found[name] = value if type(value) in _SIMPLE else _plain(value)
        if type(value) is int and not -EXACT <= value <= EXACT and _is_text(value) and name in _integers(cls):
            found[name] = str(value)
    return found


def decode(cls: Any, data: Mapping[str, JSON]) -> Any:
    """The payload of that class. Raises: Corrupt if the data does not fit it."""
    try:
        return _decoder(cls)(data)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise Corrupt(f"a stored {cls.__name__} does not have its fields: {error}") from error


@functools.cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


@functools.cache
def _integers(cls: Any) -> frozenset[str]:
    return frozenset(name for name, hint in _hints(cls).items() if hint is int)


def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, vars(sys.modules[cls.__module__]), {"JSON": Any})


def _is_text(value: int) -> bool:
    """Whether a field of the type int stands as a text: 64 bits are enough for it, and no JSON number."""
    return -LARGEST <= value < LARGEST and not is_exact(value)


def _plain(value: Any) -> JSON:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return encode(value)
    raise TypeError(f"{type(value).__name__} cannot be in a fact")


@functools.cache
def _decoder(expected: Any) -> Decoder:
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        return _optional(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin in (collections.abc.Mapping, dict):
        item = _decoder(arguments[1])
        return lambda value: {key: item(inner) for key, inner in value.items()}
    if origin in (collections.abc.Sequence, list):
        return _tuple((arguments[0], ...))
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return _dataclass(expected)
    if expected is float:
        return _float
    if expected is int:
        return _integer
    if expected in _EXACT:
        return functools.partial(_exactly, expected)
    return lambda value: value


def _optional(arguments: tuple[Any, ...]) -> Decoder:
    rest = [argument for argument in arguments if argument is not types.NoneType]
    if len(rest) != 1:
        return lambda value: value
    inner = _decoder(rest[0])
    return lambda value: None if value is None else inner(value)


def _tuple(arguments: tuple[Any, ...]) -> Decoder:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        item = _decoder(arguments[0])
        return lambda value: tuple(item(inner) for inner in value)
    parts = [_decoder(argument) for argument in arguments]
    return lambda value: tuple(part(inner) for part, inner in zip(parts, value, strict=True))


def _dataclass(cls: Any) -> Decoder:
    hints = _hints(cls)
    fields = [(name, hints[name] if hints[name] in _EXACT else None, _decoder(hints[name])) for name in _names(cls)]

    def build(value: Any) -> Any:
        given = {}
        for name, exact, decoder in fields:
            if name in value:
                item = value[name]
                given[name] = item if type(item) is exact else decoder(item)
        return cls(**given)

    return build


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{type(value).__name__} in place of a number")
    return float(value)


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is str and value.lstrip("-").isdecimal() and str(int(value)) == value and _is_text(int(value)):
        return int(value)
    raise ValueError(f"{type(value).__name__} in place of int")


def _exactly(expected: type[Any], value: Any) -> Any:
    if type(value) is not expected:
        raise ValueError(f"{type(value).__name__} in place of {expected.__name__}")
    return value
