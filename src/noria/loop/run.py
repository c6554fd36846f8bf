"""`noria run`: data, checks, steps, bundle, gates, release, in this order, and what came of each.

One function for a person and for the loop, so that a challenger goes the way that every model goes.
Each stage stores its result before the next begins; a run that dies is taken up by the next run from
the step cache. Nothing is deployed here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from time import monotonic
from typing import TYPE_CHECKING

from noria.core.errors import NoriaError, UsageError, WorldError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.core.interrupts import going_on
from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.loop import pins, preconditions
from noria.loop.interrupted import interrupted
from noria.loop.report import RunReport, plain_report, report, step_line
from noria.pipeline import records
from noria.pipeline.define import PipelineDefinition, load_pipeline
from noria.pipeline.driving.execute import Manner, StepReport, execute, executor_for, manner_of
from noria.pipeline.driving.stopping import GOES_ON
from noria.pipeline.given import given
from noria.store.workspace import Workspace
from noria.tracking import run as tracking

if TYPE_CHECKING:
    from noria.data.records import DatasetVersion
    from noria.loop import holdout, making
    from noria.search import best as searches
    from noria.search import study
else:  # a run that makes no model judges none, and most runs search for nothing
    holdout, making = lazy("noria.loop.holdout"), lazy("noria.loop.making")
    searches, study = lazy("noria.search.best"), lazy("noria.search.study")

__all__ = [
    "Challenge",
    "RunReport",
    "perform",
    "run",
]


@frozen(kw_only=True)
class Challenge:
    """What a run may be asked for by the loop: exact versions, and the ref of what asked.

    `datasets` maps a data set to a ref such as `flights@3`. `model` is what is to be trained: of several pipelines
    the one that makes it runs.
    """

    cause: str
    datasets: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[tuple[str, str]] = ()
    model: str = ""


@verb(permission="loop.run", where="project")
def run(
    ws: Workspace,
    pipeline: str = "",
    params: Mapping[str, JSON] | None = None,
    cause: str = "user",
    *,
    search: int | None = None,
    sampler: str = "",
    pruner: str = "",
    budget: str = "",
    metric: str = "",
    seed: int | None = None,
    parallel: int | None = None,
    resume: str = "",
    executor: str = "",
    on_failure: str = "",
    workers: int | None = None,
) -> RunReport:
    """Run the project's pipeline: check the data, do what has changed, judge the model, make a release.

    With --search it first tries values of the parameters that the steps declare, on rows kept from
    training, and goes on with the best. Without it training is fixed.

    Args:
        pipeline: which of several in pipeline.py; the project's one pipeline by default.
        params: values for parameters of steps, such as {"train.learning_rate": 0.05}.
        search: how many trials of other parameter values to make first.
        sampler: who proposes values: tpe (the default) or random.
        pruner: asha ends trials that report poor values on the way; by default none is ended.
        budget: what a search may take, such as 10m or 5eur; then the best so far goes on.
        metric: what a search goes by; the model's first metric by default.
        seed: of the search; the project's by default. The same seed gives the same trials.
        parallel: how many trials run at once, 1 by default.
        resume: go on with a run that was killed, cancelled or failed, from the steps that are done ("last": the
            newest), or with a study (study_…) that was broken off.
        executor: where steps run: auto, inline, pool or another that is installed; [run] of noria.toml by default.
        on_failure: "stop" ends what runs beside a step that failed, "finish" lets it end.
        workers: how many steps run at once at most.
    Raises: GateClosed if data fail their checks (nothing is trained); StepFailed; RunCancelled; ConfigError;
        StudyFailed if no trial of a search succeeds; UsageError if a run cannot be resumed, or for a parameter that
        is not there or is given what its annotation does not allow: then nothing is begun.
    Example: noria run
    """
    challenge = Challenge(cause=cause)
    for name, count in (("parallel", parallel), ("workers", workers)):
        if count is not None and count < 1:
            raise UsageError(f"{name} is {count}, less than 1", hint="leave it out, or give a number from 1")
    manner = manner_of(ws, executor=executor, on_failure=on_failure, workers=workers)
    if search is not None and search < 1:
        raise UsageError(f"a search of {search} trials was asked for", hint="noria run --search 20")
    if search or resume.startswith("study"):
        asked = study.Request(
            trials=search or 0,
            sampler=sampler,
            pruner=pruner,
            budget=budget,
            metric=metric,
            seed=seed,
            parallel=parallel or 0,
        )
        return _searched(ws, challenge, asked, pipeline=pipeline, params=params, resume=resume, manner=manner)
    if any((sampler, pruner, budget, metric, parallel)) or seed is not None:
        raise UsageError("what a search should be like was said, and no search asked for", hint="noria run --search 20")
    return perform(ws, challenge, pipeline=pipeline, params=params, manner=manner, resume=resume)


def _searched(
    ws: Workspace,
    challenge: Challenge,
    asked: study.Request,
    *,
    pipeline: str,
    params: Mapping[str, JSON] | None,
    resume: str,
    manner: Manner,
) -> RunReport:
    """A search, then a run with its best values, on the same versions of the data."""
    began = monotonic()
    definition = load_pipeline(ws.project, pipeline)
    preconditions.require(ws, definition, pipeline)
    given(definition, params or {})

    def about() -> study.Begin:
        found = pins.resolve(ws, definition, challenge.datasets)
        pins.checked(ws, found)
        roles = holdout.Roles() if definition.model is None else holdout.roles_of(definition, definition.model, found)
        return study.Begin(
            key=roles.key, time=roles.time, label=roles.label, pins=pins.pins_of(found), params=dict(params or {})
        )

    best = searches.best(ws, definition, asked, about, is_given=bool(params), resume=resume)
    final = Challenge(cause=best.cause, datasets=best.datasets, inputs=(*challenge.inputs, *best.inputs))
    made = perform(ws, final, params=best.params, definition=definition, manner=manner)
    return replace(made, search=best.shown, seconds=monotonic() - began)


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
    began = monotonic()
    before = interrupted(ws, resume, params) if resume else None
    if before is not None:
        challenge, params = Challenge(cause=before.cause, datasets=before.datasets), before.params
        pipeline = before.pipeline
    definition = definition or load_pipeline(ws.project, pipeline, model=challenge.model)
    preconditions.require(ws, definition, pipeline)
    given(definition, params or {})
    with contextlib.closing(executor_for(definition, manner or manner_of(ws))) as executor:
        found = pins.resolve(ws, definition, challenge.datasets)
        handle = _begin(ws, definition, challenge, found, params) if before is None else tracking.resume(ws, before.run)
        with going_on(GOES_ON), _telling_steps(ws, handle.run), handle:
            if ws.project.run.system_metrics:
                handle.watch()
            lines = pins.checked(handle.held(), found)
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
                executor=executor,
            )
            made = None
            if definition.model is not None:
                made = making.make(handle.held(), handle, definition, definition.model, done, found)
                making.finish(handle, made)
    steps = tuple(step_line(step) for step in done.steps)
    if made is None:
        return plain_report(
            definition,
            cause=challenge.cause,
            run_id=handle.run,
            lines=lines,
            steps=steps,
            seconds=handle.before_s + monotonic() - began,
        )
    return report(
        definition,
        cause=challenge.cause,
        run_id=handle.run,
        lines=lines,
        steps=steps,
        made=made,
        seconds=handle.before_s + monotonic() - began,
    )


@contextlib.contextmanager
def _telling_steps(ws: Workspace, run: str) -> Iterator[None]:
    """Let a failure of a run tell its steps, those that ended and the one that failed."""
    try:
        yield
    except NoriaError as error:
        if not isinstance(error, WorldError):  # of a store that fails nothing more is asked
            with ws.ledger.read() as tx:
                ended = records.steps(tx, run)
            error.details = {
                "run": run,
                "steps": [
                    {
                        "step": each.step,
                        "status": each.status,
                        "because": each.because,
                        "error": each.error,
                        "seconds": each.seconds,
                        "attempts": each.attempts,
                    }
                    for each in ended
                ],
            }
        raise


def _begin(
    ws: Workspace,
    definition: PipelineDefinition,
    challenge: Challenge,
    found: Mapping[str, DatasetVersion],
    params: Mapping[str, JSON] | None,
) -> tracking.RunHandle:
    """A new run."""
    return tracking.start(
        ws,
        definition.name,
        cause=challenge.cause,
        pins=pins.pins_of(found),
        config={"params": dict(params or {})},
        inputs=challenge.inputs,
    )
