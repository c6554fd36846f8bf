"""Explaining ticks of schedules: what a tick was, who or what asked for it, and what came of it."""

from __future__ import annotations

from noria.project import touched
from noria.project.chain import Chain, Link
from noria.schedule import records
from noria.schedule.records import TickRecord
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

__all__ = ["chain", "links"]

MAX_RUNS = 10_000


def links(ws: Workspace, cause: str) -> list[Link]:
    """The tick that asked for a run, and the schedule behind it; nothing for another cause."""
    with ws.ledger.read() as tx:
        tick = records.tick_of(tx, cause)
    return [] if tick is None else [_tick(tick), *_schedule(ws, tick)]


def chain(ws: Workspace, ref: str) -> Chain | None:
    """A tick: its schedule above it, below it the runs that it caused with what they made. None if there is none."""
    with ws.ledger.read() as tx:
        tick = records.tick_of(tx, ref)
        if tick is None:
            return None
        runs = [run.run for run in tracking.runs(tx, limit=MAX_RUNS) if run.cause == tick.ref]
    reached = tuple(
        Link(what=item.what, ref=item.ref, text=item.text, at=item.at, details=dict(item.details))
        for item in touched.by_runs(ws, runs)
    )
    return Chain(id=tick.ref, kind="tick", links=(_tick(tick), *_schedule(ws, tick)), touched=reached)


def _tick(tick: TickRecord) -> Link:
    asked = {"clock": "by the clock", "trigger": f"by {tick.actor}", "backfill": f"by a backfill of {tick.actor}"}
    part = f" of {tick.partition}" if tick.partition else ""
    many = f", the last of {tick.count}" if tick.count > 1 else ""
    reason = f": {tick.reason}" if tick.reason else ""
    details = {"start": tick.start, "end": tick.end, "run": tick.run, "ended_at": tick.ended_at}
    return Link(
        what="tick",
        ref=tick.ref,
        text=f"due {tick.due[:19]}Z{part}, asked for {asked[tick.cause]}{many}; {tick.status}{reason}",
        at=tick.decided_at,
        actor=tick.actor,
        details={name: value for name, value in details.items() if value},
    )


def _schedule(ws: Workspace, tick: TickRecord) -> list[Link]:
    """The times that the schedule had when the tick was decided, from the fact that set them."""
    found = [
        stored
        for stored in ws.ledger.facts(kind="schedule.set", subject=f"schedule/{tick.schedule}")
        if stored.seq < tick.seq
    ]
    if not found:
        return []
    spec, ref = found[-1].payload.spec, f"fact/{found[-1].seq}"
    return [Link(what="schedule", ref=ref, text=f"{tick.schedule}: {spec}", at=found[-1].at, actor=found[-1].actor)]
