"""Times as values: one text form for UTC, durations such as `30d`, and the protocol of a clock.

Nothing here reads a clock; engines and tests bring one. The text form sorts as time does.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "duration", "instant", "utc_text"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d|w)")
_UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
LONGEST = timedelta(days=36_500)
"""A hundred years: added to a moment, or taken from one, it stays within what a date holds."""
SHOWN = 40


class Clock(Protocol):
    """Tells the time; the only source of it. Thread safe."""

    def now(self) -> datetime:
        """The present moment, UTC, with its time zone set."""
        ...


_OFFSET = -len("+00:00")


def utc_text(moment: datetime) -> str:
    """The one text form of a moment: `2026-11-21T04:40:00.000000Z`.

    Raises: ValueError for a datetime without a time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:_OFFSET] + "Z"


def instant(text: str) -> datetime:
    """The moment that an ISO 8601 text names; a text without an offset is UTC.

    Raises: ValueError if the text is not a date or a time, or not one of the years 1 to 9999 in UTC.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is not in the years 1 to 9999 of UTC") from error


def duration(text: str) -> timedelta:
    """The length of `90s`, `10m`, `24h`, `30d`, `2w`, or of several together (`1h30m`).

    Raises: ValueError with the accepted forms, and for more than a hundred years.
    """
    position, total = 0, timedelta()
    for match in _DURATION.finditer(text):
        if match.start() != position:
            break
        number, unit = float(match[1]), _UNITS[match[2]]
        if number > LONGEST / unit or total + number * unit > LONGEST:
            raise ValueError(f"{text[:SHOWN]!r} is longer than a hundred years ({LONGEST.days}d)")
        total += number * unit
        position = match.end()
    if position == 0 or position != len(text):
        raise ValueError(f"{text[:SHOWN]!r} is not a duration such as 90s, 10m, 24h, 30d, 2w or 1h30m")
    return total
