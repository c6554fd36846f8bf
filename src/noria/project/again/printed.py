"""What a script printed, without what is another in every run: for comparing two logs line by line.

Taken out are the colours of terminals, progress bars, moments and durations, addresses of objects, process ids and the
folders that a run was laid out in. Pure. Two streams come by pipes of their own, and Python writes them out when it
likes, so lines in another order are no difference.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

__all__ = ["difference", "normal"]

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = re.compile(r"\d+%\s*\||[\u2500-\u259f]{3,}|\[[=>#.\-]{5,}\]|\bit/s\b|\bs/it\b|\b(?:m?s|us)/(?:step|epoch)\b")
_TIMES: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?: [A-Z]+)? \d{4}"), "<time>"),
    (re.compile(r"\b\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d+)?\b"), "<time>"),
    (
        re.compile(
            r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?\s?(?:ns|us|µs|ms|s|secs?|seconds?|min|mins|minutes?|hours?)\b"
        ),
        "<duration>",
    ),
    (re.compile(r"\b0x[0-9a-fA-F]{6,}\b"), "<address>"),
    (re.compile(r"\b(pid|PID)([ =:]+)\d+"), r"\1\2<pid>"),
)
_SHOWN = 80


def normal(log: bytes, places: Sequence[tuple[str, str]] = ()) -> str:
    """A log without what is another in every run.

    Args:
        places: (folder, what stands for it), the more particular first.
    """
    text = _COLOUR.sub("", log.decode("utf-8", "replace")).replace("\r\n", "\n")
    for folder, name in places:
        text = text.replace(folder, name)
    lines = [line.rpartition("\r")[2] for line in text.split("\n")]
    for pattern, name in _TIMES:
        lines = [pattern.sub(name, line) if not _BAR.search(line) else "" for line in lines]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def difference(then: str, now: str) -> str:
    """The first line of two normal logs that is another, in words; "" if they hold the same lines."""
    one, other = then.splitlines(), now.splitlines()
    if Counter(one) == Counter(other):
        return ""
    for number, (was, is_) in enumerate(zip_longest(one, other), start=1):
        if was != is_:
            return f"line {number}: {_shown(was)} -> {_shown(is_)}"
    raise AssertionError("the same lines were counted otherwise")


def _shown(line: str | None) -> str:
    if line is None:
        return "nothing"
    return repr(line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…")
