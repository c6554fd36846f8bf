"""The seam of executors: who runs the function of a step, and where. Five methods.

An executor runs one attempt and stores its outputs before it reports; it does not know of the
ledger, the cache or the graph. So the same step has the same key everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from noria.core.errors import NoriaError
from noria.core.frozen import frozen
from noria.pipeline.ambient import Ambient
from noria.pipeline.bindings import Binding
from noria.pipeline.define import PipelineDefinition
from noria.pipeline.outputs.values import Value
from noria.pipeline.room import Capacity
from noria.pipeline.step import StepNode
from noria.pipeline.watching.trace import Trace
from noria.store.workspace import Workspace

if TYPE_CHECKING:
    from noria.data.records import DatasetVersion

__all__ = ["Capacity", "Done", "Executor", "Task", "Usage"]


def _nobody() -> None:
    """Nobody waits."""


@frozen(kw_only=True)
class Task:
    """One attempt at a step, or at one item of a mapped step.

    `bindings` are the step's, with stored values in the place of other nodes' outputs; whoever runs
    the task makes arguments of them (`arguments.resolved`). `pins` are the versions of the data sets.
    `name` is the node's, for one with `is_item` with the item's number behind it; `key` what its result is
    kept under, `call` what it is called within its run.
    `given` are values of this process by digest that nobody else will take, and `memory` learns the
    outputs, so that an in-process executor need not read back what the step before has just made;
    others leave both alone. Unless not `is_watched`, the function runs under watch
    and the executor reports what it was seen to read; without a trace nothing is cached.
    `is_alone` says that nothing else could run beside it now. `log` is its live log file: begun anew
    by the first attempt, continued by later ones. The result is written to `journal`, if one is
    given, before it is reported. `is_doubtful`: an attempt before this one was cut off, and may have come to
    its end all the same, so that its result is looked for first. `wake` is called, from any thread, when
    the task is over.
    """

    ws: Workspace
    definition: PipelineDefinition
    node: StepNode
    bindings: Mapping[str, Binding]
    pins: Mapping[str, DatasetVersion]
    ambient: Ambient
    log: Path
    name: str
    given: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    call: str = ""
    attempt: int = 1
    is_item: bool = False
    is_watched: bool = True
    is_alone: bool = True
    is_doubtful: bool = False
    journal: Path | None = None
    wake: Callable[[], None] = _nobody

    @property
    def kept_under(self) -> str:
        """Whose its checkpoints are: the key's, and where the result may not be shared, of this run alone."""
        return self.key if self.ambient.is_shared and self.key else f"{self.ambient.made_in}/{self.call or self.key}"

    @property
    def is_in_file(self) -> bool:
        """Whether another process can read the step: the pipeline is the one in the project's file, and it is in it.

        Noria's own steps, which a search or a reproduction puts in, are in no file of the project.
        """
        file = getattr(self.definition.module, "__file__", None)
        if not file or Path(str(file)) != (self.ws.project.root / self.ws.project.pipeline).resolve():
            return False
        return not str(self.node.step.function.__globals__.get("__name__", "")).startswith("noria.")


@frozen(kw_only=True)
class Usage:
    """What an attempt used: seconds by the wall and of processors, peak memory, bytes it read and wrote.

    The peak is that of this attempt, not of the process that ran it. Bytes are those asked of the
    system, from files, pipes and sockets, whether or not a disk was touched.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0


@frozen(kw_only=True)
class Done:
    """What came of an attempt: outputs in order, or the error; what it used.

    `held` are the bytes of outputs, by digest, that only this process has until its object store is settled.

    `is_killed`: its process died or was stopped. `is_preempted`: it was asked to leave (SIGTERM), so
    it is to be begun again without costing a retry. `is_lost`: its process was killed from outside, as far as one
    can see (SIGKILL): it is begun again too, a few times.
    """

    outputs: tuple[Value, ...] = ()
    error: NoriaError | None = None
    is_killed: bool = False
    is_preempted: bool = False
    is_lost: bool = False
    usage: Usage = Usage()
    trace: Trace | None = None
    where: str = ""
    held: Mapping[str, bytes] = field(default_factory=dict)


class Executor(Protocol):
    """Runs attempts. `submit` gives a handle, `poll` what came of it, `cancel` ends it.

    One thread calls these. An executor holds what it has started until `close`; nothing that it
    started outlives the process that asked for it.
    """

    def capacity(self) -> Capacity:
        """What there is for attempts; asked once, before anything runs."""
        ...

    def submit(self, task: Task) -> Any:
        """Begin an attempt; gives a handle for `poll` and `cancel`."""
        ...

    def poll(self, handle: Any, timeout_s: float) -> Done | None:
        """What came of an attempt, or None while it runs; waits at most `timeout_s`."""
        ...

    def cancel(self, handle: Any, *, grace_s: float = 0.0) -> None:
        """End an attempt, with `grace_s` as SIGTERM first; what it has stored stays. Idempotent."""
        ...

    def close(self) -> None:
        """Give everything back; what still runs is ended. Idempotent."""
        ...
