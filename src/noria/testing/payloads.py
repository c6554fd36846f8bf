"""Payloads of any declared kind of fact, drawn at random from its annotations.

Names are drawn from small pools, so that facts of a sequence meet: a release that was made is moved,
a run that started finishes, a version is registered twice. For the test that records are the fold of
the facts, whatever the slices.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import random
import sys
import types
import typing
from typing import Any

from noria.core.fact import Kinds
from noria.core.identity import digest

__all__ = ["random_payload"]

NAMES = 3
MOMENTS = ("2026-01-01T00:00:00.000000Z", "2026-01-08T12:30:00.500000Z", "2026-02-01T00:00:00.000000Z")
WORDS: typing.Mapping[str, tuple[str, ...]] = {
    "after": ("candidate", "validated", "staging", "shadow", "canary", "production", "retired", "rejected"),
    "before": ("candidate", "validated", "staging", "shadow", "canary", "production", "retired", "rolled back"),
    "status": (
        "done",
        "cached",
        "failed",
        "killed",
        "skipped",
        "finished",
        "stopped",
        "lost",
        "cancelled",
        "preempted",
    ),
    "decision": ("train", "wait", "stopped", "promote", "refuse"),
    "outcome": ("promoted", "rolled back", "held"),
    "environment": ("local", "production"),
    "severity": ("error", "warning"),
}
_TIMES = frozenset({"at", "as_of", "began", "ended", "start", "end", "event_min", "event_max", "time_min", "time_max"})
_DIGESTS = frozenset(
    {"tree", "parent", "bundle", "digest", "content", "report", "suite", "policy", "segment", "document", "config"}
)


def random_payload(chance: random.Random, kinds: Kinds, kind: str) -> Any:
    """A payload of that kind; every field has a value of its type, and defaults are used now and then."""
    return _of(kinds.payload_class(kind), chance)


def _of(cls: type[Any], chance: random.Random) -> Any:
    hints = typing.get_type_hints(cls, vars(sys.modules[cls.__module__]), {"JSON": Any})
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if has_default and chance.random() < 0.3:
            continue
        values[field.name] = _value(hints[field.name], field.name, chance)
    return cls(**values)


def _value(expected: Any, name: str, chance: random.Random) -> Any:
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        chosen = chance.choice(arguments)
        return None if chosen is types.NoneType else _value(chosen, name, chance)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return tuple(_value(argument, name, chance) for argument in arguments)
    if origin in (tuple, list, collections.abc.Sequence):
        return tuple(_value(arguments[0], name, chance) for _ in range(chance.randrange(3)))
    if origin in (dict, collections.abc.Mapping):
        return {f"{name}-{i}": _value(arguments[1], name, chance) for i in range(chance.randrange(3))}
    if isinstance(expected, type) and dataclasses.is_dataclass(expected):
        return _of(expected, chance)
    if expected is str:
        return _text(name, chance)
    if expected is bool:
        return chance.random() < 0.5
    if expected is int:
        return chance.randrange(NAMES + 1)
    if expected is float:
        return chance.choice((0.0, 1.0, 0.1, -2.5, 1e-9, 123456.789))
    return chance.choice((None, True, 3, 0.25, "text", [1, "a"], {"a": None}))


def _text(name: str, chance: random.Random) -> str:
    if name in WORDS:
        return chance.choice(WORDS[name])
    if name in _TIMES:
        return chance.choice(MOMENTS)
    number = chance.randrange(NAMES)
    if name in _DIGESTS:
        return digest(f"{name}{number}".encode())
    return f"{name}-{number}é"
