"""What the processes of a capture told, put together: files, code, fits, metrics, models.

Events are lines that were written one by one, so the last may be cut by a kill. What ran inside another
recorded call (the fits of a search, in whatever process) is part of that call.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from noria.core.errors import WorldError
from noria.core.frozen import frozen

__all__ = ["Captured", "FileRead", "Fit", "Listed", "MetricCall", "ModelSeen", "Scored", "collect", "has_begun"]

NOTES_LIMIT = 20


@frozen(kw_only=True)
class FileRead:
    """A file that was read: its mark then, where its content was set aside, or why it is lost."""

    path: str
    mark: tuple[int, int, int]
    kept: str = ""
    lost: str = ""


@frozen(kw_only=True)
class Listed:
    """A folder that was listed: (name, whether it is a folder, size, time) of what it held by itself, in its order."""

    path: str
    entries: tuple[tuple[str, bool, int, int], ...]


@frozen(kw_only=True)
class Fit:
    """One fit. `kept` is the file with a few of its rows, `after` the transformer whose output it took."""

    number: int
    name: str
    module: str
    seconds: float
    rows: int | None
    width: int | None
    columns: tuple[str, ...]
    label: str
    params: Mapping[str, Any]
    curves: Mapping[str, Sequence[float]]
    kept: str = ""
    after: str = ""
    is_model: bool = True
    at: float = 0.0


@frozen(kw_only=True)
class MetricCall:
    """A metric with its name as the run keeps it, its values in order, and the fit that it is of (0: unknown)."""

    name: str
    values: tuple[float, ...]
    number: int
    at: float = 0.0


@frozen(kw_only=True)
class ModelSeen:
    """A model that was written to a file, or that a variable held at the end; `kept` is where it can be loaded from."""

    name: str
    number: int
    kept: str
    path: str = ""
    variable: str = ""


@frozen(kw_only=True)
class Scored:
    """Labelled rows that a model was scored on; `is_training` if they are the rows that it was fitted on."""

    number: int
    kept: str
    rows: int
    is_training: bool


@frozen(kw_only=True)
class Captured:
    """Everything. `is_whole` is False if the main process did not come to its end (killed, or `os._exit`).

    `attempts` are all files that were opened for writing, with when first, whether they are there at the end or
    not; `made` the folders that were made, `roots` the modules that the main process had imported at its end.
    """

    processes: int = 0
    read: tuple[FileRead, ...] = ()
    written: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    fits: tuple[Fit, ...] = ()
    metrics: tuple[MetricCall, ...] = ()
    models: tuple[ModelSeen, ...] = ()
    scored: tuple[Scored, ...] = ()
    notes: tuple[str, ...] = ()
    is_whole: bool = False
    attempts: tuple[tuple[str, float], ...] = ()
    made: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    listed: tuple[Listed, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@frozen
class _Event:
    kind: str
    at: float
    is_outer: bool
    data: Mapping[str, Any]
    pid: int
    is_main: bool


def has_begun(folder: Path) -> bool:
    """Whether the script itself began, and was recorded from there."""
    return _is_begun(_events(folder))


def _is_begun(events: Iterable[_Event]) -> bool:
    return any(event.kind == "begin" and event.is_main for event in events)


def collect(folder: Path, main: Path | None = None) -> Captured:
    """Read the events of a capture; `main` is the script itself. Raises: WorldError if nothing was recorded at all."""
    events = sorted(_events(folder), key=lambda event: event.at)
    if not _is_begun(events):
        raise WorldError(
            "the script was not recorded: Python did not load the watch",
            where=str(folder),
            hint="a Python with -I or -S, or PYTHONNOUSERSITE with an own site, cannot be recorded",
        )
    spans = [
        (float(event.data["began"]), event.at)
        for event in events
        if event.kind in ("fit", "span") and event.is_main and event.is_outer
    ]
    outer = [event for event in events if not _is_inside(event, spans)]
    written = _written(events)
    fits = tuple(_fit(event) for event in outer if event.kind == "fit" and event.is_main)
    others = [event for event in outer if event.kind == "fit" and not event.is_main]
    return Captured(
        processes=len({event.pid for event in events}),
        read=_read(events, written),
        written=tuple(path for path in written if os.path.isfile(path)),  # noqa: PTH113  # paths as they were told
        code=tuple(sorted({*([str(main.resolve())] if main else []), *_code(events)})),
        fits=(*fits, *(_fit(event, number=0) for event in others)),
        metrics=_metrics(outer, fits),
        models=_models(events),
        scored=tuple(_scored(event) for event in outer if event.kind == "scored" and event.is_main),
        notes=_notes(events),
        is_whole=any(event.kind == "end" for event in events),
        attempts=tuple(written.items()),
        made=tuple(dict.fromkeys(event.data["path"] for event in events if event.kind == "made")),
        listed=_listed(events, written),
        roots=tuple(root for event in events if event.kind == "end" for root in event.data.get("roots", ())),
    )


def _events(folder: Path) -> Iterator[_Event]:
    for path in sorted(folder.glob("*.events")):
        pid, is_main = int(path.stem), False
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                kind, at, is_outer, data = ast.literal_eval(line)
            except (ValueError, SyntaxError):
                continue  # the line that a kill cut
            is_main = is_main or (kind == "begin" and data["is_main"])
            yield _Event(kind, at, is_outer, data, pid, is_main)


def _is_inside(event: _Event, spans: Sequence[tuple[float, float]]) -> bool:
    if event.is_main and event.is_outer:
        return False
    return any(began <= event.at < ended for began, ended in spans)


def _written(events: Sequence[_Event]) -> dict[str, float]:
    """Files that were written, with the first time."""
    found: dict[str, float] = {}
    for event in events:
        if event.kind == "write":
            found.setdefault(event.data["path"], event.at)
    return found


def _read(events: Sequence[_Event], written: Mapping[str, float]) -> tuple[FileRead, ...]:
    """The first look at each file; what the script itself had written before is no input."""
    found: dict[str, FileRead] = {}
    for event in events:
        path = event.data.get("path", "")
        if event.kind == "read" and path not in found and event.at <= written.get(path, event.at):
            found[path] = FileRead(path=path, mark=tuple(event.data["mark"]))
        elif event.kind == "aside" and path in found:
            found[path] = FileRead(path=path, mark=found[path].mark, kept=event.data["kept"])
        elif event.kind == "lost" and path in found:
            found[path] = FileRead(path=path, mark=found[path].mark, lost=event.data["why"])
    return tuple(found[path] for path in sorted(found))


def _listed(events: Sequence[_Event], written: Mapping[str, float]) -> tuple[Listed, ...]:
    """The first look into each folder, without what the script itself had made before."""
    found: dict[str, list[tuple[str, bool, int, int]]] = {}
    first: dict[str, _Event] = {}
    made = {event.data["path"]: event.at for event in reversed(events) if event.kind == "made"}
    for event in events:
        if event.kind != "listed":
            continue
        path = event.data["path"]
        if first.setdefault(path, event).pid != event.pid:
            continue  # another process looked later
        for name, is_folder, size, changed in event.data["entries"]:
            whole = os.path.join(path, name)  # noqa: PTH118  # paths as they were told
            if min(written.get(whole, math.inf), made.get(whole, math.inf)) > event.at:
                found.setdefault(path, []).append((name, is_folder, size, changed))
    return tuple(Listed(path=path, entries=tuple(found.get(path, ()))) for path in first)


def _code(events: Sequence[_Event]) -> set[str]:
    return {_source(event.data["path"]) for event in events if event.kind == "code"} - {""}


def _source(path: str) -> str:
    """The source of a file of code; what is compiled from one is left out."""
    if path.endswith(".py"):
        return path
    folder, name = os.path.split(path)
    if name.endswith(".pyc") and os.path.basename(folder) == "__pycache__":  # noqa: PTH119  # paths as they were told
        return os.path.join(os.path.dirname(folder), f"{name.split('.')[0]}.py")  # noqa: PTH118, PTH120
    return ""


def _fit(event: _Event, number: int | None = None) -> Fit:
    data = event.data
    params = dict(data["params"])
    if "best_params" in data:
        params["best_params_"] = data["best_params"]
    return Fit(
        number=data["number"] if number is None else number,
        name=data["name"],
        module=data["module"],
        seconds=round(data["seconds"], 6),
        rows=data["rows"],
        width=data["width"],
        columns=tuple(data["columns"]),
        label=data["label"],
        params=params,
        curves=data["curves"],
        kept=data["kept"],
        after=data["after"],
        is_model=data["is_model"],
        at=event.at,
    )


def _metrics(events: Sequence[_Event], fits: Sequence[Fit]) -> tuple[MetricCall, ...]:
    """Metrics by the least name that tells them apart: the function, what it was of, its options, its line."""
    calls = [event for event in events if event.kind == "metric"]
    calls = [event for event in calls if isinstance(event.data["value"], int | float)]
    names = _names([event.data for event in calls])
    found: dict[str, list[float]] = {}
    numbers: dict[str, int] = {}
    began: dict[str, float] = {}

    def add(name: str, at: float, values: Sequence[float]) -> None:
        found.setdefault(name, []).extend(values)
        began.setdefault(name, at)

    for event, name in zip(calls, names, strict=True):
        add(name, event.at, [float(event.data["value"])])
        numbers[name] = event.data["number"]
    for fit in fits:
        for curve, values in fit.curves.items():
            add(curve if curve not in found else f"{curve} {fit.number}", fit.at, values)
    for event in events:
        if event.kind == "fit" and isinstance(event.data.get("best_score"), int | float):
            add("best_score", event.at, [float(event.data["best_score"])])
        elif event.kind == "point" and isinstance(event.data["value"], int | float):
            add(event.data["name"], event.at, [float(event.data["value"])])
    return tuple(
        MetricCall(name=name, values=tuple(values), number=numbers.get(name, 0), at=began[name])
        for name, values in found.items()
    )


def _names(calls: Sequence[Mapping[str, Any]]) -> list[str]:
    """One name a call; calls of one place in the code share theirs. There may be thousands of calls, of few places."""
    places = {_place(call): call for call in calls}
    names = {place: _name(call, list(places.values())) for place, call in places.items()}
    return [names[_place(call)] for call in calls]


def _name(call: Mapping[str, Any], places: Sequence[Mapping[str, Any]]) -> str:
    """The least that tells a call from those of other places."""
    alike = [each for each in places if each["name"] == call["name"]]
    parts = [call["name"]]
    for key in ("of", "on", "options", "line"):
        if len(alike) == 1:
            break
        if len({str(each[key]) for each in alike}) > 1:
            parts.append(_part(key, call[key]))
            alike = [each for each in alike if str(each[key]) == str(call[key])]
    return " ".join(part for part in parts if part)


def _place(call: Mapping[str, Any]) -> tuple[str, ...]:
    return (call["name"], str(call["of"]), str(call["on"]), str(call["options"]), str(call["line"]))


def _part(key: str, value: Any) -> str:
    if key == "options":
        return ",".join(f"{name}={item}" for name, item in value.items())
    return f"line {value}" if key == "line" else str(value)


def _models(events: Sequence[_Event]) -> tuple[ModelSeen, ...]:
    """Models by the file that they were written to last; those that only a variable held, if no file was written."""
    files: dict[str, ModelSeen] = {}
    held: list[ModelSeen] = []
    for event in events:
        data = event.data
        if event.kind == "dump" and data["is_model"]:
            files.pop(data["path"], None)
            files[data["path"]] = ModelSeen(
                name=data["name"], number=data["number"], kept=data["kept"], path=data["path"]
            )
        elif event.kind == "dump":
            files.pop(data["path"], None)  # written over by something else
        elif event.kind == "alive":
            held.append(
                ModelSeen(name=data["name"], number=data["number"], kept=data["kept"], variable=data["variable"])
            )
    return tuple(files.values()) or tuple(held)


def _scored(event: _Event) -> Scored:
    data = event.data
    return Scored(number=data["number"], kept=data["kept"], rows=data["rows"] or 0, is_training=data["is_training"])


def _notes(events: Sequence[_Event]) -> tuple[str, ...]:
    words = {"started": "started", "connected": "connected to", "problem": "not recorded:"}
    found = dict.fromkeys(f"{words[event.kind]} {event.data['text']}" for event in events if event.kind in words)
    more = sum(int(event.data.get("more", 0)) for event in events if event.kind == "end")
    notes = list(found)[:NOTES_LIMIT]
    return (*notes, *([f"{more} more events were not kept"] if more else []))
