"""When schedules tick: zones, the change of clocks, intervals, and that every way of asking agrees."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import ScheduleConfig
from noria.core.errors import ConfigError
from noria.schedule import times

BERLIN = ZoneInfo("Europe/Berlin")
LINES = ("0 4 * * 1", "30 2 * * *", "*/15 * * * *", "0 0 1 * *", "5 2,3 * * *", "0 * * * *", "15 1 29 2 *")


def rule(**given_: str) -> times.Rule:
    return times.rule(ScheduleConfig(**given_), "here")  # type: ignore[arg-type]  # all that is given are texts


def ticks(made: times.Rule, after: str, count: int) -> list[str]:
    found = itertools.islice(times.following(made, datetime.fromisoformat(after)), count)
    return [times.text_of(moment) for moment in found]


def test_a_line_is_read_in_its_zone() -> None:
    assert ticks(rule(cron="0 4 * * 1", timezone="Europe/Berlin"), "2026-01-01T00:00Z", 2) == [
        "2026-01-05T03:00:00Z",
        "2026-01-12T03:00:00Z",
    ]
    assert ticks(rule(cron="0 4 * * 1"), "2026-07-01T00:00Z", 1) == ["2026-07-06T04:00:00Z"]


def test_a_time_that_does_not_exist_is_when_the_clock_has_jumped() -> None:
    # 2026-03-29, Berlin: 02:00 becomes 03:00 at 01:00 UTC.
    made = rule(cron="30 2 * * *", timezone="Europe/Berlin")
    assert ticks(made, "2026-03-28T00:00Z", 3) == [
        "2026-03-28T01:30:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:30:00Z",
    ]


def test_two_times_that_do_not_exist_are_one_tick() -> None:
    made = rule(cron="0,30 2 * * *", timezone="Europe/Berlin")
    assert ticks(made, "2026-03-29T00:00Z", 3) == [
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:00:00Z",
        "2026-03-30T00:30:00Z",
    ]


def test_a_time_that_comes_twice_ticks_once_wherever_one_begins_to_look() -> None:
    # 2026-10-25, Berlin: 03:00 becomes 02:00 at 01:00 UTC; 02:30 is 00:30 and 01:30 UTC.
    made = rule(cron="30 2 * * *", timezone="Europe/Berlin")
    assert ticks(made, "2026-10-24T12:00Z", 2) == ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    for after in ("2026-10-25T00:30Z", "2026-10-25T00:45Z", "2026-10-25T01:05Z", "2026-10-25T01:30Z"):
        assert ticks(made, after, 1) == ["2026-10-26T01:30:00Z"], after


def test_each_hour_goes_by_elapsed_time_through_both_changes() -> None:
    made = rule(cron="0 * * * *", timezone="Europe/Berlin")
    for after in ("2026-03-28T20:00+00:00", "2026-10-24T20:00+00:00"):
        found = [datetime.fromisoformat(text) for text in ticks(made, after, 12)]
        assert {b - a for a, b in itertools.pairwise(found)} == {timedelta(hours=1)}


def test_an_interval_counts_from_its_start_in_elapsed_time() -> None:
    assert ticks(rule(every="6h"), "2026-01-01T05:59:59Z", 2) == ["2026-01-01T06:00:00Z", "2026-01-01T12:00:00Z"]
    made = rule(every="1d", start="2026-03-01T04:00", timezone="Europe/Berlin")
    assert ticks(made, "2026-03-28T03:00Z", 2) == ["2026-03-29T03:00:00Z", "2026-03-30T03:00:00Z"]
    assert ticks(made, "2026-02-27T03:00Z", 1) == ["2026-02-28T03:00:00Z"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
@pytest.mark.parametrize("line", LINES)
def test_cron_agrees_with_a_walk_over_every_minute(line: str, zone: str) -> None:
    """Outside the change of clocks a tick is a minute whose local fields fit the line, and no other."""
    made = rule(cron=line, timezone=zone)
    start, end = datetime(2027, 12, 28, tzinfo=UTC), datetime(2028, 3, 2, tzinfo=UTC)
    minutes = (start + timedelta(minutes=n) for n in range(1, int((end - start).total_seconds() // 60) + 1))
    expected = [moment for moment in minutes if fits(line, moment.astimezone(ZoneInfo(zone)))]
    found = list(itertools.takewhile(lambda moment: moment <= end, times.following(made, start)))
    assert found == expected
    assert expected


def fits(line: str, local: datetime) -> bool:
    minute, hour, day, month, weekday = line.split()
    return all(
        text == "*" or (text.startswith("*/") and value % int(text[2:]) == 0) or str(value) in text.split(",")
        for text, value in (
            (minute, local.minute), (hour, local.hour), (day, local.day), (month, local.month),
            (weekday, local.isoweekday() % 7),
        )
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    line=st.sampled_from(LINES),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    start=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)),
    hours=st.integers(0, 24 * 400),
    limit=st.integers(1, 50),
)
def test_the_newest_moments_of_a_stretch_are_the_end_of_all_of_them(
    line: str, zone: str, start: datetime, hours: int, limit: int
) -> None:
    made = rule(cron=line, timezone=zone)
    after = start.replace(tzinfo=UTC)
    until = after + timedelta(hours=hours % (24 * 20 if line.startswith("*/") else 24 * 400))
    every = list(itertools.takewhile(lambda moment: moment <= until, times.following(made, after)))
    assert times.before(made, until, after=after, limit=limit) == every[-limit:]
    assert every == sorted(set(every))
    assert times.has_due(made, after=after, now=until) == bool(every)


@given(
    every=st.integers(1, 100_000), offset=st.integers(-(10**6), 10**6), length=st.integers(0, 10**6),
    limit=st.integers(1, 20),
)  # fmt: skip
def test_the_newest_moments_of_an_interval_are_multiples_of_it(
    every: int, offset: int, length: int, limit: int
) -> None:
    made = rule(every=f"{every}s")
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=offset)
    until = after + timedelta(seconds=length)
    first, last = int(after.timestamp()), int(until.timestamp())
    expected = list(range(last - last % every, first, -every))[:limit][::-1]
    assert [int(moment.timestamp()) for moment in times.before(made, until, after=after, limit=limit)] == expected


def test_a_tick_closes_the_interval_since_the_one_before() -> None:
    made = rule(cron="0 4 * * 1", timezone="Europe/Berlin")
    due = datetime(2026, 1, 12, 3, tzinfo=UTC)
    assert times.span(made, due) == (datetime(2026, 1, 5, 3, tzinfo=UTC), due)
    odd = datetime(2026, 1, 13, 7, 1, tzinfo=UTC)
    assert times.span(made, odd) == (due, odd)


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({}, "one of cron and every"),
        ({"cron": "0 4 * * *", "every": "6h"}, "one of cron and every"),
        ({"cron": "0 25 * * *"}, "bad hour"),
        ({"cron": "hourly"}, "wrong number of fields"),
        ({"cron": "0 0 30 2 *"}, "day-of-month"),
        ({"cron": "0 4 * * *", "timezone": "Europe/Berlni"}, "Europe/Berlni"),
        ({"cron": "0 4 * * *", "start": "2026-01-01"}, "no start"),
        ({"every": "0s"}, "less than a second"),
        ({"every": "1h", "start": "monday"}, "monday"),
    ],
)
def test_what_is_no_time_is_refused(given_: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        rule(**given_)
    assert caught.value.where == "here"
