"""Take over a whole tracking store that is open: experiments, runs, artifacts, logged models and the registry.

The store is read and never written. What is here already is compared and left, so doing it again adds nothing
and one that was broken off is gone on with. At the end both stores have been compared thing by thing; what
differs is named.
"""

from __future__ import annotations

import fcntl
import itertools
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import TypeVar

from noria import plugins
from noria.catalog.takeover.artifacts import take_files
from noria.catalog.takeover.compare import Report
from noria.catalog.takeover.documents import Store
from noria.catalog.takeover.intake import Intake
from noria.catalog.takeover.models import take_model
from noria.catalog.takeover.naming import with_own_ids
from noria.catalog.takeover.plain import PlainTexts
from noria.catalog.takeover.registered import take_registered
from noria.catalog.takeover.runs import take_experiment, take_runs
from noria.catalog.takeover.sound import require_sound
from noria.core.errors import UsageError
from noria.core.progress import task
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = ["BATCH", "batches", "scratch", "take"]

BATCH = 50
"""Runs that one transaction adds."""
SCRATCH, LOCK = "takeover-", ".lock"
T = TypeVar("T")


def take(ws: Workspace, store: Store) -> Report:
    """Take over a store that is open."""
    store = with_own_ids(ws, store)
    intake = Intake(ws, store)
    intake.store = store = replace(store, tracker=PlainTexts(store.tracker, intake.tally.differ))
    for name, what in store.left_out:
        intake.tally.differ("store", name, f"is left out: {what}")
    with scratch(ws) as folder, task("taking over", total=store.runs, unit="runs") as advance:
        for experiment in store.tracker.experiments():
            if not _is_sound(intake, "experiment", experiment.id, experiment):
                continue
            number = take_experiment(intake, experiment)
            for docs in batches(store.tracker.runs(experiment), BATCH):
                taken = take_runs(intake, docs)
                take_files(intake, taken, folder)
                advance(len(docs))
            for models in batches(store.tracker.models(experiment), BATCH):
                sound = [model for model in models if _is_sound(intake, "logged model", model.id, model)]
                for model in sound:
                    take_model(intake, model, number)
                take_files(intake, sound, folder)
        for registered, versions in store.tracker.registered():
            if _is_sound(intake, "registered model", registered.name, registered, *versions):
                take_registered(intake, registered, versions)
        for name in plugins.names("takeover_part"):
            plugins.load("takeover_part", name).take(intake)
        intake.end()
    return intake.tally.report(store.address, store.form, "here")


def _is_sound(intake: Intake, kind: str, name: str, *docs: object) -> bool:
    """Whether a thing can be taken; one that cannot is told and left out, and the rest goes on."""
    try:
        for doc in docs:
            require_sound(doc, "it")
    except UsageError as error:
        intake.tally.seen[kind] += 1
        intake.tally.differ(kind, name, f"is left out: {error.message}")
        return False
    return True


def batches(found: Iterable[T], size: int) -> Iterator[list[T]]:
    """The same things, so many at a time."""
    rest = iter(found)
    while batch := list(itertools.islice(rest, size)):
        yield batch


@contextmanager
def scratch(ws: Workspace) -> Iterator[Path]:
    """A folder of the project's own that is gone afterwards. What takeovers that were killed left goes first."""
    folder = ws.project.state / "cache" / f"{SCRATCH}{uuid.uuid4().hex}"
    lock = folder.with_suffix(LOCK)
    with disk_faults(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        held = lock.open("xb")
    with held:
        fcntl.flock(held, fcntl.LOCK_EX)  # it goes with the process
        try:
            with disk_faults(folder):
                folder.mkdir()
            yield folder
        finally:
            rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _sweep(cache: Path) -> None:
    for lock in cache.glob(f"{SCRATCH}*{LOCK}"):
        with suppress(FileNotFoundError, BlockingIOError), lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
