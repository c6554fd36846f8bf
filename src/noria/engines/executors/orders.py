"""One attempt as plain values: what a process that has not read the pipeline needs to have it run."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from noria.core.frozen import frozen
from noria.pipeline.attempt.arguments import document
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.executor import Task

__all__ = ["Editions", "Order", "order_from", "order_of"]


@frozen(kw_only=True)
class Order:
    """An attempt at a step of the pipeline that `root` and `pipeline` name, as it was read the `edition`th time.

    `own`: in a process of its own. `told` is what the worker is told (`noria.faces.step`); sizes are
    in bytes, times in seconds, `cpu` and `gpu` in cores and devices. `log` and `journal` are paths.
    """

    root: str
    pipeline: str
    edition: int
    name: str
    attempt: int
    where: str
    log: str
    journal: str
    own: bool
    cpu: float
    memory_bytes: int
    gpu: float
    timeout_s: float
    told: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """As plain JSON; `order_from` is the way back."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Editions:
    """Numbers the definitions that one executor is given: an edited pipeline is read anew, and is another one."""

    def __init__(self) -> None:
        self._number, self._newest = 0, None

    _newest: PipelineDefinition | None

    def of(self, definition: PipelineDefinition) -> int:
        """The number of a definition; one that is not the newest counts as new."""
        if definition is not self._newest:
            self._number, self._newest = self._number + 1, definition
        return self._number


def order_of(task: Task, edition: int) -> Order:
    """The order for a task. What it takes is in the object store when this returns, for another process to read."""
    task.ws.objects.settle()
    options = task.node.step.options
    told = {
        "step": task.node.name,
        "is_item": task.is_item,
        "name": task.name,
        "key": task.key,
        "call": task.call,
        "attempt": task.attempt,
        "bindings": {name: document(binding) for name, binding in task.bindings.items()},
        "pins": {name: asdict(pin) for name, pin in task.pins.items()},
        "seed": task.ambient.seed,
        "made_in": task.ambient.made_in,
        "is_shared": task.ambient.is_shared,
        "start": task.ambient.start,
        "roles": [[role.name, role.key, role.time, role.label] for role in task.ambient.roles],
        "is_watched": task.is_watched,
        "is_doubtful": task.is_doubtful,
        "log": str(task.log),
        "journal": None if task.journal is None else str(task.journal),
    }
    return Order(
        root=str(task.definition.root),
        pipeline=task.definition.name,
        edition=edition,
        name=task.name,
        attempt=task.attempt,
        where=task.node.step.where,
        log=str(task.log),
        journal="" if task.journal is None else str(task.journal),
        own=options.needs_own_process,
        cpu=options.cpu,
        memory_bytes=options.memory_bytes,
        gpu=options.gpu,
        timeout_s=options.timeout_s,
        told=told,
    )


def order_from(told: dict[str, Any]) -> Order:
    """The order of a document."""
    return Order(**told)
