"""The one definition of sameness: canonical JSON, digests, sortable ids.

Two things are the same when their canonical bytes have the same sha-256. Everything else
(facts, trees, step keys, releases) builds on the functions here. There is no clock and no
randomness in this module: ids take both as arguments.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring
from typing import NewType, TypeAlias

__all__ = ["JSON", "Digest", "canonical", "digest", "is_digest", "is_exact", "short", "sortable_id"]

Digest = NewType("Digest", str)
JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_EXACT_INT = 2**53
NAMES_KEPT = 2_000
"""So many keys of objects are remembered as they are written."""


def digest(content: bytes) -> Digest:
    """The name of some bytes: `sha256:` and 64 lowercase hex digits."""
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())


def is_digest(text: str) -> bool:
    """Whether the text has the form of a digest."""
    return _DIGEST.fullmatch(text) is not None


def short(name: str, length: int = 12) -> str:
    """The first hex digits of a digest, for people; any other text unchanged."""
    return name[7 : 7 + length] if is_digest(name) else name


def canonical(value: JSON) -> bytes:
    """The only bytes of a JSON value: sorted keys, no spaces, shortest numbers, UTF-8.

    Integers beyond 2**53 (save those that are the digits of a float) and NaN or infinite floats are
    refused, because other languages would read something else. 1.0 and 1 are the same number, and so the same bytes.
    Tuples are arrays. Raises: ValueError for what JSON cannot say exactly.
    Source: RFC 8785 (JSON Canonicalization Scheme), with ECMAScript's number format.
    """
    return _said(value).encode("utf-8")


def sortable_id(prefix: str, at_ms: int, random_80: int) -> str:
    """An id whose text order is time order: prefix, `_`, 26 characters of base 32.

    Args:
        at_ms: milliseconds since the epoch, below 2**48.
        random_80: a random integer below 2**80.
    Source: the ULID layout (48-bit time, 80-bit randomness, Crockford's alphabet, here lower case).
    """
    if not 0 <= at_ms < 2**48 or not 0 <= random_80 < 2**80:
        raise ValueError("at_ms must fit 48 bits and random_80 must fit 80 bits")
    number = (at_ms << 80) | random_80
    digits = [_CROCKFORD[(number >> shift) & 31] for shift in range(125, -5, -5)]
    return f"{prefix}_{''.join(digits)}"


def is_exact(value: int) -> bool:
    """Whether a JSON number can say that integer to every reader, as `canonical` asks."""
    return abs(value) <= _EXACT_INT or _is_number_text(value)


def _said(value: JSON) -> str:
    """What a value is in canonical JSON; the types that are met most come first."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value) if value.isascii() else _text(value)  # type: ignore[union-attr, arg-type]  # a text
    if kind is int and -_EXACT_INT <= value <= _EXACT_INT:  # type: ignore[operator]  # a number
        return str(value)
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if kind is dict:
        return _object(value)  # type: ignore[arg-type]  # a dict
    if kind is list or kind is tuple:
        return "[" + ",".join([*map(_said, value)]) + "]" if value else "[]"  # type: ignore[arg-type]  # a sequence
    return _seldom(value)


def _seldom(value: JSON) -> str:
    """What a number is, and whatever only behaves as a type of JSON."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if not is_exact(value):
            raise ValueError(f"{value} is beyond 2**53 and has no exact JSON form")
        return str(int(value))
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return "[" + ",".join([*map(_said, value)]) + "]"
    raise ValueError(f"{type(value).__name__} has no JSON form")


def _object(value: Mapping[str, JSON]) -> str:
    try:
        is_plain = "".join(value).isascii()  # most are: then the order of code points is that of UTF-16
    except TypeError as error:
        other = next(type(key).__name__ for key in value if not isinstance(key, str))
        raise ValueError(f"an object key must be text, not {other}") from error
    parts: list[str] = []
    for key in sorted(value) if is_plain else sorted(value, key=lambda k: k.encode("utf-16-be")):
        parts.append(_name(key) + _said(value[key]))
    return "{" + ",".join(parts) + "}"


@functools.lru_cache(maxsize=NAMES_KEPT)
def _name(key: str) -> str:
    """A key with its colon: the same few hundred stand in every fact."""
    return _text(key) + ":"


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("text with a lone surrogate has no JSON form") from error
    return encode_basestring(value)


def _number(value: float) -> str:
    """ECMAScript's Number::toString, from Python's shortest round-trip repr."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent_text = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = int(exponent_text or 0) + len(whole)
    if whole == "0":
        point = int(exponent_text or 0) - (len(fraction) - len(fraction.lstrip("0")))
    digits = digits.rstrip("0")
    return sign + _layout(digits, point)


def _is_number_text(value: int) -> bool:
    """Whether the digits are just those of a float, so that canonical bytes can be read and written again."""
    return abs(value) < 10**21 and _number(float(value)) == str(value)


def _layout(digits: str, point: int) -> str:
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    exponent = point - 1
    head = digits if count == 1 else digits[0] + "." + digits[1:]
    return f"{head}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
