"""Plain values as JSON without loss: what JSON cannot say is an object with one `$` key.

Equal values give equal bytes: sets are sorted; dictionaries keep their order, because a step can see it.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import pathlib
import sys
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from noria.core.lazy import is_one, lazy

if TYPE_CHECKING:
    import decimal
    import fractions
    import zoneinfo
else:
    decimal = lazy("decimal")
    fractions = lazy("fractions")
    zoneinfo = lazy("zoneinfo")

__all__ = ["CONTAINERS", "Unstorable", "from_json", "plain_bytes", "plain_value", "to_json"]

np = lazy("numpy")

_DECIMAL_BITS = 2000
"""Below the least limit of digits that can be set (640)."""
_EXACT_INT = 2**53
CONTAINERS = (list, tuple, dict, OrderedDict, set, frozenset)
"""What holds other values, and is given back as the very class that it was."""


class Unstorable(Exception):
    """A value that no serialiser keeps without loss; `reason` and `hint` are for people."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


Part = Callable[[Any], Any]
"""Takes a value that is not plain and gives its JSON stand-in; raises Unstorable."""


def _no_part(value: Any) -> Any:
    raise Unstorable(f"a {type(value).__name__} is not a plain value")


def plain_bytes(value: Any) -> bytes:
    """The JSON text of a plain value. Raises: Unstorable for any other."""
    return json.dumps(to_json(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def plain_value(content: bytes) -> Any:
    """The value of `plain_bytes`."""
    return from_json(json.loads(content))


def to_json(value: Any, part: Part = _no_part) -> Any:
    """A JSON form of a value; `part` stands in for what is not plain."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if abs(value) <= _EXACT_INT else {"$": "int", "v": _digits(value)}
    if kind is float:
        is_plain = math.isfinite(value) and not (value == 0 and math.copysign(1, value) < 0)
        return value if is_plain else {"$": "float", "v": repr(value)}
    writer = _WRITERS.get(kind) or (str if _is_exact_number(value) else None)
    if writer is not None:
        return {"$": kind.__name__, "v": writer(value)}
    if kind is list:
        return [to_json(item, part) for item in value]
    if kind is tuple:
        return {"$": "tuple", "v": [to_json(item, part) for item in value]}
    if kind in (set, frozenset):
        items = [to_json(item, part) for item in value]
        return {"$": kind.__name__, "v": sorted(items, key=lambda item: json.dumps(item, sort_keys=True))}
    if kind is dict:
        if all(type(key) is str and key != "$" for key in value):
            return {key: to_json(item, part) for key, item in value.items()}
        return {"$": "dict", "v": [[to_json(key, part), to_json(item, part)] for key, item in value.items()]}
    if kind is OrderedDict:
        return {"$": "OrderedDict", "v": [[to_json(key, part), to_json(item, part)] for key, item in value.items()]}
    if kind is type(pathlib.Path()):
        return {"$": "path", "v": str(value)}
    return _write_scalar(value) if _is_scalar(value) else part(value)


def _digits(value: int) -> str:
    """Decimal, and hexadecimal where Python refuses to write, or to read, so many decimal digits."""
    return str(value) if value.bit_length() < _DECIMAL_BITS else hex(value)


def from_json(document: Any, part: Part = _no_part) -> Any:
    """The value of `to_json`."""
    if isinstance(document, list):
        return [from_json(item, part) for item in document]
    if not isinstance(document, dict):
        return document
    kind = document.get("$")
    if kind is None:
        return {key: from_json(item, part) for key, item in document.items()}
    if kind in _READERS:
        return _READERS[kind](document["v"])
    if kind == "numpy":
        return _read_scalar(document)
    if kind in ("tuple", "set", "frozenset"):
        items = [from_json(item, part) for item in document["v"]]
        return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](items)
    if kind in ("dict", "OrderedDict"):
        pairs = ((from_json(key, part), from_json(item, part)) for key, item in document["v"])
        return dict(pairs) if kind == "dict" else OrderedDict(pairs)
    return part(document)


def _is_scalar(value: Any) -> bool:
    """Whether it is one number, text, flag or moment of numpy, which its type and bytes say wholly."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic):
        return False
    padded = value.dtype.kind in "fc" and value.dtype.itemsize in (12, 16, 24, 32) and value.dtype.char != "D"
    return value.dtype.kind in "biufcmMSU" and not padded  # a long double has bytes that mean nothing


def _is_exact_number(value: Any) -> bool:
    """Whether it is a Decimal or a Fraction itself, not of a class of somebody's below them."""
    name = type(value).__name__
    return (name == "Decimal" and is_one(value, "decimal.Decimal") and type(value) is decimal.Decimal) or (
        name == "Fraction" and is_one(value, "fractions.Fraction") and type(value) is fractions.Fraction
    )


def _write_scalar(value: Any) -> dict[str, str]:
    return {"$": "numpy", "dtype": value.dtype.str, "v": base64.b64encode(value.tobytes()).decode("ascii")}


def _read_scalar(document: Any) -> Any:
    dtype, content = np.dtype(document["dtype"]), base64.b64decode(document["v"])
    return np.frombuffer(content, dtype=dtype)[0] if dtype.itemsize else dtype.type()


def _zone_text(value: datetime.tzinfo | None) -> str:
    if value is None:
        return ""
    if is_one(value, "zoneinfo.ZoneInfo") and (key := getattr(value, "key", None)):
        return str(key)
    if isinstance(value, datetime.timezone):
        return f"offset:{value.utcoffset(None) // datetime.timedelta(microseconds=1)}"
    raise Unstorable(f"time zone {value!r} has no name", "use zoneinfo.ZoneInfo or datetime.timezone")


def _zone(text: str) -> datetime.tzinfo | None:
    if text.startswith("offset:"):
        return datetime.timezone(datetime.timedelta(microseconds=int(text[7:])))
    return zoneinfo.ZoneInfo(text) if text else None


def _write_moment(value: Any) -> list[Any]:
    return [value.replace(tzinfo=None).isoformat(), _zone_text(value.tzinfo), value.fold]


def _read_datetime(document: list[Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(document[0]).replace(tzinfo=_zone(document[1]), fold=document[2])


def _read_time(document: list[Any]) -> datetime.time:
    return datetime.time.fromisoformat(document[0]).replace(tzinfo=_zone(document[1]), fold=document[2])


def _read_decimal(text: str) -> decimal.Decimal:
    return decimal.Decimal(text)


def _read_fraction(text: str) -> fractions.Fraction:
    return fractions.Fraction(text)


_WRITERS: dict[type, Callable[[Any], Any]] = {
    bytes: lambda value: base64.b64encode(value).decode("ascii"),
    bytearray: lambda value: base64.b64encode(value).decode("ascii"),
    complex: lambda value: [value.real.hex(), value.imag.hex()],
    uuid.UUID: str,
    datetime.datetime: _write_moment,
    datetime.date: lambda value: value.isoformat(),
    datetime.time: _write_moment,
    datetime.timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    range: lambda value: [value.start, value.stop, value.step],
    **dict.fromkeys((pathlib.PurePosixPath, pathlib.PureWindowsPath), str),
    type(Ellipsis): lambda value: None,
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 0),
    "float": float,
    "bytes": base64.b64decode,
    "bytearray": lambda text: bytearray(base64.b64decode(text)),
    "complex": lambda parts: complex(float.fromhex(parts[0]), float.fromhex(parts[1])),
    "Decimal": _read_decimal,
    "Fraction": _read_fraction,
    "UUID": uuid.UUID,
    "datetime": _read_datetime,
    "date": datetime.date.fromisoformat,
    "time": _read_time,
    "timedelta": lambda parts: datetime.timedelta(*parts),
    "range": lambda parts: range(*parts),
    "path": pathlib.Path,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
    "ellipsis": lambda _: ...,
}
