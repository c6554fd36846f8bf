"""A repository of Aim's, read with its own library, as files that no tool owns.

Each run is read from its own part of the repository: Aim's index of all runs is behind until its server ran.
Images, audio, figures and other objects become files; distributions and texts lines of JSON.

Source: aim/sdk/base_run.py, aim/sdk/sequence.py and aim/storage of Aim 3.29 (how a run's trees are laid out).
"""

from __future__ import annotations

import importlib
import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from .spill import NOTE, RunSpill, Spill, flat, number, parse_args, safe_name

__all__ = ["main"]

LIVE_S = 3600.0
"""A run that has no end is over if nothing of it was written for so long."""
SYSTEM = "__system__"
SYSTEM_PARAMS = "__system_params"
LINE = "aim.log_line"
EXTENSIONS = {"aim.figure": "json", "aim.image": "png", "aim.audio": "wav"}


def main(words: list[str]) -> None:
    """Read the repository of the first word into the folder of the second; further ones are folders of files."""
    root, folder, roots = parse_args(words)
    aim = importlib.import_module("aim")
    sequence = importlib.import_module("aim.sdk.sequence").Sequence
    status = aim.Repo.check_repo_status(str(root))
    if status.name != "UPDATED":
        raise SystemExit(
            f"the repository was made by another version of Aim ({status.name}): take an aim that fits, or upgrade it"
        )
    repo = aim.Repo.from_path(str(root))
    notes = _notes(root / ".aim" / "run_metadata.sqlite")
    version = importlib.import_module("aim.__version__").__version__
    with Spill(folder) as spill:
        for run in sorted(repo.list_all_runs()):
            try:
                _Reading(aim, sequence, repo, run, [root, *roots]).take(spill, notes.get(run, []))
            except KeyError as error:
                spill.lose(run, f"Aim's library cannot read it: {error}")
        spill.end(f"Aim repository, read by aim {version}")


