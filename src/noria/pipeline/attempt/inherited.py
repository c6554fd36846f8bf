"""What a process that a step starts takes over from it: its seed and roles, and with whom checkpoints are kept.

A forked process has them as it has everything. A spawned one (multiprocessing, loky, `torch.multiprocessing`)
unpickles its process object; what `Inheritance` leaves in there sets them before its function is called.
Programs that a step starts (`subprocess`, `torchrun`) take nothing over.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing.process
from typing import Any

from noria.config import Project
from noria.pipeline import ambient
from noria.pipeline.ambient import Ambient
from noria.pipeline.attempt import checkpoint
from noria.pipeline.attempt.checkpoint import Keeper
from noria.store.workspace import Workspace

__all__ = ["Inheritance", "handing_on", "inherit"]

_NAME = "_noria_inherited"


class Inheritance:
    """An attribute of a process object: unpickling it makes the new process one of the step."""

    def __init__(self, around: Ambient | None, keeper: Keeper) -> None:
        """`around` is what the starting process has, `keeper` whom it keeps its checkpoints with."""
        ws = keeper.reach()
        self._given = (ws.project, ws.actor, around, keeper.name, keeper.starts())

    def __reduce__(self) -> tuple[Any, ...]:
        return inherit, self._given


def inherit(project: Project, actor: str, around: Ambient | None, name: str, process: str) -> None:
    """Take over, for the rest of this process. The workspace is opened when a checkpoint is kept or looked for."""
    ambient.surround(around)
    checkpoint.keep_with(Keeper(functools.cache(functools.partial(_opened, project, actor)), name, process))


@functools.cache
def handing_on() -> None:
    """From now on, processes that steps start in this one take over; those that others start are as they were."""
    start = multiprocessing.process.BaseProcess.start

    def started(process: Any) -> None:
        keeper = checkpoint.kept_with()
        if keeper is None:
            return start(process)
        kept = dict(vars(process))
        vars(process).clear()
        vars(process)[_NAME] = Inheritance(ambient.surroundings(), keeper)  # the first that is unpickled
        vars(process).update(kept)
        try:
            return start(process)
        finally:
            del vars(process)[_NAME]

    multiprocessing.process.BaseProcess.start = started  # type: ignore[method-assign, assignment]


def _opened(project: Project, actor: str) -> Workspace:
    """By name, since what opens workspaces is above: there is nobody in a new process who could hand one down."""
    found: Workspace = importlib.import_module("noria.bootstrap").open_workspace(project=project, actor=actor)
    return found
