"""What a run does with the model that its pipeline gave: bundle, version, gates, comparison, release.

A stage of `run.py`, which imports it only when a pipeline makes a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from noria.core.errors import NoriaError
from noria.core.identity import canonical
from noria.core.lazy import lazy
from noria.data.records import DatasetVersion
from noria.loop import baseline, comparison, pins
from noria.loop.comparison import Comparison
from noria.loop.holdout import Roles, holdout_of, roles_of
from noria.loop.recent import known_of
from noria.loop.report import Made
from noria.packaging.bundle import Opened, build, loader
from noria.packaging.predictor import Predictor
from noria.pipeline.define import ModelNode, PipelineDefinition
from noria.pipeline.driving.execute import Execution
from noria.pipeline.outputs import values
from noria.registry import gates, release, versions
from noria.registry import records as registry
from noria.registry.metrics import METRICS
from noria.registry.scored import score
from noria.serving import again
from noria.store.workspace import Workspace
from noria.tracking import run as tracking
from noria.tracking.facts import Pin
from noria.tracking.run import RunHandle

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazy("pandas")

__all__ = ["finish", "make"]


def make(
    ws: Workspace,
    handle: RunHandle,
    definition: PipelineDefinition,
    node: ModelNode,
    done: Execution,
    found: Mapping[str, DatasetVersion],
) -> Made:
    """The model that a pipeline gave: bundled, registered, judged, and part of a release.

    Raises: GateClosed for a holdout without rows; StepFailed for one that is no table; UsageError without a label.
    """
    holdout = holdout_of(ws, node, done.holdout)
    roles = roles_of(definition, node, found)
    with ws.ledger.read() as tx:
        live = registry.production(tx, node.name)
    environment = tracking.show(ws, handle.run).environment
    bundle = build(
        ws,
        values.load(ws, done.model),
        returned=done.returned,
        holdout=holdout,
        run=handle.run,
        label=roles.label,
        drop=roles.others(),
        environment=environment,
        threshold=node.threshold,
        name=node.name,
    )
    used: tuple[Pin, ...] = pins.pins_of(found)
    opened = loader(ws)
    predictor = opened(bundle.digest)
    numbers = _numbers(predictor, holdout, roles, node)
    registered = versions.register(ws, bundle, model=node.name, run=handle.run, metrics=numbers, pins=used)
    champion = live.version if live is not None and live.version != registered.version else None
    judgement = gates.judge(
        ws,
        node.name,
        registered.version,
        holdout=holdout,
        roles=roles,
        champion=champion,
        metrics=node.metrics,
        slices=node.slices,
        data={"holdout": done.holdout.digest, "pins": [f"{pin.dataset}@{pin.version}" for pin in used]},
        opened=opened,
        known=known_of(ws, node.name, handle.run, found, holdout, roles),
    )
    compared = _compare(ws, handle, opened, predictor, champion, holdout, roles, judgement)
    base = baseline.make(ws, predictor, found, holdout, roles=roles, model=node.name)
    made = release.make(ws, node.name, registered.version, baseline=base)
    with ws.ledger.read() as tx:
        recorded = registry.release(tx, node.name, made.release)
    assert recorded is not None, "a release that was made is on record"
    return Made(
        release=made,
        champion=champion or 0,
        is_champion=live is not None and champion is None,
        judgement=judgement,
        comparison=compared,
        size_bytes=bundle.size_bytes,
        may_go=made.state != "rolled back" or again.refusal(ws, recorded) is None,
    )


def _numbers(predictor: Predictor, holdout: pd.DataFrame, roles: Roles, node: ModelNode) -> dict[str, float]:
    """The finite values of the built-in metrics, to name a version by; whether they will do is the gates' matter."""
    try:
        sample = score(predictor, holdout, roles.label)
    except NoriaError:
        return {}  # the gates meet the same failure next, and record it as a no
    names = [name for name in node.metrics if isinstance(name, str) and name in METRICS]
    found = {name: METRICS[name].of(sample.y, sample.score, threshold=sample.threshold) for name in names}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _compare(
    ws: Workspace,
    handle: RunHandle,
    opened: Opened,
    predictor: Predictor,
    champion: int | None,
    holdout: pd.DataFrame,
    roles: Roles,
    judgement: gates.Judgement,
) -> Comparison | None:
    """The comparison, stored with the run; None without a champion, or if a gate says that one cannot be scored."""
    if champion is None or judgement.evaluation is None:
        return None
    judged = judgement.judged
    with ws.ledger.read() as tx:
        theirs = versions.resolve(tx, f"{judged.model}:{champion}")
    if any(verdict.gate == "champion" and not verdict.passed for verdict in judged.verdicts):
        return None
    found = comparison.compare(
        opened(theirs.bundle), predictor, holdout, roles=roles, versions=(champion, judged.version)
    )
    handle.artifact(comparison.ARTIFACT, canonical(comparison.encoded(found)), type="json")
    return found


def finish(handle: RunHandle, made: Made) -> None:
    """End the run: finished, or stopped where a gate said no."""
    evaluation = made.judgement.evaluation
    metrics = evaluation.values() if evaluation is not None else {}
    if made.judgement.passed:
        handle.finish(metrics=metrics)
        return
    closed = [verdict for verdict in made.judgement.judged.verdicts if not verdict.passed]
    handle.finish("stopped", "; ".join(f"{verdict.gate}: {verdict.text}" for verdict in closed), metrics)
