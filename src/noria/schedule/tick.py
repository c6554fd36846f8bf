"""Looking at the clock: which ticks fell due, what becomes of each, and the jobs that do them.

A look may be taken as often as one likes and by any number of processes. What becomes of a tick is
decided in the ledger's transaction, where the record of the tick is the lock; the job comes after,
under the tick's own name as its key, and whoever looks next makes up for a job that is missing. So
there is one decision and one job for each tick, whatever dies in between. Schedules go by the wall's
clock, also in a project whose windows go by the events'.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from noria.config import CONFIG_NAME, ScheduleConfig
from noria.core.clock import duration, instant, utc_text
from noria.schedule import policy, records, times
from noria.schedule.facts import ScheduleSet, TickDecided, TickEnded
from noria.schedule.records import ScheduleRecord, TickRecord
from noria.schedule.settings import Current
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader, Transaction
from noria.store.workspace import Workspace

__all__ = ["KIND", "Watcher", "end", "partitions_of", "place", "queue"]

KIND = "tick"
"""The kind of the jobs."""
AT_ONCE = 100
"""So many jobs of one schedule and partition are queued, where its ticks may overlap."""
LOOKS = 20
"""Where no fact has come since, only every so many looks go through the ticks that have not ended."""
SKEW = timedelta(hours=1)
"""A schedule that counts from further ahead than this was first met by a clock that went wrong."""

log = logging.getLogger("noria.schedule")


def place(ws: Workspace, name: str) -> str:
    """Where a schedule is written down, for messages."""
    return f"{ws.project.root / CONFIG_NAME} [schedule.{name}]"


def partitions_of(config: ScheduleConfig) -> Sequence[str]:
    """The partitions of each tick; one without a name where none are declared."""
    return config.partitions or ("",)


class Watcher:
    """Looks at the clock for the schedules of a project. One for each process; not safe between threads.

    It tells the ledger of a schedule's times once, when it first looks, and again when its own noria.toml has
    other times. If another process tells other times later, that one has a newer noria.toml, and the schedule is
    left to it.
    """

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._current = Current(ws.project)
        self._told: set[str] = set()
        self._left: set[str] = set()
        self._head = -1
        self._looks = 0

    def look(self) -> list[str]:
        """Decide every tick that fell due, and see that each that is to run has its job.

        Gives the ids of the jobs that should be there, as far as it went through them.
        """
        self._read()
        for name, config in self._ws.project.schedules.items():
            self._decide(name, config)
        head = self._ws.ledger.head()
        self._looks += 1
        if head == self._head and self._looks % LOOKS:
            return []
        self._head = head
        return queue(self._ws)

    def _read(self) -> None:
        """Take up what noria.toml says of schedules by now."""
        before, found = self._ws.project.schedules, self._current.schedules()
        if found == before:
            return
        for name in {*before, *found}:
            specs = [times.rule(each[name], place(self._ws, name)).spec for each in (before, found) if name in each]
            if len(specs) == 1 or specs[0] != specs[1]:
                self._told.discard(name)
                self._left.discard(name)
        self._ws = replace(self._ws, project=replace(self._ws.project, schedules=found))
        log.info("%s was written: it has the schedules %s", CONFIG_NAME, ", ".join(found) or "none")

    def _decide(self, name: str, config: ScheduleConfig) -> None:
        ws = self._ws
        rule = times.rule(config, place(ws, name))
        now = ws.clock.now()
        with ws.ledger.read() as tx:
            known = records.schedule(tx, name)
            if known is not None and not self._is_to_tell(known, rule, now):
                if known.spec != rule.spec:
                    self._leave(name)
                    return
                if known.is_paused or not times.has_due(rule, after=_cursor(tx, known, now), now=now):
                    return
        with ws.ledger.transaction() as tx:
            now = ws.clock.now()
            known = self._tell(tx, name, rule, now)
            if known is None or known.is_paused:
                return
            _append(tx, name, config, rule, now, known)
        failpoint("tick.decided")

    def _is_to_tell(self, known: ScheduleRecord, rule: times.Rule, now: datetime) -> bool:
        if known.spec != rule.spec:
            return known.schedule not in self._told
        return instant(known.since) > now + SKEW

    def _tell(self, tx: Transaction, name: str, rule: times.Rule, now: datetime) -> ScheduleRecord | None:
        """What is on record of the schedule, written if it is new, other, or ahead of the clock; None: leave it."""
        known = records.schedule(tx, name)
        if known is not None and not self._is_to_tell(known, rule, now):
            self._told.add(name)
            return known if known.spec == rule.spec else None
        if known is None:
            reason = "first seen"
        else:
            reason = "its times changed" if known.spec != rule.spec else "the clock went back"
        tx.append(ScheduleSet(schedule=name, spec=rule.spec, since=utc_text(now), reason=reason))
        self._told.add(name)
        return records.schedule(tx, name)

    def _leave(self, name: str) -> None:
        if name not in self._left:
            self._left.add(name)
            log.warning(
                "schedule %s has other times in a newer noria.toml; it is left to the process that read it", name
            )


def queue(ws: Workspace) -> list[str]:
    """See that every tick whose turn it is has its job; end those whose job was given up. Gives the jobs' ids."""
    with ws.ledger.read() as tx:
        waiting = records.open_ticks(tx)
    jobs = []
    for tick in _heads(ws, waiting):
        job = ws.jobs.find(tick.ref)
        if job is None:
            jobs.append(ws.jobs.enqueue(KIND, {"tick": tick.ref}, key=tick.ref))
        elif job.state == "failed":
            end(ws, tick, "failed", reason=job.error.partition("\n")[0])
        else:
            jobs.append(job.id)
    return jobs


