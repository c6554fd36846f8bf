"""The review of one window: checks, drift, quality, and then the policy's answer, in one record.

Checks come first: on data that fail them nothing is measured against, nothing is trained, and what
they would look like is no drift. Each stage writes its own fact once, so a review that was killed
anywhere is taken up where it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from noria.core.clock import instant, utc_text
from noria.core.fact import Edge
from noria.core.frozen import frozen
from noria.data import records as data_records
from noria.data.records import DatasetVersion
from noria.loop import pins, policy, records
from noria.loop.facts import RetrainDecided
from noria.loop.policy import Decision, Evidence, Quality, Training
from noria.loop.records import DecisionRecord
from noria.monitoring import alerts, performance, report
from noria.monitoring import records as monitoring
from noria.monitoring.compare import MIN_ROWS
from noria.monitoring.facts import Estimate
from noria.monitoring.live import as_of, live_release
from noria.monitoring.performance import entropy
from noria.monitoring.records import QualityRecord
from noria.monitoring.report import DriftReport
from noria.monitoring.window import Window
from noria.packaging.bundle import Opened
from noria.registry.release import Release
from noria.serving import capture
from noria.serving import records as serving
from noria.store.failpoint import failpoint
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["data_alert", "decide", "decision_ref", "stop"]

MAX_REASON = 900


@frozen(kw_only=True)
class _Looked:
    """What was measured of a window; None for what could not be."""

    drift: DriftReport | None
    quality: QualityRecord | None
    rows: int


def decision_ref(model: str, window: str, version: DatasetVersion | int) -> str:
    """The ref of a decision: what it gives, and the cause of the run that it asks for."""
    number = version.version if isinstance(version, DatasetVersion) else version
    return f"retrain/{model}/{window}/{number}"


def data_alert(dataset: str) -> str:
    """The name of the alert that stands while the newest version of a data set is broken."""
    return f"data {dataset}"


def decide(ws: Workspace, model: str, window: Window, version: DatasetVersion, opened: Opened) -> DecisionRecord:
    """Look at a window with a version of the data and record what the policy says; one that is recorded is given.

    Args:
        opened: gives the predictor of a bundle.
    Raises: NotFound if nothing is live.
    """
    with ws.ledger.read() as tx:
        known = records.decision(tx, model, window.name, version.name, version.version)
    if known is not None and (known.decision == "stopped" or known.as_of >= window.end_text):
        return known
    line = pins.check(ws, version)
    if not line.ok:
        return stop(ws, model, window, version, line.failures)
    looked = _look(ws, model, window, opened)
    evidence = _evidence(ws, model, window, version, looked)
    answer = policy.decide(evidence, ws.project.model(model).retrain)
    return _record(ws, model, window, version, evidence.as_of, answer)


def stop(ws: Workspace, model: str, window: Window, version: DatasetVersion, failures: Sequence[str]) -> DecisionRecord:
    """Record that broken data were stopped before anything was trained on them, and raise the alert."""
    shown = [*failures[:3], *([f"and {len(failures) - 3} more"] if len(failures) > 3 else [])]
    reason = f"{version.ref} failed its checks, nothing was trained: {'; '.join(shown)}"
    answer = Decision(decision="stopped", reason=reason, triggers=(), rules=())
    return _record(ws, model, window, version, as_of(ws, model) or window.end, answer)


def _look(ws: Workspace, model: str, window: Window, opened: Opened) -> _Looked:
    table = capture.predictions(ws, model, window.start_text, window.end_text)
    if not table.num_rows:
        return _Looked(drift=None, quality=None, rows=0)
    has_reference = bool(live_release(ws, model).baseline)
    return _Looked(
        drift=report.measure(ws, model, window, table) if has_reference and table.num_rows >= MIN_ROWS else None,
        quality=performance.measured(ws, model, window, table, opened),
        rows=table.num_rows,
    )


def _evidence(ws: Workspace, model: str, window: Window, version: DatasetVersion, looked: _Looked) -> Evidence:
    release = live_release(ws, model)
    pin = next((pin for pin in release.pins if pin.dataset == version.name), None)
    with ws.ledger.read() as tx:
        decisions = records.decisions(tx, model)
        is_rolling = serving.open_rollout(tx, model) is not None
        champion = _pinned(tx, version.name, pin.version if pin else 0)
    asked = [item for item in decisions if item.decision == "train"]
    return Evidence(
        window=window.name,
        as_of=as_of(ws, model) or window.end,
        data=version.ref,
        failures=(),
        drifted=looked.drift.drifted if looked.drift else (),
        persistent=looked.drift.persistent if looked.drift else (),
        quality=_qualities(ws, model, release, looked.quality),
        labelled=looked.quality.labelled if looked.quality else 0,
        rows=looked.rows,
        new_rows=version.rows - (champion.rows if champion else 0),
        is_tried=any(item.dataset == version.name and item.dataset_version == version.version for item in asked),
        champion_at=instant(champion.time_max) if champion and champion.time_max else None,
        trainings=[Training(at=instant(item.as_of), cost=item.cost) for item in asked],
        is_rolling=is_rolling,
    )


def _pinned(tx: Reader, dataset: str, version: int) -> DatasetVersion | None:
    return data_records.by_number(tx, dataset, version) if version else None


def _qualities(ws: Workspace, model: str, release: Release, live: QualityRecord | None) -> tuple[Quality, ...]:
    """The window's metrics beside those of the champion on its own holdout."""
    before = _holdout_of(ws, model, release.version)
    if live is None or before is None:
        return ()
    found = []
    for name, item in live.live.items():
        other = before["metrics"].get(name)
        if other is not None and item.n:
            found.append(_quality(name, item, other))
    rate = live.live.get("base_rate")
    loss, other = live.live.get("log_loss"), before["metrics"].get("log_loss")
    if rate is not None and loss is not None and other is not None and before["n"]:
        found.append(_skill(loss, rate, other, before["positives"] / before["n"]))
    return tuple(found)


