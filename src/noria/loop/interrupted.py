"""A run that ended before its work was done: what it was asked for, so that it goes on as it began."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from noria.core.clock import instant
from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.store.workspace import Workspace
from noria.tracking import records
from noria.tracking import run as tracking
from noria.tracking.records import RunRecord

__all__ = ["Interrupted", "cut_off", "interrupted", "left_behind"]

RECENT = timedelta(hours=1)
RESUMES_MAX = 3
"""How often a run is taken up by itself; a run that its processes keep dying of needs a person."""
LOOKED_AT = 20


@frozen(kw_only=True)
class Interrupted:
    """What a run that is to go on was asked for when it began."""

    run: str
    pipeline: str
    cause: str
    datasets: Mapping[str, str]
    params: Mapping[str, JSON]


def interrupted(ws: Workspace, name: str, params: Mapping[str, JSON] | None) -> Interrupted:
    """The run to resume. Raises: NotFound; UsageError for new parameters, or if its work is done."""
    if params:
        raise UsageError("a run is resumed with the parameters that it began with", hint="noria run --resume, alone")
    tracking.reap(ws)
    found = tracking.resolve(ws, name)
    reason = tracking.not_resumable(ws, found)
    if reason:
        raise UsageError(
            f"run {found.run} cannot be resumed: {reason}", hint="noria run makes a new one; what is cached is kept"
        )
    return Interrupted(
        run=found.run,
        pipeline=found.pipeline,
        cause=found.cause,
        datasets={pin.dataset: f"{pin.dataset}@{pin.version}" for pin in found.pins},
        params=ws.objects.get_json(found.config).get("params", {}),
    )


def cut_off(ws: Workspace, cause: str) -> str:
    """The newest run that something asked for, by its ref, that was cut off and can go on; "" if there is none."""
    started = [stored.payload for stored in ws.ledger.facts(kind="run.started", ref=cause)]
    with ws.ledger.read() as tx:
        found = [records.run(tx, payload.run) for payload in started if payload.cause == cause]
    cut = [run for run in found if run is not None and run.status in ("lost", "preempted") and not run.cancel]
    return next((run.run for run in reversed(cut) if not tracking.not_resumable(ws, run)), "")


def left_behind(ws: Workspace) -> list[RunRecord]:
    """Runs of people that died or were asked to leave within the hour, with nothing newer of their pipeline.

    The loop takes up its own runs itself. One that somebody cancelled is left alone.
    """
    with ws.ledger.read() as tx:
        newest: dict[str, RunRecord] = {}
        for found in records.runs(tx, limit=LOOKED_AT):
            newest.setdefault(found.pipeline, found)
    now = ws.clock.now()
    return [
        found
        for found in newest.values()
        if found.status in ("lost", "preempted")
        and found.cause == "user"
        and not found.cancel
        and found.resumed < RESUMES_MAX
        and now - instant(found.finished_at) < RECENT
    ]
