"""The template of a pool of workers, and the workers that it forks: started by the pool executor, never by a person.

The template reads the project, with all that it imports, and then only forks. A worker takes one
task at a time from its own socket, runs it under its limits, with what it prints in the task's log,
and answers where the outputs are. When the process that asked is gone its sockets close: the template
ends, and each worker with all that it started, since nobody would take its result.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import io
import json
import os
import queue
import resource
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO

from noria.bootstrap import open_workspace
from noria.config import load_project
from noria.core.errors import NoriaError
from noria.data.records import DatasetVersion
from noria.faces.priority import follow
from noria.pipeline import generators
from noria.pipeline.ambient import Ambient
from noria.pipeline.attempt import call, journal
from noria.pipeline.attempt.arguments import bindings_from
from noria.pipeline.attempt.leave import leaving, on_sigterm
from noria.pipeline.define import PipelineDefinition, load_pipeline
from noria.pipeline.executor import Done, Task
from noria.pipeline.sources import project_on_path
from noria.pipeline.step import DatasetRole
from noria.store.workspace import Workspace

__all__ = ["main"]

STDOUT, STDERR = 1, 2
_END = None
RECORD_S = 60.0
"""So long a worker may take to write down what its step gave, when whoever asked for it is gone."""


def main(arguments: list[str] | None = None) -> int:
    """Read the project and fork a worker for each byte that comes, until the socket closes."""
    descriptor, root, pipeline = arguments if arguments is not None else sys.argv[1:]
    with socket.socket(fileno=int(descriptor)) as control:
        os.set_inheritable(control.fileno(), False)
        follow(is_forking=True)
        with project_on_path(Path(root).resolve()):
            try:
                definition = load_pipeline(load_project(Path(root)), pipeline)
            except NoriaError as error:
                _say(control, {"error": [error.message, error.where, error.hint]})
                return 0
            if "pandas" in sys.modules:
                importlib.import_module("pyarrow.pandas_compat")  # what tables pass between steps by
            gc.freeze()  # what is there already is not looked through, and so not copied, by workers
            return _fork_on_demand(control, definition)


def _fork_on_demand(control: socket.socket, definition: PipelineDefinition) -> int:
    woken, wake = os.pipe()
    for handle in (woken, wake):
        os.set_blocking(handle, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 1 << 12)
            _tell_deaths(control)
        if control.fileno() in ready:
            content, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not content:
                return 0
            (descriptor,) = descriptors
            pid = os.fork()
            if pid == 0:
                control.close()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(woken)
                os.close(wake)
                _worker(descriptor, definition)
            os.close(descriptor)
            _say(control, {"pid": pid})


def _tell_deaths(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say(control, {"died": pid, "status": status})


def _say(channel: socket.socket, told: dict[str, Any]) -> None:
    try:
        channel.sendall(json.dumps(told, separators=(",", ":")).encode() + b"\n")
    except OSError:  # nobody listens any more
        os._exit(1)


def _worker(descriptor: int, definition: PipelineDefinition) -> None:
    """The life of a worker. Does not return."""
    os.setsid()
    generators.forked()
    faulthandler.enable(STDERR)  # a crash of compiled code says in the step's log which line it was
    follow()
    code = 1
    try:
        channel = socket.socket(fileno=descriptor)
        os.set_inheritable(descriptor, False)
        tasks: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(channel, tasks), name="noria-tasks", daemon=True).start()
        ws = open_workspace(definition.root)
        with on_sigterm(lambda: tasks.put(_END)):
            while (told := tasks.get()) is not _END:
                done = _run(ws, definition, told)
                answer = {"done": journal.document_of(done), "leaves": leaving().is_asked}
                _answer(channel, answer)
                if leaving().is_asked:
                    break
        code = 0
    finally:
        if code:
            traceback.print_exc()
        _flush()
        os._exit(code)  # libraries' exit handlers may need memory that a limit no longer gives


def _receive(channel: socket.socket, tasks: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """Take tasks while the main thread works; when the other side is gone, end with all that was started."""
    try:
        with channel.makefile("rb") as lines:
            for line in lines:
                tasks.put(json.loads(line))
    except OSError:
        pass
    # A step that has come to its end has done to the world what it does: only on record it is not done again.
    leaving().wait_recorded(RECORD_S)
    os.killpg(0, signal.SIGKILL)


def _answer(channel: socket.socket, told: dict[str, Any]) -> None:
    try:
        channel.sendall(json.dumps(told, separators=(",", ":")).encode() + b"\n")
    except OSError:  # nobody takes it: what the step has started ends too
        os.killpg(0, signal.SIGKILL)


def _run(ws: Workspace, definition: PipelineDefinition, told: dict[str, Any]) -> Done:
    node = definition.node(told["step"])
    if told["is_item"]:
        node = node.of_item()
    task = Task(
        ws=ws,
        definition=definition,
        node=node,
        bindings=bindings_from(told["bindings"], node.bindings),
        pins={name: _pin(pin) for name, pin in told["pins"].items()},
        ambient=Ambient(
            told["seed"],
            tuple(DatasetRole(*role) for role in told["roles"]),
            told["made_in"],
            told["key"],
            told["is_shared"],
            told["start"],
        ),
        log=Path(told["log"]),
        name=told["name"],
        is_item=told["is_item"],
        key=told["key"],
        call=told["call"],
        attempt=told["attempt"],
        is_watched=told["is_watched"],
        is_doubtful=told["is_doubtful"],
        journal=None if told["journal"] is None else Path(told["journal"]),
    )
    if told["devices"] is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = told["devices"]
    _print_to(task.log)
    if node.step.options.memory_bytes:
        _limit(node.step.options.memory_bytes)
    done = call.run(task, is_apart=True)
    _flush()
    ctypes.CDLL(None).fflush(None)  # what compiled code has printed may be in the C library still
    _print_to(Path(os.devnull))
    return done


def _pin(told: dict[str, Any]) -> DatasetVersion:
    return DatasetVersion(**{**told, "columns": tuple((name, kind, null) for name, kind, null in told["columns"])})


def _print_to(path: Path) -> None:
    """Let this process and what it starts print to a file, whole lines at once, whatever a step before did to it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for wanted in (STDOUT, STDERR):
        if handle == wanted:  # a step closed it, and the file has got its number
            os.set_inheritable(handle, True)
        else:
            os.dup2(handle, wanted)
    if handle not in (STDOUT, STDERR):
        os.close(handle)
    sys.stdout, sys.stderr = _stream(sys.__stdout__, STDOUT), _stream(sys.__stderr__, STDERR)


def _stream(known: TextIO | None, number: int) -> TextIO:
    """The stream of the interpreter, or another one if that was closed. What has no form in UTF-8 is escaped."""
    if not isinstance(known, io.TextIOWrapper) or known.closed:
        return open(number, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    known.reconfigure(errors="backslashreplace", line_buffering=True)
    return known


def _flush() -> None:
    """What a step printed is on its way; it may have put other streams in their place, or closed them."""
    for stream in {id(each): each for each in (sys.__stdout__, sys.__stderr__, sys.stdout, sys.stderr)}.values():
        if stream is not None and not stream.closed:
            stream.flush()


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
    os._exit(code)
