"""The seam of executors: who runs the function of a step, and where. Three methods.

An executor runs one task and stores its outputs before it reports; it does not know of the ledger,
the cache or the graph. So the same step has the same key everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from noria.core.errors import NoriaError
from noria.pipeline.ambient import Ambient
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.step import StepNode
from noria.pipeline.trace import Trace
from noria.pipeline.values import Value
from noria.store.workspace import Workspace

__all__ = ["Done", "Executor", "Task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One step to run: `inputs` are stored values by parameter, `params` plain ones; `log` its live log file.

    `memory` holds values of this process by digest, so that an in-process executor need not read
    back what the step before has just made. Unless not `is_watched`, the executor calls the function
    through `call.perform` and reports what it was seen to read; without a trace nothing is cached.
    """

    ws: Workspace
    definition: PipelineDefinition
    node: StepNode
    arguments: Mapping[str, Any]
    ambient: Ambient
    log: Path
    memory: dict[str, Any]
    is_watched: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of a task: outputs in order, or the error; what it cost."""

    outputs: tuple[Value, ...] = ()
    error: NoriaError | None = None
    is_killed: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    trace: Trace | None = None


class Executor(Protocol):
    """Runs tasks. `submit` gives a handle, `poll` waits for it up to a time, `cancel` ends it."""

    def submit(self, task: Task) -> Any:
        """Begin a task; gives a handle for the other two."""
        ...

    def poll(self, handle: Any, timeout_s: float) -> Done | None:
        """What came of a task, or None while it runs; waits at most `timeout_s`."""
        ...

    def cancel(self, handle: Any) -> None:
        """End a task; what it has stored stays, its outputs are not used. Idempotent."""
        ...
