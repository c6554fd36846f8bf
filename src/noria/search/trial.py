"""One trial: a run of the trial's pipeline with its parameters, judged by one metric on the validation rows."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from noria import plugins
from noria.core.errors import NoriaError, ProjectError, Pruned, RunPreempted, StepFailed, WorldError
from noria.core.frozen import frozen
from noria.core.identity import JSON, canonical, digest
from noria.core.lazy import lazy
from noria.data import versions
from noria.packaging.bundle import build, load
from noria.pipeline import records as steps
from noria.pipeline.attempt.reporting import VARIABLE
from noria.pipeline.attempt.tried import read_tried
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.driving.execute import Execution, execute, manner_of
from noria.pipeline.outputs import values
from noria.pipeline.sources import project_on_path
from noria.registry.metrics import resolve
from noria.registry.scored import score
from noria.search import records
from noria.search.records import StudyRecord
from noria.search.validation import trial_pipeline
from noria.store.workspace import Workspace
from noria.tracking import run as tracking
from noria.tracking.code import source_files

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = lazy("pandas")

__all__ = ["Ended", "Point", "code_name", "definition_of", "metric_name", "perform", "reports_file"]

Point = tuple[int, float | None, str]
"""What was reported: after how many steps, the value (None: no number), and by which step of the pipeline."""


@frozen(kw_only=True)
class Ended:
    """What came of a trial: as `trial.ended` says it, with its reports."""

    state: str
    value: float | None
    run: str
    reason: str
    seconds: float
    cpu_seconds: float
    reports: tuple[Point, ...] = ()


def code_name(root: Path) -> str:
    """One name for a project's Python files: what steps write beside them changes nothing."""
    found = [path for path in source_files(root) if path.suffix in (".py", ".pyi")]
    return digest(canonical([[path.relative_to(root).as_posix(), digest(path.read_bytes())] for path in found]))


def metric_name(metric: str) -> str:
    """Under which name the metric on the validation rows is in the trial's run."""
    return f"validation_{metric}"


def definition_of(definition: PipelineDefinition, study: StudyRecord) -> PipelineDefinition:
    """The pipeline that the trials of a study run; the metric that it goes by is the model's first."""
    assert definition.model is not None, "a study is of a model"
    made = trial_pipeline(definition, share=study.share, time=study.time, key=study.key, seed=study.seed)
    assert made.model is not None
    chosen = [item for item in definition.model.metrics if _named(item) == study.metric] or [study.metric]
    return replace(made, model=replace(made.model, metrics=tuple(chosen)))


def _named(metric: Any) -> str:
    return metric if isinstance(metric, str) else str(metric.name)


def reports_file(ws: Workspace, run: str) -> Path:
    """Where the trial of a run is described for its steps; what they report is beside it."""
    return ws.project.state / "runs" / run / "trial.json"


def perform(
    ws: Workspace,
    definition: PipelineDefinition,
    study: StudyRecord,
    *,
    trial: str,
    params: Mapping[str, JSON],
    history: list[Any],
) -> Ended:
    """Run a trial; whatever the project's code does is an outcome. `trial` is its ref, the cause of its run.

    Its steps run one at a time: trials run beside each other. Raises: WorldError; RunPreempted if this
    process was asked to leave.
    """
    began, used = monotonic(), _cpu()
    pins = {pin.dataset: versions.resolve(ws, f"{pin.dataset}@{pin.version}") for pin in study.pins}
    config: dict[str, JSON] = {"params": {**study.params, **params}, "search": {"trial": trial}}
    handle = tracking.start(
        ws,
        definition.name,
        cause=trial,
        pins=study.pins,
        config=config,
        inputs=(("study", f"study/{study.study}"),),
    )
    note = reports_file(ws, handle.run)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"pruner": study.pruner, "better": study.better, "history": history}), encoding="utf-8")
    os.environ[VARIABLE] = str(note)
    state, value, reason = "failed", None, ""
    try:
        with handle:
            given = {**study.params, **params}
            manner = manner_of(ws, workers=1)
            try:
                done = execute(
                    ws, definition, run=handle.run, pins=pins, params=given, manner=manner, owner=handle.owner
                )
                _repeat(ws, note, done, json.loads(note.read_text(encoding="utf-8")))
            except NoriaError as error:
                if _is_pruned(error):  # as where a gate says no: nothing has failed
                    handle.finish("stopped", error.message.partition("\n")[0])
                raise
            value = _value(ws, definition, study, handle.run, done)
            handle.finish(metrics={metric_name(study.metric): value})
        state = "done"
    except (WorldError, RunPreempted):
        raise
    except NoriaError as error:
        state, reason = ("pruned" if _is_pruned(error) else "failed"), error.message.partition("\n")[0]
    finally:
        del os.environ[VARIABLE]
    return Ended(
        state=state,
        value=value,
        run=handle.run,
        reason=reason,
        seconds=round(monotonic() - began, 3),
        cpu_seconds=round(_cpu() - used, 3),
        reports=read_reports(note),
    )


