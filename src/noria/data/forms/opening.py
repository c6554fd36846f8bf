"""How a table file is opened for Arrow, whatever its name and packing, and what is said of one that cannot be read."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

from noria.core.errors import UsageError

__all__ = ["check_end", "compression", "open_text", "openable", "reason"]

_BLOCK_BYTES = 1 << 20
_LINE_END = b"\n"


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


def check_end(path: Path, name: str, last: str) -> None:
    """See that a CSV file does not end inside a quoted value: Arrow takes the rest of the file for that value.

    Args:
        last: the last value of the last row, as it was read.
    Raises: UsageError naming the line in which the quote was opened.
    """
    content = last.encode("utf-8")
    written = content.replace(b'"', b'""')
    with open_text(path, name) as stream:
        if isinstance(stream, io.BufferedReader):
            stream.seek(max(path.stat().st_size - len(written) - 2, 0))
        end = b""
        while block := stream.read(_BLOCK_BYTES):
            end = (end + block)[-len(written) - 2 :]
    is_open = end.endswith(b'"' + written)
    if not content.strip(b'"'):  # nothing, or quotes alone: who closed it wrote an even number of them
        is_open = (len(end) - len(end.rstrip(b'"'))) % 2 == 1
    if is_open:
        with open_text(path, name) as stream:
            lines = sum(block.count(_LINE_END) for block in iter(lambda: stream.read(_BLOCK_BYTES), b""))
        raise UsageError(
            f"{name} is broken: a quote opened in line {lines - content.count(_LINE_END) + 1} never closes",
            hint="close the quote; is the file cut off?",
        )


def reason(error: Exception) -> str:
    """Arrow's own words, first line, without the values that it sometimes quotes."""
    return str(error).splitlines()[0].split(": '")[0][:120]


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
