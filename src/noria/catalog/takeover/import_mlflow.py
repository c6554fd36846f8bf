"""Take over a whole tracking store of MLflow: experiments, runs, artifacts, logged models and the registry.

The store is read and never written. What is here already is compared and left, so doing it again adds nothing
and one that was broken off is gone on with. Runs and logged models keep their ids, experiments their numbers
where these are free. At the end both stores have been compared thing by thing; what differs is named.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import TypeVar

from noria import plugins
from noria.catalog.takeover.artifacts import take_files
from noria.catalog.takeover.compare import Report
from noria.catalog.takeover.documents import Store
from noria.catalog.takeover.intake import Intake
from noria.catalog.takeover.models import take_model
from noria.catalog.takeover.registered import take_registered
from noria.catalog.takeover.runs import take_experiment, take_runs
from noria.core.errors import NotFound
from noria.core.progress import task
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = ["import_mlflow", "kind_of", "take"]

BATCH = 50
"""Runs that one transaction adds."""
T = TypeVar("T")


def import_mlflow(ws: Workspace, address: str, *, artifacts: Sequence[str] = ()) -> Report:
    """Take over a tracking store of MLflow; doing it again adds nothing.

    Args:
        address: a folder (`mlruns`), a database (`sqlite:///mlflow.db`, `postgresql://…`) or a server (`http://…`).
        artifacts: folders of this machine in which artifacts may be, beside that of the store itself.
    Raises: NotFound; UsageError for a store of an unknown kind or version; StoreUnavailable.
    """
    folders = [Path(each).expanduser().resolve() for each in artifacts]
    for each in folders:
        if not each.is_dir():
            raise NotFound(f"there is no folder {each}", hint="--artifacts DIR is where the artifacts are")
    with plugins.load("tracker", kind_of(address))(address, folders) as store:
        return take(ws, store)


def take(ws: Workspace, store: Store) -> Report:
    """Take over a store that is open."""
    intake = Intake(ws, store)
    with _scratch(ws) as folder, task("taking over", total=store.runs, unit="runs") as advance:
        for experiment in store.tracker.experiments():
            number = take_experiment(intake, experiment)
            for docs in batches(store.tracker.runs(experiment), BATCH):
                taken = take_runs(intake, docs)
                take_files(intake, taken, folder)
                advance(len(docs))
            for models in batches(store.tracker.models(experiment), BATCH):
                for model in models:
                    take_model(intake, model, number)
                take_files(intake, models, folder)
        for registered, versions in store.tracker.registered():
            take_registered(intake, registered, versions)
        intake.end()
    return intake.tally.report(store.address, store.form, "here")


def kind_of(address: str) -> str:
    """Which kind of store an address names: database, server or folder."""
    scheme, mark, _ = address.partition("://")
    if not mark or scheme == "file":
        return "folder"
    return "server" if scheme in ("http", "https") else "database"


def batches(found: Iterable[T], size: int) -> Iterator[list[T]]:
    """The same things, so many at a time."""
    rest = iter(found)
    while batch := list(itertools.islice(rest, size)):
        yield batch


@contextmanager
def _scratch(ws: Workspace) -> Iterator[Path]:
    folder = ws.project.state / "cache" / f"takeover-{uuid.uuid4().hex}"
    with disk_faults(folder):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)
