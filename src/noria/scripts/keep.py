"""Puts what a capture saw into the store: files by content, the record as one document, one fact about the run.

An input is the content that the script read, not what lies there afterwards: a file that changed since was
set aside in time, or the record says that its content is lost. A file that is in a data set of the project
is named as that version too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.data import records as data
from noria.data.records import DatasetVersion
from noria.scripts.capture import Captured, FileRead
from noria.scripts.facts import ScriptCaptured
from noria.scripts.seen import mark_of
from noria.store.objects import hash_file
from noria.store.tree import Entry, Tree, iter_tree, write_tree
from noria.store.workspace import Workspace
from noria.tracking.facts import ArtifactLogged, Pin

__all__ = ["Kept", "KeptFile", "keep", "params_of"]

KEEP_LIMIT_BYTES = 1 << 30
"""A larger file is named by its content, but not stored: `noria data add` is for such."""
EDGES_LIMIT = 200
ARTIFACTS_LIMIT = 100
VERSIONS_LIMIT = 50
FITS_LIMIT = 1000
"""Fits that the record holds, the last ones; the count is of all."""
FORMAT = "noria/script/1"


@frozen(kw_only=True)
class KeptFile:
    """A file of a run: its path in the project (absolute outside it), its content, and what is to be said of it."""

    path: str
    digest: str
    size_bytes: int
    dataset: str = ""
    note: str = ""


@frozen(kw_only=True)
class Kept:
    """What was put on record: files read and written, data set versions used, parameters, final metrics."""

    read: tuple[KeptFile, ...]
    written: tuple[KeptFile, ...]
    pins: tuple[Pin, ...]
    params: Mapping[str, JSON]
    metrics: Mapping[str, float]
    document: str


def keep(
    ws: Workspace,
    run: str,
    captured: Captured,
    *,
    script: str,
    command: Sequence[str],
    exit_code: int,
    log: Path,
    variables: Mapping[str, str] | None = None,
) -> Kept:
    """Store a capture and append its fact, with its files; `variables` are names with the digests of values."""
    root = ws.project.root.resolve()
    read, pins = _inputs(ws, root, captured.read)
    written = tuple(_stored(ws, root, Path(path)) for path in captured.written)
    code = tuple(_stored(ws, root, Path(path)) for path in captured.code if Path(path).is_file())
    params = params_of(captured)
    metrics = {metric.name: metric.values[-1] for metric in captured.metrics}
    kept_log = _stored(ws, root, log)
    document = ws.objects.put_json(
        {
            "format": FORMAT,
            "script": script,
            "command": list(command),
            "exit_code": exit_code,
            "is_whole": captured.is_whole,
            "processes": captured.processes,
            "read": [asdict(file) for file in read],
            "written": [asdict(file) for file in written],
            "code": [asdict(file) for file in code],
            "made": [_name(root, Path(path)) for path in captured.made if os.path.isdir(path)],  # noqa: PTH112  # as told
            "listed": _listed(root, captured),
            "variables": dict(variables or {}),
            "fits": [_told(fit) for fit in captured.fits[-FITS_LIMIT:]],
            "fits_in_all": len(captured.fits),
            "metrics": {metric.name: list(map(str, metric.values[-1:])) for metric in captured.metrics},
            "models": [{key: value for key, value in asdict(m).items() if key != "kept"} for m in captured.models],
            "notes": list(captured.notes),
            "log": kept_log.digest,
        }
    )
    trees = [_tree(ws, files) for files in (read, written)]
    fact = ScriptCaptured(
        run=run,
        script=script,
        command=tuple(command),
        exit_code=exit_code,
        document=document,
        read=trees[0],
        written=trees[1],
        params=params,
    )
    inputs = [(f"file:{file.path}", file.digest) for file in read if file.digest][:EDGES_LIMIT]
    inputs += [(f"code:{file.path}", file.digest) for file in code][:EDGES_LIMIT]
    inputs += [(f"data:{pin.dataset}", pin.tree) for pin in pins]
    inputs += [(f"dataset:{pin.dataset}", f"dataset/{pin.dataset}@{pin.version}") for pin in pins]
    outputs = [(f"file:{file.path}", file.digest) for file in written if file.digest][:EDGES_LIMIT]
    named = [*written[:ARTIFACTS_LIMIT], KeptFile(path="log", digest=kept_log.digest, size_bytes=kept_log.size_bytes)]
    with ws.ledger.transaction() as tx:
        tx.append(
            fact,
            inputs=[*inputs, ("read", trees[0])],
            outputs=[*outputs, ("written", trees[1]), ("document", document), ("log", kept_log.digest)],
        )
        for file in named:
            if not file.note:
                logged = ArtifactLogged(run=run, name=file.path, digest=file.digest, size_bytes=file.size_bytes)
                tx.append(logged, outputs=[(file.path, file.digest)])
    return Kept(read=read, written=written, pins=pins, params=params, metrics=metrics, document=document)


def _listed(root: Path, captured: Captured) -> list[JSON]:
    """The folders that were listed; times are texts, as they are beyond the whole numbers of JSON."""
    found: list[JSON] = []
    for each in captured.listed:
        entries: list[JSON] = [[name, is_folder, size, str(ns)] for name, is_folder, size, ns in each.entries]
        found.append({"path": _name(root, Path(each.path)), "entries": entries})
    return found


def _inputs(ws: Workspace, root: Path, files: Sequence[FileRead]) -> tuple[tuple[KeptFile, ...], tuple[Pin, ...]]:
    known = _Datasets(ws)
    found: list[KeptFile] = []
    pins: dict[tuple[str, int], Pin] = {}
    for file in files:
        name = _name(root, Path(file.path))
        place = Path(file.kept or file.path)
        if file.lost or (not file.kept and mark_of(file.path) != file.mark):
            why = file.lost or "it was changed by somebody else after it was read"
            found.append(KeptFile(path=name, digest="", size_bytes=file.mark[0], note=why))
            continue
        stored = _stored(ws, root, place, name=name)
        version = known.version_with(Path(file.path), stored.digest)
        if version is not None:
            pins[(version.name, version.version)] = Pin(
                dataset=version.name, version=version.version, tree=version.tree
            )
        found.append(
            KeptFile(
                path=name,
                digest=stored.digest,
                size_bytes=stored.size_bytes,
                dataset="" if version is None else version.ref,
                note=stored.note,
            )
        )
    return tuple(found), tuple(pins.values())


class _Datasets:
    """Which version of a data set a file is in, by its path and content."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._root = ws.project.root.resolve()
        with ws.ledger.read() as tx:
            self._versions = {name: data.versions(tx, name)[:VERSIONS_LIMIT] for name in data.names(tx)}

    def version_with(self, path: Path, digest: str) -> DatasetVersion | None:
        """The newest version of a data set that lies at the path, or above it, and holds the content."""
        for name, versions in self._versions.items():
            config = self._ws.project.data.get(name)
            sources = {version.source for version in versions} | {config.source if config is not None else ""}
            if not any(_is_at(self._root / source, path) for source in sources if source and "://" not in source):
                continue
            for version in versions:
                if any(entry.digest == digest for entry in iter_tree(self._ws.objects, version.tree)):
                    return version
        return None


