"""What a person asks of schedules: list them, when each ticks next and what came of it; trigger, pause, resume."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from noria.config import ScheduleConfig
from noria.core.clock import instant, utc_text
from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.schedule import params, records, times
from noria.schedule.facts import SchedulePaused, ScheduleResumed, ScheduleSet, TickDecided
from noria.schedule.records import TickRecord
from noria.schedule.settings import declared, near
from noria.schedule.tick import partitions_of, place, queue
from noria.store.ledger import Transaction
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

__all__ = [
    "ScheduleLine",
    "Tick",
    "Triggered",
    "Upcoming",
    "list_schedules",
    "list_ticks",
    "pause",
    "resume",
    "shown",
    "trigger",
    "upcoming",
]

MAX_TICKS = 1000


@frozen(kw_only=True)
class ScheduleLine:
    """A schedule: when, what, its next tick and the last one with what came of it. Times are UTC texts.

    `state` is on, paused, or new (no process has met it: `noria up` does). `waiting` counts ticks that
    have not ended, the oldest of which was due at `waiting_since`. `fault` says why its parameters cannot
    be given to the pipeline, where that was asked.
    """

    name: str
    when: str
    timezone: str
    do: tuple[str, ...]
    state: str
    next_due: str
    last_due: str
    last_status: str
    last_run: str
    waiting: int
    waiting_since: str = ""
    fault: str = ""


@frozen(kw_only=True)
class Upcoming:
    """A tick to come: the moment in UTC, and as the clocks of the schedule's zone will show it."""

    schedule: str
    due: str
    local: str
    state: str


@frozen(kw_only=True)
class Tick:
    """A tick and what came of it; `ref` is what `noria explain` takes."""

    ref: str
    schedule: str
    due: str
    partition: str
    cause: str
    status: str
    run: str
    reason: str
    count: int
    decided_at: str
    ended_at: str


@frozen(kw_only=True)
class Triggered:
    """What was asked for: the ticks, and their jobs as far as it is their turn."""

    schedule: str
    ticks: tuple[str, ...]
    jobs: tuple[str, ...]
    next: str = "noria schedule ticks"


@verb(permission="schedule.read", changes=False, name="list", where="project")
def list_schedules(ws: Workspace, *, check: bool = False) -> list[ScheduleLine]:
    """Every schedule of noria.toml: when it ticks, what it does, the next tick and the last.

    Args:
        check: also say which parameters the pipeline does not take; its code is read for that.
    Example: noria schedule list --check
    """
    configs = declared(ws.project)
    lines = [_line(ws, name, config) for name, config in configs.items()]
    if not check:
        return lines
    return [replace(line, fault=params.fault(ws.project, configs[line.name])) for line in lines]


@verb(permission="schedule.read", changes=False, name="next", where="project")
def upcoming(ws: Workspace, name: str = "", count: int = 5) -> list[Upcoming]:
    """The ticks to come, soonest first: of one schedule, or of all.

    Args:
        count: how many, at most 1000.
    Raises: NotFound naming the nearest schedule; UsageError for a count out of range.
    Example: noria schedule next nightly --count 10
    """
    if not 1 <= count <= MAX_TICKS:
        raise UsageError(f"count is {count}, not from 1 to {MAX_TICKS}", hint="noria schedule next --count 10")
    found: list[tuple[datetime, Upcoming]] = []
    for each, config in _chosen(ws, name).items():
        rule = times.rule(config, place(ws, each))
        with ws.ledger.read() as tx:
            known = records.schedule(tx, each)
        state = "paused" if known is not None and known.is_paused else "on"
        for moment in itertools.islice(times.following(rule, ws.clock.now()), count):
            local = moment.astimezone(rule.zone).strftime("%a %Y-%m-%d %H:%M:%S %Z")
            found.append((moment, Upcoming(schedule=each, due=utc_text(moment), local=local, state=state)))
    return [item for _, item in sorted(found, key=lambda pair: (pair[0], pair[1].schedule))[:count]]


@verb(permission="schedule.read", changes=False, name="ticks")
def list_ticks(ws: Workspace, name: str = "", limit: int = 20, status: str = "") -> list[Tick]:
    """Ticks and what came of each, the last decided first.

    Args:
        limit: how many, at most 1000.
        status: only those that are waiting, running, done, stopped, failed, skipped or missed.
    Raises: NotFound for a name that noria.toml has not and that never ticked; UsageError.
    Example: noria schedule ticks nightly --status failed
    """
    if not 1 <= limit <= MAX_TICKS:
        raise UsageError(f"limit is {limit}, not from 1 to {MAX_TICKS}", hint="noria schedule ticks --limit 20")
    known = ("waiting", "running", "done", "stopped", "failed", "skipped", "missed")
    if status and status not in known:
        raise UsageError(f"{status!r} is no status of a tick", hint=near(status, known))
    with ws.ledger.read() as tx:
        if status in ("waiting", "running"):  # on record a tick waits until it has ended
            found = sorted(records.open_ticks(tx, name), key=lambda tick: -tick.seq)
        else:
            found = records.ticks(tx, name, status=status, limit=limit)
        is_met = not name or bool(found) or records.schedule(tx, name) is not None
        runs = {run.cause: run.run for run in tracking.running(tx)}
    if not is_met:
        _chosen(ws, name)
    at_work = {job.key for job in ws.jobs.waiting() if job.state == "running"}
    told = [shown(_going_on(tick, runs) if tick.ref in at_work else tick) for tick in found]
    return [tick for tick in told if status in ("", tick.status)][:limit]


