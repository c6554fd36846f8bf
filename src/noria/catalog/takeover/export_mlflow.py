"""Leave with everything: a tracking store that the real MLflow opens, with runs, artifacts and the registry.

The tables are made by MLflow itself (`mlflow db upgrade`), so they are what it expects; Noria fills them. What is
there already is left, so a broken-off export is gone on with. At the end the store is read back and compared
with the workspace thing by thing: points, and the bytes of every file too.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from noria import plugins
from noria.catalog.takeover.compare import Report, Sum, Tally, sums
from noria.catalog.takeover.documents import (
    ExperimentDoc,
    MeasureDoc,
    ModelDoc,
    RunDoc,
    Store,
    Tracker,
    Writer,
)
from noria.catalog.takeover.import_mlflow import kind_of
from noria.catalog.takeover.ours import Ours
from noria.catalog.takeover.taking import BATCH, batches
from noria.core.errors import NoriaError, StoreUnavailable, UsageError, WorldError
from noria.core.lazy import lazy
from noria.core.progress import Advance, task
from noria.experiments.points import Curve
from noria.store.objects import BLOCK_BYTES, disk_faults
from noria.store.workspace import Workspace

__all__ = ["export_mlflow"]

np = lazy("numpy")
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
FLOAT_MAX = sys.float_info.max
MAKING_S = 600


def export_mlflow(ws: Workspace, to: str, *, artifacts: str = "") -> Report:
    """Write everything that was tracked and registered as a store of MLflow's; doing it again adds what is new.

    Args:
        to: a folder, which gets `mlflow.db` and `artifacts/`; or a database whose tables MLflow made.
        artifacts: the folder for artifacts; needed for a database of Postgres.
    Raises: UsageError if there are no tables to fill; StoreUnavailable; StoreFull.
    """
    address, folder = _target(to, artifacts)
    tally, ours = Tally(sides=("here", "there")), Ours(ws)
    experiments = ours.experiments()
    with (
        plugins.load("tracker_writer", "database")(address, folder) as writer,
        task("exporting", unit="runs") as advance,
    ):
        for experiment in experiments:
            number = writer.experiment(experiment)
            for docs in batches(ours.runs(experiment), BATCH):
                tally.new["run"] += writer.runs(number, docs, ours)
                _files(ours, writer, docs, tally)
                advance(len(docs))
            for models in batches(ours.models(experiment), BATCH):
                tally.new["logged model"] += writer.models(number, models)
                _files(ours, writer, models, tally)
        for registered, versions in ours.registered():
            tally.new["version"] += writer.registered(registered, versions)
        for name in plugins.names("takeover_part"):
            plugins.load("takeover_part", name).write(ws, writer, tally)
    with plugins.load("tracker", "database")(address, [folder]) as store, task("comparing", unit="runs") as advance:
        for experiment in experiments:
            _compare(ours, store, experiment, tally, advance)
        _compare_registry(ours, store, tally)
        for name in plugins.names("takeover_part"):
            plugins.load("takeover_part", name).compare(ws, store, tally)
        return tally.report(ws.project.name, "Noria", store.address)


def _target(to: str, artifacts: str) -> tuple[str, Path]:
    """The database and the folder for artifacts; a new folder gets its tables from MLflow. Raises: UsageError."""
    if kind_of(to) == "server":
        raise UsageError(
            "a server gives every run another id and another time", hint="name its database, or a folder: noria export"
        )
    if kind_of(to) == "database":
        if not artifacts:
            raise UsageError("the artifacts need a folder", hint="--artifacts DIR")
        return to, Path(artifacts).expanduser().resolve()
    folder = Path(to.removeprefix("file://")).expanduser().resolve()
    address = f"sqlite:///{folder / DATABASE}"
    if not (folder / DATABASE).is_file():
        _make_tables(folder, address)
    return address, Path(artifacts).expanduser().resolve() if artifacts else folder / ARTIFACTS


def _make_tables(folder: Path, address: str) -> None:
    """Let MLflow make its tables, in a file that gets its name when it is whole."""
    program = shutil.which("mlflow")
    if program is None:
        raise UsageError(
            "MLflow makes the tables of its database, and there is no mlflow here",
            hint=f"where it is installed: mlflow db upgrade {address}",
        )
    temporary = folder / f".{DATABASE}.part"
    with disk_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            [program, "db", "upgrade", f"sqlite:///{temporary}"],
            check=False,
            capture_output=True,
            text=True,
            timeout=MAKING_S,
        )
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable(f"{program} made no tables within {MAKING_S} s") from error
    if done.returncode != 0 or not temporary.is_file():
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise UsageError(f"{program} could not make the tables: {last[:300]}", hint=f"mlflow db upgrade {address}")
    temporary.replace(folder / DATABASE)


def _files(ours: Ours, writer: Writer, owners: Sequence[RunDoc] | Sequence[ModelDoc], tally: Tally) -> None:
    for owner in owners:
        for name in ours.digests(owner):
            try:
                with ours.open(owner, name) as stream:
                    writer.file(owner, name, stream)
            except WorldError:
                raise
            except NoriaError as error:
                tally.differ("artifact", f"{owner.id}/{name}", f"is left out: {error.message}")


class _AsThere:
    """Our points as that database holds them: an infinite value is the largest number."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def points(self, run: str) -> Iterator[tuple[str, Curve]]:
        """The points of a run by metric."""
        for key, part in self._tracker.points(run):
            yield key, Curve(part.steps, part.at_us // 1000 * 1000, np.clip(part.values, -FLOAT_MAX, FLOAT_MAX))


def _compare(ours: Ours, store: Store, experiment: ExperimentDoc, tally: Tally, advance: Advance) -> None:
    """Everything of an experiment: what is here is what is asked for there."""
    there = next((each for each in store.tracker.experiments() if each.name == experiment.name), None)
    tally.seen["experiment"] += 1
    tally.compare("experiment", experiment.name, experiment, there, but=["id", "location"])
    if there is None:
        return
    for docs in batches(ours.runs(experiment), BATCH):
        found = {each.id: each for each in store.tracker.run_page([doc.id for doc in docs], there)}  # type: ignore[attr-defined]  # a database's
        for doc in docs:
            _compare_run(ours, store, doc, found.get(doc.id), tally)
        advance(len(docs))
    for models in batches(ours.models(experiment), BATCH):
        held = {each.id: each for each in store.tracker.model_page([doc.id for doc in models], there)}  # type: ignore[attr-defined]  # a database's
        for model in models:
            tally.seen["logged model"] += 1
            own = replace(model, measures=tuple(_as_there(each) for each in model.measures))
            tally.compare("logged model", model.id, own, held.get(model.id), but=["place"])
            if model.id in held:
                _compare_files(ours, store, model, held[model.id], tally)


def _compare_run(ours: Ours, store: Store, doc: RunDoc, there: RunDoc | None, tally: Tally) -> None:
    tally.seen["run"] += 1
    tally.compare("run", doc.id, doc, there, but=["place", "origin"])
    if there is None:
        return
    own, other = sums(_AsThere(ours).points(doc.id)), sums(store.tracker.points(doc.id))
    for key in sorted({*own, *other}):
        mine, its = own.get(key, Sum()), other.get(key, Sum())
        tally.seen["metric"] += 1
        tally.seen["point"] += mine.points
        if mine != its:
            tally.differ("metric", f"{doc.id} {key}", f"{mine.points} points here, {its.points} there")
    _compare_files(ours, store, doc, there, tally)


def _compare_files(ours: Ours, store: Store, doc: RunDoc | ModelDoc, there: RunDoc | ModelDoc, tally: Tally) -> None:
    """The bytes of each file, by their digest."""
    names = {each.name for each in store.files.listing(there)}
    for name, (digest, _) in sorted(ours.digests(doc).items()):
        tally.seen["artifact"] += 1
        if name not in names:
            tally.differ("artifact", f"{doc.id}/{name}", "is not there")
            continue
        hashed = hashlib.sha256()
        with store.files.open(there, name) as stream:
            while block := stream.read(BLOCK_BYTES):
                hashed.update(block)
                tally.size_bytes += len(block)
        if digest != f"sha256:{hashed.hexdigest()}":
            tally.differ("artifact", f"{doc.id}/{name}", "has other bytes there")


def _compare_registry(ours: Ours, store: Store, tally: Tally) -> None:
    there = {each.name: (each, {v.number: v for v in versions}) for each, versions in store.tracker.registered()}
    for doc, versions in ours.registered():
        found, numbers = there.get(doc.name, (None, {}))
        tally.seen["registered model"] += 1
        tally.seen["alias"] += len(doc.aliases)
        tally.compare("registered model", doc.name, doc, found)
        for each in versions:
            tally.seen["version"] += 1
            tally.compare("version", f"{doc.name}:{each.number}", each, numbers.get(each.number), but=["storage"])
            if each.source.startswith("noria:/"):
                tally.notes.setdefault(f"{doc.name}:{each.number} is a bundle of Noria's own: its record is written")


def _as_there(each: MeasureDoc) -> MeasureDoc:
    value = 0.0 if math.isnan(each.value) else max(-FLOAT_MAX, min(FLOAT_MAX, each.value))
    return replace(each, value=value)
