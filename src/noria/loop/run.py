"""`noria run`: data, checks, steps, bundle, gates, release, in this order, and what came of each.

One function for a person and for the loop, so that a challenger goes the way that every model goes.
Each stage stores its result before the next begins; a run that dies is taken up by the next run from
the step cache. Nothing is deployed here.
"""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from noria.config import CONFIG_NAME
from noria.core.errors import ConfigError, NoriaError, NotFound, StepFailed, UsageError
from noria.core.identity import JSON, canonical
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.data import records as data_records
from noria.data.records import DatasetVersion
from noria.loop import baseline, comparison, pins
from noria.loop.comparison import Comparison
from noria.loop.interrupted import interrupted
from noria.loop.pins import DataLine
from noria.packaging.bundle import build, load
from noria.packaging.predictor import Predictor
from noria.pipeline import values
from noria.pipeline.define import ModelNode, PipelineDefinition, load_pipeline
from noria.pipeline.execute import Execution, Manner, StepReport, execute, manner_of, require_room
from noria.registry import gates, release, versions
from noria.registry import records as registry
from noria.registry.evaluate import Evaluation, Slice
from noria.registry.facts import Verdict
from noria.registry.metrics import METRICS
from noria.registry.release import Release
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

__all__ = ["Challenge", "MetricLine", "Roles", "RunReport", "SliceLine", "StepLine", "perform", "run", "worst_slice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """One step of a run: `status` is done, cached, failed or skipped; `because` says why."""

    step: str
    status: str
    because: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLine:
    """A metric on the holdout with its 95 % interval, and the champion's on the same rows.

    `gain` is signed so that positive is better; None where there is no champion or no number.
    """

    metric: str
    better: str
    value: float | None
    low: float | None
    high: float | None
    champion: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceLine:
    """The slice where a metric is worst, against the whole."""

    column: str
    level: str
    metric: str
    value: float
    difference: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything that a run did. `ok` is False if a gate said no; `next` is the command to go on with.

    `version` and `release` number what the run made; `state` is the release's. `comparison` is the
    challenger against the champion, None if there is none.
    """

    run: str
    pipeline: str
    cause: str
    ok: bool
    seconds: float
    data: tuple[DataLine, ...]
    steps: tuple[StepLine, ...]
    model: str
    version: int
    release: int
    state: str
    bundle: str
    size_bytes: int
    champion: int
    metrics: tuple[MetricLine, ...]
    worst: SliceLine | None
    gates: tuple[Verdict, ...]
    report: str
    comparison: Comparison | None
    next: str


@dataclass(frozen=True, slots=True)
class Roles:
    """What the columns of the holdout are."""

    key: str = ""
    time: str = ""
    label: str = ""

    def others(self) -> tuple[str, ...]:
        """The columns that are no input of a model, without the label."""
        return tuple(name for name in (self.key, self.time) if name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a run may be asked for by the loop: exact versions, and the ref of what asked.

    `datasets` maps a data set to a ref such as `flights@3`.
    """

    cause: str
    datasets: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[tuple[str, str]] = ()


@verb(permission="loop.run", where="project")
def run(
    ws: Workspace,
    pipeline: str = "",
    params: Mapping[str, JSON] | None = None,
    cause: str = "user",
    *,
    resume: str = "",
    executor: str = "",
    on_failure: str = "",
    workers: int = 0,
) -> RunReport:
    """Run the project's pipeline: check the data, do what has changed, judge the model, make a release.

    Args:
        pipeline: its name, to be sure; the project's one pipeline by default.
        params: values for parameters of steps, such as {"train.learning_rate": 0.05}.
        resume: go on with a run that was killed, cancelled or failed, from the steps that are done; "last": the newest.
        executor: where steps run: auto, inline, pool or another that is installed; [run] of noria.toml by default.
        on_failure: "stop" ends what runs beside a step that failed, "finish" lets it end.
        workers: how many steps run at once at most.
    Raises: GateClosed if data fail their checks (nothing is trained); StepFailed; RunCancelled; ConfigError;
        UsageError if a run cannot be resumed.
    Example: noria run
    """
    manner = manner_of(ws, executor=executor, on_failure=on_failure, workers=workers)
    return perform(ws, Challenge(cause=cause), pipeline=pipeline, params=params, manner=manner, resume=resume)


def perform(
    ws: Workspace,
    challenge: Challenge,
    *,
    pipeline: str = "",
    params: Mapping[str, JSON] | None = None,
    on_event: Callable[[StepReport], None] | None = None,
    definition: PipelineDefinition | None = None,
    manner: Manner | None = None,
    resume: str = "",
) -> RunReport:
    """The same with exact versions of the data, a place to tell what is going on, and a given pipeline.

    With `resume` everything is as it was when that run began: its versions, its parameters.
    """
    began = time.monotonic()
    definition = definition or load_pipeline(ws.project)
    before = interrupted(ws, resume, params) if resume else None
    if before is not None:
        challenge, params = Challenge(cause=before.cause, datasets=before.datasets), before.params
        pipeline = before.pipeline
    if pipeline and pipeline != definition.name:
        raise NotFound(f"there is no pipeline {pipeline!r}", hint=f"{ws.project.pipeline} has {definition.name}")
    _require_policies(ws, definition)
    require_room(definition, manner or manner_of(ws))
    found = pins.resolve(ws, definition, challenge.datasets)
    if before is not None:
        handle = tracking.resume(ws, before.run)
    else:
        handle = tracking.start(
            ws,
            definition.name,
            cause=challenge.cause,
            pins=pins.pins_of(found),
            config={"params": dict(params or {})},
            inputs=challenge.inputs,
        )
    with handle:
        lines = pins.checked(ws, found)
        done = execute(
            ws,
            definition,
            run=handle.run,
            pins=found,
            params=params,
            on_event=on_event,
            manner=manner,
            owner=handle.owner,
            is_resumed=before is not None,
        )
        steps = tuple(_step_line(step) for step in done.steps)
        if definition.model is None:
            handle.finish()
            return _plain(definition, challenge, handle.run, lines, steps, time.monotonic() - began)
        made = _make(ws, handle, definition, definition.model, done, found)
        _finish(handle, made)
    return _report(definition, challenge, handle.run, lines, steps, made, time.monotonic() - began)


def _require_policies(ws: Workspace, definition: PipelineDefinition) -> None:
    """Every model and data set of noria.toml exists: rules under a misspelt name would bind nobody.

    Raises: ConfigError naming the section and the nearest name.
    """
    with ws.ledger.read() as tx:
        models = {*registry.models(tx), *([definition.model.name] if definition.model else [])}
        datasets = {*data_records.names(tx), *definition.datasets}
    for kind, named, known in (("model", ws.project.models, models), ("data", ws.project.data, datasets)):
        for name in named:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                what = "a model" if kind == "model" else "a data set"
                raise ConfigError(
                    f"[{kind}.{name}] is about {what} that does not exist",
                    where=str(ws.project.root / CONFIG_NAME),
                    hint=f"did you mean [{kind}.{near[0]}]?" if near else f"{ws.project.pipeline} has: {_names(known)}",
                )


def _names(known: set[str]) -> str:
    return ", ".join(sorted(known)) or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    release: Release
    champion: int
    judgement: gates.Judgement
    comparison: Comparison | None
    size_bytes: int
    may_go: bool


def _make(
    ws: Workspace,
    handle: RunHandle,
    definition: PipelineDefinition,
    node: ModelNode,
    done: Execution,
    found: Mapping[str, DatasetVersion],
) -> _Made:
    holdout = _holdout(ws, node, done)
    roles = _roles(definition, node, found)
    with ws.ledger.read() as tx:
        live = registry.production(tx, node.name)
    environment = tracking.show(ws, handle.run).environment
    bundle = build(
        ws,
        values.load(ws, done.model),
        holdout=holdout,
        run=handle.run,
        label=roles.label,
        drop=roles.others(),
        environment=environment,
        threshold=node.threshold,
    )
    used: tuple[Pin, ...] = pins.pins_of(found)
    predictor = load(ws, bundle.digest)
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
    )
    compared = _compare(ws, handle, predictor, champion, holdout, roles, judgement)
    base = baseline.make(ws, predictor, found, holdout, roles=roles, model=node.name)
    made = release.make(ws, node.name, registered.version, baseline=base)
    with ws.ledger.read() as tx:
        recorded = registry.release(tx, node.name, made.release)
    assert recorded is not None, "a release that was made is on record"
    return _Made(
        release=made,
        champion=champion or 0,
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
        load(ws, theirs.bundle), predictor, holdout, roles=roles, versions=(champion, judged.version)
    )
    handle.artifact(comparison.ARTIFACT, canonical(comparison.encoded(found)), type="json")
    return found


def _holdout(ws: Workspace, node: ModelNode, done: Execution) -> pd.DataFrame:
    found = values.load(ws, done.holdout)
    if hasattr(found, "to_pandas"):
        found = found.to_pandas()
    if not isinstance(found, pd.DataFrame):
        raise StepFailed(
            f"the holdout of {node.name} is {type(found).__name__}, not a table",
            where=f"step {node.holdout.node}",
            hint="return a DataFrame with the label column",
        )
    if not len(found):
        raise StepFailed(
            f"the holdout of {node.name} has no rows, so nothing can be judged", where=f"step {node.holdout.node}"
        )
    return found


def _roles(definition: PipelineDefinition, node: ModelNode, found: Mapping[str, DatasetVersion]) -> Roles:
    """The roles of the nearest data set above the holdout that has a label."""
    roles = definition.roles(node.holdout.node)
    for role in roles:
        version = found[role.name]
        label = role.label or version.label
        if label:
            return Roles(role.key or version.key, role.time or version.time, label)
    names = ", ".join(role.name for role in roles) or "no data set"
    raise UsageError(
        f"no label is known for the holdout of {node.name} (it comes from {names})",
        where=str(definition.root),
        hint='nr.dataset(…, label="COLUMN") names the outcome',
    )


def _finish(handle: RunHandle, made: _Made) -> None:
    evaluation = made.judgement.evaluation
    metrics = evaluation.values() if evaluation is not None else {}
    if made.judgement.passed:
        handle.finish(metrics=metrics)
        return
    closed = [verdict for verdict in made.judgement.judged.verdicts if not verdict.passed]
    handle.finish("stopped", "; ".join(f"{verdict.gate}: {verdict.text}" for verdict in closed), metrics)


def _plain(
    definition: PipelineDefinition,
    challenge: Challenge,
    run_id: str,
    lines: tuple[DataLine, ...],
    steps: tuple[StepLine, ...],
    seconds: float,
) -> RunReport:
    """The report of a pipeline that makes no model."""
    return RunReport(
        run=run_id,
        pipeline=definition.name,
        cause=challenge.cause,
        ok=True,
        seconds=seconds,
        data=lines,
        steps=steps,
        model="",
        version=0,
        release=0,
        state="",
        bundle="",
        size_bytes=0,
        champion=0,
        metrics=(),
        worst=None,
        gates=(),
        report="",
        comparison=None,
        next="noria runs",
    )


def _report(
    definition: PipelineDefinition,
    challenge: Challenge,
    run_id: str,
    lines: tuple[DataLine, ...],
    steps: tuple[StepLine, ...],
    made: _Made,
    seconds: float,
) -> RunReport:
    judged, evaluation, final = made.judgement.judged, made.judgement.evaluation, made.release
    name = f"{judged.model}:{judged.version}"
    return RunReport(
        run=run_id,
        pipeline=definition.name,
        cause=challenge.cause,
        ok=made.judgement.passed,
        seconds=seconds,
        data=lines,
        steps=steps,
        model=judged.model,
        version=judged.version,
        release=final.release,
        state=final.state,
        bundle=final.bundle,
        size_bytes=made.size_bytes,
        champion=made.champion,
        metrics=_metric_lines(evaluation, judged.verdicts),
        worst=worst_slice(evaluation),
        gates=judged.verdicts,
        report=judged.report,
        comparison=made.comparison,
        next=_next(name, made),
    )


def _next(name: str, made: _Made) -> str:
    """The command to go on with, which is one that will not be refused."""
    if not made.judgement.passed:
        return f"noria registry show {name}   (the gates' reasons)"
    final = made.release
    if final.state == "production":
        return "noria status"
    if final.state in ("shadow", "canary"):
        return f"noria watch {final.model}"
    if final.state == "retired":
        return f"noria rollback {final.model} --to {final.release}   (it was in production before)"
    if not made.may_go:
        return f"noria explain {final.model}@r{final.release}   (what its rollout found against it)"
    return f"noria promote {name}" if made.champion else f"noria deploy {name}"


def _metric_lines(evaluation: Evaluation | None, verdicts: Sequence[Verdict]) -> tuple[MetricLine, ...]:
    if evaluation is None:
        return ()
    paired = {verdict.gate.removeprefix("champion "): verdict for verdict in verdicts if verdict.gain is not None}
    found = []
    for name, item in evaluation.metrics.items():
        other = evaluation.champion.get(name)
        verdict = paired.get(name)
        gain = None
        if other is not None and other.value is not None and item.value is not None:
            gain = item.value - other.value if item.better == "higher" else other.value - item.value
        found.append(
            MetricLine(
                metric=name,
                better=item.better,
                value=item.value,
                low=item.low,
                high=item.high,
                champion=None if other is None else other.value,
                gain=gain,
                gain_low=None if verdict is None else verdict.low,
                gain_high=None if verdict is None else verdict.high,
                n=item.n,
            )
        )
    return tuple(found)


def worst_slice(evaluation: Evaluation | None) -> SliceLine | None:
    """The slice of at least 200 rows where the first metric is furthest below the whole; None if none is below."""
    if evaluation is None or not evaluation.metrics:
        return None
    name, whole = next(iter(evaluation.metrics.items()))
    if whole.value is None:
        return None
    sign = 1.0 if whole.better == "higher" else -1.0
    worst: SliceLine | None = None
    for part in evaluation.slices:
        line = _slice_line(part, name, whole.value)
        if line is not None and sign * line.difference < (sign * worst.difference if worst else 0.0):
            worst = line
    return worst


def _slice_line(part: Slice, metric: str, whole: float) -> SliceLine | None:
    value = part.metrics.get(metric)
    if part.n < 200 or value is None:
        return None
    return SliceLine(
        column=part.column, level=part.level, metric=metric, value=value, difference=value - whole, n=part.n
    )


def _step_line(step: StepReport) -> StepLine:
    return StepLine(step=step.step, status=step.status, because=step.because, seconds=step.seconds)
