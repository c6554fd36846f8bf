"""`noria why`: why each step of a run ran, or did not, with what changed; and why the run ended as it did."""

from __future__ import annotations

from noria.core.errors import NotFound, WorldError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.pipeline import records as pipeline
from noria.pipeline.caching import documents
from noria.pipeline.caching.cache import read_list
from noria.pipeline.caching.changes import Change, changes
from noria.pipeline.driving.unrun import require_begun
from noria.pipeline.records import StepRecord
from noria.project.script_changes import since
from noria.scripts import records as scripts
from noria.store.workspace import Workspace
from noria.tracking import run as tracking

__all__ = ["StepWhy", "Why", "why"]


@frozen(kw_only=True)
class StepWhy:
    """One step: `because` says why it ran or that nothing had changed; `error` why it failed; `attempts` how often it
    was begun in this run.

    `changes` are the differences from the time before, with the lines of code; `reads` what its
    result depends on that was seen only as it ran.
    """

    step: str
    status: str
    because: str
    error: str
    seconds: float
    key: str
    attempts: int = 1
    changes: tuple[Change, ...] = ()
    reads: tuple[str, ...] = ()


@frozen(kw_only=True)
class Why:
    """A run and its steps in the order in which they ended. `cause` is who or what asked for it.

    Of a script, `since` is the run before of the same script ("" for the first) and `changes` what is otherwise.
    """

    run: str
    status: str
    cause: str
    reason: str
    steps: tuple[StepWhy, ...]
    script: str = ""
    since: str = ""
    changes: tuple[Change, ...] = ()


@verb(permission="project.read", changes=False)
def why(ws: Workspace, run: str = "", step: str = "") -> Why:
    """Why each step of a run ran, or did not, and the lines that changed; the newest run without an id.

    Of a script: what is otherwise than in the run before of the same script.

    Args:
        run: its id, or the first or last characters of it; or the name of a step or of a script, of its newest run.
        step: only this step.
    Raises: NotFound.
    Example: noria why train
    """
    with ws.ledger.read() as tx:
        named = pipeline.latest(tx, run) if run and not step else None
        scripted = scripts.newest(tx, run) if run.endswith((".py", ".ipynb")) and not step else None
    if named is not None:
        run, step = named.run, named.step
    elif scripted is not None:
        run = scripted.run
    elif run and not step:
        require_begun(ws, run)
    found = tracking.resolve(ws, run)
    with ws.ledger.read() as tx:
        steps = [each for each in pipeline.steps(tx, found.run) if not step or each.step == step]
        steps = steps or [each for each in pipeline.items(tx, found.run) if each.step == step]
        before = {each.step: pipeline.before(tx, each) for each in steps}
    if step and not steps:
        raise NotFound(f"run {found.run} has no step {step!r}", hint="noria why shows the steps of the newest run")
    told = None if steps else since(ws, found.run)
    return Why(
        run=found.run,
        status=found.status,
        cause=found.cause,
        reason=found.reason,
        steps=tuple(_why(ws, each, before[each.step]) for each in steps),
        script=found.pipeline if told is not None else "",
        since=told[0] if told is not None else "",
        changes=tuple(told[1]) if told is not None else (),
    )


def _why(ws: Workspace, now: StepRecord, before: StepRecord | None) -> StepWhy:
    told: list[Change] = []
    if before is not None and now.status != "cached" and now.document and before.document:
        told = _changes(ws, before, now)
    return StepWhy(
        step=now.step,
        status=now.status,
        because=now.because,
        error=now.error,
        seconds=now.seconds,
        key=now.key,
        attempts=now.attempts,
        changes=tuple(told),
        reads=tuple(what for what, _ in read_list(ws, now.reads)),
    )


def _changes(ws: Workspace, before: StepRecord, now: StepRecord) -> list[Change]:
    try:
        old = documents.read(ws.objects, before.document, before.step, before.key)
        new = documents.read(ws.objects, now.document, now.step, now.key)
        return changes(old, new, (read_list(ws, before.reads), read_list(ws, now.reads)))
    except (NotFound, WorldError):
        return [Change(what="a key document", how="is gone, so the lines cannot be told")]
