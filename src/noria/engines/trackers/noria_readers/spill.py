"""Runs of another tool's store in a form that no tool owns: written where that tool can be imported, read by Noria.

A folder with `runs.jsonl`, one run a line, `points.bin`, rows of (step, at in µs UTC, value) as little-endian
int64, int64 and float64, and files. The last line says that all of it was written. Python 3.9 is enough.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

__all__ = ["NOTE", "RunSpill", "Spill", "flat", "number", "parse_args", "safe_name", "within"]

ROW = struct.Struct("<qqd")
HELD_MAX = 100_000
"""Points in memory at once."""
LONG = 100_000
"""Letters of a param or a tag; a longer one is a file."""
NAME_MAX = 150
STEP_MAX = 2**62
NOTE = "mlflow.note.content"
"""The tag that holds what people wrote of a run."""


class Spill:
    """Everything of a store that is taken over, run by run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = (folder / "runs.jsonl").open("w", encoding="ascii")
        self._points = (folder / "points.bin").open("wb")
        self._notes: list[str] = []
        self._lost: list[list[str]] = []
        self._runs = 0

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *error: object) -> None:
        self._points.close()
        self._index.close()

    def run(self, id: str, origin: str, experiment: str) -> RunSpill:
        """Begin a run. `origin` tells it from another run with that id: what the store says of whose it is and when."""
        folder = self._folder / str(self._runs)
        folder.mkdir()
        self._runs += 1
        return RunSpill(self, folder, self._points, {"id": id, "origin": origin, "experiment": experiment})

    def add(self, doc: Mapping[str, Any]) -> None:
        """A run that is whole."""
        self._index.write(json.dumps(doc) + "\n")

    def note(self, what: str) -> None:
        """Something to know of the store that is no difference."""
        self._notes.append(_text(what))

    def lose(self, name: str, what: str) -> None:
        """Something of the store that is no run and cannot be taken."""
        self._lost.append([_text(name), _text(what)])

    def end(self, form: str) -> None:
        """All was read; `form` says what kind and version of a store it is."""
        last = {"form": form, "count": self._runs, "notes": self._notes, "left_out": self._lost}
        self._index.write(json.dumps({"end": last}) + "\n")