class _Reading:
    """One run."""

    def __init__(self, aim: Any, sequence: Any, repo: Any, run: str, roots: list[Path]) -> None:
        self._hash = run
        self._sequence = sequence
        self._roots = roots
        self._place = Path(repo.path)
        tree = repo.request_tree("meta", run, read_only=True).subtree("meta")
        self._run = aim.Run(run, repo=repo, read_only=True)
        self._run.meta_tree = tree
        self._run.meta_run_tree = tree.subtree("chunks").subtree(run)
        self._contexts = tree.subtree("contexts")

    def take(self, spill: Spill, notes: list[dict[str, Any]]) -> None:
        """All of it."""
        run = self._run
        started_ms = round(run.creation_time * 1000)
        into = spill.run(self._hash, f"aim:{self._hash}@{started_ms}", run.experiment or "default")
        into.doc.update(name=run.name or "", started_ms=started_ms)
        into.labels(list(run.tags), "aim")
        into.tag("aim.hash", self._hash)
        if run.archived:
            into.tag("aim.archived", "true")
        if run.description:
            into.tag(NOTE, run.description)
        for each in notes:
            into.line("aim/notes.jsonl", each)
        self._params(into)
        for index, names in _items(run.meta_run_tree, "traces"):
            context = dict(_value(self._contexts, index) or {})
            for name in names:
                self._series(into, name, index, context)
        self._artifacts(into)
        self._end(into)
        into.end()

    def _end(self, into: RunSpill) -> None:
        ended = self._run.end_time
        if ended:
            into.doc["ended_ms"] = round(ended * 1000)
            return
        parts = [self._place / part / "chunks" / self._hash for part in ("meta", "seqs")]
        newest = max((each.stat().st_mtime for part in parts if part.is_dir() for each in part.iterdir()), default=0.0)
        if time.time() - newest < LIVE_S:
            into.doc["status"] = "RUNNING"
        else:
            into.doc.update(status="KILLED", ended_ms=max(into.last_us // 1000, into.doc["started_ms"]))

    def _params(self, into: RunSpill) -> None:
        try:
            found = self._run.meta_run_tree.subtree("attrs").collect(resolve_objects=True)
        except KeyError:
            return
        system = found.pop(SYSTEM_PARAMS, None)
        if system is not None:
            into.write("aim/system_params.json", json.dumps(system, indent=1, default=str).encode("ascii"))
            git = system.get("git_info") or {}
            for key, value in (
                ("mlflow.source.git.commit", (git.get("commit") or {}).get("hash")),
                ("mlflow.source.git.branch", git.get("branch")),
                ("mlflow.source.git.repoURL", git.get("remote_origin_url")),
                ("mlflow.source.name", " ".join(system.get("arguments") or [])),
            ):
                if value:
                    into.tag(key, value)
        for key, value in flat(found):
            content = value.load() if hasattr(value, "load") else _plain(value)
            if isinstance(content, (bytes, bytearray, memoryview)):
                into.write(f"aim/params/{safe_name(key)}.bin", bytes(content))
            elif hasattr(value, "storage"):
                into.line(f"aim/params/{safe_name(key)}.jsonl", self._object(into, f"params/{key}", 0, 0, value))
            else:
                into.param(key, content)

    def _series(self, into: RunSpill, name: str, index: int, context: Mapping[str, Any]) -> None:
        key = f"system/{name[len(SYSTEM) :]}" if name.startswith(SYSTEM) else name
        suffix = _said(context)
        found = self._sequence(name, _Context(index), self._run)
        for step, (value, epoch, at) in found.data.items():
            at_us = round(_plain(at) * 1e6) if at is not None and math.isfinite(at) else 0
            step, plain = int(step), _plain(value)
            as_number = number(plain)
            if as_number is not None:
                into.point(key + suffix, step, at_us, as_number)
            elif getattr(value, "AIM_NAME", "") == LINE:
                into.append("output.log", f"{_text_of(value)}\n")
            else:
                values = value if isinstance(value, (list, tuple)) else [value]
                said = [self._object(into, key + suffix, step, place, each) for place, each in enumerate(values)]
                into.value("aim/sequences", key + suffix, step, at_us, said)
            if epoch is not None and math.isfinite(epoch):
                into.point(f"{key}.epoch{suffix}", step, at_us, float(epoch))

    def _object(self, into: RunSpill, key: str, step: int, place: int, value: Any) -> Any:
        """What an object says as JSON; its bytes are a file that it names."""
        storage = getattr(value, "storage", None)
        if storage is None:
            return _plain(value)
        kind = str(getattr(value, "AIM_NAME", type(value).__name__))
        said: dict[str, Any] = {"type": kind}
        if kind == "aim.distribution":
            return {**said, "weights": value.weights.tolist(), "range": _plain(value.range), "bins": value.bin_count}
        for name, each in storage[...].items():
            content = each.load() if hasattr(each, "load") else each
            if isinstance(content, str) and name == "data" and kind != "aim.text":
                content = content.encode("utf-8")
            if isinstance(content, (bytes, bytearray, memoryview)):
                form = storage[...].get("format") if kind in ("aim.image", "aim.audio") else None
                ending = str(form or EXTENSIONS.get(kind, "bin")).lower()
                said["file"] = f"aim/objects/{safe_name(key)}/{step}-{place}.{safe_name(ending)}"
                into.write(said["file"], bytes(content))
            else:
                said[name] = _plain(content)
        return said

    def _artifacts(self, into: RunSpill) -> None:
        try:
            found = self._run.artifacts
        except KeyError:
            return
        for name, each in found.items():
            uri = urlparse(str(each.uri))
            if uri.scheme in ("", "file"):
                into.file_of_store(f"artifacts/{name}", Path(unquote(uri.path)), self._roots)
            else:
                into.lose(f"artifact {name}: it is kept at {each.uri}")


class _Context:
    """What a sequence asks of its context: where it stands."""

    def __init__(self, index: int) -> None:
        self.idx = index


def _text_of(line: Any) -> str:
    content = line.storage["data"].load()
    return content if isinstance(content, str) else bytes(content).decode("utf-8", "replace")


def _items(tree: Any, name: str) -> Iterator[tuple[Any, Any]]:
    try:
        yield from list(tree.subtree(name).items())
    except KeyError:
        return


def _value(tree: Any, key: Any) -> Any:
    try:
        return tree[key]
    except KeyError:
        return None


def _said(context: Mapping[str, Any]) -> str:
    """A context as the end of a metric's name: {subset=train}."""
    parts = []
    for key, value in sorted(flat(context), key=lambda each: each[0]):
        is_plain = isinstance(value, str) and value.replace("_", "").replace("-", "").isalpha()
        parts.append(f"{key}={value if is_plain else json.dumps(_plain(value), default=str)}")
    return f"{{{', '.join(parts)}}}" if parts else ""


def _plain(value: Any) -> Any:
    """A value without the types of numpy and of Aim."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        return value.item()
    return value


def _notes(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What people wrote of runs in Aim's pages, by run."""
    found: dict[str, list[dict[str, Any]]] = {}
    if not path.is_file():
        return found
    rows = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        is_there = rows.execute("SELECT count(*) FROM sqlite_master WHERE name = 'note'").fetchone()[0]
        if not is_there:
            return found
        query = "SELECT run.hash, note.content, note.created_at FROM note JOIN run ON run.id = note.run_id"
        for run, content, created in rows.execute(f"{query} ORDER BY note.id"):
            found.setdefault(run, []).append({"content": content, "created_at": created})
    finally:
        rows.close()
    return found
