"""What a run's attempts did, line by line, as it happens: for whoever takes the run up, and for those who look on.

The ledger holds what was decided; between an attempt's end and its fact a driver may be killed. So
the process that ran an attempt writes the result here first, with one write, and a later driver
takes it over instead of running the step again; of a small result that is not in the object store yet
the line has the bytes too. Lines survive the death of processes; a power cut
may take the newest, and those attempts are then made again. Nothing here is truth about the past:
without the file a run is only shown with less, and resumed with more work.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from noria.core import errors
from noria.core.errors import NoriaError, StepFailed
from noria.core.frozen import frozen, slotted
from noria.pipeline.executor import Done, Task, Usage
from noria.pipeline.outputs.values import Value
from noria.pipeline.watching.trace import trace_from
from noria.store.objects import disk_faults

__all__ = [
    "Begun",
    "Journal",
    "Left",
    "Seen",
    "Waits",
    "document_of",
    "done_from",
    "ended",
    "left_by",
    "place",
    "result_for",
    "result_of",
    "seen",
    "write",
]

NAME = "journal.jsonl"
_RESULT = b',"done":'
"""What comes before the result in a line of an end; a name cannot hold it, since its quotes are escaped."""


@frozen
class Begun:
    """An attempt that was begun: at which second since the epoch, and where it runs."""

    name: str
    attempt: int
    at: float


@frozen
class Waits:
    """A step that waits for its next attempt, of how many (0: of any number), until when, and after which error."""

    name: str
    attempt: int
    of: int
    at: float
    error: str


@slotted
class Left:
    """What a journal tells: results by attempt's name with the call they are of, and what was begun and is not over."""

    results: dict[str, tuple[str, Done]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)


@slotted
class Seen:
    """How far a run has come, as its journal tells whoever looks on.

    `parents` are the steps of the plan, each with those it waits for; `choices` are the nodes of it
    that stand for branches and take no time. `begun` are attempts that run, `over` steps and items
    that have ended, with their status and seconds; `maps` says how many items a mapped step has.
    `waiting` is what is between two attempts.
    `slots` is how many attempts run at once at most. `planned_at` is the second since the epoch of the plan.
    """

    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    choices: frozenset[str] = frozenset()
    slots: int = 1
    begun: dict[str, Begun] = field(default_factory=dict)
    over: dict[str, tuple[str, float]] = field(default_factory=dict)
    maps: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, Waits] = field(default_factory=dict)
    planned_at: float = 0.0


def place(state: Path, run: str) -> Path:
    """Where the journal of a run is."""
    return state / "runs" / run / NAME