def _going_on(tick: TickRecord, runs: Mapping[str, str]) -> TickRecord:
    """A tick whose work was begun, with the run that is under way for it, if one is."""
    if tick.status != "waiting":
        return tick
    return replace(tick, status="running", run=runs.get(tick.ref, ""))


@verb(permission="schedule.trigger", where="project")
def trigger(ws: Workspace, name: str) -> Triggered:
    """Let a schedule tick now, also while it is paused; under `overlap = "skip"` not while it is at work.

    Raises: NotFound naming the nearest schedule; Conflict while it is at work.
    Example: noria schedule trigger nightly
    """
    config = _one(ws, name)
    rule = times.rule(config, place(ws, name))
    made = []
    with ws.ledger.transaction() as tx:
        waiting = records.open_ticks(tx, name)
        if config.overlap == "skip" and waiting:
            raise Conflict(
                f"{name} is at work: {waiting[0].ref} has not ended",
                hint='noria schedule ticks; overlap = "queue" lets ticks wait',
            )
        now = ws.clock.now()
        start, end = times.span(rule, now)
        for partition in partitions_of(config):
            fact = TickDecided(
                schedule=name,
                due=utc_text(now),
                decision="run",
                cause="trigger",
                partition=partition,
                start=utc_text(start),
                end=utc_text(end),
            )
            made.append(records.ref_of(name, fact.due, partition))
            tx.append(fact, outputs=[("tick", made[-1])])
    return _queued(ws, name, made)


@verb(permission="schedule.change", where="project")
def pause(ws: Workspace, name: str, reason: str = "") -> ScheduleLine:
    """Let the clock start nothing more of a schedule; what has begun goes on.

    Raises: NotFound naming the nearest schedule; Conflict if it is paused.
    Example: noria schedule pause nightly --reason "the source is being moved"
    """
    config = _one(ws, name)
    with ws.ledger.transaction() as tx:
        known = _met(ws, tx, name, config)
        if known.is_paused:
            raise Conflict(f"{name} is paused, since {known.paused_at[:19]} by {known.paused_by}")
        tx.append(SchedulePaused(schedule=name, reason=reason[:500]))
    return _line(ws, name, config)


@verb(permission="schedule.change", where="project")
def resume(ws: Workspace, name: str) -> ScheduleLine:
    """Let a schedule go on from now; what fell due meanwhile is not caught up: `noria schedule backfill` does.

    Raises: NotFound naming the nearest schedule; Conflict if it is not paused.
    Example: noria schedule resume nightly
    """
    config = _one(ws, name)
    with ws.ledger.transaction() as tx:
        known = records.schedule(tx, name)
        if known is None or not known.is_paused:
            raise Conflict(f"{name} is not paused")
        tx.append(ScheduleResumed(schedule=name))
    return _line(ws, name, config)


def shown(tick: TickRecord) -> Tick:
    """A tick as the verbs give it."""
    return Tick(
        ref=tick.ref,
        schedule=tick.schedule,
        due=tick.due,
        partition=tick.partition,
        cause=tick.cause,
        status=tick.status,
        run=tick.run,
        reason=tick.reason if tick.count == 1 else f"{tick.count} ticks from {tick.first[:19]}: {tick.reason}",
        count=tick.count,
        decided_at=tick.decided_at,
        ended_at=tick.ended_at,
    )


def _queued(ws: Workspace, name: str, made: list[str]) -> Triggered:
    queue(ws)
    jobs = [job.id for ref in made if (job := ws.jobs.find(ref)) is not None]
    return Triggered(schedule=name, ticks=tuple(made), jobs=tuple(jobs), next=f"noria schedule ticks {name}")


def _one(ws: Workspace, name: str) -> ScheduleConfig:
    if not name:
        raise UsageError("no schedule is named", hint=f"schedules: {', '.join(declared(ws.project)) or 'none'}")
    return _chosen(ws, name)[name]


def _chosen(ws: Workspace, name: str) -> dict[str, ScheduleConfig]:
    known = dict(declared(ws.project))
    if name and name not in known:
        hint = near(name, known) if known else f"[schedule.{name}] in noria.toml declares one"
        raise NotFound(f"there is no schedule {name!r}", hint=hint)
    return {name: known[name]} if name else known


def _met(ws: Workspace, tx: Transaction, name: str, config: ScheduleConfig) -> records.ScheduleRecord:
    """What is on record of a schedule; it is put there if no process has met it yet."""
    known = records.schedule(tx, name)
    if known is None:
        rule = times.rule(config, place(ws, name))
        tx.append(ScheduleSet(schedule=name, spec=rule.spec, since=utc_text(ws.clock.now()), reason="first seen"))
        known = records.schedule(tx, name)
    assert known is not None, "it was just written"
    return known


def _line(ws: Workspace, name: str, config: ScheduleConfig) -> ScheduleLine:
    rule = times.rule(config, place(ws, name))
    with ws.ledger.read() as tx:
        known = records.schedule(tx, name)
        newest = records.ended_ticks(tx, name, limit=1)
        waiting = records.open_ticks(tx, name)
    is_paused = known is not None and known.is_paused
    coming = next(times.following(rule, max(ws.clock.now(), instant(known.since) if known else ws.clock.now())), None)
    last = newest[0] if newest else None
    return ScheduleLine(
        name=name,
        when=times.words(config),
        timezone=config.timezone,
        do=config.do,
        state="paused" if is_paused else "on" if known is not None else "new",
        next_due="" if is_paused or coming is None else utc_text(coming),
        last_due=last.due if last else "",
        last_status=last.status if last else "",
        last_run=last.run if last else "",
        waiting=len(waiting),
        waiting_since=waiting[0].due if waiting else "",
    )
