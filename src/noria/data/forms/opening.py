"""How a table file is opened for Arrow, whatever its name and packing, and what is said of one that cannot be read."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

__all__ = ["compression", "open_text", "openable", "reason"]


class _SelfClosing(io.FileIO):
    """A file that is closed when Arrow, which was given it, lets it go."""

    def __del__(self) -> None:
        self.close()


def openable(path: Path) -> str | io.FileIO:
    """A file as Arrow opens it; one whose name is no UTF-8, which Arrow cannot say, as Python opened it."""
    name = str(path)
    return name if _is_utf8(name) else _SelfClosing(name)


def open_text(path: Path, name: str) -> gzip.GzipFile | io.BufferedReader:
    """The bytes of a text file, unpacked if its name says that it is packed."""
    return gzip.open(path) if compression(name) else path.open("rb")


def compression(name: str) -> Any:
    """How Arrow is to unpack a file of this name: "gzip", or None."""
    return "gzip" if name.lower().endswith(".gz") else None


def reason(error: Exception) -> str:
    """Arrow's own words, first line, without the values that it sometimes quotes."""
    return str(error).splitlines()[0].split(": '")[0][:120]


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
