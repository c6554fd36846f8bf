"""The scheduler: brings a pipeline from its first ready step to the last fact, as much at once as there is room for.

One loop owns the state; executors run attempts, a watching thread keeps leases and hears who asks to
stop. `attempts.py` says which way a step goes. The loop never waits while it could do something, and
never holds back a result that another run may wait for: what is finished is written before it waits.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from noria.core.errors import Conflict, NoriaError, RunCancelled, RunEnded, RunPreempted, StepFailed
from noria.core.frozen import frozen, slotted
from noria.core.lazy import lazy
from noria.pipeline.attempt.arguments import Uses, filled
from noria.pipeline.bindings import Binding, Undecided
from noria.pipeline.caching.flight import Flights
from noria.pipeline.caching.keys import Planned
from noria.pipeline.caching.reads import Conditions
from noria.pipeline.driving import attempts
from noria.pipeline.driving.mapping import Mapped, items_of
from noria.pipeline.driving.pauses import Pauses
from noria.pipeline.driving.results import MapEnd, Results
from noria.pipeline.driving.resume import Earlier
from noria.pipeline.driving.schedule import Schedule
from noria.pipeline.driving.stopping import CANCELLED, GOES_ON, Stop
from noria.pipeline.executor import Done, Executor, Task
from noria.pipeline.facts import item_name
from noria.pipeline.outputs import values
from noria.pipeline.outputs.values import Value
from noria.pipeline.room import Need, Room, need_of
from noria.pipeline.step import StepNode
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    import random

    from noria.pipeline.attempt import checkpoint
else:
    random = lazy("random")
    checkpoint = lazy("noria.pipeline.attempt.checkpoint")  # most runs are never asked to leave

__all__ = ["Drive", "Manner"]

WAIT_S = 0.5
LOOK_AGAIN_S = 0.03
"""How often a step whose key another process holds looks whether it was given back."""
ASK_S = 1.0
"""How often who waits for another's step looks whether that process is stopped."""
OVERTAKEN_MAX = 20
"""So many attempts may begin before one that came first and needs more room."""


@frozen(kw_only=True)
class Manner:
    """How to execute: none of it changes a result. `window` bounds the items of one mapped step under way.

    `address` is where the executor finds its cluster, if it has one; "" lets it decide. For `stopped_s` a process
    is waited for that is at the same step and was stopped: a terminal or a debugger holds one for a moment.
    """

    executor: str = "auto"
    address: str = ""
    on_failure: str = "stop"
    workers: int = 0
    window: int = 0
    grace_s: float = 8.0
    stopped_s: float = 60.0


@slotted(eq=False)
class _Unit:
    """A step, or an item of a mapped one, on its way through the states of `attempts`."""

    name: str
    node: StepNode
    planned: Planned
    bindings: Mapping[str, Binding]
    need: Need
    refused: str = ""
    of: Mapped | None = None
    place: int = -1
    begun: int = 0
    failures: int = 0
    preemptions: int = 0
    losses: int = 0
    kept_under: str = ""
    kept: str = ""
    is_doubtful: bool = False
    handle: Any = None

    @property
    def right(self) -> str:
        """The key that must be held; "" for what is never shared."""
        return "" if self.planned.opaque else self.planned.key


