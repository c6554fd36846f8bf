"""The table of windows: quality frozen and live, what drifted, what was decided and why, what came of it."""

from __future__ import annotations

from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.loop import records as loop
from noria.loop.records import DecisionRecord, JudgedRecord
from noria.monitoring import records as monitoring
from noria.monitoring.facts import Estimate
from noria.monitoring.window import named
from noria.registry import records as registry
from noria.serving import records as serving
from noria.serving.records import RolloutRecord
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["Month", "ReleaseLine", "Stop", "history", "months", "releases_of"]

NOTHING = Estimate(value=None, low=None, high=None, n=0)
WORDS = {"promoted": "promoted", "rolled back": "rolled back", "held": "held", serving.OPEN: "on its way"}


@frozen(kw_only=True)
class Stop:
    """A version of the data that was stopped before anything was trained on it."""

    dataset: str
    version: int
    reason: str


@frozen(kw_only=True)
class Month:
    """One window. `auc_static` is of the first release, `auc_live` of the scores that were served.

    `decision` is wait, stopped, failed, refused, promoted, rolled back, held, or on its way; "" if
    nothing was decided. `as_of` is when it was measured if it was not over then, else "": what came later
    is not in its figures. `auc_…` are None for a regression and without labels; `live` and `frozen`
    have all metrics with their intervals. `challenger` is the release that was trained (0: none).
    """

    month: str
    start: str
    rows: int
    labelled: int
    auc_static: float | None
    auc_live: float | None
    live: dict[str, Estimate]
    frozen: dict[str, Estimate]
    drifted_columns: tuple[str, ...]
    decision: str
    reason: str
    triggers: tuple[str, ...]
    stopped: tuple[Stop, ...]
    challenger: int
    champion: int
    gain: float | None
    low: float | None
    high: float | None
    n: int
    drift_report: str
    as_of: str = ""


@frozen(kw_only=True)
class ReleaseLine:
    """A release with its state and how long it has been so."""

    release: int
    version: int
    state: str
    reason: str
    made_at: str


@verb(permission="project.read", changes=False)
def months(ws: Workspace, model: str = "") -> list[Month]:
    """Every window of a model: quality, drift, decision and outcome, oldest first.

    Raises: NotFound if there is no such model.
    Example: noria project months flights
    """
    with ws.ledger.read() as tx:
        known = registry.models(tx)
        name = model or (known[0] if len(known) == 1 else "")
        if name not in known:
            raise NotFound(f"there is no model {model!r}", hint=f"models: {', '.join(known) or 'none; noria run'}")
        return history(tx, name)


def history(tx: Reader, model: str) -> list[Month]:
    """The same within a snapshot."""
    drifts = {item.window: item for item in monitoring.drifts(tx, model)}
    qualities = {item.window: item for item in monitoring.qualities(tx, model)}
    decided: dict[str, list[DecisionRecord]] = {}
    for item in reversed(loop.decisions(tx, model)):
        decided.setdefault(item.window, []).append(item)
    judged = {item.window: item for item in reversed(loop.judgements(tx, model))}
    rollouts = {item.release: item for item in reversed(serving.rollouts(tx, model))}
    names = sorted({*drifts, *qualities, *decided}, key=lambda name: named(name).start)
    found = []
    for name in names:
        drift, quality = drifts.get(name), qualities.get(name)
        items = decided.get(name, [])
        judgement = judged.get(name)
        decision, reason = _outcome(items, judgement, rollouts)
        live = dict(quality.live) if quality else {}
        frozen = dict(quality.frozen) if quality else {}
        last = next((item for item in reversed(items) if item.decision != "stopped"), None)
        found.append(
            Month(
                month=name,
                start=named(name).start_text,
                rows=quality.rows if quality else drift.rows if drift else 0,
                labelled=quality.labelled if quality else 0,
                auc_static=frozen.get("auc", NOTHING).value,
                auc_live=live.get("auc", NOTHING).value,
                live=live,
                frozen=frozen,
                drifted_columns=drift.drifted if drift else (),
                decision=decision,
                reason=reason,
                triggers=last.triggers if last else (),
                stopped=tuple(
                    Stop(dataset=item.dataset, version=item.dataset_version, reason=item.reason)
                    for item in items
                    if item.decision == "stopped"
                ),
                challenger=judgement.challenger if judgement else 0,
                champion=judgement.champion if judgement else 0,
                gain=judgement.gain if judgement else None,
                low=judgement.low if judgement else None,
                high=judgement.high if judgement else None,
                n=judgement.n if judgement else 0,
                drift_report=drift.report if drift else "",
                as_of=_unfinished(quality.as_of if quality else drift.at if drift else "", named(name).end_text),
            )
        )
    return found


def releases_of(tx: Reader, model: str) -> list[ReleaseLine]:
    """Every release of a model, oldest first."""
    return [
        ReleaseLine(
            release=item.release, version=item.version, state=item.state, reason=item.reason, made_at=item.made_at
        )
        for item in reversed(registry.releases(tx, model))
    ]


def _outcome(
    items: list[DecisionRecord], judgement: JudgedRecord | None, rollouts: dict[int, RolloutRecord]
) -> tuple[str, str]:
    if judgement is not None:
        if judgement.decision == "refuse":
            return "refused", judgement.reason
        rollout = rollouts.get(judgement.challenger)
        if rollout is None:
            return "on its way", judgement.reason
        word = WORDS.get(rollout.outcome, rollout.outcome)
        return word, judgement.reason if word in ("promoted", "on its way") else f"{rollout.reason}; {judgement.reason}"
    if not items:
        return "", ""
    last = items[-1]
    if last.decision == "train":
        return "training", last.reason
    return last.decision, last.reason


def _unfinished(measured: str, end: str) -> str:
    """When a window was measured, if it was not over by then."""
    return measured if measured and measured < end else ""
