"""The log of a recording on the local disk: what it holds, and how it is read back.

A recording is a folder `.noria/recording/<run>`: `begin.json` when it begins, `context.json` with its code
and environment, `end.json` when it is over, and one append log for each process that logs. A line is on
record in the file before the call that logged it returns, so it outlives the process; a thread syncs the
file, so that it outlives the machine. A line's place is its number: what is sent up to a byte is sent once.
Nothing here knows of the ledger.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any

from noria.core.errors import Corrupt
from noria.core.frozen import slotted
from noria.core.lazy import lazy
from noria.store.linelog import read_lines
from noria.store.objects import disk_faults

__all__ = [
    "FOLDER",
    "Batch",
    "Points",
    "document",
    "encode",
    "encode_columns",
    "holding",
    "is_step",
    "keep",
    "logs",
    "parse",
    "pending",
    "plain",
    "recordings",
    "staged_in",
]

msgspec_json = lazy("msgspec.json")

FOLDER = "recording"
BATCH_BYTES = 8 << 20
"""How much of a log goes into one batch, at most."""
TEXTS_BYTES = 200_000
"""A batch ends when its texts and its metrics' names come to this much: a fact is limited."""
LETTER_BYTES = 6
SUMMARY_BYTES = 200
"""What a letter, and the summary of a metric, may take in a fact."""


@slotted
class Points:
    """Points of one metric in columns. As tuples they would be as many objects for the garbage collector."""

    steps: list[int] = field(default_factory=list)
    at_us: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.steps)


@slotted
class Batch:
    """The lines of a log from one byte to another, put together."""

    upto: int
    lines: int = 0
    points: dict[str, Points] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    artifacts: list[tuple[str, str, int, str]] = field(default_factory=list)
    datasets: list[tuple[str, str]] = field(default_factory=list)
    models: list[tuple[str, str, str, int, bool]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def encode(kind: str, *values: Any) -> bytes:
    """One line. Numbers that are not finite become texts: JSON has no word for them."""
    line: bytes = msgspec_json.encode([kind, *values])
    return line


def encode_columns(points: Sequence[tuple[str, int, int, float | str]]) -> bytes:
    """One line of points that have times of their own, as (name, step, at in µs, value): columns for each name.

    A line for each time would take twenty times as long to write, and as long to read.
    """
    found: dict[str, tuple[list[int], list[int], list[float | str]]] = {}
    for name, step, at_us, value in points:
        columns = found.get(name)
        if columns is None:
            columns = found[name] = ([], [], [])
        columns[0].append(step)
        columns[1].append(at_us)
        columns[2].append(value)
    return encode("c", [(name, *columns) for name, columns in found.items()])


def number(value: float) -> float | str:
    """A metric's value as a line holds it."""
    return value if math.isfinite(value) else repr(value)


def is_step(value: int) -> bool:
    """Whether a point can lie there: a series has steps of 64 bits."""
    return -(1 << 63) <= value < 1 << 63


def plain(text: str) -> str:
    """A text as every database can hold it: half a surrogate pair becomes `?`, U+0000 becomes U+FFFD."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "\ufffd") if "\0" in text else text


def parse(path: Path, start: int) -> Batch:
    """The next batch of a log, from a byte on; without lines if there is nothing more. Raises: Corrupt."""
    payloads, _ = read_lines(path, start, limit_bytes=BATCH_BYTES)
    batch = Batch(upto=start)
    texts = names = 0
    for payload in payloads:
        try:
            kind, *values = msgspec_json.decode(payload)
            _take(batch, kind, values)
        except (ValueError, TypeError) as error:
            raise Corrupt(f"a line of a recording cannot be read: {error}", where=str(path)) from error
        batch.lines += 1
        batch.upto += len(payload) + 10  # the checksum, a blank and the newline of a line log
        known = len(batch.points)
        if kind not in ("m", "c"):
            texts += len(payload)
        elif known > names:
            texts += sum(len(each[0]) * LETTER_BYTES + SUMMARY_BYTES for each in values[-1])
            names = known
        if texts > TEXTS_BYTES:
            break
    return batch


def _take(batch: Batch, kind: str, values: list[Any]) -> None:
    """Put a line into the batch. What no store takes, which logs of earlier builds may hold, holds up nothing else."""
    if kind == "m":
        at_us, pairs = values
        for name, step, value in pairs:
            _add(batch, plain(name), step, at_us, value)
    elif kind == "c":
        for name, steps, at, numbers in values[0]:
            if not len(steps) == len(at) == len(numbers):
                raise ValueError("columns of unequal length")
            if all(map(is_step, steps)):
                found = _points(batch, plain(name))
                found.steps.extend(steps)
                found.at_us.extend(at)
                found.values.extend(map(float, numbers))
            else:
                for each in zip(steps, at, numbers, strict=True):
                    _add(batch, plain(name), *each)
    elif kind in ("p", "t"):
        texts = batch.params if kind == "p" else batch.tags
        texts.update((plain(name), plain(text)) for name, text in values[0].items())
    elif kind == "n":
        batch.notes.append(plain(values[0]))
    elif kind == "a":
        name, digest, size, type_ = values
        batch.artifacts.append((plain(name), digest, size, type_))
    elif kind == "i":
        ref, context = values
        batch.datasets.append((ref, context))
    elif kind == "o":
        model, bundle, tree, size, is_registered = values
        batch.models.append((model, bundle, tree, size, is_registered))
    elif kind == "x":
        batch.problems.append(plain(values[0]))
    else:
        raise ValueError(f"kind {kind!r}")


def _add(batch: Batch, name: str, step: int, at_us: int, value: float) -> None:
    if is_step(step):
        found = _points(batch, name)
        found.steps.append(step)
        found.at_us.append(at_us)
        found.values.append(float(value))
    else:
        batch.problems.append(f"the metric {name!r} has a point at a step beyond 64 bits: left out")


def _points(batch: Batch, name: str) -> Points:
    found = batch.points.get(name)
    if found is None:
        found = batch.points[name] = Points()
    return found


def recordings(state: Path) -> list[Path]:
    """The folders of what is recorded here and not wholly sent, oldest first."""
    folder = state / FOLDER
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if (path / "begin.json").is_file())


def logs(folder: Path) -> list[Path]:
    """The logs of a recording, that of its own process first."""
    return sorted(folder.glob("*.log"))


def pending(folder: Path, sent: Mapping[str, int]) -> int:
    """The bytes of a recording that are not sent yet; `sent` says how far each log is."""
    return sum(max(0, path.stat().st_size - sent.get(path.stem, 0)) for path in logs(folder))


def staged_in(folder: Path) -> Path:
    """Where a recording keeps its objects when the project's own store is not on this machine."""
    return folder / "objects"


def document(folder: Path, name: str) -> dict[str, Any] | None:
    """What `begin`, `context` or `end` says; None if it is not there."""
    try:
        found = json.loads((folder / f"{name}.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Corrupt(f"{name}.json of a recording cannot be read: {error}", where=str(folder)) from error
    assert isinstance(found, dict), "written by keep"
    return found


def keep(folder: Path, name: str, said: Mapping[str, Any]) -> None:
    """Write `begin`, `context` or `end`: whole or not at all, and on disk before this returns."""
    with disk_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}-{os.getpid()}"
        with temporary.open("wb") as stream:
            stream.write(json.dumps(said).encode())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(folder / f"{name}.json")


@contextmanager
def holding(folder: Path) -> Iterator[bool]:
    """Be the one process that sends a recording; False if another is at it, or it is gone."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield (folder / "begin.json").is_file()
    finally:
        os.close(handle)
