"""Windows tile time, and their names give their bounds back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from noria.core.errors import ConfigError, UsageError
from noria.monitoring.window import closed, containing, days_of, following, named, previous

MOMENT = datetime(2013, 2, 28, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "name", "start", "end"),
    [
        ("day", "2013-02-28", (2013, 2, 28), (2013, 3, 1)),
        ("week", "2013-W09", (2013, 2, 25), (2013, 3, 4)),
        ("month", "2013-02", (2013, 2, 1), (2013, 3, 1)),
        ("7d", "2013-02-25+7d", (2013, 2, 25), (2013, 3, 4)),
        ("2w", "2013-02-18+2w", (2013, 2, 18), (2013, 3, 4)),
    ],
)
def test_a_window_holds_the_moment_it_was_asked_for(
    size: str, name: str, start: tuple[int, int, int], end: tuple[int, int, int]
) -> None:
    window = containing(MOMENT, size)
    assert window.name == name
    assert window.start == datetime(*start, tzinfo=UTC)
    assert window.end == datetime(*end, tzinfo=UTC)


@pytest.mark.parametrize("size", ["day", "week", "month", "7d", "36h", "90m"])
def test_a_name_gives_the_window_back(size: str) -> None:
    window = containing(MOMENT, size)
    assert named(window.name) == window


@pytest.mark.parametrize("size", ["day", "week", "month", "10d", "6h"])
def test_windows_of_a_size_follow_each_other_without_gap_or_overlap(size: str) -> None:
    window = containing(MOMENT, size)
    for _ in range(30):
        after = following(window)
        assert after.start == window.end
        assert previous(after) == window
        window = after


def test_the_week_of_new_year_is_named_after_its_iso_year() -> None:
    assert containing(datetime(2021, 1, 2, tzinfo=UTC), "week").name == "2020-W53"
    assert named("2020-W53").start == datetime(2020, 12, 28, tzinfo=UTC)


def test_only_windows_that_have_ended_are_closed() -> None:
    first = datetime(2013, 1, 15, tzinfo=UTC)
    until = datetime(2013, 4, 1, tzinfo=UTC)
    assert [window.name for window in closed("month", first=first, until=until)] == ["2013-01", "2013-02", "2013-03"]
    just_before = until - timedelta(microseconds=1)
    assert [window.name for window in closed("month", first=first, until=just_before)] == ["2013-01", "2013-02"]


@pytest.mark.parametrize("name", ["", "2013", "2013-13", "2013-W60", "2013-02-30", "soon", "2013-02-01+", "x+7d"])
def test_a_text_that_names_no_window_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        named(name)


@pytest.mark.parametrize("size", ["", "fortnight", "0d", "-1d"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(ConfigError):
        containing(MOMENT, size)


def test_lengths_in_days() -> None:
    assert days_of("day") == 1
    assert days_of("week") == 7
    assert days_of("36h") == 1.5
    assert 30.4 < days_of("month") < 30.5
