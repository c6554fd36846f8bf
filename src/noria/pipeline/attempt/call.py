"""What executors share: calling a step under watch, storing what it returned, and telling why it failed, measured."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

from noria.core.errors import NoriaError, NotFound, ProjectError, StepFailed, StepKilled, WorldError
from noria.core.printable import error_line
from noria.pipeline import generators, sources
from noria.pipeline.ambient import Preempted, around
from noria.pipeline.attempt import journal
from noria.pipeline.attempt.arguments import resolved
from noria.pipeline.attempt.checkpoint import Keeper, keeping
from noria.pipeline.attempt.exits import Left, called
from noria.pipeline.attempt.inherited import handing_on
from noria.pipeline.attempt.leave import leaving
from noria.pipeline.attempt.measure import Meter
from noria.pipeline.caching.flight import alone
from noria.pipeline.executor import Done, Task
from noria.pipeline.outputs import values
from noria.pipeline.outputs.values import Unstorable, Value
from noria.pipeline.step import StepNode
from noria.pipeline.watching.trace import Trace
from noria.pipeline.watching.watch import watch
from noria.store.failpoint import failpoint
from noria.store.objects import Objects

__all__ = ["failure", "outputs_of", "perform", "preempted", "run"]


def run(task: Task, *, is_apart: bool = False) -> Done:
    """Run an attempt in this process: whatever the step does, what came of it is a result.

    What it prints through Python goes to its log. The result is in the journal before it is given.

    Args:
        is_apart: no terminal interrupts this process: KeyboardInterrupt is the step's own, and its failure.
    Raises: KeyboardInterrupt, if not `is_apart`; WorldError if the log or the journal cannot be written.
    """
    with _one_at_a_time(task):
        if task.is_doubtful and (ended := _ended_before(task)) is not None:
            return ended
        failpoint("attempt.begun")
        meter = Meter()
        keeper = Keeper(lambda: task.ws, task.kept_under)
        handing_on()
        try:
            with keeping(keeper):
                done = _done(task, is_apart=is_apart)
            done = replace(done, usage=meter.read(), where=f"process {os.getpid()}")
            if task.journal is not None:
                journal.ended(task.journal, task, done)
        finally:
            leaving().recorded()
        failpoint("attempt.ended")
        if done.error is None:
            keeper.forget()
    return done


def _one_at_a_time(task: Task) -> contextlib.AbstractContextManager[None]:
    """Equal results are made by one process at a time; what has no key is one attempt of its run at a time."""
    name = task.key or (f"{task.journal}/{task.name}" if task.journal is not None else "")
    return alone(task.ws.project.state, name) if name else contextlib.nullcontext()


def _ended_before(task: Task) -> Done | None:
    """What an attempt that was given up has made after all. Nobody else runs it now: no more will come."""
    if task.journal is None:
        return None
    found = journal.result_for(task.journal, task.name, task.call)
    if found is None:
        return None
    try:
        for content in found.held.values():
            task.ws.objects.put_soon(content)
        for output in found.outputs:
            task.ws.objects.require(output.digest)
    except (NotFound, WorldError):
        return None  # its objects are gone: it is made again
    return found


def _done(task: Task, *, is_apart: bool) -> Done:
    node = task.node
    try:
        returned, trace = perform(task)
        outputs = outputs_of(task.ws.objects, node, returned, root=task.definition.root, memory=task.memory)
        held = task.ws.objects.held(value.digest for value in outputs)
        return Done(outputs=outputs, trace=trace, held=held)
    except Preempted:
        return Done(error=preempted(task), is_killed=True, is_preempted=True)
    except Left as raised:
        return _left(task, raised)
    except NoriaError as raised:
        return Done(error=raised)
    except MemoryError as raised:
        return _out_of_memory(task, raised)
    except BaseException as raised:  # the boundary to the project's code, which may raise anything
        if isinstance(raised, KeyboardInterrupt) and not is_apart:
            raise
        traceback.print_exception(raised, file=sys.stderr)
        return Done(error=failure(raised, task))


def perform(task: Task) -> tuple[Any, Trace]:
    """Call a step with its arguments, in its surroundings; what it returned, and what it was seen to read."""
    arguments = resolved(task)
    generators.begin(task.ambient.start)
    before = generators.states() if task.is_watched else {}
    with around(task.ambient):
        if not task.is_watched:
            with leaving().calling():
                return called(task.name, task.log, task.node.step.function, arguments), Trace()
        with watch(task.definition.root, task.ws.project.state) as seen, leaving().calling():
            returned = called(task.name, task.log, task.node.step.function, arguments)
        seen.gave(returned)
        # Of what worker processes of the step draw, only what they began with is known: any of the generators.
        for name in generators.NAMES if seen.has_workers else generators.drawn(before):
            seen.add("lookups", f"generator {name}")
        return returned, seen.trace()


def _left(task: Task, raised: Left) -> Done:
    """The same as if the step had had a process of its own, and ended that."""
    traceback.print_exception(raised, file=sys.stderr)
    text = f"step {task.name} ended its process with os._exit({raised.status}) and gave no result"
    where = failure(raised, task).where
    return Done(error=StepKilled(text, where=where, hint="return a result, or raise an error"), is_killed=True)


def _out_of_memory(task: Task, raised: MemoryError) -> Done:
    limit = task.node.step.options.memory_bytes
    where = failure(raised, task).where
    if not limit:
        hint = "give the step less at once, or run it where there is more memory"
        return Done(error=StepFailed(f"step {task.name} ran out of memory", where=where, hint=hint))
    text = f"step {task.name} ran out of its memory limit of {limit / 2**20:.0f} MiB"
    return Done(error=StepKilled(text, where=where, hint="state a larger memory="), is_killed=True)


def preempted(task: Task) -> StepKilled:
    """What is told of an attempt that was asked to leave."""
    return StepKilled(
        f"step {task.name} was asked to leave by SIGTERM", where=task.node.step.where, hint="noria run --resume"
    )


def outputs_of(
    objects: Objects, node: StepNode, result: Any, *, root: Path, memory: dict[str, Any]
) -> tuple[Value, ...]:
    """Store what a step returned, one value per declared output; `memory` learns them by digest.

    Raises: StepFailed if it is not what the step's annotation says, or cannot be kept without loss.
    """
    hints = node.step.output_types()
    parts = (result,) if len(node.outputs) == 1 else result
    if len(node.outputs) > 1 and (not isinstance(result, tuple) or len(result) != len(node.outputs)):
        raise StepFailed(
            f"step {node.name} returned {_described(result)}, not the {len(node.outputs)} values of its annotation",
            where=node.step.where,
            hint="return a tuple of as many values, or change the annotation",
        )
    found = []
    for name, hint, part in zip(node.outputs, hints, parts, strict=True):
        expected = typing.get_origin(hint) or hint
        if isinstance(expected, type) and expected.__module__ != "inspect" and not _fits(part, expected):
            raise StepFailed(
                f"step {node.name} returned {_described(part)} where its annotation says {expected.__name__}",
                where=node.step.where,
                hint="return what the annotation says, or change it",
            )
        try:
            stored = values.store(objects, part, root=root, is_soon=True)
        except Unstorable as error:
            raise StepFailed(
                f"{name} of step {node.name} cannot be stored: {error.reason}",
                where=node.step.where,
                hint=error.hint or "return a table, an array, an estimator or plain values",
            ) from error
        memory[stored.digest] = part
        found.append(stored)
    return tuple(found)


def failure(error: BaseException, task: Task) -> ProjectError:
    """The failure of a step: kind and first line of the error, last frame of the project's own code."""
    return StepFailed(
        f"step {task.name} raised {error_line(error)}",
        where=sources.failed_at(error, task.definition.root) or task.node.step.where,
        hint=f"the whole trace: {task.log}",
    )


def _fits(value: Any, expected: type) -> bool:
    if expected in (float, complex) and type(value) is int:
        return True
    if expected is type(None):
        return value is None
    try:
        return isinstance(value, expected)
    except TypeError:  # a protocol or a generic that cannot be asked
        return True


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
