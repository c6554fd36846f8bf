"""How far event time has come in log files, from their ends alone."""

from __future__ import annotations

from pathlib import Path

import msgspec

from noria.core.clock import instant, utc_text
from noria.serving import segment
from noria.store.linelog import read_lines

__all__ = ["newest_in"]

TAIL_BYTES = 1 << 16
FILES = 4


class _Timed(msgspec.Struct, frozen=True, gc=False):
    at: str = ""
    t: int = 0
    sh: str = ""


_decoder = msgspec.json.Decoder(_Timed)


def newest_in(folder: Path) -> str:
    """The greatest event time among the last lines of the newest log files, as UTC text; empty without any.

    Events come nearly in order, so the ends of the files hold the greatest time.
    """
    newest = ""
    for path in segment.sources(folder)[-FILES:]:
        newest = max(newest, _newest_of(path))
    return newest


def _newest_of(path: Path) -> str:
    try:
        size = path.stat().st_size
        start = max(0, size - TAIL_BYTES)
        if start:
            with path.open("rb") as stream:
                stream.seek(start)
                start += len(stream.readline())
    except FileNotFoundError:
        return ""
    payloads, _ = read_lines(path, start)
    times = {line.at for payload in payloads if (line := _decoder.decode(payload)).at and not line.sh}
    return max((utc_text(instant(text)) for text in times), default="")
