"""Runs that Weights & Biases kept on disk (`wandb/offline-run-*`, `wandb/run-*`), as files that no tool owns.

A run's file is a log in LevelDB's format, whose records are messages of wandb's own protobuf classes. A file
that ends in the middle of a record is read as far as it goes; a damaged block is left and named. Folders of
one run that was gone on with are one run.

Source: LevelDB, doc/log_format.md; wandb/proto/wandb_internal.proto of wandb 0.31 (the records).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib
import json
import os
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .spill import NOTE, RunSpill, Spill, flat, number, parse_args, within

__all__ = ["main"]

BLOCK = 32768
HEAD = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
IDENT, MAGIC = b":W&B", 0xBEE1
STARTS = 7
LIVE_S = 3600.0
"""A run that has no end is over if its file was not written for so long."""
INTERNAL = ("_step", "_runtime", "_timestamp", "_wandb")
PASSED_OVER = frozenset({"header", "final", "footer", "telemetry", "request", "output", "noop_link_artifact"})
"""Records that say nothing of a run that other records, or the files on disk, do not say."""


def main(words: list[str]) -> None:
    """Read the store of the first word into the folder of the second; further ones are folders of files."""
    store, folder, roots = parse_args(words)
    records = importlib.import_module("wandb.proto.wandb_internal_pb2")
    as_dict = importlib.import_module("google.protobuf.json_format").MessageToDict
    version = importlib.import_module("wandb").__version__
    with Spill(folder) as spill:
        _spill(spill, store, [store if store.is_dir() else store.parent, *roots, _staging()], records, as_dict)
        spill.end(f"Weights & Biases files, read by wandb {version}")


def _spill(spill: Spill, store: Path, allowed: list[Path], records: Any, as_dict: Any) -> None:
    roots = [each.resolve() for each in allowed if each.exists()]
    groups: dict[tuple[str, str, str], list[_File]] = {}
    for path in _found(store):
        found = _File(path, records)
        first = found.first()
        if first is None:
            name = f"{path.parent.name}/{path.name}"
            if found.damaged or found.is_foreign:
                spill.lose(name, found.ending or "it is damaged, and says nothing of a run")
            else:
                spill.note(f"{name} holds no run: {found.ending or 'it says nothing of one'}")
            continue
        groups.setdefault((first.entity, first.project, first.run_id), []).append(found)
    for (entity, project, run), files in sorted(groups.items()):
        files.sort(key=lambda each: (each.started_us, str(each.path)))
        origin = f"wandb:{entity}/{project}/{run}@{files[0].started_us}"
        into = spill.run(run, origin, project or "uncategorized")
        reading = _Reading(into, roots, as_dict)
        if len(files) > 1:
            spill.note(f"run {run} was gone on with: {len(files)} folders are one run")
        for part, each in enumerate(files, 1):
            reading.take(each, part)
            if each.ending:
                spill.note(f"{each.path.parent.name}/{each.path.name}: {each.ending}")
        reading.finish(files, entity, project, run)
        into.end()


def _found(store: Path) -> list[Path]:
    """The runs' files of a folder `wandb`, of one that holds it, of one run's folder, or one file."""
    if store.is_file():
        return [store]
    found = {
        path
        for pattern in ("run-*.wandb", "*/run-*.wandb", "wandb/*/run-*.wandb")
        for path in store.glob(pattern)
        if not path.parent.is_symlink()
    }
    return sorted(found)


def _staging() -> Path:
    """Where wandb keeps the files of artifacts until they are sent."""
    data = os.environ.get("WANDB_DATA_DIR") or os.environ.get("XDG_DATA_HOME")
    home = Path.home() / "Library/Application Support" if sys.platform == "darwin" else Path.home() / ".local/share"
    base = Path(data) if data else home
    return (base if os.environ.get("WANDB_DATA_DIR") else base / "wandb") / "artifacts"


class _File:
    """One file of records. `ending` says why it ended before its end, `damaged` how many blocks were left.

    `is_foreign` says that it is of another kind.
    """

    def __init__(self, path: Path, records: Any) -> None:
        self.path = path
        self.ending = ""
        self.damaged = 0
        self.is_foreign = False
        self.started_us = 0
        self._records = records

    def first(self) -> Any:
        """The record that says which run it is; None if there is none."""
        for record in self:
            if record.WhichOneof("record_type") == "run":
                self.started_us = _us(record.run.start_time)
                return record.run
        return None

    def __iter__(self) -> Iterator[Any]:
        """Every record, in order."""
        self.ending, self.damaged = "", 0
        for content in self._contents():
            record = self._records.Record()
            try:
                record.ParseFromString(content)
            except Exception as error:
                if type(error).__name__ != "DecodeError":
                    raise
                self.damaged += 1
                continue
            yield record

    def _contents(self) -> Iterator[bytes]:
        with self.path.open("rb") as stream:
            start = stream.read(STARTS)
            if len(start) < STARTS:
                self.ending = "it ends before its first record"
                return
            if start[:4] != IDENT or struct.unpack("<H", start[4:6])[0] != MAGIC:
                self.is_foreign, self.ending = True, "it is no file of wandb's"
                return
            held: bytes | None = None
            offset, size = STARTS, self.path.stat().st_size
            while offset < size:
                left = BLOCK - offset % BLOCK
                if left < HEAD.size:
                    offset += left
                    stream.seek(offset)
                    continue
                head = stream.read(HEAD.size)
                if len(head) < HEAD.size:
                    break
                crc, length, kind = HEAD.unpack(head)
                content = stream.read(length)
                is_short = len(content) < length and offset + HEAD.size + length > size
                if is_short and HEAD.size + length <= left:
                    break
                if kind not in (FULL, FIRST, MIDDLE, LAST) or zlib.crc32(content, zlib.crc32(head[6:])) != crc:
                    if offset + left >= size and not any(head):
                        break  # room that was made and not written
                    self.damaged += 1
                    held = None
                    offset += left
                    stream.seek(offset)
                    continue
                offset += HEAD.size + length
                if kind == FULL:
                    held = None
                    yield content
                elif kind == FIRST:
                    held = content
                elif held is not None:
                    held += content
                    if kind == LAST:
                        yield held
                        held = None
            if offset < size or held is not None:
                self.ending = "it ends in the middle of a record and was read as far as it goes"


class _Reading:
    """What the files of one run say, one after the other."""

    def __init__(self, into: RunSpill, roots: list[Path], as_dict: Any) -> None:
        self._into = into
        self._roots = roots
        self._as_dict = as_dict
        self._config: dict[str, Any] = {}
        self._summary: dict[str, Any] = {}
        self._newest: dict[str, Any] = {}
        self._environment: dict[str, Any] = {}
        self._printed: list[str] = []
        self._saved: dict[str, None] = {}
        self._run: Any = None
        self._exit: Any = None
        self._stats = 0
        self._step = 0

    def take(self, file: _File, part: int) -> None:
        """One file, and the folder `files` beside it."""
        before = "" if part == 1 else f"part-{part}/"
        self._printed, self._saved = [], {}
        self._exit = None
        for record in file:
            self._record(record, before)
        if file.damaged:
            self._into.lose(f"{file.path.name}: {file.damaged} damaged parts of it")
        root = file.path.parent / "files"
        for folder, _, names in os.walk(root):
            for name in sorted(names):
                path = Path(folder) / name
                self._into.file_of_store(before + path.relative_to(root).as_posix(), path, self._roots)
        for name in self._saved:
            if not self._into.has_file(before + name) and not any(root.glob(name)):
                self._into.lose(f"file {before}{name}: it was saved and is not on this machine")
        if self._printed and not self._into.has_file(f"{before}output.log"):
            self._into.append(f"{before}output.log", "".join(self._printed))

    def _record(self, record: Any, before: str) -> None:
        kind = record.WhichOneof("record_type") or "nothing"
        found: Any = getattr(record, kind, None)
        if kind == "run":
            self._run = found
            _update(self._config, found.config)
            _update(self._summary, found.summary)
        elif kind == "config":
            _update(self._config, found)
        elif kind == "summary":
            _update(self._summary, found)
        elif kind == "history":
            self._history(found)
        elif kind == "stats":
            self._system(found)
        elif kind == "output_raw":
            self._printed.append(found.line)
        elif kind == "files":
            self._saved.update(dict.fromkeys(each.path for each in found.files))
        elif kind == "exit":
            self._exit = found
        elif kind == "environment":
            self._environment.update(self._as_dict(found, preserving_proto_field_name=True))
        elif kind == "artifact":
            self._artifact(found, before)
        elif kind == "nothing":
            self._into.lose("records of a kind that this wandb does not know (a newer one may)")
        elif kind not in PASSED_OVER:
            self._into.line(f"wandb/{kind}.jsonl", self._as_dict(found, preserving_proto_field_name=True))

    def _history(self, found: Any) -> None:
        row: dict[str, Any] = {}
        for item in found.item:
            _put(row, list(item.nested_key) or [item.key], _json(item.value_json))
        step = found.step.num if found.HasField("step") else int(row.get("_step", self._step))
        at_us = round(float(row.get("_timestamp") or 0) * 1e6) or self._into.last_us
        self._step = max(self._step, step)
        for key, value in flat(row):
            if key in INTERNAL:
                continue
            self._newest[key] = value
            as_number = number(value)
            if as_number is None:
                self._into.value("wandb/history", key, step, at_us, value)
            else:
                self._into.point(key, step, at_us, as_number)

    def _system(self, found: Any) -> None:
        at_us = _us(found.timestamp)
        for item in found.item:
            value = _json(item.value_json)
            as_number = number(value)
            if as_number is None:
                self._into.value("wandb/system", item.key, self._stats, at_us, value)
            else:
                self._into.point(f"system/{item.key}", self._stats, at_us, as_number)
        self._stats += 1

    def _artifact(self, found: Any, before: str) -> None:
        manifest = found.manifest
        place = f"{before}artifacts/{found.name}/{found.digest[:12] or found.client_id[:12] or 'artifact'}"
        if self._into.has_file(f"{place}/artifact.json"):
            return
        entries = [
            {"path": each.path, "digest": each.digest, "ref": each.ref, "size": each.size, "local": each.local_path}
            for each in manifest.contents
        ]
        if not entries and manifest.manifest_file_path:
            entries = self._listed(found.name, Path(manifest.manifest_file_path))
        said = self._as_dict(found, preserving_proto_field_name=True)
        said.get("manifest", {}).pop("contents", None)
        said["entries"] = [{key: value for key, value in each.items() if key != "local"} for each in entries]
        self._into.write(f"{place}/artifact.json", json.dumps(said, indent=1).encode("ascii"))
        for each in entries:
            if each["ref"] and not each["local"]:
                continue  # kept elsewhere: artifact.json says where
            self._entry(f"{place}/{each['path']}", each)

    def _entry(self, name: str, each: dict[str, Any]) -> None:
        path = Path(each["local"])
        if not each["local"] or not path.exists():
            self._into.lose(f"file {name}: it is not on this machine ({each['local'] or 'wandb kept no copy'})")
            return
        if each["digest"] and within(path.resolve(), self._roots) and path.is_file():
            hashed = hashlib.md5(usedforsecurity=False)
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    hashed.update(block)
            if base64.b64encode(hashed.digest()).decode() != each["digest"]:
                self._into.lose(f"file {name}: its bytes are not those that were logged ({path})")
                return
        self._into.file_of_store(name, path, self._roots)

    def _listed(self, name: str, path: Path) -> list[dict[str, Any]]:
        """The entries of a manifest that is a file of its own."""
        if not path.is_file() or not within(path.resolve(), self._roots):
            self._into.lose(f"artifact {name}: its list of files cannot be read ({path})")
            return []
        raw = path.read_bytes()
        try:
            contents = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)["contents"]
            return [
                {
                    "path": key,
                    "digest": each.get("digest", ""),
                    "ref": each.get("ref", ""),
                    "size": each.get("size", 0),
                    "local": each.get("local_path", ""),
                }
                for key, each in contents.items()
            ]
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            self._into.lose(f"artifact {name}: its list of files cannot be read ({path}: {error})")
            return []

    def finish(self, files: list[_File], entity: str, project: str, run: str) -> None:
        """Everything that is said once."""
        into, found = self._into, self._run
        started_us = files[0].started_us
        for key, value in flat({key: each for key, each in self._config.items() if key != "_wandb"}):
            into.param(key, value)
        into.labels(found.tags, "wandb")
        ended_us = max(into.last_us, started_us)
        if self._exit is not None and not len(files) > 1:
            ended_us = max(ended_us, started_us + self._exit.runtime * 1_000_000)
        into.doc.update(name=found.display_name, started_ms=started_us // 1000, ended_ms=ended_us // 1000)
        newest = max(each.path.stat().st_mtime for each in files)
        if self._exit is not None:
            into.doc["status"] = "FAILED" if self._exit.exit_code else "FINISHED"
        elif time.time() - newest < LIVE_S:
            into.doc.update(status="RUNNING", ended_ms=None)
        else:
            into.doc["status"] = "KILLED"
        if into.doc["status"] != "RUNNING":
            self._summed(ended_us)
        git = self._environment.get("git", {})
        into.doc["user"] = str(self._environment.get("username", ""))
        said = {
            "wandb.id": run,
            "wandb.entity": entity,
            "wandb.project": project,
            "wandb.group": found.run_group,
            "wandb.job_type": found.job_type,
            "wandb.sweep": found.sweep_id,
            "wandb.host": found.host,
            NOTE: found.notes,
            "mlflow.source.name": str(self._environment.get("program", "")),
            "mlflow.source.git.commit": str(git.get("commit", "")) or found.git.commit,
            "mlflow.source.git.repoURL": str(git.get("remote_url", "")) or found.git.remote_url,
        }
        for key, value in said.items():
            if value:
                into.tag(key, value)
        if self._environment:
            into.write("wandb/environment.json", json.dumps(self._environment, indent=1).encode("ascii"))

    def _summed(self, at_us: int) -> None:
        """What the summary says and the newest values of the histories do not.

        A step's summary is written before the step: that of a run without an end may be of a step that never came.
        """
        is_kept = False
        for key, value in flat({key: each for key, each in self._summary.items() if key not in INTERNAL}):
            if key in self._newest and (self._exit is None or repr(self._newest[key]) == repr(value)):
                continue
            as_number = number(value)
            if as_number is None:
                is_kept = True
            else:
                self._into.point(f"summary.{key}" if key in self._newest else key, self._step, at_us, as_number)
        if is_kept:
            self._into.write("wandb/summary.json", json.dumps(self._summary, indent=1).encode("ascii"))


def _update(values: dict[str, Any], said: Any) -> None:
    for item in said.update:
        _put(values, list(item.nested_key) or [item.key], _json(item.value_json))
    for item in said.remove:
        where, (*above, last) = values, list(item.nested_key) or [item.key]
        for key in above:
            where = where.get(key, {}) if isinstance(where, dict) else {}
        if isinstance(where, dict):
            where.pop(last, None)


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        below = values.get(key)
        if not isinstance(below, dict):
            below = values[key] = {}
        values = below
    values[path[-1]] = value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _us(moment: Any) -> int:
    return int(moment.seconds) * 1_000_000 + int(moment.nanos) // 1000
