"""Drives a plan: for each step its key, then the cached result or a run, then the fact.

A step's outputs are stored before the fact that names them, and the fact is what makes a result
shareable, so a killed run leaves whole results or none. Equal steps of two processes run once: the
second waits for the first. An edit to the code in mid-step keeps the result for this run only.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noria import plugins
from noria.core.errors import NotFound, UsageError, WorldError
from noria.core.identity import JSON
from noria.core.lazy import lazy
from noria.data import read as data_read
from noria.data.records import DatasetVersion
from noria.pipeline import plan, records, values
from noria.pipeline.ambient import Ambient, seed_of
from noria.pipeline.content import Opaque, content_hash
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.executor import Done, Executor, Task
from noria.pipeline.facts import Output, StepFinished
from noria.pipeline.fingerprint import CodeIdentity, Fingerprints
from noria.pipeline.ownership import Ownership
from noria.pipeline.plain import Unstorable, to_json
from noria.pipeline.records import StepRecord
from noria.pipeline.sources import project_on_path
from noria.pipeline.step import Binding, Const, DatasetRole, Group, Ref, StepNode
from noria.pipeline.values import Value
from noria.store import pickles
from noria.store.failpoint import failpoint
from noria.store.jobs import Lease
from noria.store.workspace import Workspace
from noria.tracking import records as tracking
from noria.tracking.environment import Environment, environment
from noria.tracking.run import reap

__all__ = ["Execution", "StepReport", "execute"]

pa = lazy("pyarrow")
pd = lazy("pandas")

LEASE_S = 20.0
FLUSH_S = 0.05
"""Facts of steps quicker than this share a transaction; a crash loses no more work than that."""
POLL_S = 0.5
WAIT_S = 0.05


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
    drive = _Drive(ws, definition, run, pins, _overrides(definition, params or {}), on_event)
    try:
        with project_on_path(definition.root):  # for imports inside steps, and for stored objects of its classes
            for node in definition.nodes:
                drive.step(node)
    finally:
        drive.flush()
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
class _Planned:
    """One step with its key: `document` is what the key was computed from, `opaque` why there is none."""

    node: StepNode
    code: CodeIdentity
    key: str
    document: dict[str, JSON]
    opaque: tuple[str, ...]
    labels: Mapping[str, str]
    seed: int
    roles: tuple[DatasetRole, ...]


class _Drive:
    """The state of one execution: outputs so far, values in memory, facts that wait to be written."""

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
        self.overrides, self.on_event = overrides, on_event
        self.environment: Environment = environment(ws.project.state)
        self.fingerprints = Fingerprints(definition.root, Ownership(definition.root, self.environment))
        self.outputs: dict[str, tuple[Value, ...]] = {}
        self.reports: list[StepReport] = []
        self.memory: dict[str, Any] = {}
        self.executors: dict[str, Executor] = {}
        self._pending: list[tuple[StepFinished, list[tuple[str, str]]]] = []
        self._flushed = time.monotonic()
        self._uses = _count_uses(definition)

    def step(self, node: StepNode) -> None:
        """Plan one step, then take its result from the cache or run it."""
        began = time.monotonic()
        planned = self._plan(node)
        found = self._cached(planned)
        owner = ""
        if found is None and not planned.opaque:
            owner = self._take(planned.key)
            found = self._cached(planned) if owner else self._wait(planned.key)
            if found is None and not owner:
                owner = self._take(planned.key)
        try:
            if found is not None:
                self._use(planned, found, time.monotonic() - began)
            else:
                self._perform(planned, owner)
        finally:
            if owner:
                self.flush()  # the entry is there before another process may take the lease
                self.ws.jobs.release(f"step/{planned.key}", owner)

    def flush(self) -> None:
        """Write the facts that wait, in one transaction."""
        if self._pending:
            waiting, self._pending = self._pending, []
            with self.ws.ledger.transaction() as tx:
                for fact, inputs in waiting:
                    outputs = [(f"{fact.step}.{output.name}", output.digest) for output in fact.outputs]
                    tx.append(fact, inputs=inputs, outputs=outputs)
            failpoint("step.finished")
        self._flushed = time.monotonic()

    # planning

    def _plan(self, node: StepNode) -> _Planned:
        constants: dict[str, Any] = {}
        params: dict[str, str] = {}
        inputs: dict[str, str] = {}
        labels: dict[str, str] = {}
        opaque: list[str] = []
        for name, binding in self._bindings(node).items():
            if isinstance(binding, Const):
                constants[name] = binding.value
                try:
                    params[name] = _param_text(binding.value)
                except Opaque as error:
                    opaque.append(f"parameter {name}: {error.reason}")
            else:
                inputs[name] = self._input_text(binding)
                labels[name] = _label(binding)
        code = self.fingerprints.code(node.step, constants, self._things_in(node))
        roles = self.definition.roles(node.name)
        seed = seed_of(self.ws.project.seed, node.name)
        document = plan.document(
            node,
            code,
            params=params,
            inputs=inputs,
            packages=self._packages(node, code),
            python=platform.python_version().rpartition(".")[0],
            seed=seed,
            roles=roles,
        )
        opaque += code.opaque
        if not node.step.options.cache:
            opaque.append("the step says cache=False")
        return _Planned(
            node=node,
            code=code,
            key=plan.key(document),
            document=document,
            opaque=tuple(opaque),
            labels=labels,
            seed=seed,
            roles=roles,
        )

    def _things_in(self, node: StepNode) -> list[Any]:
        """The project's classes and functions that stored inputs of a step are made of."""
        named: set[tuple[str, str]] = set()
        for ref in node.references():
            value = self.outputs[ref.node][ref.output]
            if value.type == "pickle":
                named |= pickles.globals_of(self.ws.objects.get_bytes(value.digest))
        own = sorted((module, name) for module, name in named if self.fingerprints.is_own(module))
        return [getattr(importlib.import_module(module), name) for module, name in own]

    def _bindings(self, node: StepNode) -> dict[str, Binding]:
        given = self.overrides.get(node.name, {})
        return {name: Const(given[name]) if name in given else found for name, found in node.bindings.items()}

    def _packages(self, node: StepNode, code: CodeIdentity) -> dict[str, str]:
        if node.step.options.env == "none":
            return {}
        return dict(self.environment.packages) if node.step.options.env == "lock" else dict(code.packages)

    def _input_text(self, binding: Binding) -> str:
        if isinstance(binding, Ref):
            return self.outputs[binding.node][binding.output].digest
        if isinstance(binding, DatasetRole):
            return self.pins[binding.name].tree
        if isinstance(binding, Group):
            return json.dumps([binding.kind, list(binding.keys), [self._input_text(item) for item in binding.items]])
        return _param_text(binding.value)

    # the cache

    def _cached(self, planned: _Planned) -> StepRecord | None:
        if planned.opaque:
            return None
        with self.ws.ledger.read() as tx:
            found = records.entry(tx, planned.key)
        return found if found is not None and self._is_whole(found) else None

    def _is_whole(self, found: StepRecord) -> bool:
        """Whether every output is there and unaltered; if not, the step is run again."""
        try:
            for output in found.outputs:
                self.ws.objects.path(output.digest)
        except (NotFound, WorldError):
            return False
        return True

    def _take(self, key: str) -> str:
        owner = f"{self.run}/{time.monotonic_ns()}"
        return owner if self.ws.jobs.acquire(f"step/{key}", owner=owner, ttl_s=LEASE_S) else ""

    def _wait(self, key: str) -> StepRecord | None:
        """Wait while another process runs the same step; its result, or None if it gave none."""
        name = f"step/{key}"
        while living := [lease for lease in self.ws.jobs.leases(name) if lease.is_live]:
            self._release_dead(living)
            time.sleep(WAIT_S)
        with self.ws.ledger.read() as tx:
            found = records.entry(tx, key)
        return found if found is not None and self._is_whole(found) else None

    def _release_dead(self, leases: Sequence[Lease]) -> None:
        """Take the leases of runs whose process is gone, so that nobody waits for the dead."""
        reap(self.ws)
        with self.ws.ledger.read() as tx:
            owners = {lease.owner.partition("/")[0] for lease in leases}
            ended = {name for name in owners if (found := tracking.run(tx, name)) is None or found.status != "running"}
        for lease in leases:
            if lease.owner.partition("/")[0] in ended:
                self.ws.jobs.release(lease.name, lease.owner)

    def _use(self, planned: _Planned, found: StepRecord, seconds: float) -> None:
        self.outputs[planned.node.name] = tuple(
            Value(output.digest, output.type, output.size_bytes) for output in found.outputs
        )
        self._record(planned, "cached", "nothing changed", outputs=found.outputs, seconds=seconds, cacheable=True)

    # running

    def _perform(self, planned: _Planned, owner: str) -> None:
        node = planned.node
        reason = self._because(planned)
        task = Task(
            ws=self.ws,
            definition=self.definition,
            node=node,
            arguments={name: self._argument(node, name, item) for name, item in self._bindings(node).items()},
            ambient=Ambient(planned.seed, planned.roles, f"{self.run}/{node.name}"),
            log=self.ws.project.state / "runs" / self.run / f"{node.name}.log",
            memory=self.memory,
        )
        done = self._run(task, planned.key, owner)
        failpoint("step.stored")
        log = self.ws.objects.put_file(task.log) if task.log.is_file() and task.log.stat().st_size else ""
        edited = self._edited(planned.code)
        if edited:
            reason += f"; not shared, since {edited} was edited meanwhile"
        self.outputs[node.name] = done.outputs
        status = "done" if done.error is None else "killed" if done.is_killed else "failed"
        self._record(
            planned,
            status,
            reason,
            outputs=[
                Output(name=name, digest=value.digest, type=value.type, size_bytes=value.size_bytes)
                for name, value in zip(node.outputs, done.outputs, strict=False)
            ],
            seconds=done.seconds,
            cpu_seconds=done.cpu_seconds,
            memory_peak_bytes=done.memory_peak_bytes,
            log=log,
            error=done.error.message[:500] if done.error else "",
            cacheable=not planned.opaque and not edited and done.error is None,
        )
        if done.error is not None:
            self.flush()
            raise done.error

    def _run(self, task: Task, key: str, owner: str) -> Done:
        options = task.node.step.options
        name = "pool" if options.memory_bytes or options.timeout_s else "inline"
        if name not in self.executors:
            self.executors[name] = plugins.load("executor", name)()
        executor = self.executors[name]
        if name == "pool":
            self.flush()
        handle = executor.submit(task)
        try:
            done = executor.poll(handle, POLL_S)
            while done is None:
                if owner:
                    self.ws.jobs.acquire(f"step/{key}", owner=owner, ttl_s=LEASE_S)
                done = executor.poll(handle, POLL_S)
        except BaseException:
            executor.cancel(handle)
            raise
        return done

    def _argument(self, node: StepNode, name: str, binding: Binding) -> Any:
        if isinstance(binding, Const):
            return binding.value
        if isinstance(binding, DatasetRole):
            return self._table(node, name, binding)
        if isinstance(binding, Group):
            items = [self._argument(node, name, item) for item in binding.items]
            if binding.kind == "dict":
                return dict(zip(binding.keys, items, strict=True))
            return tuple(items) if binding.kind == "tuple" else items
        value = self.outputs[binding.node][binding.output]
        self._uses[binding] -= 1
        if not self._uses[binding] and value.digest in self.memory:
            return self.memory.pop(value.digest)  # nobody else will see what this step does to it
        return values.read(self.ws.objects, value, self.definition.root)

    def _table(self, node: StepNode, name: str, role: DatasetRole) -> Any:
        """A data set as the step's annotation wants it: pandas by default, Arrow or polars if it says so."""
        table = data_read.table(self.ws, self.pins[role.name])
        wanted = node.step.hints().get(name)
        module = getattr(wanted, "__module__", "") or ""
        if module.startswith("pyarrow"):
            return table
        if module.startswith("polars"):
            return lazy("polars").from_arrow(table)
        frame = _pandas(table)
        frame.attrs["noria"] = {"name": role.name, "key": role.key, "time": role.time, "label": role.label}
        return frame

    def _because(self, planned: _Planned) -> str:
        if planned.opaque:
            return f"not cached: {planned.opaque[0]}"
        with self.ws.ledger.read() as tx:
            before = records.last(tx, planned.node.name)
        if before is None:
            return "first run"
        try:
            known = self.ws.objects.get_json(before.document)
        except (NotFound, WorldError):
            return "its last key document was not there"
        return plan.because(known, planned.document, planned.labels)

    def _edited(self, code: CodeIdentity) -> str:
        """The first project file whose bytes are not those that the key was computed from."""
        for name, known in code.files.items():
            path = self.definition.root / name
            now = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            if known.removeprefix("sha256:") != now.removeprefix("sha256:"):
                return name
        return ""

    def _record(
        self,
        planned: _Planned,
        status: str,
        reason: str,
        *,
        outputs: Sequence[Output],
        seconds: float,
        cacheable: bool,
        cpu_seconds: float = 0.0,
        memory_peak_bytes: int = 0,
        log: str = "",
        error: str = "",
    ) -> None:
        node = planned.node
        fact = StepFinished(
            run=self.run,
            step=node.name,
            key="" if planned.opaque else planned.key,
            document=self.ws.objects.put_json(planned.document),
            status=status,
            because=reason,
            outputs=tuple(outputs),
            seconds=round(seconds, 6),
            cpu_seconds=round(cpu_seconds, 6),
            memory_peak_bytes=memory_peak_bytes,
            log=log,
            error=error,
            cacheable=cacheable,
        )
        self._pending.append((fact, self._edges(node)))
        report = StepReport(step=node.name, status=status, because=reason, seconds=round(seconds, 3), key=fact.key)
        self.reports.append(report)
        if self.on_event is not None:
            self.on_event(report)
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def _edges(self, node: StepNode) -> list[tuple[str, str]]:
        edges = [(f"{ref.node}", self.outputs[ref.node][ref.output].digest) for ref in node.references()]
        return edges + [(f"data:{role.name}", self.pins[role.name].tree) for role in node.datasets()]