def _quality(name: str, item: Estimate, other: Any) -> Quality:
    return Quality(
        metric=name,
        higher=other["better"] == "higher",
        value=item.value,
        low=item.low,
        high=item.high,
        before=other["value"],
        before_low=other["low"],
        before_high=other["high"],
    )


def _skill(loss: Estimate, rate: Estimate, other: Any, other_rate: float) -> Quality:
    """The share of the base rate's loss that is saved: unlike the loss itself it does not follow the base rate."""

    def of(value: float | None, share: float | None) -> float | None:
        whole = entropy(share) if share is not None else 0.0
        return None if value is None or whole <= 0 or not math.isfinite(value) else 1 - value / whole

    return Quality(
        metric="skill",
        higher=True,
        value=of(loss.value, rate.value),
        low=of(loss.high, rate.value),
        high=of(loss.low, rate.value),
        before=of(other["value"], other_rate),
        before_low=of(other["high"], other_rate),
        before_high=of(other["low"], other_rate),
    )


def _holdout_of(ws: Workspace, model: str, version: int) -> Any:
    """The evaluation of a version on its own holdout, as the gates stored it; None if they could not."""
    newest = None
    for stored in ws.ledger.facts(kind="gate.judged", subject=f"model/{model}"):
        if stored.payload.version == version:
            newest = dict(stored.fact.outputs).get("evaluation") or newest
    return ws.objects.get_json(newest) if newest else None


def _record(
    ws: Workspace, model: str, window: Window, version: DatasetVersion, moment: datetime, answer: Decision
) -> DecisionRecord:
    """Append the decision once, with the alert that belongs to it."""
    payload = RetrainDecided(
        model=model,
        window=window.name,
        as_of=utc_text(moment),
        decision=answer.decision,
        reason=answer.reason[:MAX_REASON],
        triggers=answer.triggers,
        dataset=version.name,
        dataset_version=version.version,
        cost=ws.project.model(model).retrain.cost if answer.decision == "train" else 0.0,
        rules=policy.describe(answer.rules),
    )
    ref = decision_ref(model, window.name, version)
    with ws.ledger.transaction() as tx:
        known = records.decision(tx, model, window.name, version.name, version.version)
        if known is not None and (known.decision != "wait" or known.as_of >= window.end_text):
            return known
        tx.append(payload, inputs=_inputs(tx, model, window, version), outputs=[("decision", ref)])
        name = data_alert(version.name)
        if answer.decision == "stopped":
            message = answer.reason[:MAX_REASON]
            alerts.raise_alert(
                tx,
                model,
                name,
                kind="data",
                severity="error",
                message=message,
                window=window.name,
                inputs=[("decision", ref)],
            )
        else:
            alerts.resolve(tx, model, name, f"{version.ref} passed its checks")
        made = records.decision(tx, model, window.name, version.name, version.version)
    failpoint("review.decided")
    assert made is not None, "the projection writes what was appended"
    return made


def _inputs(tx: Reader, model: str, window: Window, version: DatasetVersion) -> list[Edge]:
    found = [("data", version.tree), ("dataset", f"dataset/{version.ref}")]
    if monitoring.drift(tx, model, window.name) is not None:
        found.append(("drift", f"drift/{model}/{window.name}"))
    if monitoring.quality(tx, model, window.name) is not None:
        found.append(("quality", f"quality/{model}/{window.name}"))
    return found
