"""`noria watch`: what is going on with a model right now; asked again and again by whoever watches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.project.sentence import sentence
from noria.project.status import ArmLine, JobLine, RolloutLine, WindowLine, status
from noria.serving import records as serving
from noria.store.workspace import Workspace

__all__ = ["Event", "Watched", "watch"]

EVENTS = 12
KINDS = (
    "rollout.",
    "deployment.",
    "release.",
    "retrain.",
    "challenger.",
    "alert.",
    "gate.",
    "run.",
    "checks.",
    "dataset.",
    "drift.",
    "quality.",
)


@frozen(kw_only=True)
class Event:
    """A fact that is about the model, as one line."""

    seq: int
    at: str
    kind: str
    actor: str
    text: str


@frozen(kw_only=True)
class Watched:
    """A model at this moment. `evidence` is the open rollout's, as it was last recorded; `head` the newest fact.

    `is_busy` is True while a rollout or a job is under way: whoever waits for the end looks at it.
    """

    model: str
    release: int
    as_of: str
    arms: tuple[ArmLine, ...]
    shadow: int
    rollout: RolloutLine | None
    evidence: Mapping[str, Any]
    last: str
    window: WindowLine | None
    jobs: tuple[JobLine, ...]
    events: tuple[Event, ...]
    head: int
    is_busy: bool


@verb(permission="project.read", changes=False)
def watch(ws: Workspace, model: str = "", after: int = 0) -> Watched:
    """What is going on with a model: shares, rollout, evidence, jobs, the newest facts.

    Args:
        model: may be left out where there is only one.
        after: only facts beyond this number, such as the `head` of the look before.
    Raises: NotFound.
    Example: noria watch flights
    """
    whole = status(ws)
    names = [item.model for item in whole.models]
    if not model and len(names) != 1:
        raise UsageError("name the model" if names else "there is no model yet", hint=", ".join(names) or "noria run")
    found = next((item for item in whole.models if item.model == (model or names[0])), None)
    if found is None:
        raise NotFound(f"there is no model {model!r}", hint=f"models: {', '.join(names) or 'none'}")
    with ws.ledger.read() as tx:
        rollouts = serving.rollouts(tx, found.model, limit=1)
    newest = rollouts[0] if rollouts else None
    return Watched(
        model=found.model,
        release=found.release,
        as_of=found.as_of,
        arms=found.arms,
        shadow=found.shadow,
        rollout=found.rollout,
        evidence=newest.evidence if newest and found.rollout else {},
        last=f"r{newest.release} {newest.outcome}: {newest.reason}" if newest and not found.rollout else "",
        window=found.windows[-1] if found.windows else None,
        jobs=whole.jobs,
        events=_events(ws, found.model, max(after, whole.facts - 500)),
        head=whole.facts,
        is_busy=found.rollout is not None or bool(whole.jobs),
    )


def _events(ws: Workspace, model: str, after: int) -> tuple[Event, ...]:
    subjects = {f"model/{model}", f"deployment/local/{model}"}
    found = []
    with ws.ledger.read() as tx:
        for stored in ws.ledger.facts(after=after):
            fact = stored.fact
            is_ours = fact.subject in subjects or fact.kind.startswith(("dataset.", "checks.", "run."))
            if is_ours and fact.kind.startswith(KINDS):
                text = sentence(tx, stored)
                found.append(Event(seq=stored.seq, at=fact.at, kind=fact.kind, actor=fact.actor, text=text))
    return tuple(found[-EVENTS:])
