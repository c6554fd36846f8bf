"""What values of compiled types hold: their state can be asked for, though pickle knows no way to make them again.

Found by the full name of the type, so that nothing is imported to know it. Types whose state nobody tells
(`zlib.compressobj()`) are not here, nor those that each use changes and nobody shares on purpose (iterators).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["state_of"]

_DIALECT = (
    *("delimiter", "doublequote", "escapechar", "lineterminator", "quotechar", "quoting", "skipinitialspace"),
    "strict",
)
_SCANNER = ("strict", "object_hook", "object_pairs_hook", "parse_float", "parse_int", "parse_constant")


def state_of(value: Any) -> tuple[str, list[Any]] | None:
    """The name of a value's type and all that it holds; None if the type is not one of these."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    state = _STATES.get(name)
    return None if state is None else (name, state(value))


def _named(*names: str) -> Callable[[Any], list[Any]]:
    return lambda value: [getattr(value, name) for name in names]


def _stream(value: Any) -> list[Any]:
    """Content, what it makes of ends of lines, position, attributes."""
    return ["closed"] if value.closed else list(value.__getstate__())


def _compared(value: Any) -> list[Any]:
    """Of `functools.cmp_to_key`: the function, and what is compared if it has that. Only the collector tells."""
    return [each for each in gc.get_referents(value) if each is not type(value)]


def _view(value: Any) -> list[Any]:
    """Of a look at memory: how it reads it, whether it may write there, and the bytes."""
    try:
        return [value.format, value.shape, value.readonly, value.tobytes()]
    except ValueError:  # it was released
        return ["released"]


def _descriptor(value: Any) -> list[Any]:
    return [value.__name__, value.__objclass__]


_STATES: Mapping[str, Callable[[Any], list[Any]]] = {
    "_struct.Struct": _named("format"),
    "functools.KeyWrapper": _compared,
    "_io.StringIO": _stream,
    "_io.BytesIO": _stream,
    "_csv.Dialect": _named(*_DIALECT),
    "_json.Scanner": _named(*_SCANNER),
    "builtins.memoryview": _view,
    "re.Match": _named("re", "string", "pos", "endpos", "regs"),
    "_hashlib.HASH": lambda value: [value.name, value.digest()],
    "builtins.dict_keys": list,
    "builtins.dict_values": list,
    "builtins.dict_items": list,
    "builtins.getset_descriptor": _descriptor,
    "builtins.member_descriptor": _descriptor,
}