class Drive:
    """The state of one execution."""

    def __init__(
        self,
        ws: Workspace,
        nodes: Mapping[str, StepNode],
        *,
        results: Results,
        flights: Flights,
        earlier: Earlier,
        executor: Executor,
        task: Task,
        manner: Manner,
    ) -> None:
        self._ws, self._nodes = ws, nodes
        self._results, self._keys, self._flights = results, results.keys, flights
        self._earlier, self._executor, self._manner = earlier, executor, manner
        self._task = task
        self._uses = Uses(task.definition)
        capacity = executor.capacity()
        if manner.workers:
            capacity = replace(capacity, slots=min(capacity.slots, manner.workers))
        self._room = Room(capacity)
        self._window = manner.window or 4 * capacity.slots
        self._schedule = Schedule({name: node.parents() for name, node in nodes.items()})
        self._queue: deque[_Unit] = deque()
        self._overtaken = 0
        self._blocked: list[_Unit] = []
        self._later: list[tuple[float, int, _Unit]] = []
        self._pauses = Pauses(results.journal)
        self._running: list[_Unit] = []
        self._maps: dict[str, Mapped] = {}
        self._in_hand: dict[str, _Unit] = {}
        self._woken = threading.Event()
        self._error: NoriaError | None = None
        self._asked = self._stopped_since = 0.0
        self.stop = Stop(self._woken.set)

    def run(self) -> None:
        """Go on until every step is over. Raises: the first failure; RunCancelled; RunPreempted."""
        self._results.journal.plan(
            {name: node.parents() for name, node in self._nodes.items()},
            [name for name, node in self._nodes.items() if node.cases],
            self._room.capacity.slots,
        )
        try:
            while not self._schedule.is_over:
                if self.stop.how:
                    self._leave()
                self._begin_ready()
                self._look_again()
                self._launch()
                self._collect()
            self._results.recorder.flush()
        except BaseException:
            self._pauses.close()
            for unit in self._running:
                if unit.handle is not None:  # else it was interrupted where it ran, in this process
                    self._executor.cancel(unit.handle)
            raise
        if self._error is not None:
            raise self._error

    def returned(self, value: Value) -> Any:
        """What a step of this process returned and nobody else took, by where it is stored; else None."""
        return self._uses.memory.get(value.digest)

    # ready

    def _begin_ready(self) -> None:
        while self._schedule.has_ready:
            node = self._nodes[self._schedule.take()]
            reason = self._why_not(node)
            if reason:
                self._pass_over(node, "skipped", reason)
            elif node.cases:
                self._choose(node)
            else:
                self._begin(node)
        for mapped in list(self._maps.values()):
            self._bring_in(mapped)

    def _why_not(self, node: StepNode) -> str:
        """Why a step is not to run; "" if it is."""
        for guard in node.guards:
            above = guard.on.node
            if self._schedule.over[above] not in ("done", "cached"):
                return f"{above} was {self._schedule.over[above]}, which decides whether it runs"
            decision = self._decision(guard.on.node, guard.on.output)
            if not guard.allows(decision):
                wanted = "anything else" if guard.label is None else repr(guard.label)
                return f"{above} gave {decision!r}, and this is for {wanted}"
        if self._error is not None and self._manner.on_failure == "stop":
            return f"the run was stopped: {self._error.message.partition(chr(10))[0][:160]}"
        missing = "" if node.cases else self._schedule.missing(node.name)
        return f"{missing} was {self._schedule.over[missing]}" if missing else ""

    def _decision(self, node: str, output: int) -> Any:
        value = self._results.outputs[node][output]
        if value.type != "plain":
            return Undecided(value.type)
        return values.read(self._ws.objects, value, self._task.definition.root)

    def _choose(self, node: StepNode) -> None:
        """Let the branch that was taken stand for all of them."""
        on = node.cases[0].on
        missing = self._schedule.over[on.node] not in ("done", "cached")
        decision = None if missing else self._decision(on.node, on.output)
        place = next((place for place, guard in enumerate(node.cases) if guard.allows(decision)), None)
        if missing:
            self._pass_over(node, "skipped", f"{on.node} was {self._schedule.over[on.node]}")
        elif place is None:
            labels = ", ".join(repr(guard.label) for guard in node.cases)
            error = StepFailed(
                f"step {on.node} gave {decision!r}, and no branch is called so", hint=f"branches: {labels}"
            )
            self._pass_over(node, "failed", error.message)
            self._fail(error)
        else:
            taken = node.bindings[f"case{place}"]
            name = taken.node  # type: ignore[union-attr]  # the result of a step: a Ref
            if self._schedule.over[name] in ("done", "cached"):
                self._results.choose(node, name, decision)
                self._schedule.settle(node.name, "done")
            else:
                self._pass_over(node, "skipped", f"{name} was {self._schedule.over[name]}")

    def _pass_over(self, node: StepNode, status: str, reason: str) -> None:
        self._results.pass_over(node, status, reason)
        self._schedule.settle(node.name, status)

    def _begin(self, node: StepNode) -> None:
        """Plan a step; take what there is of it already, else let it come to its right and its room."""
        began = monotonic()
        planned = self._keys.plan(node, self._results.outputs)
        kept = self._earlier.record(planned)
        if kept is not None:
            self._results.keep(kept)
            self._schedule.settle(node.name, kept.status)
        elif node.over:
            self._begin_map(node, planned, began)
        else:
            bindings = {name: filled(item, self._results.outputs) for name, item in planned.bindings.items()}
            need = need_of(node.step.options, self._room.capacity)
            self._enter(_Unit(node.name, node, planned, bindings, need))

    def _begin_map(self, node: StepNode, planned: Planned, began: float) -> None:
        found, refused = self._results.cache.find(planned)
        if found is not None:
            self._results.use(planned, found, monotonic() - began)
            self._schedule.settle(node.name, "cached")
            return
        reason = self._results.because(planned, refused)
        try:
            items = items_of(self._ws.objects, replace(node, bindings=planned.bindings), self._results.outputs)
        except StepFailed as error:
            self._pass_over(node, "failed", error.message)
            self._fail(error)
            return
        self._results.journal.map(node.name, len(items))
        self._maps[node.name] = Mapped(planned, items, reason)
        self._bring_in(self._maps[node.name])

    def _bring_in(self, mapped: Mapped) -> None:
        """Bring in items while the window has place for them; what is cached is over at once."""
        node = mapped.node
        while mapped.has_more and mapped.open < self._window:
            if self._error is not None and self._manner.on_failure == "stop":
                mapped.drop_rest()
                break
            units = []
            for place, item in mapped.take(self._window - mapped.open):
                planned = self._keys.plan(node, self._results.outputs, item)
                bindings = {name: filled(each, self._results.outputs) for name, each in planned.bindings.items()}
                need = need_of(node.step.options, self._room.capacity)
                name = item_name(node.name, place)
                units.append(_Unit(name, node.of_item(), planned, bindings, need, of=mapped, place=place))
            self._results.cache.expect([unit.right for unit in units if unit.right])
            for unit in units:
                self._enter(unit)
        self._close_map(mapped)

    def _close_map(self, mapped: Mapped) -> None:
        name = mapped.node.name
        if not mapped.is_over or name not in self._maps:
            return
        del self._maps[name]
        conditions = mapped.conditions()
        told = MapEnd(items=len(mapped.items), conditions=conditions, error=mapped.error, is_killed=mapped.is_killed)
        value = (
            mapped.value(self._ws.objects)
            if mapped.error is None and len(mapped.results) == len(mapped.items)
            else None
        )
        if value is None and mapped.error is None:
            self._pass_over(mapped.node, "cancelled", "the run was stopped before all of its items had run")
            return
        status = self._results.finish_map(mapped.planned, value, mapped.because, mapped.usage, told)
        self._schedule.settle(name, status)

    # held

    def _enter(self, unit: _Unit) -> None:
        """Take the right to a unit's key; then its result from the cache, or its place in the queue."""
        left = self._earlier.result(unit.name, unit.planned.call)
        unit.is_doubtful = unit.is_doubtful or self._earlier.was_begun(unit.name)
        if not unit.right:
            self._queue_or_finish(unit, left)
            return
        is_here = unit.right in self._in_hand or self._results.recorder.holds(unit.right)
        if is_here or not self._flights.take(unit.right):
            self._blocked.append(unit)
            return
        began = monotonic()
        found, unit.refused = self._results.cache.find(unit.planned)
        if found is None:
            self._in_hand[unit.right] = unit
            self._queue_or_finish(unit, left)
            return
        self._flights.release(unit.right)
        if unit.of is None:
            self._results.use(unit.planned, found, monotonic() - began)
            self._schedule.settle(unit.name, "cached")
        else:
            outputs = tuple(Value(each.digest, each.type, each.size_bytes) for each in found.outputs)
            conditions = Conditions(reads=tuple(self._results.cache.reads_of(found)))
            self._results.made(unit.node.name, conditions.reads)
            self._settle_item(unit, Done(outputs=outputs), conditions, is_cached=True)

    def _queue_or_finish(self, unit: _Unit, left: Done | None) -> None:
        if left is None:
            self._queue.append(unit)
        else:
            unit.begun = 1
            self._over(unit, left)

    def _look_again(self) -> None:
        """Units whose key was in other hands."""
        blocked, self._blocked = self._blocked, []
        for unit in blocked:
            self._enter(unit)
        now = monotonic()
        if not self._blocked:
            self._stopped_since = 0.0
        elif now - self._asked > ASK_S:
            self._asked = now
            self._require_moving(now)
        while self._later and self._later[0][0] <= now:
            unit = heapq.heappop(self._later)[2]
            self._pauses.end(unit.name)
            self._queue.append(unit)

    def _require_moving(self, now: float) -> None:
        """Nobody waits for ever for a process that is stopped. Raises: Conflict after `stopped_s`.

        It may be in a step, so nothing is taken from it: what it does would be done twice when it goes on.
        """
        stopped = [(unit, self._flights.stopped_holder(unit.right)) for unit in self._blocked if unit.right]
        found = next(((unit, pid) for unit, pid in stopped if pid), None)
        if found is None:
            self._stopped_since = 0.0
            return
        self._stopped_since = self._stopped_since or now
        if now - self._stopped_since > self._manner.stopped_s:
            unit, pid = found
            raise Conflict(
                f"step {unit.name} is under way in process {pid}, which is stopped and does not go on",
                hint=f"kill -CONT {pid} lets it go on; kill -9 {pid} ends it, and noria run --resume takes its place",
            )

    # running

    def _launch(self) -> None:
        """Begin what there is room for, first come first, with a bound on overtaking."""
        waiting: deque[_Unit] = deque()
        while self._queue and not self.stop.how:
            if waiting and self._overtaken >= OVERTAKEN_MAX:
                break
            unit = self._queue.popleft()
            if not self._room.take(unit.name, unit.need):
                waiting.append(unit)
                if self._room.running >= self._room.capacity.slots:
                    break
                continue
            self._overtaken = self._overtaken + 1 if waiting else 0
            self._submit(unit, self._is_alone(is_last=not (self._queue or waiting)))
        self._queue.extendleft(reversed(waiting))

    def _is_alone(self, *, is_last: bool) -> bool:
        """Whether nothing could run beside the unit that has just got its room."""
        if self._room.capacity.slots == 1:
            return True
        is_only = self._room.running == 1 and is_last and not (self._blocked or self._later)
        return is_only and not any(mapped.has_more for mapped in self._maps.values())

    def _submit(self, unit: _Unit, is_alone: bool) -> None:
        unit.begun += 1
        planned = unit.planned
        self._results.journal.begin(unit.name, unit.begun)
        self._running.append(unit)
        is_item = unit.of is not None
        first = unit.begun == 1 and not is_item
        task = replace(
            self._task,
            node=unit.node,
            bindings=unit.bindings,
            ambient=replace(
                planned.ambient, made_in=f"{self._results.run}/{unit.name}", key=planned.key, is_shared=bool(unit.right)
            ),
            log=self._results.log_of(unit.name),
            name=unit.name,
            given=self._uses.handed(unit.node, self._results.outputs) if first else {},
            memory={} if is_item else self._uses.memory,
            key=planned.key,
            call=planned.call,
            attempt=unit.begun,
            is_item=is_item,
            is_watched=not planned.opaque,
            is_alone=is_alone,
            is_doubtful=unit.is_doubtful,
            wake=self._woken.set,
        )
        unit.kept_under = task.kept_under
        self.stop.is_running_here = True
        try:
            unit.handle = self._executor.submit(task)
        finally:
            self.stop.is_running_here = False

    def _collect(self) -> None:
        """Wait for news, but not while something could begin, and take what is over."""
        self._results.recorder.flush_late()
        if not self._take_over() and self._must_wait():
            if self._results.recorder.has_news and (self._blocked or not self._running):
                self._results.recorder.flush()
                return
            self._woken.wait(self._patience_s())
            self._woken.clear()
            self._take_over()

    def _must_wait(self) -> bool:
        return not (self._schedule.has_ready or self.stop.how or self._schedule.is_over)

    def _patience_s(self) -> float:
        patience = LOOK_AGAIN_S if self._blocked else WAIT_S
        if self._later:
            patience = min(patience, max(0.0, self._later[0][0] - monotonic()))
        return patience

    def _take_over(self) -> bool:
        """Take what has ended; whether there was anything."""
        ended = []
        for unit in list(self._running):
            done = self._executor.poll(unit.handle, 0.0)
            if done is not None:
                self._running.remove(unit)
                self._room.give(unit.name)
                ended.append((unit, done))
        for unit, done in ended:
            self._ended(unit, done)
        return bool(ended)

    def _ended(self, unit: _Unit, done: Done) -> None:
        """An attempt is over: another one follows, or the step is over too."""
        unit.handle = None
        if done.is_preempted:
            kept = checkpoint.kept(self._ws, unit.kept_under)
            unit.preemptions = unit.preemptions + 1 if kept == unit.kept else 1
            unit.kept = kept
        unit.losses += done.is_lost
        unit.failures += attempts.is_failure(done, unit.losses, unit.preemptions)
        unit.is_doubtful = unit.is_doubtful or done.is_killed
        if done.is_preempted and self.stop.how:
            self._blocked.append(unit)  # it is begun again by whoever resumes the run
            return
        is_ending = self._error is not None and self._manner.on_failure == "stop"
        then = attempts.following(
            done,
            unit.node.step.options,
            failures=unit.failures,
            preemptions=unit.preemptions,
            losses=unit.losses,
            chance=random.Random().random(),  # not of the generator that steps may seed
        )
        if then.is_again and not is_ending:
            due = monotonic() + then.pause_s
            heapq.heappush(self._later, (due, id(unit), unit))
            which, most = unit.failures + 1, unit.node.step.options.retries + 1
            if then.is_preempted:  # as often as it is asked to leave
                which, most = unit.begun + 1, 0
            self._pauses.begin(unit.name, which, most, then.pause_s, done.error.message if done.error else "")
        elif done.error is not None:
            asked = unit.preemptions if done.is_preempted else 0
            error = attempts.counted(done.error, unit.failures, unit.node.step.options, preemptions=asked)
            self._over(unit, replace(done, error=error))
        else:
            self._over(unit, done)

    def _over(self, unit: _Unit, done: Done) -> None:
        """A unit has its last result."""
        if unit.of is not None:
            conditions = self._results.conditions(unit.planned, done)
            because = self._because_item(unit)
            self._results.item(unit.planned, unit.place, done, conditions, because=because, attempts=unit.begun)
            self._in_hand.pop(unit.right, None)
            if done.error is not None:
                self._fail(done.error)
            self._settle_item(unit, done, conditions)
            return
        status = self._results.finish(unit.planned, done, unit.refused, unit.begun)
        self._in_hand.pop(unit.right, None)
        self._schedule.settle(unit.name, status)
        if done.error is not None:
            self._fail(done.error)

    def _because_item(self, unit: _Unit) -> str:
        assert unit.of is not None
        if unit.planned.opaque:
            return f"not cached: {unit.planned.opaque[0]}"
        return unit.refused or (unit.of.because if unit.of.because != "its result was not there" else "a new item")

    def _settle_item(self, unit: _Unit, done: Done, conditions: Conditions, *, is_cached: bool = False) -> None:
        assert unit.of is not None
        self._results.settle_item(unit.planned, unit.place, done, is_cached=is_cached)
        unit.of.settle(unit.place, done, conditions)
        self._close_map(unit.of)

    # the end

    def _fail(self, error: NoriaError) -> None:
        """A step has failed for good: under "stop" nothing else begins, and what runs is cancelled."""
        if self._error is not None:
            return
        self._error = error
        if self._manner.on_failure != "stop":
            return
        self._results.recorder.flush()
        self._abandon("cancelled", f"{error.message.partition(chr(10))[0][:200]}")

    def _abandon(self, status: str, reason: str) -> None:
        """End what runs, and drop what waits. Each has its fact."""
        for unit in self._running:
            self._executor.cancel(unit.handle)
        running, self._running = self._running, []
        for unit in running:
            self._room.give(unit.name)
        dropped = [*running, *self._queue, *self._blocked, *(item for _, _, item in self._later)]
        self._queue.clear()
        self._blocked.clear()
        self._later.clear()
        self._pauses.close()
        for mapped in self._maps.values():
            mapped.drop_rest()
        for unit in dropped:
            self._in_hand.pop(unit.right, None)
            if unit.right:
                self._flights.release(unit.right)
            if unit.of is None:
                self._pass_over(unit.node, status, reason)
            else:
                unit.of.open -= 1
        for mapped in list(self._maps.values()):
            self._close_map(mapped)

    def _leave(self) -> None:
        """Somebody asked to stop: end or drain what runs, write what there is, and say so."""
        if self.stop.error is not None:  # the run is another process's: nothing more is written
            raise self.stop.error
        self._results.recorder.flush()
        raise self._cancelled() if self.stop.how == CANCELLED else self._preempted()

    def _cancelled(self) -> RunEnded:
        reason = "the run was cancelled"
        self._abandon("cancelled", reason)
        while self._schedule.has_ready:
            self._pass_over(self._nodes[self._schedule.take()], "skipped", reason)
        self._results.recorder.flush()
        return RunCancelled("the run was cancelled", hint=GOES_ON)

    def _preempted(self) -> RunEnded:
        """Let steps save what they have; those that do not end in time are ended."""
        grace_s = self._manner.grace_s
        for unit in self._running:
            self._executor.cancel(unit.handle, grace_s=grace_s)
        give_up = monotonic() + grace_s + WAIT_S
        while self._running and monotonic() < give_up:
            self._woken.wait(0.1)
            self._woken.clear()
            self._take_over()
        self._results.recorder.flush()
        return RunPreempted("the run was asked to leave by SIGTERM", hint="noria run --resume")
