"""What came of each step of an execution: its outputs for those that follow, its fact, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from noria.core.errors import NoriaError, NotFound, WorldError
from noria.core.frozen import frozen
from noria.pipeline.attempt.journal import Journal
from noria.pipeline.caching import documents, plan
from noria.pipeline.caching.cache import Cache, short_list
from noria.pipeline.caching.keys import Keys, Planned
from noria.pipeline.caching.reads import CHANGED, NOT_AS_LEFT, Conditions, Reads
from noria.pipeline.driving import cost
from noria.pipeline.driving.attempts import status_of
from noria.pipeline.driving.recorder import Recorder, Written
from noria.pipeline.executor import Done, Usage
from noria.pipeline.facts import Item, Output, StepFinished, item_name
from noria.pipeline.outputs.values import Value
from noria.pipeline.records import StepRecord
from noria.pipeline.step import StepNode
from noria.store.failpoint import failpoint
from noria.store.workspace import Workspace

__all__ = ["Results", "StepReport"]

ERROR_LIMIT = 500
ITEM_READS = 20
_NOT_SHARED = "not shared, since"
_LAST_NOT_SHARED = "its last result was not shared"


@frozen(kw_only=True)
class StepReport:
    """What came of one step: status is done, cached, failed, killed, cancelled or skipped; `because` says why it ran.

    `items` is how many items a mapped step had, `attempts` how often it was begun in this run. Where it was
    over before this run was resumed, `because` is what was said then.
    """

    step: str
    status: str
    because: str
    seconds: float
    key: str = ""
    items: int = 0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    energy_joules: float = 0.0
    cost: float | None = None
    attempts: int = 1


class Results:
    """Outputs by node, and one report a step. Not thread safe."""

    def __init__(
        self,
        ws: Workspace,
        run: str,
        *,
        keys: Keys,
        cache: Cache,
        reads: Reads,
        recorder: Recorder,
        journal: Journal,
        on_event: Callable[[StepReport], None] | None,
    ) -> None:
        self.ws, self.run = ws, run
        self.keys, self.cache, self.reads = keys, cache, reads
        self.recorder, self.journal = recorder, journal
        self.outputs: dict[str, tuple[Value, ...]] = {}
        self.reports: list[StepReport] = []
        self._makers: dict[str, str] = {}
        self._on_event = on_event

    def log_of(self, name: str) -> Path:
        """The live log file of a step, or of an item."""
        return self.ws.project.state / "runs" / self.run / f"{name}.log"

    # over without running

    def use(self, planned: Planned, found: StepRecord, seconds: float) -> None:
        """A step has a result that holds."""
        name = planned.node.name
        self.outputs[name] = _values(found.outputs)
        self.made(name, self.cache.reads_of(found))
        fact = self._fact(planned, "cached", "nothing changed", found.outputs, Done(usage=Usage(seconds=seconds)))
        fact = replace(fact, document=found.document, reads=tuple(found.reads), items=found.items, attempts=0)
        self._add(planned.node, fact, key=planned.key)

    def keep(self, record: StepRecord) -> None:
        """A step was over in this very run before it was resumed: its fact stands."""
        self.outputs[record.step] = _values(record.outputs)
        self.journal.settle(record.step, record.status, record.seconds)
        self._tell(record)

    def pass_over(self, node: StepNode, status: str, because: str) -> None:
        """A step does not run: skipped, or cancelled before it began."""
        fact = StepFinished(
            run=self.run, step=node.name, key="", document="", status=status, because=because, attempts=0
        )
        self._add(node, fact)

    def choose(self, node: StepNode, taken: str, decision: object) -> None:
        """A node of branches stands for the result of the one that was taken."""
        self.outputs[node.name] = self.outputs[taken]
        (value,) = self.outputs[taken][:1]
        output = Output(name=node.outputs[0], digest=value.digest, type=value.type, size_bytes=value.size_bytes)
        because = f"{node.bindings['on'].node} gave {decision!r}: {taken}"  # type: ignore[union-attr]  # it is a Ref
        fact = StepFinished(
            run=self.run, step=node.name, key="", document="", status="done", because=because, outputs=(output,),
            cacheable=False, attempts=0,
        )  # fmt: skip
        self._add(node, fact)

    # over after attempts

    def finish(self, planned: Planned, done: Done, refused: str, attempts: int) -> str:
        """A step has run: check what its result is good under, and record it. Gives its status."""
        failpoint("step.stored")
        reason = self.because(planned, refused)
        conditions = self.conditions(planned, done)
        if conditions.reason:
            reason = "its result is" if reason == _LAST_NOT_SHARED else f"{reason};"
            reason += f" {_NOT_SHARED} {conditions.reason}"
        if done.error is None:
            self.outputs[planned.node.name] = done.outputs
        is_shared = not planned.opaque and not conditions.reason and done.error is None
        fact = self._fact(
            planned, status_of(done), reason, _outputs(planned.node, done.outputs), done, is_shared=is_shared
        )
        fact = replace(fact, reads=short_list(self.ws, conditions.reads), attempts=attempts)
        self._add(planned.node, fact, key=planned.key, planned=planned)
        return fact.status

    def finish_map(self, planned: Planned, value: Value | None, reason: str, usage: Usage, told: MapEnd) -> str:
        """A mapped step is over: its list is one value, good while what its items read is the same."""
        if value is not None:
            self.outputs[planned.node.name] = (value,)
        conditions = told.conditions
        if conditions.reason:
            reason += f"; not shared as a whole, since {conditions.reason}"
        is_shared = not planned.opaque and not conditions.reason and told.error is None
        values = () if value is None else (value,)
        done = Done(outputs=values, error=told.error, is_killed=told.is_killed, usage=usage)
        fact = self._fact(planned, status_of(done), reason, _outputs(planned.node, values), done, is_shared=is_shared)
        reads = short_list(self.ws, conditions.reads)
        self._add(planned.node, replace(fact, reads=reads, items=told.items), planned=planned)
        return fact.status

    def item(
        self, planned: Planned, place: int, done: Done, conditions: Conditions, *, because: str, attempts: int
    ) -> None:
        """An item has run."""
        failpoint("step.stored")
        is_shared = not planned.opaque and not conditions.reason and done.error is None
        name = item_name(planned.node.name, place)
        item = Item(
            item=place,
            key=planned.key if not planned.opaque else "",
            status=status_of(done),
            because=because + (f"; not shared, since {conditions.reason}" if conditions.reason else ""),
            outputs=tuple(_outputs(planned.node, done.outputs)),
            seconds=round(done.usage.seconds, 6),
            cpu_seconds=round(done.usage.cpu_seconds, 6),
            memory_peak_bytes=done.usage.memory_peak_bytes,
            log=self._log(name),
            error=done.error.message[:ERROR_LIMIT] if done.error else "",
            cacheable=is_shared,
            reads=short_list(self.ws, conditions.reads, ITEM_READS),
            call=planned.call,
            attempts=attempts,
        )
        self.recorder.add_item(planned.node.name, item, planned.key)

    def settle_item(self, planned: Planned, place: int, done: Done, *, is_cached: bool) -> None:
        """An item is over: whoever looks on is told."""
        status = "cached" if is_cached else status_of(done)
        self.journal.settle(item_name(planned.node.name, place), status, done.usage.seconds)

    def conditions(self, planned: Planned, done: Done) -> Conditions:
        """What a result is good under; why it cannot be shared, if something changed meanwhile or was out of sight."""
        if done.error is not None or planned.opaque:
            return Conditions()
        edited = self.keys.edited(planned.code)
        if edited:
            return Conditions(reason=f"{edited} was edited meanwhile")
        if done.trace is None:
            return Conditions(reason="its executor did not watch it")
        found = self.reads.of(done.trace, planned.code, planned.ambient)
        if found.reason.endswith(CHANGED):
            found = replace(found, reason=self._changed(planned.node.name, found.reason.removesuffix(CHANGED)))
        self.made(planned.node.name, found.reads)
        for path in done.trace.removed:
            maker = self._makers.get(self.reads.shown(path), planned.node.name)
            if maker != planned.node.name:  # it is made again by each run, and so is to be taken away by each
                return Conditions(reason=f"it takes {self.reads.shown(path)} away, which step {maker} made")
        return found

    def _changed(self, name: str, file: str) -> str:
        """Why a step that saw a file change has no result for others: with the step whose file it is."""
        maker = self._makers.get(file, name)
        return f"{file}{f', which step {maker} made,' if maker != name else ''}{CHANGED}"

    def made(self, name: str, reads: Sequence[tuple[str, str]]) -> None:
        """Remember which step of this run has made which file."""
        self._makers |= {what.removeprefix("made "): name for what, _ in reads if what.startswith("made ")}

    def because(self, planned: Planned, refused: str) -> str:
        """Why a step runs."""
        if planned.opaque:
            return f"not cached: {planned.opaque[0]}"
        before = self.cache.newest.get(planned.node.name)
        if before is None:
            return "first run"
        if refused and before.key == planned.key:
            return self._altered(refused, before)
        if before.key == planned.key and _NOT_SHARED in before.because:
            return _LAST_NOT_SHARED
        try:
            known = documents.read(self.ws.objects, before.document, before.step, before.key)
        except (NotFound, WorldError):
            return "its last key document was not there"
        return plan.because(known.document, planned.document, planned.labels)

    def _altered(self, refused: str, before: StepRecord) -> str:
        """Why a result does not hold; of a file that its step made with the step that altered it, if one did."""
        file = refused.removeprefix("file ").removesuffix(NOT_AS_LEFT)
        if not refused.endswith(NOT_AS_LEFT):
            return refused
        later = (other for name, other in self.cache.newest.items() if name != before.step and other.seq > before.seq)
        made = {other.step for other in later if self._has_altered(other, file)}
        made |= {self._makers.get(file, before.step)} - {before.step}
        return f"file {file} was altered by step {' and '.join(sorted(made))} since" if made else refused

    def _has_altered(self, other: StepRecord, file: str) -> bool:
        """Whether another step has written a file, or was seen to alter it in place."""
        in_place = (f"{_NOT_SHARED} {file}{CHANGED}", f"{_NOT_SHARED} {file}, which step ")
        if any(told in other.because for told in in_place):
            return True
        return any(what == f"made {file}" for what, _ in self.cache.reads_of(other))

    # facts

    def _fact(
        self,
        planned: Planned,
        status: str,
        because: str,
        outputs: Sequence[Output],
        done: Done,
        *,
        is_shared: bool = True,
    ) -> StepFinished:
        usage, gpu, prices = done.usage, planned.node.step.options.gpu, self.ws.project.run.cost
        has_run = status != "cached"
        money = cost.cost_of(usage, gpu, prices) if has_run else None
        return StepFinished(
            run=self.run,
            step=planned.node.name,
            key="" if planned.opaque else planned.key,
            document="",
            status=status,
            because=because,
            outputs=tuple(outputs),
            seconds=round(usage.seconds, 6),
            cpu_seconds=round(usage.cpu_seconds, 6),
            memory_peak_bytes=usage.memory_peak_bytes,
            log=self._log(planned.node.name) if has_run else "",
            error=done.error.message[:ERROR_LIMIT] if done.error else "",
            cacheable=is_shared,
            call=planned.call,
            read_bytes=usage.read_bytes,
            written_bytes=usage.written_bytes,
            energy_joules=round(cost.energy_joules(usage, gpu, prices), 6) if has_run else 0.0,
            cost=None if money is None else round(money, 9),
        )

    def _log(self, name: str) -> str:
        """The digest of what was printed; an empty log is taken away."""
        path = self.log_of(name)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return ""
        if size:
            return self.ws.objects.put_file(path)
        path.unlink(missing_ok=True)
        return ""

    def _add(self, node: StepNode, fact: StepFinished, *, key: str = "", planned: Planned | None = None) -> None:
        inputs = self.recorder.inputs(node, self.outputs)
        document = None if planned is None else planned.key_document()
        self.recorder.add(Written(node=node, fact=fact, inputs=inputs, document=document), key)
        self.journal.settle(fact.step, fact.status, fact.seconds)
        self._tell(fact)

    def _tell(self, fact: StepFinished | StepRecord) -> None:
        report = StepReport(
            step=fact.step,
            status=fact.status,
            because=fact.because,
            seconds=round(fact.seconds, 3),
            key=fact.key,
            items=fact.items,
            cpu_seconds=fact.cpu_seconds,
            memory_peak_bytes=fact.memory_peak_bytes,
            energy_joules=fact.energy_joules,
            cost=fact.cost,
            attempts=fact.attempts,
        )
        self.reports.append(report)
        if self._on_event is not None:
            self._on_event(report)


@frozen(kw_only=True)
class MapEnd:
    """How a mapped step ended: the conditions of all its items together, and the first failure."""

    items: int
    conditions: Conditions
    error: NoriaError | None = None
    is_killed: bool = False


def _outputs(node: StepNode, values: Sequence[Value]) -> list[Output]:
    return [
        Output(name=name, digest=value.digest, type=value.type, size_bytes=value.size_bytes)
        for name, value in zip(node.outputs, values, strict=False)
    ]


def _values(outputs: Sequence[Output]) -> tuple[Value, ...]:
    return tuple(Value(output.digest, output.type, output.size_bytes) for output in outputs)