def _count_uses(definition: PipelineDefinition) -> dict[Ref, int]:
    uses: dict[Ref, int] = {}
    for node in definition.nodes:
        for ref in node.references():
            uses[ref] = uses.get(ref, 0) + 1
    return uses


def _label(binding: Binding) -> str:
    if isinstance(binding, DatasetRole):
        return f"data {binding.name} changed"
    if isinstance(binding, Ref):
        return f"{binding.node} gave another result"
    return "its inputs changed"


def _param_text(value: Any) -> str:
    """A parameter's canonical text; its type is part of it. Raises: Opaque if there is none."""
    try:
        return json.dumps(to_json(value), sort_keys=False, separators=(",", ":"), allow_nan=False)
    except Unstorable:
        return "content:" + content_hash(value, _no_code)


def _no_code(thing: Any) -> str:
    raise Opaque(f"{getattr(thing, '__name__', thing)!s} is code, which a parameter cannot hold")


def _pandas(table: Any) -> Any:
    """An Arrow table as pandas without loss: whole numbers and booleans with nulls stay what they are."""
    mapping = {
        pa.int8(): "Int8", pa.int16(): "Int16", pa.int32(): "Int32", pa.int64(): "Int64",
        pa.uint8(): "UInt8", pa.uint16(): "UInt16", pa.uint32(): "UInt32", pa.uint64(): "UInt64",
        pa.bool_(): "boolean",
    }  # fmt: skip
    nullable = {name for name, column in zip(table.column_names, table.columns, strict=True) if column.null_count}
    frame = table.to_pandas()
    for field in table.schema:
        if field.name in nullable and field.type in mapping:
            kind = pd.api.types.pandas_dtype(mapping[field.type])
            frame[field.name] = kind.__from_arrow__(table[field.name].combine_chunks())
    return frame
