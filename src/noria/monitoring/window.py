"""Windows of time: a day, an ISO week, a month, or any duration; named, aligned and half open.

A window is a value: nothing here reads a clock or a store. Windows of one size tile the time axis
in UTC, so every moment is in exactly one, and the window's name alone gives its bounds back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from noria.core.clock import duration, instant, utc_text
from noria.core.errors import ConfigError, UsageError

__all__ = ["Window", "closed", "containing", "days_of", "following", "named", "previous"]

_MONTH = re.compile(r"(\d{4})-(\d{2})")
_WEEK = re.compile(r"(\d{4})-W(\d{2})")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_SPAN = re.compile(r"(.+)\+([^+]+)")
_EPOCH = datetime(1970, 1, 5, tzinfo=UTC)
"""Durations count from a Monday, so that `7d` and `week` have the same bounds."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The moments [start, end), both UTC. `name` is "2013-02", "2013-W05", "2013-02-03" or "2013-02-04+14d"."""

    start: datetime
    end: datetime
    name: str

    @property
    def start_text(self) -> str:
        """The first moment, as facts write it."""
        return utc_text(self.start)

    @property
    def end_text(self) -> str:
        """The first moment after the window, as facts write it."""
        return utc_text(self.end)


def containing(moment: datetime, size: str) -> Window:
    """The window of a size that holds a moment.

    Args:
        size: "day", "week", "month" or a duration such as "7d".
    Raises: ConfigError for another size.
    """
    moment = moment.astimezone(UTC)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if size == "day":
        return Window(day, day + timedelta(days=1), f"{day:%Y-%m-%d}")
    if size == "week":
        start = day - timedelta(days=day.weekday())
        year, week, _ = start.isocalendar()
        return Window(start, start + timedelta(days=7), f"{year:04d}-W{week:02d}")
    if size == "month":
        start = day.replace(day=1)
        return Window(start, _next_month(start), f"{start:%Y-%m}")
    length = _length(size)
    start = _EPOCH + (moment - _EPOCH) // length * length
    whole = start == start.replace(hour=0, minute=0, second=0, microsecond=0)
    text = f"{start:%Y-%m-%d}" if whole else start.isoformat().replace("+00:00", "Z")
    return Window(start, start + length, f"{text}+{size}")


def named(name: str) -> Window:
    """The window that a name stands for. Raises: UsageError for a text that names none."""
    try:
        if match := _MONTH.fullmatch(name):
            return containing(datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC), "month")
        if match := _WEEK.fullmatch(name):
            return containing(datetime.fromisocalendar(int(match[1]), int(match[2]), 1).replace(tzinfo=UTC), "week")
        if _DAY.fullmatch(name):
            return containing(instant(name), "day")
        if match := _SPAN.fullmatch(name):
            return containing(instant(match[1]), match[2])
    except (ValueError, ConfigError) as error:
        raise UsageError(f"{name!r} does not name a window: {error}") from error
    raise UsageError(
        f"{name!r} does not name a window", hint="a month 2013-02, a week 2013-W05, a day 2013-02-03, or 2013-02-04+14d"
    )


def following(window: Window) -> Window:
    """The next window of the same size."""
    return containing(window.end, _size_of(window))


def previous(window: Window) -> Window:
    """The window of the same size before it."""
    return containing(window.start - timedelta(microseconds=1), _size_of(window))


def closed(size: str, *, first: datetime, until: datetime) -> Iterator[Window]:
    """Every window that has ended by `until`, oldest first, beginning with the one that holds `first`."""
    window = containing(first, size)
    while window.end <= until:
        yield window
        window = following(window)


def days_of(size: str) -> float:
    """The length of a size in days; a month has 365.2425 / 12."""
    named_sizes = {"day": 1.0, "week": 7.0, "month": 365.2425 / 12}
    return named_sizes[size] if size in named_sizes else _length(size) / timedelta(days=1)


def _size_of(window: Window) -> str:
    if _MONTH.fullmatch(window.name):
        return "month"
    if _WEEK.fullmatch(window.name):
        return "week"
    if _DAY.fullmatch(window.name):
        return "day"
    return window.name.rpartition("+")[2]


def _length(size: str) -> timedelta:
    try:
        length = duration(size)
    except ValueError as error:
        raise ConfigError(f'a window is "day", "week", "month" or a duration, not {size!r}') from error
    if length <= timedelta():
        raise ConfigError(f"a window needs some length, not {size!r}")
    return length


def _next_month(start: datetime) -> datetime:
    return (start + timedelta(days=32)).replace(day=1)
