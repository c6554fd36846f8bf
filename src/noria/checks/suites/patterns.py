"""Regular expressions as Arrow reads them (RE2): linear in the text, without look-around and back references."""

from __future__ import annotations

from functools import cache

from noria.checks.scanning.arrays import texts
from noria.core.lazy import lazy

pa = lazy("pyarrow")
pc = lazy("pyarrow.compute")

__all__ = ["fault"]


@cache
def fault(pattern: str) -> str:
    """Why a pattern cannot be read, or ""."""
    try:
        pc.match_substring_regex(texts([""]), pattern)
    except pa.ArrowInvalid as error:
        return str(error).partition(":")[2].strip() or str(error)
    return ""
