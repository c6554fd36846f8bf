"""The ids that runs of a store have here: their own where nobody has them, else ones that say whose they are.

Ids of other tools may be a few letters, and count from one in each project, so two stores can mean different
runs by the same id. What a run came from is on record with it: who comes again is found, and nobody else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO

from noria.catalog.takeover import records
from noria.catalog.takeover.documents import (
    ExperimentDoc,
    FileDoc,
    Files,
    ModelDoc,
    RegisteredDoc,
    RunDoc,
    Store,
    Tracker,
    VersionDoc,
)
from noria.catalog.takeover.sound import telling, told
from noria.experiments import records as runs
from noria.experiments.points import Curve
from noria.store.workspace import Workspace

__all__ = ["OwnIds", "with_own_ids"]

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
DIGITS = 12


class OwnIds:
    """A store whose runs have the ids that they have here. Runs without an origin keep theirs."""

    def __init__(self, ws: Workspace, tracker: Tracker, files: Files) -> None:
        self._ws = ws
        self._tracker = tracker
        self._files = files
        self._origins: dict[str, str] = {}

    def experiments(self) -> Sequence[ExperimentDoc]:
        """As they are."""
        with telling("its experiments"):
            return self._tracker.experiments()

    def runs(self, experiment: ExperimentDoc) -> Iterator[RunDoc]:
        """The runs of an experiment, each under the id that it has here."""
        for doc in told(self._tracker.runs(experiment), f"the runs of experiment {experiment.id}"):
            if not doc.origin:
                yield doc
                continue
            chosen = self._chosen(doc)
            self._origins[chosen] = doc.origin
            yield replace(doc, id=chosen)

    def _chosen(self, doc: RunDoc) -> str:
        suffix = hashlib.sha256(doc.origin.encode("utf-8")).hexdigest()[:DIGITS]
        other = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', doc.id)[:80].strip('.-') or 'run'}-{suffix}"
        if not PLAIN.fullmatch(doc.id):
            return other
        taken = self._origins.get(doc.id)
        if taken is not None:
            return doc.id if taken == doc.origin else other
        with self._ws.ledger.read() as tx:
            if runs.run(tx, doc.id) is None:
                # it may be here under the other name, from when somebody else had its own
                return other if runs.run(tx, other) is not None else doc.id
            known = records.origins(tx, [f"run/{doc.id}"])[f"run/{doc.id}"]
        return doc.id if any(each.place == doc.origin for each in known) else other

    def points(self, run: str) -> Iterator[tuple[str, Curve]]:
        """The points of a run by the id that it has here."""
        return told(self._tracker.points(self._origins.get(run, run)), f"the points of run {run}")

    def models(self, experiment: ExperimentDoc) -> Iterator[ModelDoc]:
        """As they are."""
        return told(self._tracker.models(experiment), f"the logged models of experiment {experiment.id}")

    def registered(self) -> Iterator[tuple[RegisteredDoc, Sequence[VersionDoc]]]:
        """As they are."""
        return told(self._tracker.registered(), "its registered models")

    def listing(self, owner: RunDoc | ModelDoc) -> Sequence[FileDoc]:
        """The files of a run by the id that it has here, or of a logged model."""
        with telling(f"the files of {owner.id}"):
            return self._files.listing(self._there(owner))

    def open(self, owner: RunDoc | ModelDoc, name: str) -> BinaryIO:
        """A file of it."""
        return self._files.open(self._there(owner), name)

    def _there(self, owner: RunDoc | ModelDoc) -> RunDoc | ModelDoc:
        if isinstance(owner, RunDoc) and owner.origin:
            return replace(owner, id=owner.origin)
        return owner


def with_own_ids(ws: Workspace, store: Store) -> Store:
    """The same store, its runs under the ids that they have here."""
    found = OwnIds(ws, store.tracker, store.files)
    return replace(store, tracker=found, files=found)
