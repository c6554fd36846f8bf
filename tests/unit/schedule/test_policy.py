"""What becomes of ticks: on time, late, overlapping, too many."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.config import ScheduleConfig
from noria.schedule.policy import MAX_WAITING, decide

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GRACE = timedelta(minutes=5)


def moments(*minutes: int) -> list[datetime]:
    return [NOON + timedelta(minutes=each) for each in minutes]


def told(
    due: list[datetime], *, late_min: float = 0, waiting: tuple[str, ...] = (), **given_: str
) -> list[tuple[str, int]]:
    config = ScheduleConfig(every="10m", **given_)  # type: ignore[arg-type]  # all that is given are texts
    now = due[-1] + timedelta(minutes=late_min)
    return [(each.decision, each.count) for each in decide(config, due, now=now, grace=GRACE, waiting=waiting)]


def test_a_tick_on_time_runs() -> None:
    for policy in ("latest", "all", "none"):
        assert told(moments(0), late_min=4, catch_up=policy) == [("run", 1)]


def test_late_ticks_follow_the_policy() -> None:
    due = moments(-30, -20, -10)
    assert told(due, late_min=9, catch_up="latest") == [("missed", 2), ("run", 1)]
    assert told(due, late_min=9, catch_up="all") == [("run", 1)] * 3
    assert told(due, late_min=9, catch_up="none") == [("missed", 3)]
    assert told(due, late_min=1, catch_up="none") == [("missed", 2), ("run", 1)]


def test_a_tick_that_meets_another_follows_the_overlap() -> None:
    busy = ("tick/x/1",)
    assert told(moments(0), waiting=busy, overlap="skip") == [("skipped", 1)]
    assert told(moments(0), waiting=busy, overlap="queue") == [("run", 1)]
    assert told(moments(0), waiting=busy, overlap="allow") == [("run", 1)]
    assert told(moments(-10, 0), waiting=busy, overlap="skip", catch_up="all") == [("run", 1)] * 2


def test_no_more_than_so_many_wait() -> None:
    many = tuple(str(number) for number in range(MAX_WAITING - 1))
    assert told(moments(-10, 0), waiting=many, overlap="queue", catch_up="all") == [("run", 1), ("skipped", 1)]


@given(
    count=st.integers(1, 30), late=st.floats(0, 60), waiting=st.integers(0, 3),
    catch_up=st.sampled_from(["latest", "all", "none"]), overlap=st.sampled_from(["skip", "queue", "allow"]),
)  # fmt: skip
def test_every_tick_has_exactly_one_decision(
    count: int, late: float, waiting: int, catch_up: str, overlap: str
) -> None:
    due = moments(*range(-10 * count, 0, 10))
    found = told(due, late_min=late, waiting=("t",) * waiting, catch_up=catch_up, overlap=overlap)
    assert sum(number for _, number in found) == count


@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_nothing_due_decides_nothing(catch_up: str) -> None:
    assert decide(ScheduleConfig(every="1h", catch_up=catch_up), [], now=NOON, grace=GRACE, waiting=()) == []
