"""When a schedule ticks: cron lines and intervals in a time zone, as moments in UTC. Pure.

Cron lines are read by cronsim, which does as Debian's cron at the change of clocks: a line with a
set hour whose time does not exist runs when the clock has jumped, one whose time comes twice runs
the first time; a line with `*` for minute or hour goes by elapsed time. An interval is counted in
elapsed time from its start, forwards and backwards, so the change of clocks is nothing to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from noria.config import ScheduleConfig
from noria.core.clock import duration, utc_text
from noria.core.errors import ConfigError
from noria.core.frozen import frozen
from noria.core.identity import canonical
from noria.core.lazy import lazy

__all__ = ["SECOND", "Rule", "before", "following", "has_due", "rule", "span", "stretch", "text_of", "words"]

cronsim = lazy("cronsim")

SECOND = timedelta(seconds=1)
MAX_COUNTED = 100_000
"""So many moments of a cron line are counted, at most: reading them takes a second."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class Rule:
    """The times of one schedule: a cron line in a zone, or an interval from a start; `spec` is its canonical text."""

    cron: str
    every: timedelta
    start: datetime
    zone: ZoneInfo
    spec: str


def rule(config: ScheduleConfig, where: str) -> Rule:
    """The times that `[schedule.NAME]` says. Raises: ConfigError."""
    if bool(config.cron) == bool(config.every):
        raise ConfigError(
            "a schedule has one of cron and every",
            where=where,
            hint='cron = "0 4 * * 1", or every = "6h"',
        )
    zone = _zone(config.timezone, where)
    start = _start(config.start, zone, where)
    if config.cron:
        if config.start:
            raise ConfigError("start is where every counts from; a cron line has no start", where=where)
        _require_cron(config.cron, where)
    every = duration(config.every) if config.every else timedelta()
    if config.every and every < SECOND:
        raise ConfigError(f'every = "{config.every}" is less than a second', where=where)
    spec = canonical(
        {"cron": config.cron, "every": config.every, "start": config.start, "timezone": config.timezone}
    ).decode()
    return Rule(config.cron, every, start, zone, spec)


def following(times: Rule, after: datetime) -> Iterator[datetime]:
    """The moments at which it ticks, later than `after`, oldest first, in UTC; ends if it never ticks again."""
    after = after.astimezone(UTC)
    if not times.cron:
        number = (after - times.start) // times.every + 1
        yield from (times.start + times.every * each for each in itertools.count(number))
        return
    # cronsim reads a line with a set hour without the zone, and forgets which of two equal hours it was
    # told of: begin a day earlier, and leave out what is not later.
    fields = times.cron.split()
    is_set = len(fields) == 5 and not fields[0].startswith("*") and not fields[1].startswith("*")
    zone = UTC if times.zone.key == "UTC" else times.zone
    local = (after - timedelta(days=1) if is_set else after).astimezone(zone)
    last = after
    for found in cronsim.CronSim(times.cron, local):
        moment = found.astimezone(UTC)
        if moment > last:
            last = moment
            yield moment


def has_due(times: Rule, *, after: datetime, now: datetime) -> bool:
    """Whether it ticked in (after, now]."""
    first = next(following(times, after), None)
    return first is not None and first <= now


def before(times: Rule, until: datetime, *, after: datetime, limit: int) -> list[datetime]:
    """The newest `limit` moments in (after, until], oldest first. Its cost is by `limit`, not by the stretch."""
    until, after = until.astimezone(UTC), after.astimezone(UTC)
    if until <= after:
        return []
    if not times.cron:
        last = (until - times.start) // times.every
        first = max((after - times.start) // times.every + 1, last - limit + 1)
        return [times.start + times.every * number for number in range(first, last + 1)]
    # Backwards in growing stretches, each read forwards: one order of reading, one meaning.
    stretch = timedelta(hours=1)
    while True:
        start = max(after, until - stretch)
        found = list(itertools.takewhile(lambda moment: moment <= until, following(times, start)))
        if len(found) >= limit or start == after:
            return found[-limit:]
        stretch *= 4


def stretch(times: Rule, *, after: datetime, until: datetime) -> tuple[datetime, int] | None:
    """The first moment in (after, until) and how many there are, 100,000 at most; None if there is none."""
    after, until = after.astimezone(UTC), until.astimezone(UTC)
    first = next(following(times, after), None)
    if first is None or first >= until:
        return None
    if not times.cron:
        return first, -((first - until) // times.every)
    counted = itertools.islice(itertools.takewhile(lambda moment: moment < until, following(times, after)), MAX_COUNTED)
    return first, sum(1 for _ in counted)


def span(times: Rule, due: datetime) -> tuple[datetime, datetime]:
    """The interval that a tick closes: from the tick before it to itself; of an odd moment, from the last tick."""
    found = before(times, due - timedelta(microseconds=1), after=due - timedelta(days=366 * 8), limit=1)
    return (found[-1] if found else due), due


def words(config: ScheduleConfig) -> str:
    """How a person says it: `0 4 * * 1 Europe/Berlin`, `every 6h`."""
    if config.every:
        return f"every {config.every}" + (f", counted from {config.start}" if config.start else "")
    return config.cron if config.timezone == "UTC" else f"{config.cron} {config.timezone}"


def _require_cron(text: str, where: str) -> None:
    try:
        found = next(iter(cronsim.CronSim(text, EPOCH)), None)
    except cronsim.CronSimError as error:
        raise ConfigError(
            f'cron = "{text}": {str(error)[:1].lower()}{str(error)[1:]}',
            where=where,
            hint='minute, hour, day of month, month, day of week: "0 4 * * 1" is Mondays at 04:00',
        ) from error
    if found is None:
        raise ConfigError(f'cron = "{text}" names no moment in fifty years', where=where)


def _zone(name: str, where: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f'timezone = "{name}" is not known',
            where=where,
            hint='a name such as "Europe/Berlin" or "UTC"; a machine without zones needs: pip install tzdata',
        ) from error


def _start(text: str, zone: ZoneInfo, where: str) -> datetime:
    """The moment that `start` names, in the schedule's zone if it says none."""
    if not text:
        return EPOCH
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f'start = "{text}" is no moment such as 2026-11-21T06:00', where=where) from error
    return (found if found.tzinfo is not None else found.replace(tzinfo=zone)).astimezone(UTC)


def text_of(moment: datetime) -> str:
    """A moment as it is printed: UTC, without a fraction that is zero."""
    return utc_text(moment).replace(".000000Z", "Z")