def _is_pruned(error: NoriaError) -> bool:
    """Whether a trial was ended by its pruner; what crossed processes may have the sentence without its class."""
    return isinstance(error, Pruned) or error.message.startswith("pruned at step ")


def _repeat(ws: Workspace, note: Path, done: Execution, trial: Mapping[str, Any]) -> None:
    """Let the reports of a result from the cache count as this trial's, and be judged: a cache changes no search.

    Raises: Pruned where the trial would have been ended.
    """
    if note.with_suffix(".reports").is_file():
        return
    points = [point for step in done.steps if step.status == "cached" for point in _known(ws, step.key)]
    judge = None
    if trial["pruner"]:
        history = [read_tried(each) for each in trial["history"]]
        judge = plugins.load("pruner", trial["pruner"])(history, better=trial["better"])
    with note.with_suffix(".reports").open("w", encoding="utf-8") as lines:
        for step, value, reporter in points:
            lines.write(json.dumps([step, value, reporter]) + "\n")
            if judge is not None and value is not None and judge(step, value):
                raise Pruned(f"pruned at step {step} with {value:.6g}")


def _known(ws: Workspace, key: str) -> tuple[Point, ...]:
    """What the step of a key reported when its result was made, if a trial made it.

    That is its own reports alone: those of a step after it in the same trial go with other parameters.
    """
    with ws.ledger.read() as tx:
        for made in steps.entries(tx, [key]).get(key, ()):
            trial = records.trial_of_run(tx, made.run)
            if trial is not None and trial.reports:
                all_of_it = tuple(map(_point, ws.objects.get_json(trial.reports)))
            else:
                all_of_it = read_reports(reports_file(ws, made.run))
            found = tuple(each for each in all_of_it if each[2] == made.step or each[2].startswith(f"{made.step}."))
            if found:
                return found
    return ()


def read_reports(note: Path) -> tuple[Point, ...]:
    """What the steps of a trial reported, in order; a line that a kill tore is left out."""
    path = note.with_suffix(".reports")
    if not path.is_file():
        return ()
    return tuple(_point(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n")[:-1])


def _point(told: Sequence[Any]) -> Point:
    step, value, *reporter = told  # a trial of before names no step
    return int(step), None if value is None else float(value), str(reporter[0]) if reporter else ""


def _value(ws: Workspace, definition: PipelineDefinition, study: StudyRecord, run: str, done: Execution) -> float:
    """The metric on the validation rows, of the model as it would be saved and loaded. Raises: ProjectError."""
    node = definition.model
    assert node is not None
    with project_on_path(definition.root):
        rows = values.load(ws, done.holdout)
        rows = rows.to_pandas() if hasattr(rows, "to_pandas") else rows
        if not isinstance(rows, pd.DataFrame) or not len(rows):
            raise StepFailed(f"the validation rows are no table with rows, but {type(rows).__name__}")
        drop = tuple(name for name in (study.key, study.time) if name)
        model = values.load(ws, done.model)
        bundle = build(
            ws,
            model,
            returned=done.returned,
            holdout=rows,
            run=run,
            label=study.label,
            drop=drop,
            threshold=node.threshold,
            name=node.name,
        )
        predictor = load(ws, bundle.digest)
        sample = score(predictor, rows, study.label)
        ((name, metric),) = resolve(node.metrics, sample.task).items()
        value = metric.of(sample.y, sample.score, threshold=sample.threshold, rows=sample.rows)
    if not math.isfinite(value):
        raise ProjectError(f"{name} of {len(sample.y)} validation rows is {value}")
    return float(value)


def _cpu() -> float:
    """Processor seconds of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
