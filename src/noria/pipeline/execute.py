"""Drives a plan: for each step its key, then the cached result or a run, then the fact.

A step's outputs are stored before the fact that names them, and the fact is what makes a result
shareable, so a killed run leaves whole results or none. Facts of quick steps share a transaction,
with one object for their key documents. Equal steps of two processes run once: the second waits for
the first. An edit to the code in mid-step keeps the result for this run only.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from noria import plugins
from noria.core.errors import NotFound, UsageError, WorldError
from noria.core.identity import JSON
from noria.data.records import DatasetVersion
from noria.pipeline import documents, plan
from noria.pipeline.arguments import Arguments
from noria.pipeline.cache import Cache, short_list
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.documents import KeyDocument
from noria.pipeline.executor import Done, Executor, Task
from noria.pipeline.facts import Output, StepFinished
from noria.pipeline.flight import Flights
from noria.pipeline.keys import Keys, Planned
from noria.pipeline.reads import Conditions, Reads
from noria.pipeline.records import StepRecord
from noria.pipeline.sources import project_on_path
from noria.pipeline.step import Const, StepNode
from noria.pipeline.values import Value
from noria.store.failpoint import failpoint
from noria.store.workspace import Workspace

__all__ = ["Execution", "StepReport", "execute"]

FLUSH_S = 0.05
"""Facts of steps quicker than this share a transaction; a crash loses no more work than that."""
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What came of one step: status is done, cached, failed or killed; `because` says why it ran."""

    step: str
    status: str
    because: str
    seconds: float
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What a pipeline gave: outputs by node, the model and the holdout if it makes a model, the steps."""

    outputs: Mapping[str, tuple[Value, ...]]
    steps: tuple[StepReport, ...]
    model: Value
    holdout: Value


def execute(
    ws: Workspace,
    definition: PipelineDefinition,
    *,
    run: str,
    pins: Mapping[str, DatasetVersion],
    params: Mapping[str, JSON] | None = None,
    on_event: Callable[[StepReport], None] | None = None,
) -> Execution:
    """Run the steps of a pipeline that have no result yet, in order, and record each.

    Args:
        run: the run that the facts belong to; its lease is the caller's.
        pins: the version of each data set.
        params: values for parameters, `{"train.learning_rate": 0.05}`; other values are the pipeline's.
        on_event: told of each step when it has ended.
    Raises: UsageError for an unknown parameter; StepFailed, StepKilled; the run's steps so far stay recorded.
    """
    overrides = _overrides(definition, params or {})
    with project_on_path(definition.root):  # for imports inside steps, and for stored objects of its classes
        drive = _Drive(ws, definition, run, pins, overrides, on_event)
        try:
            for node in definition.nodes:
                drive.step(node)
        finally:
            drive.close()
    nothing = Value("", "")
    model = definition.model
    return Execution(
        outputs=drive.outputs,
        steps=tuple(drive.reports),
        model=drive.outputs[model.model.node][model.model.output] if model else nothing,
        holdout=drive.outputs[model.holdout.node][model.holdout.output] if model else nothing,
    )


def _overrides(definition: PipelineDefinition, params: Mapping[str, JSON]) -> dict[str, dict[str, JSON]]:
    """Parameter values by step. Raises: UsageError naming the nearest one for a name that is not there."""
    known = {
        f"{node.name}.{name}"
        for node in definition.nodes
        for name, binding in node.bindings.items()
        if isinstance(binding, Const)
    }
    found: dict[str, dict[str, JSON]] = {}
    for name, value in params.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            raise UsageError(
                f"there is no parameter {name!r}",
                where=f"pipeline {definition.name}",
                hint=f"did you mean {near[0]!r}?" if near else f"parameters: {', '.join(sorted(known)) or 'none'}",
            )
        step, _, parameter = name.partition(".")
        found.setdefault(step, {})[parameter] = value
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A step that has ended and is not written yet; without a `document` of its own it has that of `entry`."""

    planned: Planned
    fact: StepFinished
    document: KeyDocument | None