def end(ws: Workspace, tick: TickRecord, status: str, *, run: str = "", reason: str = "") -> bool:
    """Write how a tick ended, unless that is on record already. Gives whether it was us."""
    with ws.ledger.transaction() as tx:
        found = records.tick(tx, tick.schedule, tick.due, tick.partition, tick.round)
        if found is None or found.status != "waiting":
            return False
        ended = TickEnded(
            schedule=tick.schedule,
            due=tick.due,
            partition=tick.partition,
            round=tick.round,
            status=status,
            run=run,
            reason=reason[:500],
        )
        outputs = [("run", f"run/{run}")] if run else []
        tx.append(ended, inputs=[("tick", tick.ref)], outputs=outputs)
    failpoint("tick.ended")
    return True


def _cursor(tx: Reader, known: ScheduleRecord, now: datetime) -> datetime:
    """From when on ticks count: the newest that is on record, or since when the schedule counts.

    A tick that is later than `now` does not count: it was decided before the clock went back.
    """
    last = records.last_due(tx, known.schedule, utc_text(now))
    return instant(max(last, known.since)) if last else instant(known.since)


def _append(
    tx: Transaction, name: str, config: ScheduleConfig, rule: times.Rule, now: datetime, known: ScheduleRecord
) -> None:
    found = times.before(rule, now, after=_cursor(tx, known, now), limit=policy.MAX_LATE)
    older = _older(rule, found, _cursor(tx, known, now))
    due = [moment for moment in found if not records.is_recorded(tx, name, utc_text(moment))]
    waiting = [tick for tick in records.open_ticks(tx, name) if tick.cause != "backfill"]
    for partition in partitions_of(config):
        mine = [tick.ref for tick in waiting if tick.partition == partition]
        grace = duration(config.grace)
        for decision in policy.decide(config, due, now=now, grace=grace, waiting=mine, older=older):
            start, end = times.span(rule, decision.due)
            text = utc_text(decision.due)
            fact = TickDecided(
                schedule=name,
                due=text,
                decision=decision.decision,
                partition=partition,
                round=records.next_round(tx, name, text, partition),
                reason=decision.reason,
                first=utc_text(decision.first or decision.due),
                count=decision.count,
                start=utc_text(start),
                end=utc_text(end),
            )
            tx.append(fact, outputs=[("tick", records.ref_of(name, text, partition, fact.round))])


def _older(rule: times.Rule, found: Sequence[datetime], after: datetime) -> policy.Stretch | None:
    """What fell due before the newest that can be caught up; None where that is nothing."""
    if len(found) < policy.MAX_LATE:
        return None
    before = times.stretch(rule, after=after, until=found[0])
    if before is None:
        return None
    (last,) = times.before(rule, found[0] - timedelta(microseconds=1), after=after, limit=1)
    return policy.Stretch(before[0], last, before[1])


def _heads(ws: Workspace, waiting: Sequence[TickRecord]) -> Iterator[TickRecord]:
    """The ticks whose turn it is: where they may overlap the first hundred, else one of each schedule and partition.

    The clock's ticks go before those of a backfill, which has time; one that has begun goes on.
    """
    if not waiting:
        return
    begun = {job.key for job in ws.jobs.waiting() if job.kind == KIND}
    lanes: dict[tuple[str, str], list[TickRecord]] = {}
    for tick in waiting:
        lanes.setdefault((tick.schedule, tick.partition), []).append(tick)
    for (name, _), ticks in lanes.items():
        ticks.sort(key=lambda tick: (tick.cause == "backfill", tick.due, tick.round))
        config = ws.project.schedules.get(name)
        if config is not None and config.overlap == "allow":
            yield from ticks[:AT_ONCE]
        else:
            yield next((tick for tick in ticks if tick.ref in begun), ticks[0])
