"""What becomes of the ticks that fell due: run, skipped or missed. Pure; the clock is an argument.

A tick is on time up to the grace. What is late follows `catch_up`; what meets an earlier tick that
has not ended follows `overlap`. A clock that went back finds its ticks on record and does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from noria.config import ScheduleConfig
from noria.core.frozen import frozen

__all__ = ["MAX_LATE", "MAX_WAITING", "Decision", "Stretch", "decide"]

MAX_LATE = 1000
"""So many ticks are caught up, at most; older ones are missed."""
MAX_WAITING = 1000
"""So many ticks of one schedule may wait; beyond it they are skipped."""


@frozen(kw_only=True)
class Decision:
    """A tick and what becomes of it; a missed one may stand for `count` from `first` on."""

    due: datetime
    decision: str
    reason: str = ""
    first: datetime | None = None
    count: int = 1


@frozen
class Stretch:
    """Moments in a row of which only the ends and the number are known."""

    first: datetime
    last: datetime
    count: int


def decide(
    config: ScheduleConfig,
    due: Sequence[datetime],
    *,
    now: datetime,
    grace: timedelta,
    waiting: Sequence[str],
    older: Stretch | None = None,
) -> list[Decision]:
    """What becomes of each moment of `due` (oldest first, none decided before), given the ticks that have not ended.

    `waiting` are the refs of earlier ticks of the clock that have not ended, oldest first. `older` is the stretch
    of moments before `due` that are too many to be caught up: missed, whatever `catch_up` says.
    """
    if not due:
        return []
    late = now - due[-1] > grace
    if config.catch_up == "all":
        run, missed = list(due), []
    elif config.catch_up == "none" and late:
        run, missed = [], list(due)
    else:
        run, missed = [due[-1]], list(due[:-1])
    found = []
    if missed or older is not None:
        found.append(_missed(config, missed, older))
    is_busy = bool(waiting) and config.overlap == "skip" and len(run) == 1
    for number, moment in enumerate(run):
        if is_busy:
            found.append(Decision(due=moment, decision="skipped", reason=f"{waiting[0]} has not ended"))
        elif len(waiting) + number >= MAX_WAITING:
            found.append(Decision(due=moment, decision="skipped", reason=f"{MAX_WAITING} ticks wait already"))
        else:
            found.append(Decision(due=moment, decision="run", reason=_lateness(now - moment, grace)))
    return found


def _missed(config: ScheduleConfig, missed: Sequence[datetime], older: Stretch | None) -> Decision:
    """One decision for a whole stretch: a machine that slept a year leaves one fact."""
    text = f'nothing looked at the clock in time, and catch_up is "{config.catch_up}"'
    if config.catch_up == "all":
        text = f"nothing looked at the clock in time, and {MAX_LATE} ticks are caught up at most"
    first, last = (older.first, older.last) if older is not None else (missed[0], missed[-1])
    count = len(missed) + (older.count if older is not None else 0)
    return Decision(due=missed[-1] if missed else last, decision="missed", reason=text, first=first, count=count)


def _lateness(late: timedelta, grace: timedelta) -> str:
    if late <= grace:
        return ""
    return f"caught up, {timedelta(seconds=round(late.total_seconds()))} late"
