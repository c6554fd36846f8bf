"""Anomalies are seen, and quiet data stay quiet: both by simulation, at every length of history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from noria.checks.watch import MIN_HISTORY, Anomaly, Seen, judge

DAY = datetime(2026, 1, 1, tzinfo=UTC)
LENGTHS = (5, 7, 10, 20, 39)
COLUMNS = {f"c{i}": "double" for i in range(12)}
Series = Callable[[np.random.Generator, int], Any]


def seen(rows: Sequence[float], *, nulls: Any = None, at: Sequence[float] | None = None, **given: Any) -> list[Seen]:
    days = at if at is not None else range(len(rows))
    return [
        Seen(
            rows=max(int(count), 0),
            at=DAY + timedelta(days=float(day)),
            columns=given.get("columns", COLUMNS),
            nulls=nulls[index] if nulls is not None else dict.fromkeys(COLUMNS, 0),
            time_max=given["times"][index] if "times" in given else "",
        )
        for index, (count, day) in enumerate(zip(rows, days, strict=True))
    ]


def told(found: Sequence[Anomaly]) -> set[tuple[str, str]]:
    return {(anomaly.question, anomaly.severity) for anomaly in found}


QUIET: dict[str, Series] = {
    "a snapshot that wobbles by 10 %": lambda dice, n: 10_000 * np.exp(dice.normal(0, 0.1, n)),
    "a snapshot that wobbles by half": lambda dice, n: 10_000 * np.exp(dice.normal(0, 0.5, n)),
    "counts by chance": lambda dice, n: dice.poisson(1000, n),
    "always the same": lambda dice, n: np.full(n, 500),
    "a table that grows": lambda dice, n: 5000 + np.cumsum(dice.normal(1000, 150, n)),
    "a table that grows by chance": lambda dice, n: np.cumsum(dice.poisson(40, n) + 1),
}


@pytest.mark.parametrize("name", QUIET)
def test_quiet_volume_is_an_error_in_at_most_one_look_in_a_hundred(name: str) -> None:
    dice = np.random.default_rng(2)
    for length in LENGTHS:
        looks = 400
        alarms = [told(judge(seen(QUIET[name](dice, length + 1)))) for _ in range(looks)]
        errors = sum(("volume", "error") in each for each in alarms)
        warnings = sum(bool(each) for each in alarms)
        assert errors <= 0.01 * looks, (name, length)
        assert warnings <= 0.03 * looks, (name, length)


LOUD: dict[str, Series] = {
    "a third of the rows": lambda dice, n: np.append(10_000 * np.exp(dice.normal(0, 0.1, n - 1)), 3000),
    "three times the rows": lambda dice, n: np.append(10_000 * np.exp(dice.normal(0, 0.1, n - 1)), 31_000),
    "a growing table that lost half": lambda dice, n: np.append(5000 + np.cumsum(dice.normal(1000, 150, n - 1)), 3500),
    "a growing table that got five times its usual rows": lambda dice, n: _with_gain(dice, n, 5000),
}


def _with_gain(dice: np.random.Generator, n: int, gain: float) -> Any:
    rows = 5000 + np.cumsum(dice.normal(1000, 150, n - 1))
    return np.append(rows, rows[-1] + gain)


@pytest.mark.parametrize("name", LOUD)
def test_broken_volume_is_seen_from_ten_versions_on(name: str) -> None:
    dice = np.random.default_rng(3)
    for length in (10, 20, 39):
        hits = sum(("volume", "error") in told(judge(seen(LOUD[name](dice, length + 1)))) for _ in range(100))
        assert hits >= 95, (name, length, hits)


def test_an_old_anomaly_does_not_hide_a_new_one() -> None:
    dice = np.random.default_rng(4)
    rows = 10_000 * np.exp(dice.normal(0, 0.05, 13))
    rows[[3, 8]] = [120_000, 900]
    rows[-1] = 2500
    assert ("volume", "error") in told(judge(seen(rows)))


def test_a_weekend_that_was_there_twice_is_usual() -> None:
    week = [10_000, 10_100, 9900, 10_050, 9950, 5000, 5050]
    assert judge(seen((week * 4)[:20])) == []
    assert judge(seen((week * 4)[:26])) == []


def test_few_versions_say_little_and_no_rows_say_all() -> None:
    assert told(judge(seen([0]))) == {("volume", "error")}
    assert judge(seen([100])) == []
    assert told(judge(seen([1000, 300]))) == {("volume", "warn")}
    assert judge(seen([1000, 700, 1300])) == []
    assert told(judge(seen([1000] * 8 + [0]))) == {("volume", "error")}


def shares(dice: np.random.Generator, rates: Sequence[float], rows: int) -> dict[str, int]:
    return {name: int(dice.binomial(rows, rate)) for name, rate in zip(COLUMNS, rates, strict=True)}


def test_null_shares_by_chance_and_by_habit_are_an_error_in_at_most_one_look_in_a_hundred() -> None:
    """Twelve columns: never null, rarely, often, and some that wander by themselves from version to version."""
    dice = np.random.default_rng(5)
    for length in LENGTHS:
        errors = words = 0
        looks = 150
        for _ in range(looks):
            nulls = []
            for _version in range(length + 1):
                wander = np.clip(dice.normal(0.3, 0.08, 4), 0, 1)
                nulls.append(shares(dice, [0, 0, 0.001, 0.001, 0.02, 0.02, 0.5, 0.5, *wander], 800))
            found = told(judge(seen([800] * (length + 1), nulls=nulls)))
            errors += ("nulls", "error") in found
            words += bool(found)
        assert errors <= 0.01 * looks, length
        assert words <= 0.05 * looks, length


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3])
def test_a_burst_of_nulls_is_seen(rate: float) -> None:
    dice = np.random.default_rng(6)
    for length in (6, 12, 30):
        nulls = [shares(dice, [rate] * 12, 5000) for _ in range(length)]
        nulls.append({**shares(dice, [rate] * 12, 5000), "c7": int((rate + 0.2) * 5000)})
        found = judge(seen([5000] * (length + 1), nulls=nulls))
        assert [(a.question, a.column, a.severity) for a in found] == [("nulls", "c7", "error")]
        assert f"null in {rate + 0.2:.1%}" in found[0].message


def test_a_burst_after_few_versions_is_a_warning_and_fewer_nulls_are_no_error() -> None:
    empty = dict.fromkeys(COLUMNS, 0)
    assert told(judge(seen([900] * 3, nulls=[empty, empty, {**empty, "c1": 500}]))) == {("nulls", "warn")}
    half = dict.fromkeys(COLUMNS, 450)
    assert told(judge(seen([900] * 9, nulls=[half] * 8 + [empty]))) == {("nulls", "warn")}


def test_versions_whose_rows_are_not_here_are_left_out() -> None:
    empty = dict.fromkeys(COLUMNS, 0)
    known = [None, None, *[empty] * 6, {**empty, "c1": 400}]
    assert told(judge(seen([900] * 9, nulls=known))) == {("nulls", "error")}
    assert judge(seen([900] * 3, nulls=[None] * 3)) == []


def test_schema_changes_are_told_once() -> None:
    before = {"a": "int32", "b": "string", "c": "double"}
    now = {"a": "int64", "b": "double", "d": "bool"}
    rows = seen([10, 10])
    changed = [Seen(rows=10, at=DAY, columns=columns, nulls={}) for columns in (before, now)]
    assert [(a.severity, a.column) for a in judge(changed)] == [
        ("error", "b"), ("error", "c"), ("warn", "a"), ("warn", "d"),
    ]  # fmt: skip
    assert judge([*changed, changed[-1]]) == []
    assert judge(rows) == []


def test_quiet_arrivals_are_an_error_in_at_most_one_look_in_a_hundred_and_a_stop_is_seen() -> None:
    dice = np.random.default_rng(7)
    for length in (MIN_HISTORY + 1, 12, 30):
        errors = late = 0
        for _ in range(300):
            at = np.cumsum(np.abs(dice.normal(1, 0.15, length + 1)))
            now = DAY + timedelta(days=float(at[-1] + abs(dice.normal(1, 0.15))))
            errors += ("freshness", "error") in told(judge(seen([100] * (length + 1), at=at), now=now))
            stopped = DAY + timedelta(days=float(at[-1]) + 30)
            late += ("freshness", "error") in told(judge(seen([100] * (length + 1), at=at), now=stopped))
        assert errors <= 3, length
        assert late >= 295, length


def test_what_was_agreed_to_be_fresh_is_an_error_with_any_history() -> None:
    now = DAY + timedelta(days=3)
    old = seen([5], times=["2025-12-30T00:00:00.000000Z"])
    found = judge(old, now=now, fresh="48h")
    assert [(a.question, a.severity) for a in found] == [("freshness", "error")]
    assert "5 days old, at most 48h" in found[0].message
    assert judge(old, now=now, fresh="9d") == []
    assert judge(old, now=None, fresh="48h") == [], "events keep the time"


def test_a_new_version_without_new_times_is_told() -> None:
    times = [f"2026-01-{day:02d}" for day in (1, 2, 3, 4, 5, 6, 7, 7)]
    found = judge(seen([100] * 8, times=times), now=DAY + timedelta(days=8))
    assert [(a.question, a.severity) for a in found] == [("freshness", "warn")]
