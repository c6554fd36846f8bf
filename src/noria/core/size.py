"""Sizes as values: the number of bytes that a text such as `512MB` or `2GiB` means."""

from __future__ import annotations

import re

__all__ = ["size_bytes"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_FACTORS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_FACTORS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def size_bytes(text: str) -> int:
    """The bytes of `2GiB`, `512MB`, or of a number alone.

    Raises: ValueError with the accepted forms.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 512MiB or 2GiB")
    return int(float(match[1]) * _FACTORS[match[2] or "B"])