def _is_at(source: Path, path: Path) -> bool:
    place = Path(os.path.realpath(source))
    real = Path(os.path.realpath(path))
    return place == real or place in real.parents


def _stored(ws: Workspace, root: Path, path: Path, *, name: str = "") -> KeptFile:
    size = path.stat().st_size
    shown = name or _name(root, path)
    if size > KEEP_LIMIT_BYTES:
        note = f"named by its content, not stored: larger than {KEEP_LIMIT_BYTES >> 30} GiB"
        return KeptFile(path=shown, digest=hash_file(path), size_bytes=size, note=note)
    return KeptFile(path=shown, digest=ws.objects.put_file(path), size_bytes=size)


def _name(root: Path, path: Path) -> str:
    try:
        return Path(os.path.realpath(path)).relative_to(root).as_posix()
    except ValueError:
        return str(path)


def _tree(ws: Workspace, files: Sequence[KeptFile]) -> str:
    entries = {
        file.path.lstrip("/"): Entry(path=file.path.lstrip("/"), digest=file.digest, size_bytes=file.size_bytes)
        for file in files
        if file.digest and not file.note
    }
    return write_tree(ws.objects, Tree(tuple(entries[path] for path in sorted(entries))))


def params_of(captured: Captured) -> dict[str, JSON]:
    """The parameters of every model that was fitted; with the class before the name where there are several."""
    fits = [fit for fit in captured.fits if fit.is_model] or list(captured.fits)
    found: dict[str, JSON] = {}
    seen: dict[str, int] = {}
    for fit in fits:
        seen[fit.name] = seen.get(fit.name, 0) + 1
        head = "" if len(fits) == 1 else f"{fit.name}." if seen[fit.name] == 1 else f"{fit.name}-{seen[fit.name]}."
        if len(found) > 1000:
            break
        found.update({f"{head}{name}": _json(value) for name, value in fit.params.items()})
    return found


def _json(value: Any) -> JSON:
    """A parameter as a fact can hold it: numbers, texts, and anything else as text."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    return value if isinstance(value, float) else str(value)


def _told(fit: Any) -> dict[str, JSON]:
    told = {key: value for key, value in asdict(fit).items() if key not in ("kept", "curves", "at")}
    told["params"] = {name: _json(value) for name, value in fit.params.items()}
    return told
