"""Doing the ticks of a stretch of the past: each moment and partition once, in order, behind the clock's own ticks."""

from __future__ import annotations

import itertools
from datetime import datetime, time

from noria.config import ScheduleConfig
from noria.core.clock import utc_text
from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.schedule import records, times
from noria.schedule.facts import TickDecided
from noria.schedule.settings import declared, near
from noria.schedule.tick import partitions_of, place, queue
from noria.store.workspace import Workspace

__all__ = ["Backfill", "backfill"]

MAX_BACKFILL = 10_000
"""So many ticks are asked for at once, at most."""


@frozen(kw_only=True)
class Backfill:
    """What a backfill asks for: the ticks that are new, those that were done or wait already, and the first jobs."""

    schedule: str
    first: str
    last: str
    ticks: tuple[str, ...]
    done_before: int
    waiting_before: int
    partitions: tuple[str, ...]
    is_dry_run: bool
    next: str


@verb(permission="schedule.trigger", where="project")
def backfill(
    ws: Workspace,
    name: str,
    start: str,
    end: str = "",
    *,
    partitions: list[str] | None = None,
    again: bool = False,
    dry_run: bool = False,
) -> Backfill:
    """Do the ticks of a stretch of time as if they fell due now, oldest first.

    The moments are those of the schedule's times in [from, to). One that was done is not done again,
    one that waits is not asked for twice, so the command may be repeated.

    Args:
        start: a day or a moment such as 2026-01-01 or 2026-01-01T06:00, in the schedule's time zone.
        end: likewise, exclusive; by default now.
        partitions: only these; by default all of the schedule.
        again: also what was done before.
        dry_run: say what would be asked for.
    Raises: NotFound for a schedule or a partition that is not there; UsageError for a stretch without
        a tick, ahead of now, or of more than 10,000 ticks.
    Example: noria schedule backfill nightly --from 2026-01-01 --to 2026-02-01
    """
    config = _config(ws, name)
    chosen = _partitions(config, partitions)
    rule = times.rule(config, place(ws, name))
    moments = _moments(ws, rule, start, end, len(chosen))
    made, done, waiting = [], 0, 0
    with ws.ledger.transaction() as tx:
        for moment, partition in itertools.product(moments, chosen):
            due = utc_text(moment)
            earlier = records.ticks_at(tx, name, due, partition)
            if any(tick.status == "waiting" for tick in earlier):
                waiting += 1
            elif not again and any(tick.status == "done" for tick in earlier):
                done += 1
            else:
                number = records.next_round(tx, name, due, partition)
                made.append(records.ref_of(name, due, partition, number))
                if not dry_run:
                    opened, closed = times.span(rule, moment)
                    fact = TickDecided(
                        schedule=name,
                        due=due,
                        decision="run",
                        cause="backfill",
                        partition=partition,
                        round=number,
                        start=utc_text(opened),
                        end=utc_text(closed),
                    )
                    tx.append(fact, outputs=[("tick", made[-1])])
    if not dry_run:
        queue(ws)
    return Backfill(
        schedule=name,
        first=utc_text(moments[0]),
        last=utc_text(moments[-1]),
        ticks=tuple(made),
        done_before=done,
        waiting_before=waiting,
        partitions=tuple(each for each in chosen if each),
        is_dry_run=dry_run,
        next=f"noria schedule ticks {name}",
    )


def _config(ws: Workspace, name: str) -> ScheduleConfig:
    known = declared(ws.project)
    if name not in known:
        raise NotFound(f"there is no schedule {name!r}", hint=near(name, known))
    return known[name]


def _partitions(config: ScheduleConfig, wanted: list[str] | None) -> tuple[str, ...]:
    known = tuple(partitions_of(config))
    for each in wanted or ():
        if each not in known:
            raise NotFound(f"there is no partition {each!r}", hint=near(each, config.partitions))
    return tuple(dict.fromkeys(wanted)) if wanted else known


def _moments(ws: Workspace, rule: times.Rule, start: str, end: str, partitions: int) -> list[datetime]:
    now = ws.clock.now()
    first = _moment(start, rule, "--from")
    last = _moment(end, rule, "--to") if end else now
    if last > now:
        raise UsageError(f"--to {end} is ahead of now", hint="what is to come is the clock's matter")
    if last <= first:
        shown = end or "(now)"
        raise UsageError(f"--to {shown} is not after --from {start}", hint="--to is the first moment not asked for")
    limit = MAX_BACKFILL // partitions
    # following() gives what is later, and the stretch begins with its first moment.
    coming = times.following(rule, first - times.SECOND / 1_000_000)
    found = list(itertools.islice(itertools.takewhile(lambda moment: moment < last, coming), limit + 1))
    if not found:
        text = f"no tick lies from {times.text_of(first)} to {times.text_of(last)}"
        raise UsageError(text, hint="noria schedule list says when it ticks; --to is exclusive")
    if len(found) > limit:
        raise UsageError(f"the stretch has more than {MAX_BACKFILL} ticks", hint="take it in parts")
    return found


def _moment(text: str, rule: times.Rule, option: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is no day or moment", hint=f"{option} 2026-01-31, or 2026-01-31T06:00"
        ) from error
    if len(text) <= len("2026-01-31"):
        found = datetime.combine(found.date(), time())
    return found if found.tzinfo is not None else found.replace(tzinfo=rule.zone)
