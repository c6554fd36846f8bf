"""The process of one step: started by the pool executor, never by a person.

Reads the task from a file, the inputs from the object store, runs the project's function under
its memory limit, stores the outputs and writes the result file last. If the process dies, there
is no result file, and that is how the parent knows. If the parent dies, this process ends with all
that it started: nobody would take its result.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from noria.bootstrap import open_workspace
from noria.config import load_project
from noria.core.errors import NoriaError, StepFailed, StepKilled
from noria.faces.orphan import STDIN, on_parent_end
from noria.pipeline import values
from noria.pipeline.ambient import Ambient
from noria.pipeline.call import failure, outputs_of, perform
from noria.pipeline.define import load_pipeline
from noria.pipeline.executor import Task
from noria.pipeline.plain import from_json
from noria.pipeline.sources import project_on_path
from noria.pipeline.step import Const, DatasetRole
from noria.pipeline.values import Value

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the task of a file; exit 0 if a result was written, be it a failure."""
    (path,) = arguments if arguments is not None else sys.argv[1:]
    _follow_parent()
    spec: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    result: dict[str, Any]
    try:
        result = _run(spec)
    except NoriaError as error:
        told = {"message": error.message, "where": error.where, "hint": error.hint}
        result = {"error": {"type": type(error).__name__, **told}}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result |= {"cpu_seconds": time.process_time(), "memory_peak_bytes": usage.ru_maxrss * 1024}
    target = Path(spec["result"])
    part = target.with_suffix(".part")
    part.write_text(json.dumps(result), encoding="utf-8")
    part.replace(target)
    return 0


def _follow_parent() -> None:
    """End with the parent, which holds the other end of standard input; the step itself sees an empty one."""
    held, empty = os.dup(STDIN), os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, STDIN)
    os.close(empty)
    is_leader = os.getpgrp() == os.getpid()
    on_parent_end(lambda: os.killpg(0, signal.SIGKILL) if is_leader else os._exit(1), held)


def _run(spec: dict[str, Any]) -> dict[str, Any]:
    root = Path(spec["root"])
    ws = open_workspace(root)
    definition = load_pipeline(load_project(root), spec["pipeline"])
    node = definition.node(spec["step"])
    given: dict[str, Any] = {}
    for name, item in spec["arguments"].items():
        if "plain" in item:
            given[name] = from_json(item["plain"])
        elif "own" in item:
            binding = node.bindings[name]
            assert isinstance(binding, Const)
            given[name] = binding.value
        else:
            given[name] = values.read(ws.objects, Value(*item["value"]), root)
    ambient = Ambient(spec["seed"], tuple(DatasetRole(*role) for role in spec["roles"]), spec["made_in"])
    task = Task(
        ws=ws,
        definition=definition,
        node=node,
        arguments=given,
        ambient=ambient,
        log=Path(spec["log"]),
        memory={},
        is_watched=spec["is_watched"],
    )
    if spec["memory_bytes"]:
        _limit(int(spec["memory_bytes"]))
    try:
        with project_on_path(root):
            returned, trace = perform(task)
        stored = outputs_of(ws.objects, node, returned, memory={})
    except NoriaError:
        raise
    except MemoryError as error:
        limit = spec["memory_bytes"]
        text = f"step {node.name} ran out of its memory limit of {limit / 2**20:.0f} MiB" if limit else "out of memory"
        raise StepKilled(text, where=failure(error, task).where, hint="state a larger memory=") from error
    except Exception as error:  # the boundary to the project's code
        raise _traced(error, task) from error
    outputs = [{"digest": item.digest, "type": item.type, "size_bytes": item.size_bytes} for item in stored]
    return {"outputs": outputs, "trace": trace.document()}


def _traced(error: Exception, task: Task) -> StepFailed:
    """The failure, with its whole trace in the log."""
    sys.excepthook(type(error), error, error.__traceback__)
    found = failure(error, task)
    assert isinstance(found, StepFailed)
    return found


def _limit(memory_bytes: int) -> None:
    """Let this process take that much more private memory than it has now (Linux: VmData).

    Threads of numerical libraries reserve address space that they never touch, so the limit is on
    data, not on address space. Source: getrlimit(2), RLIMIT_DATA; proc(5), VmData in kB.
    """
    text = Path("/proc/self/status").read_text(encoding="ascii")
    used_kb = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmData:"))
    limit = used_kb * 1024 + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # libraries' exit handlers may need memory that the limit no longer gives
