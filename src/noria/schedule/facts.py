"""What can happen to schedules."""

from __future__ import annotations

from noria.core.fact import fact

__all__ = ["FACTS", "SchedulePaused", "ScheduleResumed", "ScheduleSet", "TickDecided", "TickEnded"]


@fact("schedule.set", subject="schedule/{schedule}")
class ScheduleSet:
    """A schedule of noria.toml was met for the first time, or with other times; its ticks count from then.

    `spec` is the canonical JSON of its times: cron, every, start, timezone. `since` is UTC.
    """

    schedule: str
    spec: str
    since: str
    reason: str = ""


@fact("tick.decided", subject="schedule/{schedule}")
class TickDecided:
    """A tick fell due, or was asked for: decision is run, skipped (overlap) or missed (too late).

    `due` is the tick's own moment, UTC. `cause` is clock, backfill or trigger. A missed stretch is one
    fact: `count` ticks from `first` to `due`. `round` counts the times that one moment was asked for.
    `start` and `end` bound the interval that the tick closes.
    """

    schedule: str
    due: str
    decision: str
    cause: str = "clock"
    partition: str = ""
    round: int = 0
    reason: str = ""
    first: str = ""
    count: int = 1
    start: str = ""
    end: str = ""


@fact("tick.ended", subject="schedule/{schedule}")
class TickEnded:
    """What a tick asked for was done: status is done, stopped (a check or gate said no) or failed."""

    schedule: str
    due: str
    status: str
    partition: str = ""
    round: int = 0
    run: str = ""
    reason: str = ""


@fact("schedule.paused", subject="schedule/{schedule}")
class SchedulePaused:
    """The clock starts nothing of this schedule until it is resumed."""

    schedule: str
    reason: str = ""


@fact("schedule.resumed", subject="schedule/{schedule}")
class ScheduleResumed:
    """The schedule goes on from now; what fell due while it was paused is not caught up."""

    schedule: str


FACTS = (ScheduleSet, TickDecided, TickEnded, SchedulePaused, ScheduleResumed)
