"""Executes a pipeline: plans its steps, finds an executor that can run them, and drives them to their facts.

A step's outputs are stored before the fact that names them, and the fact is what makes a result
shareable, so a killed run leaves whole results or none. `attempts.py` draws the life of a step,
`drive.py` is the loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from noria import plugins
from noria.core.clock import duration
from noria.core.errors import UsageError, WorldError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.pipeline.ambient import Ambient
from noria.pipeline.attempt import journal as journals
from noria.pipeline.attempt.journal import Journal
from noria.pipeline.caching.cache import Cache
from noria.pipeline.caching.flight import Flights
from noria.pipeline.caching.keys import Keys
from noria.pipeline.caching.reads import Reads
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.driving.drive import Drive, Manner
from noria.pipeline.driving.recorder import Recorder
from noria.pipeline.driving.results import Results, StepReport
from noria.pipeline.driving.resume import Earlier
from noria.pipeline.driving.stopping import watched
from noria.pipeline.executor import Executor, Task
from noria.pipeline.given import given
from noria.pipeline.options import StepOptions
from noria.pipeline.outputs.values import Value
from noria.pipeline.room import lacking
from noria.pipeline.sources import project_on_path
from noria.store.held import HeldObjects
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    from noria.data.records import DatasetVersion

__all__ = ["Execution", "Manner", "StepReport", "execute", "executor_for", "manner_of"]


@frozen(kw_only=True)
class Execution:
    """What a pipeline gave: outputs by node, the model and the holdout if it makes a model, the steps.

    Nodes of a branch that was not taken have no outputs. `returned` is the model itself, as its step returned it,
    if that ran in this process just now; None if it was in the cache or ran elsewhere.
    """

    outputs: Mapping[str, tuple[Value, ...]]
    steps: tuple[StepReport, ...]
    model: Value
    holdout: Value
    returned: Any = None


def execute(
    ws: Workspace,
    definition: PipelineDefinition,
    *,
    run: str,
    pins: Mapping[str, DatasetVersion],
    params: Mapping[str, JSON] | None = None,
    on_event: Callable[[StepReport], None] | None = None,
    manner: Manner | None = None,
    owner: str = "",
    is_resumed: bool = False,
    executor: Executor | None = None,
) -> Execution:
    """Run the steps of a pipeline that have no result yet, each when what it takes is there, and record each.

    Args:
        run: the run that the facts belong to; its lease is the caller's.
        pins: the version of each data set.
        params: values for parameters, `{"train.learning_rate": 0.05}`; other values are the pipeline's.
        on_event: told of each step when it is over.
        manner: how, where it is not as `[run]` of noria.toml says.
        owner: who must hold the run whenever something is recorded; "" for a run that nobody holds.
        is_resumed: the run was begun before, and what it has done stands.
        executor: that of `executor_for`, which is closed in any case; one is made otherwise.
    Raises: UsageError for an unknown parameter or a value that is not what it is annotated as, or if no executor
        can do what a step asks for; StepFailed, StepKilled; RunCancelled; RunPreempted; the steps so far stay recorded.
    """
    manner = manner or manner_of(ws)
    executor = executor or executor_for(definition, manner)
    ws = replace(ws, objects=HeldObjects(ws.objects))  # stored together, before the facts that name them
    try:
        overrides = given(definition, params or {})
        with project_on_path(definition.root):  # for imports inside steps, and for stored objects of its classes
            flights = Flights(ws, run)
            keys = Keys(ws, definition, pins, overrides)
            reads = Reads(keys.fingerprints)
            recorder = Recorder(ws, run, owner, pins, flights)
            path = journals.place(ws.project.state, run)
            earlier = Earlier.of(ws, run, journals.left_by(path), is_resumed=is_resumed)
            cache = Cache(ws, keys, reads, [node.name for node in definition.nodes])
            journal = Journal(path)
            results = Results(
                ws, run, keys=keys, cache=cache, reads=reads, recorder=recorder, journal=journal, on_event=on_event
            )
            first = definition.nodes[0]
            task = Task(
                ws=ws, definition=definition, node=first, bindings={}, pins=pins, ambient=Ambient(0), log=path,
                name="", journal=path,
            )  # fmt: skip
            _require_file(task, definition)
            drive = Drive(
                ws,
                {node.name: node for node in definition.nodes},
                results=results,
                flights=flights,
                earlier=earlier,
                executor=executor,
                task=task,
                manner=manner,
            )
            try:
                with watched(ws, run, drive.stop, recorder, flights):
                    drive.run()
            finally:
                _close(recorder, flights, keys, is_ours=drive.stop.error is None)
    finally:
        executor.close()
    return _given(definition, results, drive)


def manner_of(ws: Workspace, **changed: object) -> Manner:
    """How noria.toml says that pipelines run; what is changed and not empty wins.

    Raises: UsageError for a value that cannot be.
    """
    said = ws.project.run
    known: dict[str, object] = {
        "executor": said.executor,
        "address": said.address,
        "on_failure": said.on_failure,
        "workers": said.workers,
        "window": said.window,
        "grace_s": duration(said.grace).total_seconds(),
    }
    known |= {name: value for name, value in changed.items() if value}
    if known["on_failure"] not in ("stop", "finish"):
        hint = "noria run --on-failure finish lets what does not need the failed step go on"
        raise UsageError(f'on_failure is {known["on_failure"]!r}, not "stop" or "finish"', hint=hint)
    if isinstance(known["workers"], int) and known["workers"] < 0:
        raise UsageError(f"workers is {known['workers']}, less than none", hint="0 is as many as there is room for")
    return Manner(**known)  # type: ignore[arg-type]  # the fields and types of Manner


def executor_for(definition: PipelineDefinition, manner: Manner) -> Executor:
    """The executor that the manner names, open, if it can run every step: asked before anything begins.

    Raises: UsageError if a step asks for what it has not, naming one that has; StoreUnavailable for a cluster that
        is not reached.
    """
    made = _made(manner.executor, manner)
    try:
        has = made.capacity()
    except BaseException:
        made.close()
        raise
    for node in definition.nodes:
        want = lacking(node.step.options, has)
        if want:
            made.close()
            others = [name for name in plugins.names("executor") if name != manner.executor]
            able = [name for name in others if _could(name, manner, node.step.options)]
            hint = (
                f"noria run --executor {able[0]}   (it has that)"
                if able
                else "no executor that is installed has that: ask for less, or name a cluster ([run] address)"
            )
            raise UsageError(
                f"step {node.name} asks for {want} on the executor {manner.executor}", where=node.step.where, hint=hint
            )
    return made


def _made(name: str, manner: Manner) -> Executor:
    """An executor by name. One that takes an `address` is told that of its cluster."""
    kind = plugins.load("executor", name)
    found: Executor = kind(address=manner.address) if "address" in inspect.signature(kind).parameters else kind()
    return found


def _could(name: str, manner: Manner, options: StepOptions) -> bool:
    """Whether another executor has what a step asks for. One that is not installed or not reached has nothing."""
    executor = _made(name, manner)
    try:
        return not lacking(options, executor.capacity())
    except (UsageError, WorldError):
        return False
    finally:
        executor.close()


def _require_file(task: Task, definition: PipelineDefinition) -> None:
    """Another process reads the pipeline from its file. Raises: UsageError for a notebook's step that needs one."""
    for node in definition.nodes:
        if node.step.options.needs_own_process and not replace(task, node=node).is_in_file:
            raise UsageError(
                f"step {node.name} asks for a process of its own, and this pipeline is in no file that one could read",
                where=node.step.where,
                hint=f"put it into {task.ws.project.pipeline}, or leave out memory=, timeout=, gpu= and isolated=",
            )


def _close(recorder: Recorder, flights: Flights, keys: Keys, *, is_ours: bool) -> None:
    """Write what waits, and give back every right, however the execution ended."""
    try:
        if is_ours:
            recorder.flush()
        keys.digests.save()
    finally:
        flights.release_all()


def _given(definition: PipelineDefinition, results: Results, drive: Drive) -> Execution:
    nothing, model, outputs = Value("", ""), definition.model, results.outputs
    if model is not None:
        for ref in (model.model, model.holdout):
            if ref.node not in outputs:
                raise UsageError(
                    f"the model {model.name} is made by {ref.node}, which did not run: its branch was not taken",
                    where=f"pipeline {definition.name}",
                    hint="return nr.model of what nr.branch gives",
                )
    return Execution(
        outputs=outputs,
        steps=tuple(results.reports),
        model=outputs[model.model.node][model.model.output] if model else nothing,
        holdout=outputs[model.holdout.node][model.holdout.output] if model else nothing,
        returned=drive.returned(outputs[model.model.node][model.model.output]) if model else None,
    )
