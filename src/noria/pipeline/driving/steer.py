"""What people do with a run that is going on: read what it prints, and end it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from noria.core.errors import Conflict, NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.pipeline import records
from noria.pipeline.driving.printed import logs_of
from noria.pipeline.driving.unrun import begun_in, nearest, require_begun
from noria.store.workspace import Workspace
from noria.tracking import records as tracking_records
from noria.tracking import run as tracking
from noria.tracking.facts import CancelRequested

__all__ = ["Cancelled", "LogPiece", "Logs", "cancel", "logs"]

ANSWER_BYTES = 4 << 20
"""So much of all logs is given at once, at most; the rest comes with the next call."""


@frozen(kw_only=True)
class LogPiece:
    """What one step printed since the last look."""

    step: str
    text: str


@frozen(kw_only=True)
class Logs:
    """What the steps of a run printed, in the order in which they began; `cursor` asks for what comes after.

    `is_over`: the run has ended, and there is nothing more to come. `has_more`: the answer is a part of what is
    there already, and the next begins where it ends. `step` is the one that was asked for; "" for all.
    """

    run: str
    status: str
    pieces: tuple[LogPiece, ...]
    cursor: str
    is_over: bool
    has_more: bool = False
    step: str = ""


@frozen(kw_only=True)
class Cancelled:
    """A run that is to end. `status` is running until its process has seen it; until then it cannot be resumed."""

    run: str
    status: str
    reason: str
    next: str = "noria run --resume"


@verb(permission="pipeline.read", changes=False)
def logs(ws: Workspace, run: str = "", step: str = "", cursor: str = "") -> Logs:
    """What the steps of a run, or its script, printed; also while they run, and after a crash.

    Args:
        run: its id, or the first or last characters of it; the newest without one; or a step, of its newest run.
        step: only this step, of a mapped one all items, or one of them, such as score.17.
        cursor: from an earlier answer: only what came since.
    Raises: NotFound; UsageError for a cursor that is none.
    Example: noria pipeline logs
    """
    run, step = _named(ws, run, step)
    found = tracking.resolve(ws, run)
    is_over = found.status != "running"  # asked before the files are read, so nothing is missed
    places = _places(cursor)
    logs = logs_of(ws, found.run, step, is_over=is_over)
    if step and not logs:
        _require_step(ws, found, step)
    pieces, has_more, room = [], False, ANSWER_BYTES
    for each in logs:
        place = places.setdefault(each.step, 0)
        if room <= 0:
            has_more = True
            continue
        text, places[each.step], is_cut = each.read(ws, place, room, is_final=is_over)
        room = 0 if is_cut else room - (places[each.step] - place)
        has_more = has_more or is_cut
        if text:
            pieces.append(LogPiece(step=each.step, text=text))
    return Logs(
        run=found.run,
        status=found.status,
        pieces=tuple(pieces),
        cursor=json.dumps(places, separators=(",", ":")),
        is_over=is_over and not has_more,
        has_more=has_more,
        step=step,
    )


def _named(ws: Workspace, run: str, step: str) -> tuple[str, str]:
    """The run and the step; where a step stands in the place of the run, its newest one. Raises: NotFound."""
    if not run or step:
        return run, step
    under_way = begun_in(ws, run)
    if under_way:
        return under_way, run
    with ws.ledger.read() as tx:
        newest = records.latest(tx, run)
    if newest is not None:
        return newest.run, newest.step
    require_begun(ws, run)
    return run, step


def _require_step(ws: Workspace, found: tracking_records.RunRecord, step: str) -> None:
    """Raises NotFound for what is no step of a run, unless it may still become one."""
    if found.status == "running":
        return
    with ws.ledger.read() as tx:
        known = [each.step for each in (*records.steps(tx, found.run), *records.items(tx, found.run))]
    if step not in known:
        near = nearest(step, known)
        hint = f"did you mean {near}?" if near else f"noria why {found.run} shows its steps"
        raise NotFound(f"run {found.run} has no step {step!r}", hint=hint)


def _places(cursor: str) -> dict[str, int]:
    try:
        found = json.loads(cursor) if cursor else {}
    except ValueError:
        found = None
    if not isinstance(found, Mapping) or not all(isinstance(place, int) and place >= 0 for place in found.values()):
        raise UsageError(
            "that cursor is not one of an earlier answer", hint="leave it out: the logs begin at their beginning"
        )
    return dict(found)


@verb(permission="pipeline.cancel")
def cancel(ws: Workspace, run: str = "", reason: str = "") -> Cancelled:
    """End a run: what runs is stopped, what is done stays done, and nobody resumes it by itself.

    Args:
        run: its id, or the first or last characters of it; the newest without one.
        reason: why, for the record.
    Raises: NotFound; Conflict if it has ended already.
    Example: noria pipeline cancel
    """
    tracking.reap(ws)
    name = tracking.resolve(ws, run).run
    with ws.ledger.transaction() as tx:
        found = tracking_records.run(tx, name)
        assert found is not None, "a run stays on record"
        if found.status not in ("running", "lost", "preempted"):
            raise Conflict(f"run {name} is {found.status} already", hint=f"noria why {name}")
        tx.append(CancelRequested(run=name, reason=reason))
    if found.status != "running":
        return Cancelled(run=name, status=found.status, reason=reason)
    following = "noria status, until the run is cancelled; then noria run --resume"
    return Cancelled(run=name, status=found.status, reason=reason, next=following)
