"""Texts of values, for people: in one line if they are short, else an entry a line, so that a change has its lines.

No addresses, which are others in each process, and of what has a secret's name no value.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from noria.pipeline.code.confidential import HIDDEN, has_secret_name

__all__ = ["LIMIT", "rendered"]

LIMIT = 20_000
"""Characters of one value: what is behind them is not shown."""
WIDTH = 100
_DEPTH = 8
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_BRACKETS: Mapping[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
    collections.deque: ("deque([", "])"),
}
_MAPPINGS = (dict, collections.OrderedDict, collections.defaultdict, collections.Counter, types.MappingProxyType)


def rendered(value: Any, name: str = "") -> str:
    """The text of a value; of one whose name is a secret's only that it is one."""
    if has_secret_name(name, value):
        return HIDDEN
    found: list[str] = []
    length = 0
    try:
        for line in _lines(value, "", frozenset()):
            found.append(line)
            length += len(line) + 1
            if length > LIMIT:
                break
    except Exception:  # noqa: BLE001  # the boundary to the project's code: entries and fields may raise when asked
        return f"<{type(value).__name__}>"
    return "\n".join(found)[:LIMIT]


def _lines(value: Any, indent: str, inside: frozenset[int]) -> Iterator[str]:
    """The lines of a value: only as many are made as are asked for."""
    kind = type(value)
    if kind is str and ("\n" in value or len(value) > WIDTH):
        yield from (f"{indent}{line}" for line in value[: LIMIT + 1].split("\n"))
    elif (id(value) in inside or len(inside) > _DEPTH) and (kind in _BRACKETS or kind in _MAPPINGS):
        yield f"{indent}..."
    elif kind in _BRACKETS:
        items = sorted(value, key=repr) if kind in (set, frozenset) else value
        parts = (_lines(item, "", inside | {id(value)}) for item in items)
        yield from _bracketed(*_BRACKETS[kind], parts, indent)
    elif kind in _MAPPINGS:
        head = "{" if kind is dict else f"{kind.__name__}({{"
        pairs = (_entry(_short(key), key, item, inside | {id(value)}) for key, item in value.items())
        yield from _bracketed(head, "}" if kind is dict else "})", pairs, indent)
    elif dataclasses.is_dataclass(kind) and kind.__repr__.__qualname__ == f"{kind.__qualname__}.__repr__":
        fields = [each.name for each in dataclasses.fields(value) if each.repr and hasattr(value, each.name)]
        inner = inside | {id(value)}
        parts = (_entry(each, each, getattr(value, each), inner, "=") for each in fields)
        yield from _bracketed(f"{kind.__qualname__}(", ")", parts, indent)
    else:
        yield from (f"{indent}{line}" for line in _short(value).split("\n"))


def _entry(shown: str, key: Any, item: Any, inside: frozenset[int], mark: str = ": ") -> Iterator[str]:
    if isinstance(key, str) and has_secret_name(key, item):
        yield f"{shown}{mark}{HIDDEN}"
        return
    lines = _lines(item, "", inside)
    first = next(lines)
    if type(item) is str and ("\n" in item or len(item) > WIDTH):
        yield f"{shown}{mark.rstrip()}"
        yield f"    {first}"
        yield from (f"    {line}" for line in lines)
    else:
        yield f"{shown}{mark}{first}"
        yield from lines


def _bracketed(head: str, tail: str, parts: Iterable[Iterator[str]], indent: str) -> Iterator[str]:
    """In one line where all fits into it; else each part in lines of its own. Only the begin is looked at for that."""
    begun: list[list[str]] = []
    length = 0
    rest = iter(parts)
    for part in rest:
        lines = []
        for line in part:
            lines.append(line)
            length += len(line) + 2
            if length > WIDTH:
                break
        begun.append(lines)
        if length > WIDTH or len(lines) > 1:
            yield f"{indent}{head}"
            for known in begun:
                yield from (f"{indent}    {line}" for line in known)
            for other in itertools.chain([part], rest):
                yield from (f"{indent}    {line}" for line in other)
            yield f"{indent}{tail}"
            return
    comma = "," if head == "(" and len(begun) == 1 else ""
    yield f"{indent}{head}{', '.join(lines[0] for lines in begun)}{comma}{tail}"


def _short(value: Any) -> str:
    """As `repr` says it."""
    if isinstance(value, bytes | bytearray) and len(value) > LIMIT:
        value = value[:LIMIT]
    try:
        return _ADDRESS.sub("", repr(value))
    except Exception:  # noqa: BLE001  # the boundary to the project's code, which has a __repr__; too large numbers
        return f"<{type(value).__name__}>"
