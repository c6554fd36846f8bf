"""Records of schedules: since when each counts and whether it is paused, and every tick with its outcome."""

from __future__ import annotations

from typing import Any

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.schedule.facts import SchedulePaused, ScheduleResumed, ScheduleSet, TickDecided, TickEnded
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import BigInteger, Boolean, Column, Index, Integer, Row, Text, func, select
from noria.store.tables import project, record_table

__all__ = [
    "PROJECTIONS",
    "TABLES",
    "ScheduleRecord",
    "TickRecord",
    "ended_ticks",
    "is_recorded",
    "last_due",
    "next_round",
    "open_ticks",
    "ref_of",
    "schedule",
    "tick",
    "tick_of",
    "ticks",
    "ticks_at",
]

_schedule = record_table(
    "schedule",
    Column("schedule", Text, primary_key=True),
    Column("spec", Text, nullable=False),
    Column("since", Text, nullable=False),
    Column("is_paused", Boolean, nullable=False),
    Column("paused_at", Text, nullable=False),
    Column("paused_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
_tick = record_table(
    "schedule_tick",
    Column("schedule", Text, primary_key=True),
    Column("due", Text, primary_key=True),
    Column("partition", Text, primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("cause", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("first", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("start", Text, nullable=False),
    Column("end", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("decided_at", Text, nullable=False),
    Column("ended_at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("schedule_tick_status", "status", "schedule"),
    Index("schedule_tick_seq", "schedule", "seq"),
)
TABLES = (_schedule, _tick)


@frozen(kw_only=True)
class ScheduleRecord:
    """What is known of a schedule: its times, since when they count, whether it is paused."""

    schedule: str
    spec: str
    since: str
    is_paused: bool
    paused_at: str
    paused_by: str
    reason: str
    seq: int


@frozen(kw_only=True)
class TickRecord:
    """One tick. `status` is waiting until it is done, stopped or failed; or skipped, missed. Times are UTC texts."""

    schedule: str
    due: str
    partition: str
    round: int
    cause: str
    status: str
    reason: str
    first: str
    count: int
    start: str
    end: str
    run: str
    decided_at: str
    ended_at: str
    actor: str
    seq: int

    @property
    def ref(self) -> str:
        """What a run that it asked for names as its cause: `tick/nightly/2026-11-21T06:00:00Z~DE#1`."""
        return ref_of(self.schedule, self.due, self.partition, self.round)


def ref_of(name: str, due: str, partition: str = "", round: int = 0) -> str:
    """The ref of a tick; a whole second is written without its fraction."""
    part = f"~{partition}" if partition else ""
    return f"tick/{name}/{due.replace('.000000Z', 'Z')}{part}" + (f"#{round}" if round else "")


@project(ScheduleSet)
def _set(tx: Transaction, fact: Stored[ScheduleSet]) -> None:
    known = tx.first(select(_schedule).where(_schedule.c.schedule == fact.payload.schedule))
    tx.upsert(
        _schedule,
        schedule=fact.payload.schedule,
        spec=fact.payload.spec,
        since=fact.payload.since,
        is_paused=bool(known.is_paused) if known is not None else False,
        paused_at=known.paused_at if known is not None else "",
        paused_by=known.paused_by if known is not None else "",
        reason=known.reason if known is not None else "",
        seq=fact.seq,
    )


@project(TickDecided)
def _decided(tx: Transaction, fact: Stored[TickDecided]) -> None:
    found = fact.payload
    tx.upsert(
        _tick,
        schedule=found.schedule,
        due=found.due,
        partition=found.partition,
        round=found.round,
        cause=found.cause,
        status="waiting" if found.decision == "run" else found.decision,
        reason=found.reason,
        first=found.first or found.due,
        count=found.count,
        start=found.start,
        end=found.end,
        run="",
        decided_at=fact.at,
        ended_at="" if found.decision == "run" else fact.at,
        actor=fact.actor,
        seq=fact.seq,
    )


@project(TickEnded)
def _ended(tx: Transaction, fact: Stored[TickEnded]) -> None:
    found = fact.payload
    keys = {"schedule": found.schedule, "due": found.due, "partition": found.partition, "round": found.round}
    tx.update(_tick, keys, status=found.status, run=found.run, reason=found.reason, ended_at=fact.at)


@project(SchedulePaused)
def _paused(tx: Transaction, fact: Stored[SchedulePaused]) -> None:
    keys = {"schedule": fact.payload.schedule}
    tx.update(_schedule, keys, is_paused=True, paused_at=fact.at, paused_by=fact.actor, reason=fact.payload.reason)


@project(ScheduleResumed)
def _resumed(tx: Transaction, fact: Stored[ScheduleResumed]) -> None:
    keys = {"schedule": fact.payload.schedule}
    tx.update(_schedule, keys, is_paused=False, paused_at="", paused_by="", reason="", since=fact.at)


PROJECTIONS = (_set, _decided, _ended, _paused, _resumed)


def schedule(tx: Reader, name: str) -> ScheduleRecord | None:
    """What is known of a schedule, or None if no process has met it yet."""
    row = tx.first(select(_schedule).where(_schedule.c.schedule == name))
    return None if row is None else ScheduleRecord(**row._mapping)


def open_ticks(tx: Reader, name: str = "") -> list[TickRecord]:
    """Ticks that wait to be done or are being done, oldest moment first."""
    query = select(_tick).where(_tick.c.status == "waiting")
    if name:
        query = query.where(_tick.c.schedule == name)
    return [_record(row) for row in tx.rows(query.order_by(_tick.c.due, _tick.c.partition, _tick.c.round))]


def ended_ticks(tx: Reader, name: str, *, limit: int) -> list[TickRecord]:
    """Ticks of a schedule that have ended, or were never begun; the newest moment first."""
    query = select(_tick).where(_tick.c.schedule == name, _tick.c.status != "waiting")
    return [_record(row) for row in tx.rows(query.order_by(_tick.c.due.desc(), _tick.c.seq.desc()).limit(limit))]


def last_due(tx: Reader, name: str, until: str) -> str:
    """The newest moment, not after `until`, at which the clock was found to have ticked; "" if there is none."""
    query = select(func.max(_tick.c.due)).where(
        _tick.c.schedule == name, _tick.c.cause == "clock", _tick.c.due <= until
    )
    return str(tx.scalar(query) or "")


def is_recorded(tx: Reader, name: str, due: str) -> bool:
    """Whether the clock's tick of that moment was decided already."""
    query = select(_tick.c.seq).where(_tick.c.schedule == name, _tick.c.due == due, _tick.c.cause == "clock")
    return tx.first(query.limit(1)) is not None


def next_round(tx: Reader, name: str, due: str, partition: str) -> int:
    """The number of the next tick at a moment that may have had some."""
    query = select(func.max(_tick.c.round)).where(
        _tick.c.schedule == name, _tick.c.due == due, _tick.c.partition == partition
    )
    found = tx.scalar(query)
    return 0 if found is None else int(found) + 1


def tick(tx: Reader, name: str, due: str, partition: str = "", round: int = 0) -> TickRecord | None:
    """One tick, or None."""
    row = tx.first(
        select(_tick).where(
            _tick.c.schedule == name, _tick.c.due == due, _tick.c.partition == partition, _tick.c.round == round
        )
    )
    return None if row is None else _record(row)


def ticks_at(tx: Reader, name: str, due: str, partition: str) -> list[TickRecord]:
    """Every tick of one moment and partition: the clock's, and those that were asked for again."""
    query = select(_tick).where(_tick.c.schedule == name, _tick.c.due == due, _tick.c.partition == partition)
    return [_record(row) for row in tx.rows(query.order_by(_tick.c.round))]


def tick_of(tx: Reader, ref: str) -> TickRecord | None:
    """The tick that a ref names (`tick/nightly/2026-11-21T06:00:00Z`), or None."""
    parts = ref.split("/", 2)
    if len(parts) != 3 or parts[0] != "tick":
        return None
    rest, _, round_text = parts[2].partition("#")
    moment, _, partition = rest.partition("~")
    due = moment if "." in moment else moment.replace("Z", ".000000Z")
    if round_text and not round_text.isdigit():
        return None
    return tick(tx, parts[1], due, partition, int(round_text or 0))


def ticks(tx: Reader, name: str = "", *, status: str = "", limit: int = 50) -> list[TickRecord]:
    """Ticks, the last decided first; of one schedule or in one status if these are given."""
    query = select(_tick)
    if name:
        query = query.where(_tick.c.schedule == name)
    if status:
        query = query.where(_tick.c.status == status)
    return [_record(row) for row in tx.rows(query.order_by(_tick.c.seq.desc()).limit(limit))]


def _record(row: Row[Any]) -> TickRecord:
    return TickRecord(**row._mapping)
