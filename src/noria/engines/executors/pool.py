"""Runs a step in a process of its own: with a limit on memory and time, and out of harm's way.

A fresh interpreter reads the project, takes its inputs from the object store and stores its
outputs there, so nothing of this process is shared with it. Used by itself for steps that state
`memory=` or `timeout=`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noria.core import errors
from noria.core.errors import NoriaError, StepKilled
from noria.pipeline.executor import Done, Task
from noria.pipeline.plain import Unstorable, to_json
from noria.pipeline.step import Const
from noria.pipeline.trace import trace_from
from noria.pipeline.values import Value, store

__all__ = ["PoolExecutor"]

CHILD = "noria.faces.step"


@dataclass(slots=True)
class _Handle:
    """A child at work: its process, where it writes its result, and since when it runs."""

    task: Task
    process: subprocess.Popen[bytes]
    folder: tempfile.TemporaryDirectory[str]
    began: float
    is_timed_out: bool = False

    @property
    def result(self) -> Path:
        return Path(self.folder.name) / "result.json"

    def close(self) -> None:
        """Give back what an ended child leaves. Idempotent."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.folder.cleanup()


class PoolExecutor:
    """See `noria.pipeline.executor.Executor`."""

    def submit(self, task: Task) -> _Handle:
        """Start a child for the task."""
        folder = tempfile.TemporaryDirectory(prefix="noria-step-")
        handle_path = Path(folder.name)
        document = {
            "root": str(task.definition.root),
            "pipeline": task.definition.name,
            "step": task.node.name,
            "arguments": {name: _argument(task, name, value) for name, value in task.arguments.items()},
            "seed": task.ambient.seed,
            "made_in": task.ambient.made_in,
            "roles": [[role.name, role.key, role.time, role.label] for role in task.ambient.roles],
            "is_watched": task.is_watched,
            "memory_bytes": task.node.step.options.memory_bytes,
            "log": str(task.log),
            "result": str(handle_path / "result.json"),
        }
        spec = handle_path / "task.json"
        spec.write_text(json.dumps(document), encoding="utf-8")
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", CHILD, str(spec)],
                stdin=subprocess.PIPE,  # never written to: it ends with this process, and the child with it
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=task.definition.root,
            )
        return _Handle(task, process, folder, time.monotonic())

    def poll(self, handle: _Handle, timeout_s: float) -> Done | None:
        """What came of the child, or None while it runs. A child past its time limit is killed."""
        limit_s = handle.task.node.step.options.timeout_s
        left = limit_s - (time.monotonic() - handle.began) if limit_s else timeout_s
        try:
            code = handle.process.wait(timeout=max(0.0, min(timeout_s, left)))
        except subprocess.TimeoutExpired:
            if limit_s and time.monotonic() - handle.began >= limit_s:
                handle.is_timed_out = True
                self.cancel(handle)
                return self._ended(handle, handle.process.wait())
            return None
        return self._ended(handle, code)

    def cancel(self, handle: _Handle) -> None:
        """Kill the child and everything it started."""
        if handle.process.poll() is None:
            os.killpg(handle.process.pid, signal.SIGKILL)
            handle.process.wait()
        handle.close()

    def _ended(self, handle: _Handle, code: int) -> Done:
        seconds = time.monotonic() - handle.began
        node = handle.task.node
        try:
            found: dict[str, Any] = json.loads(handle.result.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Done(error=_killed(handle, code), is_killed=True, seconds=seconds)
        finally:
            handle.close()
        cost = {"cpu_seconds": found["cpu_seconds"], "memory_peak_bytes": found["memory_peak_bytes"]}
        if "error" in found:
            told = found["error"]
            kind: type[NoriaError] = getattr(errors, told["type"], errors.StepFailed)
            error = kind(told["message"], where=told["where"], hint=told["hint"])
            return Done(error=error, is_killed=kind is StepKilled, seconds=seconds, **cost)
        assert len(found["outputs"]) == len(node.outputs)
        outputs = tuple(Value(item["digest"], item["type"], item["size_bytes"]) for item in found["outputs"])
        return Done(outputs=outputs, seconds=seconds, trace=trace_from(found["trace"]), **cost)


def _argument(task: Task, name: str, value: Any) -> dict[str, Any]:
    """A plain argument as JSON; anything else as a stored value."""
    binding = task.node.bindings.get(name)
    if isinstance(binding, Const):
        try:
            return {"plain": to_json(value)}
        except Unstorable:
            if value is binding.value:
                return {"own": True}  # what JSON cannot say: the child takes the pipeline's own
    stored = store(task.ws.objects, value)
    return {"value": [stored.digest, stored.type]}


def _killed(handle: _Handle, code: int) -> StepKilled:
    node = handle.task.node
    if handle.is_timed_out:
        text = f"step {node.name} was stopped after its limit of {node.step.options.timeout_s:g} s"
        hint = "give it a longer timeout=, or less to do"
    elif code < 0:
        text = f"the process of step {node.name} was killed by {signal.Signals(-code).name}"
        hint = "out of memory, if nobody sent the signal: see dmesg, or state memory= to get a clear error"
    else:
        text, hint = f"the process of step {node.name} ended with exit code {code} and no result", f"{handle.task.log}"
    return StepKilled(text, where=node.step.where, hint=hint)
