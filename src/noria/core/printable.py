"""Texts that come from outside, as a terminal and a fact can hold them.

A file name may hold anything but a slash and a zero: bytes that are no UTF-8 (which Python has as lone
surrogates), line ends, escape sequences. Shown as it is, it could not be encoded, or would act on the
terminal of whoever reads it. An exception of somebody else's code may say anything, or fail to.
"""

from __future__ import annotations

import unicodedata

__all__ = ["error_line", "first_line", "legible", "printable"]

LINE_MAX = 300
"""So much of an exception's text is told; the whole is in its traceback."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_KEPT = "\n\t\u200c\u200d"
_BYTE = 0xDC00
"""Where Python puts a byte that is no UTF-8 (PEP 383)."""


def printable(text: str) -> str:
    r"""A text whose unprintable characters are escaped as Python would: `\xff` for a byte, `\n`, `\u202e`.

    Example:
        >>> printable("a\nb\udcff")
        'a\\nb\\xff'
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def legible(text: str) -> str:
    r"""A text of several lines as it is, with what would act on a terminal escaped: `\u001b`, `\u202e`, `\r`.

    Line ends, tabs, blanks of every kind and the joiners that scripts and emoji need stay.

    Example:
        >>> legible("a\nb\x1b[2J")
        'a\nb\\u001b[2J'
    """
    if text.isprintable():
        return text
    kept = text.replace("\r\n", "\n")
    return "".join(mark if mark in _KEPT or unicodedata.category(mark) == "Zs" else _shown(mark) for mark in kept)


def first_line(error: BaseException, limit: int = LINE_MAX) -> str:
    r"""The first line of an exception's text, cut and escaped; "" if it has none. Gives one also if `str` raises.

    A line that ends with a colon has the next one with it, which it announces.

    Example:
        >>> first_line(ValueError("no\udcff\nmore"))
        'no\\xff'
        >>> first_line(ValueError("try:\n  - this\n  - that"))
        'try: - this'
    """
    try:
        lines = str(error).strip().splitlines()
    except Exception as fault:  # noqa: BLE001  # the boundary to whoever wrote the class: what it is of can be told
        return f"(its text cannot be made: {type(fault).__name__})"
    if len(lines) > 1 and lines[0].endswith(":"):
        lines[0] += f" {next((line.strip() for line in lines[1:] if line.strip()), '')}"
    return legible(lines[0][:limit].rstrip()) if lines else ""


def error_line(error: BaseException, limit: int = LINE_MAX) -> str:
    """Class and first line of an exception, as Python tells it: `ValueError: no`.

    Example:
        >>> error_line(KeyError("a")), error_line(KeyError())
        ("KeyError: 'a'", 'KeyError')
    """
    line = first_line(error, limit)
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _shown(mark: str) -> str:
    if mark.isprintable():
        return mark
    code = ord(mark)
    if _BYTE + 0x80 <= code <= _BYTE + 0xFF:
        return f"\\x{code - _BYTE:02x}"
    return _SHORT.get(mark) or (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
