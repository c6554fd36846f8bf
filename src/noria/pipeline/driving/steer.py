"""What people do with a run that is going on: read what it prints, and end it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from noria.core.errors import Conflict, NotFound, UsageError, WorldError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.pipeline import records
from noria.pipeline.driving.unrun import require_begun
from noria.store.workspace import Workspace
from noria.tracking import records as tracking_records
from noria.tracking import run as tracking
from noria.tracking.facts import CancelRequested

__all__ = ["Cancelled", "LogPiece", "Logs", "cancel", "logs"]

PIECE_BYTES = 64 * 1024
"""So much of a step's log is given at once, at most; the rest comes with the next call."""


@frozen(kw_only=True)
class LogPiece:
    """What one step printed since the last look."""

    step: str
    text: str


@frozen(kw_only=True)
class Logs:
    """What the steps of a run printed, in the order in which they began; `cursor` asks for what comes after.

    `is_over`: the run has ended, and there is nothing more to come.
    """

    run: str
    status: str
    pieces: tuple[LogPiece, ...]
    cursor: str
    is_over: bool


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
        step: only this step, or an item of a mapped one, such as score.17.
        cursor: from an earlier answer: only what came since.
    Raises: NotFound; UsageError for a cursor that is none.
    Example: noria pipeline logs
    """
    run, step = _named(ws, run, step)
    found = tracking.resolve(ws, run)
    is_over = found.status != "running"  # asked before the files are read, so nothing is missed
    places = _places(cursor)
    folder = ws.project.state / "runs" / found.run
    paths = _paths(folder, step)
    if step and not paths and not cursor:
        return _stored(ws, found, step)
    pieces, is_whole = [], True
    for path in paths:
        text, after, has_more = _read(path, places.get(path.stem, 0))
        places[path.stem] = after
        is_whole = is_whole and not has_more
        if text:
            pieces.append(LogPiece(step=path.stem, text=text))
    return Logs(
        run=found.run,
        status=found.status,
        pieces=tuple(pieces),
        cursor=json.dumps(places, separators=(",", ":")),
        is_over=is_over and is_whole,
    )


def _named(ws: Workspace, run: str, step: str) -> tuple[str, str]:
    """The run and the step; where a step stands in the place of the run, its newest one. Raises: NotFound."""
    if not run or step:
        return run, step
    with ws.ledger.read() as tx:
        newest = records.latest(tx, run)
    if newest is not None:
        return newest.run, newest.step
    require_begun(ws, run)
    return run, step


def _paths(folder: Path, step: str) -> list[Path]:
    if step:
        path = folder / f"{step}.log"
        return [path] if path.parent == folder and path.is_file() else []
    return sorted(folder.glob("*.log"), key=lambda path: (path.stat().st_ctime_ns, path.name))


def _read(path: Path, place: int) -> tuple[str, int, bool]:
    """The next piece of a file, whole lines where it can be; where the next begins, and whether there is more now."""
    with path.open("rb") as file:
        file.seek(place)
        content = file.read(PIECE_BYTES)
        has_more = bool(file.read(1))
    if has_more and b"\n" in content:
        content = content[: content.rindex(b"\n") + 1]
    return content.decode("utf-8", "replace"), place + len(content), has_more


def _stored(ws: Workspace, found: tracking_records.RunRecord, step: str) -> Logs:
    """The log of a step that ran elsewhere, or whose folder is gone: the object that its fact names."""
    with ws.ledger.read() as tx:
        known = [each for each in (*records.steps(tx, found.run), *records.items(tx, found.run)) if each.step == step]
    if not known:
        if found.status == "running":
            return Logs(run=found.run, status=found.status, pieces=(), cursor="", is_over=False)
        raise NotFound(f"run {found.run} has no step {step!r}", hint=f"noria why {found.run} shows its steps")
    try:
        text = ws.objects.get_bytes(known[0].log).decode("utf-8", "replace") if known[0].log else ""
    except (NotFound, WorldError):
        text = ""
    pieces = (LogPiece(step=step, text=text),) if text else ()
    return Logs(run=found.run, status=found.status, pieces=pieces, cursor="", is_over=found.status != "running")


def _places(cursor: str) -> dict[str, int]:
    try:
        found = json.loads(cursor) if cursor else {}
    except ValueError:
        found = None
    if not isinstance(found, Mapping) or not all(isinstance(place, int) and place >= 0 for place in found.values()):
        raise UsageError("that cursor is not one of an earlier answer")
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