class _Drive:
    """The state of one execution: outputs so far, and the facts that wait to be written."""

    def __init__(
        self,
        ws: Workspace,
        definition: PipelineDefinition,
        run: str,
        pins: Mapping[str, DatasetVersion],
        overrides: Mapping[str, Mapping[str, JSON]],
        on_event: Callable[[StepReport], None] | None,
    ) -> None:
        self.ws, self.definition, self.run, self.pins = ws, definition, run, pins
        self.on_event = on_event
        self.keys = Keys(ws, definition, pins, overrides)
        self.reads = Reads(self.keys.fingerprints)
        self.cache = Cache(ws, self.keys, self.reads, [node.name for node in definition.nodes])
        self.flights = Flights(ws, run)
        self.arguments = Arguments(ws, definition, pins)
        self.outputs: dict[str, tuple[Value, ...]] = {}
        self.reports: list[StepReport] = []
        self.executors: dict[str, Executor] = {}
        self._pending: list[_Waiting] = []
        self._flushed = time.monotonic()

    def step(self, node: StepNode) -> None:
        """Plan one step, then take its result from the cache or run it."""
        began = time.monotonic()
        planned = self.keys.plan(node, self.outputs)
        if planned.opaque:
            self._perform(planned, "")
            return
        if not self.flights.take(planned.key):
            self.flush()  # publish before waiting, or two runs may wait for each other
            self.flights.wait(planned.key)
        found, refused = self.cache.find(planned)
        if found is None:
            self._perform(planned, refused)
        else:
            self._use(planned, found, time.monotonic() - began)

    def flush(self) -> None:
        """Write the facts that wait, in one transaction, then let others have what was made."""
        if self._pending:
            waiting, self._pending = self._pending, []
            made = {item.planned.node.name: item.document for item in waiting if item.document is not None}
            name = documents.write(self.ws.objects, made) if made else ""
            with self.ws.ledger.transaction() as tx:
                for item in waiting:
                    fact = item.fact if item.document is None else _documented(item.fact, name)
                    outputs = [(f"{fact.step}.{output.name}", output.digest) for output in fact.outputs]
                    tx.append(fact, inputs=self._edges(item.planned.node), outputs=outputs)
            failpoint("step.finished")
        self.flights.release_all()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Write what waits, and give back every right, however the execution ended."""
        try:
            self.flush()
            self.keys.digests.save()
        finally:
            self.flights.release_all()

    # a result that is there

    def _use(self, planned: Planned, found: StepRecord, seconds: float) -> None:
        self.flights.release(planned.key)
        self.outputs[planned.node.name] = tuple(
            Value(output.digest, output.type, output.size_bytes) for output in found.outputs
        )
        fact = self._fact(planned, "cached", "nothing changed", found.outputs, Done(seconds=seconds))
        self._record(_Waiting(planned=planned, fact=_documented(fact, found.document, found.reads), document=None))

    # a result to make

    def _perform(self, planned: Planned, refused: str) -> None:
        node = planned.node
        reason = self._because(planned, refused)
        done = self._run(self._task(planned))
        failpoint("step.stored")
        conditions = Conditions()
        if done.error is None and not planned.opaque:
            conditions = self._conditions(planned, done)
        if conditions.reason:
            reason += f"; not shared, since {conditions.reason}"
        self.outputs[node.name] = done.outputs
        status = "done" if done.error is None else "killed" if done.is_killed else "failed"
        outputs = [
            Output(name=name, digest=value.digest, type=value.type, size_bytes=value.size_bytes)
            for name, value in zip(node.outputs, done.outputs, strict=False)
        ]
        is_shared = not planned.opaque and not conditions.reason and done.error is None
        fact = self._fact(planned, status, reason, outputs, done, is_shared=is_shared)
        fact = _documented(fact, "", short_list(self.ws, conditions.reads))
        self._record(_Waiting(planned=planned, fact=fact, document=planned.key_document()))
        if done.error is not None:
            self.flush()
            raise done.error

    def _task(self, planned: Planned) -> Task:
        node = planned.node
        return Task(
            ws=self.ws,
            definition=self.definition,
            node=node,
            arguments=self.arguments.of(node, planned.bindings, self.outputs),
            ambient=replace(planned.ambient, made_in=f"{self.run}/{node.name}"),
            log=self.ws.project.state / "runs" / self.run / f"{node.name}.log",
            memory=self.arguments.memory,
            is_watched=not planned.opaque,
        )

    def _run(self, task: Task) -> Done:
        options = task.node.step.options
        name = "pool" if options.memory_bytes or options.timeout_s else "inline"
        if name not in self.executors:
            self.executors[name] = plugins.load("executor", name)()
        executor = self.executors[name]
        if name == "pool":
            self._publish()
        handle = executor.submit(task)
        try:
            done = executor.poll(handle, POLL_S)
            while done is None:
                self.flights.renew()
                done = executor.poll(handle, POLL_S)
        except BaseException:
            executor.cancel(handle)
            raise
        return done

    def _publish(self) -> None:
        """Write what waits; the right to the step that is about to run stays."""
        if self._pending:
            ended = [item.planned.key for item in self._pending]
            held, self.flights = self.flights, Flights(self.ws, self.run)
            self.flush()
            self.flights = held
            for key in ended:
                held.release(key)

    def _conditions(self, planned: Planned, done: Done) -> Conditions:
        """What the entry is good under; why there can be none, if something changed meanwhile or was out of sight."""
        edited = self.keys.edited(planned.code)
        if edited:
            return Conditions(reason=f"{edited} was edited meanwhile")
        if done.trace is None:
            return Conditions(reason="its executor did not watch it")
        return self.reads.of(done.trace, planned.code, planned.ambient)

    def _because(self, planned: Planned, refused: str) -> str:
        if planned.opaque:
            return f"not cached: {planned.opaque[0]}"
        before = self.cache.newest.get(planned.node.name)
        if before is None:
            return "first run"
        if refused and before.key == planned.key:
            return refused
        try:
            known = documents.read(self.ws.objects, before.document, before.step, before.key)
        except (NotFound, WorldError):
            return "its last key document was not there"
        return plan.because(known.document, planned.document, planned.labels)

    # facts

    def _fact(
        self,
        planned: Planned,
        status: str,
        reason: str,
        outputs: Sequence[Output],
        done: Done,
        *,
        is_shared: bool = True,
    ) -> StepFinished:
        log = self.ws.project.state / "runs" / self.run / f"{planned.node.name}.log"
        printed = status != "cached" and log.is_file() and log.stat().st_size
        return StepFinished(
            run=self.run,
            step=planned.node.name,
            key="" if planned.opaque else planned.key,
            document="",
            status=status,
            because=reason,
            outputs=tuple(outputs),
            seconds=round(done.seconds, 6),
            cpu_seconds=round(done.cpu_seconds, 6),
            memory_peak_bytes=done.memory_peak_bytes,
            log=self.ws.objects.put_file(log) if printed else "",
            error=done.error.message[:500] if done.error else "",
            cacheable=is_shared,
        )

    def _record(self, item: _Waiting) -> None:
        fact = item.fact
        self._pending.append(item)
        seconds = round(fact.seconds, 3)
        report = StepReport(step=fact.step, status=fact.status, because=fact.because, seconds=seconds, key=fact.key)
        self.reports.append(report)
        if self.on_event is not None:
            self.on_event(report)
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def _edges(self, node: StepNode) -> list[tuple[str, str]]:
        edges = [(f"{ref.node}", self.outputs[ref.node][ref.output].digest) for ref in node.references()]
        return edges + [(f"data:{role.name}", self.pins[role.name].tree) for role in node.datasets()]


def _documented(fact: StepFinished, document: str, reads: Sequence[tuple[str, str]] | None = None) -> StepFinished:
    """The fact with its key document, and the conditions of its result if these are given."""
    return replace(fact, document=document, reads=fact.reads if reads is None else tuple(reads))
