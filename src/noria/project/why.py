"""`noria why`: why each step of a run ran, or did not, and why the run ended as it did."""

from __future__ import annotations

from dataclasses import dataclass

from noria.core.verb import verb
from noria.pipeline import records as pipeline
from noria.store.workspace import Workspace
from noria.tracking import run as tracking

__all__ = ["StepWhy", "Why", "why"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWhy:
    """One step: `because` says why it ran or that nothing had changed; `error` why it failed."""

    step: str
    status: str
    because: str
    error: str
    seconds: float
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """A run and its steps in the order in which they ended. `cause` is who or what asked for it."""

    run: str
    status: str
    cause: str
    reason: str
    steps: tuple[StepWhy, ...]


@verb(permission="project.read", changes=False)
def why(ws: Workspace, run: str = "") -> Why:
    """Why each step of a run ran, or did not; the newest run without an id.

    Args:
        run: its id, or the first or last characters of it.
    Raises: NotFound.
    """
    found = tracking.resolve(ws, run)
    with ws.ledger.read() as tx:
        steps = pipeline.steps(tx, found.run)
    return Why(
        run=found.run,
        status=found.status,
        cause=found.cause,
        reason=found.reason,
        steps=tuple(
            StepWhy(
                step=each.step,
                status=each.status,
                because=each.because,
                error=each.error,
                seconds=each.seconds,
                key=each.key,
            )
            for each in steps
        ),
    )