def write(path: Path, line: Mapping[str, Any]) -> None:
    """Add one line that stands alone. Raises: StoreFull; StoreUnavailable.

    A writer that is killed within the call may leave a part of its line (the kernel looks for signals between
    pages), so each begins on a line of its own: what another process writes next is not lost with it.
    """
    content = b"\n" + json.dumps(line, separators=(",", ":")).encode() + b"\n"
    with disk_faults(path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            if os.write(handle, content) != len(content):
                raise OSError("the line was written in part")
        finally:
            os.close(handle)


class Journal:
    """The driver's side: says what was planned, begun and settled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_faults(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                _mend(path)

    def plan(self, parents: Mapping[str, Sequence[str]], choices: Sequence[str], slots: int) -> None:
        """What is to be done, from here on: see `Seen`."""
        write(self.path, {"steps": parents, "choices": choices, "slots": slots, "at": time.time()})

    def map(self, name: str, items: int) -> None:
        """A mapped step is begun, over so many items."""
        write(self.path, {"map": name, "items": items})

    def begin(self, name: str, attempt: int) -> None:
        """An attempt is about to run."""
        write(self.path, {"begun": name, "attempt": attempt, "at": time.time()})

    def wait(self, waits: Waits) -> None:
        """An attempt has failed, and another one follows after a pause."""
        told = {"attempt": waits.attempt, "of": waits.of, "at": waits.at, "error": waits.error}
        write(self.path, {"waits": waits.name, **told})

    def settle(self, name: str, status: str, seconds: float) -> None:
        """A step is over, for this run, or an item of a mapped one."""
        write(self.path, {"over": name, "status": status, "seconds": round(seconds, 3)})


def ended(path: Path, task: Task, done: Done) -> None:
    """The process of an attempt says what came of it, before it tells anybody."""
    write(path, {"ended": task.name, "call": task.call, "attempt": task.attempt, "done": document_of(done)})


def document_of(done: Done) -> dict[str, Any]:
    """As plain JSON."""
    told: dict[str, Any] = {"usage": asdict(done.usage), "where": done.where}
    if done.error is not None:
        error = done.error
        told["error"] = [type(error).__name__, error.message, error.where, error.hint]
        told["flags"] = [done.is_killed, done.is_preempted, done.is_lost]
    else:
        told["outputs"] = [[value.digest, value.type, value.size_bytes] for value in done.outputs]
        told["trace"] = None if done.trace is None else done.trace.document()
        if done.held:
            told["held"] = {name: base64.b64encode(content).decode("ascii") for name, content in done.held.items()}
    return told


def done_from(told: Mapping[str, Any]) -> Done:
    """The result of `document_of`."""
    usage = Usage(**told["usage"])
    if "error" in told:
        kind_name, message, where, hint = told["error"]
        kind: type[NoriaError] = getattr(errors, kind_name, StepFailed)
        is_killed, is_preempted, *lost = told["flags"]  # a journal of before has two
        error = kind(message, where=where, hint=hint)
        flags = {"is_killed": is_killed, "is_preempted": is_preempted, "is_lost": any(lost)}
        return Done(error=error, **flags, usage=usage, where=told["where"])
    outputs = tuple(Value(digest, kind, size) for digest, kind, size in told["outputs"])
    trace = None if told["trace"] is None else trace_from(told["trace"])
    held = {name: base64.b64decode(text) for name, text in told.get("held", {}).items()}
    return Done(outputs=outputs, usage=usage, trace=trace, where=told["where"], held=held)


def left_by(path: Path) -> Left:
    """Read a journal, up to a line that was cut off; an empty one if there is none."""
    found = Left()
    for line in _lines(path):
        if "begun" in line:
            found.begun.add(line["begun"])
        elif "ended" in line:
            found.results[line["ended"]] = (line["call"], done_from(line["done"]))
        elif "over" in line:
            found.begun.discard(line["over"])
    return found


def seen(path: Path) -> Seen | None:
    """How far the run has come; None if there is no journal here, or nothing was planned yet."""
    found: Seen | None = None
    for line in _lines(path, is_short=True):
        if "steps" in line:
            parents = {name: tuple(above) for name, above in line["steps"].items()}
            found = Seen(parents, frozenset(line["choices"]), line["slots"], planned_at=line["at"])
        elif found is None:
            continue
        elif "begun" in line:
            found.begun[line["begun"]] = Begun(line["begun"], line["attempt"], line["at"])
            found.over.pop(line["begun"], None)
            found.waiting.pop(line["begun"], None)
        elif "ended" in line:
            attempt = found.begun.get(line["ended"])
            if attempt is not None and attempt.attempt <= line["attempt"]:
                del found.begun[line["ended"]]
        elif "waits" in line:
            found.waiting[line["waits"]] = Waits(line["waits"], line["attempt"], line["of"], line["at"], line["error"])
        elif "map" in line:
            found.maps[line["map"]] = line["items"]
        elif "over" in line:
            found.begun.pop(line["over"], None)
            found.waiting.pop(line["over"], None)
            found.over[line["over"]] = (line["status"], line["seconds"])
    return found


def result_of(path: Path, name: str, attempt: int) -> Done | None:
    """What one attempt wrote before its process was gone; None if it did not come so far."""
    for line in _lines(path):
        if line.get("ended") == name and line["attempt"] == attempt:
            return done_from(line["done"])
    return None


def result_for(path: Path, name: str, call: str) -> Done | None:
    """What an attempt at a call gave, whichever it was; None if none came to a good end."""
    for line in _lines(path):
        if line.get("ended") == name and line["call"] == call and "outputs" in line["done"]:
            return done_from(line["done"])
    return None


def _lines(path: Path, *, is_short: bool = False) -> Iterator[dict[str, Any]]:
    """Each whole line; `is_short` leaves out what an attempt gave, which is most of a journal."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    for text in filter(None, content.split(b"\n")[:-1]):
        if is_short and text.startswith(b'{"ended":'):
            head, cut, _ = text.partition(_RESULT)
            text = head + b"}" if cut else text  # the same line, shorter
        with contextlib.suppress(ValueError):  # cut off by a full disk, a power cut or a kill
            yield json.loads(text)


def _mend(path: Path) -> None:
    """End a line that was cut off, so that the next one stands alone."""
    with path.open("r+b") as file:
        if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")
