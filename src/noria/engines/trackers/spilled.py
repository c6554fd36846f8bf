"""A tracking store that was written out run by run (`noria_readers/spill.py`), with the process that writes it.

What a tool's own library has to read is read in a process of the environment that has it: its dependencies and
ours need not agree, and nothing of it is imported here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from noria.catalog.takeover.documents import (
    ExperimentDoc,
    FileDoc,
    ModelDoc,
    RegisteredDoc,
    RunDoc,
    Store,
    VersionDoc,
)
from noria.core.errors import Corrupt, NotFound, StoreUnavailable, UsageError
from noria.core.lazy import lazy
from noria.experiments.points import Curve
from noria.store.objects import disk_faults

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

__all__ = ["Spilled", "spill_with", "store_of"]

ROW = [("step", "<i8"), ("at", "<i8"), ("value", "<f8")]
GOING = "RUNNING"
MISSING = 7
"""The exit code of a reader whose tool is not there."""
PROGRAM = """
import os, sys, threading
def leave():
    while os.read(0, 4096):
        pass
    os._exit(1)
threading.Thread(target=leave, daemon=True).start()
sys.path.append(sys.argv[1])
try:
    __import__(sys.argv[2])
    from importlib import import_module
    reader = import_module("noria_readers." + sys.argv[3])
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(7)
reader.main(sys.argv[4:])
"""
"""Ends with the process that started it: that one's end closes the pipe."""
HERE = Path(__file__).parent
QUIET = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "DO_NOT_TRACK": "1"}


def spill_with(tool: str, reader: str, words: Sequence[str], *, python: str, env: Mapping[str, str]) -> None:
    """Let a reader write a store out with a tool's own library.

    Args:
        tool: what has to be importable there, and the extra of Noria's that brings it.
        words: the store, the folder to write to, and folders in which files may be.
        python: the interpreter of an environment with the tool; "" for this one.
    Raises: UsageError if there is no such interpreter or it lacks the tool; StoreUnavailable if reading fails.
    """
    program = [python or sys.executable, "-c", PROGRAM, str(HERE), tool, reader, *words]
    own = () if not python else ("PYTHONPATH", "PYTHONHOME")  # those of this interpreter mislead another
    try:
        with subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**{key: value for key, value in env.items() if key not in own}, **QUIET},
        ) as child:
            assert child.stderr is not None
            said = child.stderr.read().strip().splitlines()
            child.wait()
    except OSError as error:
        raise UsageError(f"there is no interpreter {python}: {error.strerror}", hint="--python PATH") from error
    last = said[-1][:300] if said else "nothing was said"
    if child.returncode == MISSING:
        raise UsageError(
            f"the store is read by {tool}'s own library, which {program[0]} has not: {last}",
            hint=f"pip install 'noria[{tool}]', or --python PATH of an environment that has {tool}",
        )
    if child.returncode != 0:
        raise StoreUnavailable(f"{tool}'s library could not read {words[0]}: {last}")


class Spilled:
    """A store that was written out, as a tracking store and its files. Points and files are asked for by origin."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = folder / "runs.jsonl"
        self._places: dict[str, int] = {}
        self._newest: tuple[str, dict[str, Any]] = ("", {})
        self.end: dict[str, Any] = {}
        self.going: list[str] = []
        by_name: dict[str, list[tuple[int, str]]] = {}
        place = 0
        with disk_faults(self._index), self._index.open("rb") as stream:
            for line in stream:
                doc = json.loads(line)
                self.end = doc.get("end", {})
                if not self.end:
                    if doc["status"] == GOING:
                        self.going.append(doc["id"])
                    self._places[doc["origin"]] = place
                    by_name.setdefault(doc["experiment"], []).append((doc["started_ms"] or 0, doc["origin"]))
                place += len(line)
        if not self.end:
            raise Corrupt("it was not written to its end", where=str(self._index))
        self._origins = {name: [origin for _, origin in sorted(found)] for name, found in by_name.items()}

    def experiments(self) -> list[ExperimentDoc]:
        """Every experiment that has a run, by name: such stores know no more of them."""
        return [
            ExperimentDoc(id="", name=name, stage="active", created_ms=None, updated_ms=None)
            for name in sorted(self._origins)
        ]

    def runs(self, experiment: ExperimentDoc) -> Iterator[RunDoc]:
        """The runs of an experiment by when they began."""
        for origin in self._origins[experiment.name]:
            doc = self._found(origin)
            yield RunDoc(
                id=doc["id"],
                experiment=doc["experiment"],
                name=doc["name"],
                user=doc["user"],
                status=doc["status"],
                stage=doc["stage"],
                started_ms=doc["started_ms"],
                ended_ms=doc["ended_ms"],
                params=doc["params"],
                tags=doc["tags"],
                origin=origin,
                left_out=tuple(doc["left_out"]),
            )

    def points(self, run: str) -> Iterator[tuple[str, Curve]]:
        """The points of a run by metric, each once."""
        path = self._folder / "points.bin"
        for key, blocks in self._found(run)["points"].items():
            with disk_faults(path):
                parts = [np.fromfile(path, dtype=ROW, count=count, offset=offset) for offset, count in blocks]
            rows = np.concatenate(parts)
            bits = rows["value"].copy().view(np.int64)
            order = np.lexsort((bits, rows["at"], rows["step"]))
            rows, bits = rows[order], bits[order]
            is_new = np.ones(len(rows), np.bool_)
            is_new[1:] = (np.diff(rows["step"]) != 0) | (np.diff(rows["at"]) != 0) | (np.diff(bits) != 0)
            rows = rows[is_new]
            yield key, Curve(rows["step"].copy(), rows["at"].copy(), rows["value"].copy())

    def models(self, experiment: ExperimentDoc) -> Iterator[ModelDoc]:
        """None: such stores know no logged models."""
        yield from ()

    def registered(self) -> Iterator[tuple[RegisteredDoc, Sequence[VersionDoc]]]:
        """None: such stores know no registry."""
        yield from ()

    def listing(self, owner: RunDoc | ModelDoc) -> Sequence[FileDoc]:
        """The files of a run by name. Those of a run that goes on may grow still: they come when it is over."""
        doc = self._found(owner.id)
        found = {} if doc["status"] == GOING else doc["files"]
        with disk_faults(self._folder):
            return [FileDoc(name, Path(found[name]).stat().st_size) for name in sorted(found)]

    def open(self, owner: RunDoc | ModelDoc, name: str) -> BinaryIO:
        """A file of it."""
        found = self._found(owner.id)["files"]
        if name not in found or not Path(found[name]).is_file():
            raise NotFound(f"there is no file {name!r}")
        path = Path(found[name])
        with disk_faults(path):
            return path.open("rb")

    def _found(self, origin: str) -> dict[str, Any]:
        if self._newest[0] != origin:
            if origin not in self._places:
                raise NotFound(f"there is no run {origin!r}")
            with disk_faults(self._index), self._index.open("rb") as stream:
                stream.seek(self._places[origin])
                self._newest = (origin, json.loads(stream.readline()))
        return self._newest[1]


def store_of(folder: Path, address: str) -> Store:
    """What a reader wrote into a folder, as a store."""
    found = Spilled(folder)
    end, going = found.end, found.going
    return Store(
        tracker=found,
        files=found,
        address=address,
        form=end["form"],
        runs=end["count"],
        notes=(*end["notes"], *(f"run {run} goes on: its files come with an import after its end" for run in going)),
        left_out=tuple((name, what) for name, what in end["left_out"]),
    )
