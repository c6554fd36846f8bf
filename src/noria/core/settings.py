"""Tables of a parsed TOML file as frozen dataclasses: every key is one of theirs, every value of its field's type."""

from __future__ import annotations

import dataclasses
import datetime
import math
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from noria.core.clock import duration
from noria.core.errors import ConfigError
from noria.core.lazy import lazy
from noria.core.size import size_bytes

if TYPE_CHECKING:
    import difflib
else:
    difflib = lazy("difflib")

__all__ = ["named", "numbers", "require_one_of", "struct", "table_of", "unknown_key", "value_of"]

T = TypeVar("T")
_DURATIONS = frozenset(
    {"answer_timeout", "approve_within", "cooldown", "deadline", "delay", "every", "fresh", "grace", "read_timeout"}
)


def named(kind: type[Any], value: Any, where: str, path: str) -> dict[str, Any]:
    """Tables by name, each a dataclass. Raises: ConfigError."""
    return {name: struct(kind, item, where, f"{path}.{name}") for name, item in table_of(value, where, path).items()}


def struct(kind: type[T], value: Any, where: str, path: str) -> T:
    """A table as a dataclass. Raises: ConfigError naming the nearest key, or the value that does not fit."""
    table = table_of(value, where, path)
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise unknown_key(key, tuple(hints), where, path)
    return kind(**{key: value_of(hints[key], item, where, f"{path}.{key}") for key, item in table.items()})


def numbers(value: Any, where: str, path: str, known: tuple[str, ...]) -> dict[str, float]:
    """A table of numbers whose keys are known. Raises: ConfigError."""
    table = table_of(value, where, path)
    for key in table:
        if key not in known:
            raise unknown_key(key, known, where, path)
    return {key: value_of(float, item, where, f"{path}.{key}") for key, item in table.items()}


def value_of(expected: Any, value: Any, where: str, path: str) -> Any:
    """Check one value against a field's type; the only types in use are those handled here."""
    origin = typing.get_origin(expected)
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return struct(expected, value, where, path)
    if origin in (typing.Union, types.UnionType):
        return value_of(typing.get_args(expected)[0], value, where, path)
    if origin is tuple and dataclasses.is_dataclass(typing.get_args(expected)[0]):
        if not isinstance(value, list):
            raise ConfigError(f"{path} must be a list of tables, each under [[{path}]]", where=where)
        return tuple(struct(typing.get_args(expected)[0], each, where, path) for each in value)
    if origin is tuple:
        if isinstance(value, str) and ".match." in path:  # one pattern stands for a list of one
            value = [value]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{path} must be a list of texts", where=where)
        return tuple(value)
    if origin is not None:
        kind = typing.get_args(expected)[1]
        return {key: value_of(kind, item, where, f"{path}.{key}") for key, item in table_of(value, where, path).items()}
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ConfigError(
            f"{path} must be {_word(expected)}, not {_shown(value)}", where=where, hint=_quoted(expected, value, path)
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} must be a finite number, not {value}", where=where)
    if value and path.rpartition(".")[2] in _DURATIONS and isinstance(value, str):
        try:
            duration(value)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}", where=where) from error
        if path in ("server.answer_timeout", "server.read_timeout") and not duration(value):
            raise ConfigError(f"{path} must be longer than nothing", where=where)
    if path == "store.cache":
        try:
            size_bytes(value)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}", where=where) from error
    return value


def table_of(value: Any, where: str, path: str) -> Mapping[str, Any]:
    """The value, if it is a table. Raises: ConfigError."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path} must be a table, not {_shown(value)}", where=where)
    return value


def require_one_of(value: str, known: tuple[str, ...], where: str, path: str) -> None:
    """Raises: ConfigError naming the known words for another."""
    if value not in known:
        raise ConfigError(f'{path} is "{value}"', where=where, hint=f"one of: {', '.join(filter(None, known))}")


def unknown_key(key: str, known: tuple[str, ...], where: str, path: str, hint: str = "") -> ConfigError:
    """What is raised for a key that nobody knows: it names the nearest."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    place = f"[{path}] " if path else ""
    return ConfigError(
        f"{place}has no key {key!r}" if place else f"there is no table [{key}]",
        where=where,
        hint=f"did you mean {near[0]!r}?" if near else hint or f"valid keys: {', '.join(sorted(known))}",
    )


def _word(kind: Any) -> str:
    return {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}.get(kind, str(kind))


def _shown(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else repr(value)


def _quoted(expected: Any, value: Any, path: str) -> str:
    """How a text is written, where something else stands for one."""
    if expected is not str:
        return ""
    key = path.rpartition(".")[2]
    text = _shown(value) if isinstance(value, datetime.date | datetime.time) else "…"
    return f'a text stands in quotes: {key} = "{text}"'
