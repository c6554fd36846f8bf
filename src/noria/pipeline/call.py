"""What executors share: calling a step under watch, storing what it returned, and telling why it failed."""

from __future__ import annotations

import traceback
import typing
from typing import TYPE_CHECKING, Any

from noria.core.errors import ProjectError, StepFailed
from noria.pipeline import sources, values
from noria.pipeline.ambient import around
from noria.pipeline.step import StepNode
from noria.pipeline.trace import Trace, watch
from noria.pipeline.values import Unstorable, Value
from noria.store.objects import Objects

if TYPE_CHECKING:
    from noria.pipeline.executor import Task

__all__ = ["failure", "outputs_of", "perform"]

MESSAGE_LIMIT = 300


def perform(task: Task) -> tuple[Any, Trace]:
    """Call a step with its arguments, in its surroundings; what it returned, and what it was seen to read."""
    with around(task.ambient):
        if not task.is_watched:
            return task.node.step.function(**task.arguments), Trace()
        with watch(task.definition.root, task.ws.project.state) as seen:
            returned = task.node.step.function(**task.arguments)
        return returned, seen.trace()


def outputs_of(objects: Objects, node: StepNode, result: Any, *, memory: dict[str, Any]) -> tuple[Value, ...]:
    """Store what a step returned, one value per declared output; `memory` learns them by digest.

    Raises: StepFailed if it is not what the step's annotation says, or cannot be kept without loss.
    """
    hints = node.step.output_types()
    parts = (result,) if len(node.outputs) == 1 else result
    if len(node.outputs) > 1 and (not isinstance(result, tuple) or len(result) != len(node.outputs)):
        raise StepFailed(
            f"step {node.name} returned {_described(result)}, not the {len(node.outputs)} values of its annotation",
            where=node.step.where,
        )
    found = []
    for name, hint, part in zip(node.outputs, hints, parts, strict=True):
        expected = typing.get_origin(hint) or hint
        if isinstance(expected, type) and expected.__module__ != "inspect" and not _fits(part, expected):
            raise StepFailed(
                f"step {node.name} returned {_described(part)} where its annotation says {expected.__name__}",
                where=node.step.where,
            )
        try:
            stored = values.store(objects, part)
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
    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if sources.is_project_file(frame.filename, task.definition.root):
            where = f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line or ''}".rstrip(": ")
    lines = str(error).strip().splitlines()
    text = lines[0][:MESSAGE_LIMIT] if lines else ""
    return StepFailed(
        f"step {task.node.name} raised {type(error).__name__}{': ' if text else ''}{text}",
        where=where or task.node.step.where,
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
