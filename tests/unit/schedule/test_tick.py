"""Looking at the clock: one decision and one job for each tick, whatever the clock and the processes do."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from noria.bootstrap import open_workspace
from noria.config import Project, ScheduleConfig, load_project
from noria.core.errors import Conflict, NotFound, UsageError
from noria.faces.cli import show_schedule
from noria.schedule import control, records
from noria.schedule.backfill import backfill
from noria.schedule.records import TickRecord
from noria.schedule.tick import Watcher, end
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.testing import open_memory
from noria.testing.workspace import TestClock
from noria.tracking import run as tracking


def workspace(**schedules: ScheduleConfig) -> Workspace:
    return open_memory(Project(name="test", schedules=schedules))


def clock(ws: Workspace) -> TestClock:
    assert isinstance(ws.clock, TestClock)
    return ws.clock


def every(text: str = "1h", **given: object) -> ScheduleConfig:
    return ScheduleConfig(every=text, **given)  # type: ignore[arg-type]  # keys of the dataclass


def ticks(ws: Workspace, name: str = "s") -> list[tuple[str, str]]:
    """(moment, status) of each tick, oldest first."""
    with ws.ledger.read() as tx:
        found = records.ticks(tx, name, limit=1000)
    return sorted((tick.due[:19], tick.status) for tick in found)


def waiting(ws: Workspace) -> list[TickRecord]:
    with ws.ledger.read() as tx:
        return records.open_ticks(tx)


def finish(ws: Workspace, status: str = "done") -> None:
    """Let whatever waits be done at once."""
    for tick in waiting(ws):
        assert end(ws, tick, status)


def queued(ws: Workspace) -> list[str]:
    return [job.key for job in ws.jobs.waiting()]


def test_a_tick_is_decided_and_queued_once_however_often_one_looks() -> None:
    ws = workspace(s=every())
    watchers = [Watcher(ws), Watcher(ws)]
    for watcher in watchers:
        assert watcher.look() == []
    clock(ws).forward(hours=1)
    jobs = [watcher.look() for watcher in (*watchers, *watchers)]
    assert len({job for found in jobs for job in found}) == 1
    assert ticks(ws) == [("2026-01-01T01:00:00", "waiting")]
    assert queued(ws) == ["tick/s/2026-01-01T01:00:00Z"]
    assert difference(ws.ledger) == []


def test_a_schedule_counts_from_when_it_is_first_met() -> None:
    ws = workspace(s=ScheduleConfig(cron="0 4 * * *", catch_up="all"))
    clock(ws).forward(days=9)
    Watcher(ws).look()
    assert ticks(ws) == []


def test_a_machine_that_slept_does_the_newest_tick_and_says_what_it_missed() -> None:
    ws = workspace(s=every())
    watcher = Watcher(ws)
    watcher.look()
    clock(ws).forward(hours=5, minutes=30)
    watcher.look()
    with ws.ledger.read() as tx:
        found = {tick.status: tick for tick in records.ticks(tx, "s")}
    assert found["waiting"].due == "2026-01-01T05:00:00.000000Z"
    assert "late" in found["waiting"].reason
    assert (found["missed"].count, found["missed"].first[:13], found["missed"].due[:13]) == (
        4,
        "2026-01-01T01",
        "2026-01-01T04",
    )


def test_all_ticks_are_caught_up_in_order_one_at_a_time() -> None:
    ws = workspace(s=every(catch_up="all", overlap="queue"))
    watcher = Watcher(ws)
    watcher.look()
    clock(ws).forward(hours=3, minutes=30)
    done: list[str] = []
    for _ in range(3):
        watcher.look()
        assert len(queued(ws)) == len(done) + 1
        with ws.ledger.read() as tx:
            head = records.tick_of(tx, queued(ws)[-1])
        assert head is not None
        end(ws, head, "done")
        done.append(head.due[:13])
    assert done == ["2026-01-01T01", "2026-01-01T02", "2026-01-01T03"]
    watcher.look()
    assert waiting(ws) == []


def test_without_catch_up_a_late_tick_is_missed() -> None:
    ws = workspace(s=every(catch_up="none", grace="10m"))
    watcher = Watcher(ws)
    watcher.look()
    clock(ws).forward(hours=1, minutes=11)
    watcher.look()
    assert ticks(ws) == [("2026-01-01T01:00:00", "missed")]
    clock(ws).forward(minutes=58)
    watcher.look()
    assert ticks(ws)[-1] == ("2026-01-01T02:00:00", "waiting")


def test_a_clock_that_goes_back_repeats_nothing() -> None:
    ws = workspace(s=every())
    watcher = Watcher(ws)
    watcher.look()
    for _ in range(3):
        clock(ws).forward(hours=1)
        watcher.look()
        finish(ws)
    clock(ws).forward(hours=-2, minutes=-30)
    for _ in range(10):
        watcher.look()
        finish(ws)
        clock(ws).forward(minutes=15)
    assert ticks(ws) == [(f"2026-01-01T0{hour}:00:00", "done") for hour in (1, 2, 3)]
    clock(ws).forward(minutes=60)
    watcher.look()
    assert ticks(ws)[-1] == ("2026-01-01T04:00:00", "waiting")


def test_a_clock_that_was_years_ahead_does_not_stop_the_schedule() -> None:
    ws = workspace(s=every("1d"))
    watcher = Watcher(ws)
    watcher.look()
    clock(ws).forward(days=1)
    watcher.look()
    finish(ws)
    clock(ws).forward(days=1500)
    watcher.look()
    finish(ws)
    clock(ws).forward(days=-1500)
    for _ in range(3):
        clock(ws).forward(days=1)
        watcher.look()
        finish(ws)
    done = [due[:10] for due, status in ticks(ws) if status == "done"]
    assert done[:4] == ["2026-01-02", "2026-01-03", "2026-01-04", "2026-01-05"]
    assert len(done) == 5
    assert difference(ws.ledger) == []


def test_a_schedule_that_was_first_met_in_a_wrong_future_begins_anew() -> None:
    ws = workspace(s=every("1d"))
    clock(ws).forward(days=1500)
    Watcher(ws).look()
    clock(ws).forward(days=-1500)
    watcher = Watcher(ws)
    watcher.look()
    clock(ws).forward(days=1)
    watcher.look()
    assert ticks(ws) == [("2026-01-02T00:00:00", "waiting")]


def test_a_tick_that_meets_another_is_skipped_queued_or_allowed() -> None:
    ws = workspace(skip=every(overlap="skip"), queue=every(overlap="queue"), allow=every(overlap="allow"))
    watcher = Watcher(ws)
    watcher.look()
    for _ in range(2):
        clock(ws).forward(hours=1)
        watcher.look()
    assert [status for _, status in ticks(ws, "skip")] == ["waiting", "skipped"]
    assert [status for _, status in ticks(ws, "queue")] == ["waiting", "waiting"]
    (line,) = (each for each in control.list_schedules(ws) if each.name == "queue")
    assert (line.waiting, line.waiting_since) == (2, "2026-01-01T01:00:00.000000Z")
    assert "2 waiting since 2026-01-01 01:00" in show_schedule.schedule(asdict(line))
    assert [status for _, status in ticks(ws, "allow")] == ["waiting", "waiting"]
    assert sorted(queued(ws)) == [
        "tick/allow/2026-01-01T01:00:00Z",
        "tick/allow/2026-01-01T02:00:00Z",
        "tick/queue/2026-01-01T01:00:00Z",
        "tick/skip/2026-01-01T01:00:00Z",
    ]


def test_each_partition_of_a_tick_is_done_by_itself() -> None:
    ws = workspace(s=every(partitions=("DE", "FR")))
    watcher = Watcher(ws)
    watcher.look()
    clock(ws).forward(hours=1)
    watcher.look()
    assert sorted(queued(ws)) == ["tick/s/2026-01-01T01:00:00Z~DE", "tick/s/2026-01-01T01:00:00Z~FR"]


def test_a_job_that_is_missing_is_made_and_one_that_was_given_up_ends_its_tick() -> None:
    ws = workspace(s=every())
    watcher = Watcher(ws)
    watcher.look()
    clock(ws).forward(hours=1)
    watcher._decide("s", ws.project.schedules["s"])  # as if killed before the job was queued
    assert queued(ws) == []
    Watcher(ws).look()
    (job,) = ws.jobs.waiting()
    claimed = ws.jobs.claim(["tick"], owner="o")
    assert claimed is not None
    assert claimed.id == job.id
    ws.jobs.fail(job.id, "o", "lost: its owner died 5 times\nmore", retry=False)
    watcher.look()
    with ws.ledger.read() as tx:
        (tick,) = records.ticks(tx, "s")
    assert (tick.status, tick.reason) == ("failed", "lost: its owner died 5 times")


def test_new_times_count_from_when_they_are_read_and_an_old_process_leaves_them_alone() -> None:
    ws = workspace(s=every("1h", catch_up="all"))
    old = Watcher(ws)
    old.look()
    clock(ws).forward(minutes=90)
    old.look()
    newer = replace(ws, project=replace(ws.project, schedules={"s": every("20m", catch_up="all")}))
    new = Watcher(newer)
    new.look()
    clock(ws).forward(minutes=40)
    old.look()
    new.look()
    old.look()
    assert [due for due, _ in ticks(ws)] == [
        "2026-01-01T01:00:00",
        "2026-01-01T01:40:00",
        "2026-01-01T02:00:00",
    ]


def test_a_paused_schedule_does_not_tick_and_does_not_catch_up() -> None:
    ws = workspace(s=every(catch_up="all"))
    watcher = Watcher(ws)
    line = control.pause(ws, "s", "the source moves")
    assert (line.state, line.next_due) == ("paused", "")
    with pytest.raises(Conflict, match="is paused"):
        control.pause(ws, "s")
    clock(ws).forward(hours=5, minutes=30)
    watcher.look()
    assert ticks(ws) == []
    assert control.trigger(ws, "s").jobs
    finish(ws)
    assert control.resume(ws, "s").state == "on"
    clock(ws).forward(minutes=40)
    watcher.look()
    assert ticks(ws)[-1][0] == "2026-01-01T06:00:00"
    assert len(ticks(ws)) == 2
    with pytest.raises(Conflict, match="not paused"):
        control.resume(ws, "s")


def test_a_trigger_ticks_now_but_not_beside_another() -> None:
    ws = workspace(s=every(), q=every(overlap="queue"))
    made = control.trigger(ws, "s")
    assert len(made.ticks) == len(made.jobs) == 1
    with pytest.raises(Conflict, match="has not ended"):
        control.trigger(ws, "s")
    assert control.trigger(ws, "q").jobs
    assert control.trigger(ws, "q").jobs == ()
    with pytest.raises(NotFound) as caught:
        control.trigger(ws, "nightly")
    assert "one of: q, s" in caught.value.hint


def test_a_backfill_asks_for_each_moment_and_partition_once() -> None:
    ws = workspace(s=ScheduleConfig(cron="0 4 * * *", timezone="Europe/Berlin", partitions=("DE", "FR")))
    clock(ws).forward(days=10)
    planned = backfill(ws, "s", "2026-01-02", "2026-01-05", dry_run=True)
    assert waiting(ws) == []
    assert planned.ticks[:2] == ("tick/s/2026-01-02T03:00:00Z~DE", "tick/s/2026-01-02T03:00:00Z~FR")
    made = backfill(ws, "s", "2026-01-02", "2026-01-05")
    assert made.ticks == planned.ticks
    assert len(made.ticks) == 6
    assert sorted(queued(ws)) == ["tick/s/2026-01-02T03:00:00Z~DE", "tick/s/2026-01-02T03:00:00Z~FR"]
    assert backfill(ws, "s", "2026-01-02", "2026-01-05").waiting_before == 6
    finish(ws)
    again = backfill(ws, "s", "2026-01-02", "2026-01-05", partitions=["DE"])
    assert (again.ticks, again.done_before) == ((), 3)
    assert backfill(ws, "s", "2026-01-02", "2026-01-03", partitions=["DE"], again=True).ticks == (
        "tick/s/2026-01-02T03:00:00Z~DE#1",
    )


def test_what_failed_is_done_again_by_a_backfill() -> None:
    ws = workspace(s=every())
    clock(ws).forward(hours=3)
    backfill(ws, "s", "2026-01-01")
    finish(ws, "failed")
    assert len(backfill(ws, "s", "2026-01-01").ticks) == 4


def test_of_many_ticks_that_may_overlap_a_hundred_are_queued_at_once() -> None:
    ws = workspace(s=every("1m", overlap="allow"))
    clock(ws).forward(days=1)
    assert len(backfill(ws, "s", "2026-01-01T00:00", "2026-01-01T05:00").ticks) == 300
    assert len(queued(ws)) == 100
    for tick in waiting(ws)[:10]:
        job = ws.jobs.claim(["tick"], owner="o")
        assert job is not None
        assert job.key == tick.ref
        end(ws, tick, "done")
        ws.jobs.finish(job.id, "o")
    Watcher(ws).look()
    assert len(queued(ws)) == 100


def test_the_clocks_ticks_go_before_a_backfill() -> None:
    ws = workspace(s=every())
    watcher = Watcher(ws)
    clock(ws).forward(hours=10)
    watcher.look()
    backfill(ws, "s", "2026-01-01T00:00", "2026-01-01T04:00")
    clock(ws).forward(hours=1)
    watcher.look()
    for tick in waiting(ws):
        if tick.ref == queued(ws)[0]:
            end(ws, tick, "done")
    watcher.look()
    assert queued(ws)[1] == "tick/s/2026-01-01T11:00:00Z"


@pytest.mark.parametrize(
    ("start", "stop", "says"),
    [
        ("2026-01-01", "2027-01-01", "ahead of now"),
        ("2025-01-01T00:10", "2025-01-01T00:20", "no tick"),
        ("1980-01-01", "2026-01-01", "more than 10000"),
        ("yesterday", "", "no day or moment"),
        ("2026-01-01", "2025-12-30", "is not after --from"),
        ("2026-01-01T01:00", "2026-01-01T01:00", "is not after --from"),
    ],
)
def test_a_stretch_that_cannot_be_is_refused(start: str, stop: str, says: str) -> None:
    ws = workspace(s=every())
    clock(ws).forward(hours=3)
    with pytest.raises(UsageError, match=says):
        backfill(ws, "s", start, stop)


def test_a_moment_of_a_backfill_is_in_the_zone_of_the_schedule() -> None:
    ws = workspace(s=ScheduleConfig(every="1h", timezone="Asia/Kolkata"))
    clock(ws).forward(days=1)
    made = backfill(ws, "s", "2026-01-01", "2026-01-01T02:00")
    assert made.ticks == ("tick/s/2025-12-31T19:00:00Z", "tick/s/2025-12-31T20:00:00Z")


def test_the_list_says_when_what_and_how_it_went() -> None:
    ws = workspace(s=ScheduleConfig(cron="30 2 * * *", timezone="Europe/Berlin"), t=every("6h"))
    new = control.list_schedules(ws)
    assert [(line.name, line.when, line.state) for line in new] == [
        ("s", "30 2 * * * Europe/Berlin", "new"),
        ("t", "every 6h", "new"),
    ]
    watcher = Watcher(ws)
    watcher.look()
    clock(ws).forward(hours=6)
    watcher.look()
    finish(ws)
    s, t = control.list_schedules(ws)
    assert (t.last_due[:16], t.last_status, t.next_due[:16]) == ("2026-01-01T06:00", "done", "2026-01-01T12:00")
    assert s.next_due == "2026-01-02T01:30:00.000000Z"
    coming = control.upcoming(ws, count=3)
    assert [(each.schedule, each.due[:16]) for each in coming] == [
        ("t", "2026-01-01T12:00"),
        ("t", "2026-01-01T18:00"),
        ("t", "2026-01-02T00:00"),
    ]
    assert control.upcoming(ws, "s", count=1)[0].local == "Fri 2026-01-02 02:30:00 CET"
    assert [tick.status for tick in control.list_ticks(ws, "t")] == ["done"]
    with pytest.raises(UsageError):
        control.list_ticks(ws, status="don")


def test_a_schedule_survives_the_process_that_met_it() -> None:
    ws = workspace(s=every())
    Watcher(ws).look()
    moment = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)
    later = open_workspace(project=ws.project, clock=TestClock(moment))
    Watcher(later).look()
    assert [status for _, status in ticks(later)] == ["missed", "waiting"]


def test_a_tick_that_is_at_work_is_told_as_running_with_its_run() -> None:
    ws = workspace(s=every(), t=every())
    watcher = Watcher(ws)
    watcher.look()
    clock(ws).forward(hours=1)
    watcher.look()
    job = ws.jobs.claim(["tick"], owner="worker")
    assert job is not None
    with tracking.start(ws, "flow", cause=job.key) as begun:
        (tick,) = control.list_ticks(ws, status="running")
        assert (tick.ref, tick.status, tick.run) == (job.key, "running", begun.run)
        assert [each.status for each in control.list_ticks(ws, tick.schedule)] == ["running"]
    (other,) = control.list_ticks(ws, status="waiting")
    assert (other.schedule != tick.schedule, other.run) == (True, "")
    finish(ws)
    assert {each.status for each in control.list_ticks(ws)} == {"done"}


@pytest.mark.parametrize("catch_up", ["latest", "none", "all"])
@pytest.mark.parametrize("times", [{"every": "10s"}, {"cron": "*/10 * * * * *"}])
def test_a_missed_stretch_of_any_length_is_one_fact_with_its_count(catch_up: str, times: dict[str, str]) -> None:
    ws = workspace(s=ScheduleConfig(catch_up=catch_up, overlap="queue", **times))  # type: ignore[arg-type]  # its keys
    watcher = Watcher(ws)
    watcher.look()
    clock(ws).forward(hours=3, minutes=10, seconds=5)
    watcher.look()
    with ws.ledger.read() as tx:
        found = records.ticks(tx, "s", limit=2000)
    (missed,) = (tick for tick in found if tick.status == "missed")
    done = [tick for tick in found if tick.status == "waiting"]
    assert missed.first == "2026-01-01T00:00:10.000000Z"
    assert missed.count + len(done) == 3 * 360 + 60
    assert len(done) == (1000 if catch_up == "all" else 1)
    assert all(tick.due > missed.due for tick in done)
    clock(ws).forward(seconds=10)
    watcher.look()
    with ws.ledger.read() as tx:
        assert sum(tick.status == "missed" for tick in records.ticks(tx, "s", limit=2000)) == 1, "none is told twice"


def test_ticks_of_a_schedule_that_is_nowhere_are_asked_for_in_vain() -> None:
    ws = workspace(s=every())
    assert control.list_ticks(ws, "s") == []
    with pytest.raises(NotFound, match="'nope'"):
        control.list_ticks(ws, "nope")
    for limit in (0, -1, 1001):
        with pytest.raises(UsageError, match="limit is"):
            control.list_ticks(ws, "s", limit=limit)


def write(root: Path, text: str) -> None:
    (root / "noria.toml").write_text(f'[project]\nname = "p"\n{text}')


def test_what_noria_toml_says_of_schedules_is_taken_up_while_it_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, '[schedule.tick]\nevery = "1h"\n')
    ws = open_memory(load_project(tmp_path), root=tmp_path)
    watchers = [Watcher(ws), Watcher(ws)]  # two replicas of one folder
    for watcher in watchers:
        watcher.look()
    clock(ws).forward(minutes=90)
    write(tmp_path, '[schedule.tock]\nevery = "20m"\n')
    for watcher in watchers:
        watcher.look()
    clock(ws).forward(minutes=10)
    for watcher in watchers:
        watcher.look()
    assert (ticks(ws, "tick"), ticks(ws, "tock")) == ([], [("2026-01-01T01:40:00", "waiting")])
    assert [line.name for line in control.list_schedules(ws)] == ["tock"]
    write(tmp_path, '[schedule.tock]\nevery = "20 minutes"\n')
    clock(ws).forward(minutes=20)
    watchers[0].look()
    assert "the schedules stay as they were" in caplog.text
    assert ticks(ws, "tock")[-1] == ("2026-01-01T02:00:00", "skipped")
    write(tmp_path, '[schedule.tock]\nevery = "1h"\n')
    for watcher in watchers:
        watcher.look()
    clock(ws).forward(hours=1)
    for watcher in watchers:
        watcher.look()
    assert ticks(ws, "tock")[-1][0] == "2026-01-01T03:00:00", "the new times"
    assert len(ticks(ws, "tock")) == 3


PIPELINE = """
import noria as nr

@nr.step
def note(day: str = "", nap: float = 1.0) -> str:
    return day

@nr.pipeline
def p():
    note()
"""


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ('"note.dya" = "{date}"', "'note.day'"),
        ('"note.nap" = "many"', "which is not float"),
        ('"note.day" = 7', "which is not str"),
        ('"note.day" = "{date}", "note.nap" = 2', ""),
    ],
)
def test_parameters_that_the_pipeline_does_not_take_are_told_before_a_tick(
    tmp_path: Path, params: str, says: str
) -> None:
    write(tmp_path, f'[schedule.s]\nevery = "1h"\nparams = {{ {params} }}\n')
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    ws = open_memory(load_project(tmp_path), root=tmp_path)
    (line,) = control.list_schedules(ws, check=True)
    assert says in line.fault
    assert bool(line.fault) == bool(says)
    (line,) = control.list_schedules(ws)
    assert line.fault == "", "the project's code is not run where nobody asked for it"