class RunSpill:
    """A run that is being read. Whatever is no param, tag or number becomes a file, or is named."""

    def __init__(self, spill: Spill, folder: Path, points: BinaryIO, doc: dict[str, Any]) -> None:
        self._spill = spill
        self._folder = folder
        self._points = points
        self.doc: dict[str, Any] = {
            **{key: _text(value) for key, value in doc.items()},
            "name": "",
            "user": "",
            "status": "FINISHED",
            "stage": "active",
            "started_ms": None,
            "ended_ms": None,
        }
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._files: dict[str, str] = {}
        self._written: dict[str, Path] = {}
        self._held: dict[str, list[tuple[int, int, float]]] = {}
        self._count = 0
        self._blocks: dict[str, list[list[int]]] = {}
        self._lost: dict[str, None] = {}
        self.last_us = 0

    def param(self, key: str, value: Any) -> None:
        """A param; what is no text is JSON."""
        self._keep(self._params, "params", key, _said(value))

    def tag(self, key: str, value: Any) -> None:
        """A tag; what is no text is JSON."""
        self._keep(self._tags, "tags", key, _said(value))

    def _keep(self, kept: dict[str, str], kind: str, key: str, value: str) -> None:
        key = _text(key)
        if len(value) > LONG:
            name = f"{kind}/{safe_name(key)}.txt"
            self.write(name, value.encode("utf-8"))
            value = f"{value[:200]}… ({len(value)} letters in {name})"
        kept[key] = value

    def point(self, key: str, step: int, at_us: int, value: float) -> None:
        """A point of a metric."""
        self.last_us = max(self.last_us, at_us)
        if not -STEP_MAX < step < STEP_MAX or not -STEP_MAX < at_us < STEP_MAX:
            self.lose(f"a point of {key} at step {step}")
            return
        self._held.setdefault(_text(key), []).append((step, at_us, value))
        self._count += 1
        if self._count >= HELD_MAX:
            self._flush()

    def _flush(self) -> None:
        for key, rows in self._held.items():
            self._blocks.setdefault(key, []).append([self._points.tell(), len(rows)])
            self._points.write(b"".join(ROW.pack(*row) for row in rows))
        self._held, self._count = {}, 0

    def value(self, folder: str, key: str, step: int, at_us: int, value: Any) -> None:
        """What was logged as a history and is no number: a line of a file of that key."""
        self.last_us = max(self.last_us, at_us)
        self.line(f"{folder}/{safe_name(key)}.jsonl", {"key": key, "step": step, "at_us": at_us, "value": value})

    def line(self, name: str, what: Any) -> None:
        """One more line of JSON in a file."""
        self._append(name, (json.dumps(what, default=str) + "\n").encode("ascii"))

    def write(self, name: str, content: bytes) -> None:
        """A file with this content."""
        self._append(name, content)

    def append(self, name: str, content: str) -> None:
        """More text in a file."""
        self._append(name, content.encode("utf-8", "replace"))

    def _append(self, name: str, content: bytes) -> None:
        path = self._written.get(name)
        if path is None:
            path = self._folder / str(len(self._written))
            self._written[name] = path
            self.file(name, path)
        with path.open("ab") as stream:
            stream.write(content)

    def has_file(self, name: str) -> bool:
        """Whether a file has that name already."""
        return name in self._files

    def file(self, name: str, path: Path) -> None:
        """A file that is there. One name has one file; the next gets a number. No name leads out of a folder."""
        parts = [part for part in _text(name).split("/") if part]
        name = "/".join(f"_{part}" if part in (".", "..") else part for part in parts) or "_"
        free, number = name, 2
        while free in self._files:
            free, number = f"{name}.{number}", number + 1
        self._files[free] = str(path)

    def file_of_store(self, name: str, path: Path, roots: Iterable[Path]) -> bool:
        """A file of the store: taken where it may be read, else named; gives whether it was."""
        try:
            found = path.resolve(strict=True)
        except (OSError, RuntimeError):
            self.lose(f"file {name}: it is not there ({path})")
            return False
        if not within(found, roots):
            self.lose(f"file {name}: {found} is outside the folders that may be read (--artifacts DIR names more)")
            return False
        if not found.is_file():
            self.lose(f"file {name}: {found} is no file")
            return False
        self.file(name, found)
        return True

    def lose(self, what: str) -> None:
        """Something of the run that cannot be taken: the report names it."""
        self._lost[_text(what)] = None

    def labels(self, labels: Iterable[str], tool: str) -> None:
        """Labels without a value are tags that are true, and one tag with the list of them."""
        found = [_text(each) for each in labels]
        for each in found:
            self.tag(each, "true")
        if found:
            self.tag(f"{tool}.tags", found)

    def end(self) -> None:
        """The run is whole."""
        self._flush()
        self._spill.add(
            {
                **{key: _text(value) if isinstance(value, str) else value for key, value in self.doc.items()},
                "params": self._params,
                "tags": self._tags,
                "files": self._files,
                "points": self._blocks,
                "left_out": list(self._lost),
            }
        )


def flat(value: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """(name, value) of the leaves of nested mappings, names joined by dots. What says its `_type` is one leaf."""
    for key, each in value.items():
        name = f"{before}.{key}" if before else str(key)
        if isinstance(each, Mapping) and each and "_type" not in each:
            yield from flat(each, name)
        else:
            yield name, each


def number(value: Any) -> float | None:
    """A value as the number that it is exactly; None for what is none."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, float):
        return value
    if isinstance(value, int) and abs(value) < 2**1000 and int(float(value)) == value:
        return float(value)
    return None


def within(path: Path, roots: Iterable[Path]) -> bool:
    """Whether a resolved path is in one of the resolved folders."""
    return any(root == path or root in path.parents for root in roots)


def safe_name(key: str) -> str:
    """A key as one part of a file's name."""
    name = quote(_text(key), safe=" .-_()[]{}=,")
    if len(name) > NAME_MAX:
        name = f"{name[:NAME_MAX]}-{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:12]}"
    return f"_{name}" if name.startswith(".") else name


def parse_args(words: list[str]) -> tuple[Path, Path, list[Path]]:
    """The store, the folder to write to, and the folders in which files may be."""
    return Path(words[0]).resolve(), Path(words[1]), [Path(each).resolve() for each in words[2:]]


def _said(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return json.dumps(value, default=str)


def _text(value: str) -> str:
    """A text that every database keeps: without half characters and zero bytes."""
    return str(value).encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
