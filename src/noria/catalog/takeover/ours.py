"""What Noria itself holds, as a tracking store: for comparing with the store that it came from, and for leaving.

Runs of pipelines that belong to no experiment are in the first one, Default, as clients see them too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from noria.catalog import records as catalog
from noria.catalog.records import DEFAULT, ExperimentRecord, LoggedModel, MeasureRecord
from noria.catalog.takeover import records as takeover
from noria.catalog.takeover.documents import (
    ExperimentDoc,
    FileDoc,
    InputDoc,
    MeasureDoc,
    ModelDoc,
    RegisteredDoc,
    RunDoc,
    Store,
    VersionDoc,
    named,
)
from noria.catalog.takeover.records import OriginRecord
from noria.core.clock import instant
from noria.core.errors import NotFound
from noria.core.lazy import lazy
from noria.experiments import points as segments
from noria.experiments import records as runs
from noria.experiments.grammar import Clause, Order
from noria.experiments.points import Curve
from noria.experiments.records import STATUSES, LoggedRun
from noria.registry import records as registry
from noria.registry.kept import NamedModel, VersionRecord
from noria.store.ledger import Reader
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

__all__ = ["Ours", "our_store"]

np = lazy("numpy")
PAGE = 100
PARENT = "mlflow.parentRunId"
WORDS = {own: word for word, owns in STATUSES.items() for own in owns}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
Origin = Callable[[Sequence[OriginRecord]], OriginRecord | None]


class Ours:
    """A workspace as a tracking store and its artifacts."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws

    def experiments(self) -> list[ExperimentDoc]:
        """Every experiment, as the first store said that it came from."""
        with self._ws.ledger.read() as tx:
            return [self.experiment(tx, each) for each in catalog.experiments(tx)]

    def experiment(self, tx: Reader, found: ExperimentRecord, place: str = "") -> ExperimentDoc:
        """An experiment, as the store said that calls it so (`documents.made`), or with "" as its first one did."""
        origin = _chosen(takeover.origins(tx, [f"experiment/{found.experiment}"]), place)
        return ExperimentDoc(
            id=str(found.experiment),
            name=found.name,
            stage=found.stage,
            created_ms=origin.created_ms if origin else found.created_ms,
            updated_ms=origin.updated_ms if origin else found.updated_ms,
            location=origin.details.get("location", "") if origin else found.location,
            tags=dict(found.tags),
        )

    def runs(self, experiment: ExperimentDoc) -> Iterator[RunDoc]:
        """The runs of an experiment, page by page, by when they began."""
        called = (experiment.name, "") if experiment.name == DEFAULT else (experiment.name,)
        where = [Clause("attribute", "experiment", "IN", called)]
        after: Sequence[str | float] = ()
        while True:
            with self._ws.ledger.read() as tx:
                found = runs.search(tx, where, [Order("attribute", "started_at", False)], after=after, limit=PAGE)
                page = self.described(tx, [run for run, _ in found])
            yield from page
            if len(found) < PAGE:
                return
            after = found[-1][1]

    def found(self, ids: Sequence[str]) -> dict[str, RunDoc]:
        """Those of some runs that are here, by their ids; read together, as many as one statement takes."""
        if not ids:
            return {}
        with self._ws.ledger.read() as tx:
            where = [Clause("attribute", "run", "IN", tuple(ids))]
            rows = [each for each, _ in runs.search(tx, where, [], limit=len(ids))]
            return {doc.id: doc for doc in self.described(tx, rows)}

    def described(self, tx: Reader, found: Sequence[LoggedRun]) -> list[RunDoc]:
        """Runs with all that they have but points."""
        ids = [each.run for each in found]
        params, tags = runs.params(tx, ids), runs.tags(tx, ids)
        inputs, models = catalog.inputs(tx, ids), catalog.models(tx, ids)
        origins = takeover.origins(tx, [f"run/{run}" for run in ids])
        docs = []
        for each in found:
            _, own = named("", tags[each.run])
            if each.parent:
                own.setdefault(PARENT, each.parent)
            origin = next(iter(origins[f"run/{each.run}"]), None)
            docs.append(
                RunDoc(
                    id=each.run,
                    experiment=each.experiment or DEFAULT,
                    name=each.name,
                    user=each.user,
                    status=WORDS.get(each.status, "FAILED"),
                    stage=each.stage,
                    started_ms=_ms(each.started_at),
                    ended_ms=_ms(each.finished_at) if each.finished_at else None,
                    params=params[each.run],
                    tags=own,
                    inputs=tuple(self._input(item) for item in inputs[each.run]),
                    models_in=tuple(item.model for item in models[each.run] if item.side == "in"),
                    models_out=tuple((item.model, item.step) for item in models[each.run] if item.side == "out"),
                    place=origin.details.get("place", "") if origin else "",
                    origin=origin.place if origin else "",
                )
            )
        return docs

    def _input(self, item: catalog.InputRecord) -> InputDoc:
        details = json.loads(self._ws.objects.get_bytes(item.details))
        return InputDoc(
            name=item.name,
            digest=item.content_id,
            source_type=item.source_type,
            source=details.get("source", ""),
            schema=details.get("schema"),
            profile=details.get("profile"),
            tags=tuple((key, value) for key, value in item.tags),
        )

    def points(self, run: str) -> Iterator[tuple[str, Curve]]:
        """The points of a run's metrics, each once, metric by metric."""
        with self._ws.ledger.read() as tx:
            own = [segment for segment, _ in runs.segments(tx, run)]
            sealed = [segment for segment in tracking.segments(tx, run) if segment not in own]
            keys = [each.key for each in runs.metrics(tx, [run])[run]]
        every = [*own, *sealed]
        if len(every) == 1:
            for key, found in segments.every(self._ws.objects, every[0]):
                yield key, distinct(found)
            return
        for key in keys if every else []:  # a point that two segments hold is one point
            yield key, distinct(segments.joined([segments.read(self._ws.objects, each, key) for each in every]))

    def models(self, experiment: ExperimentDoc) -> Iterator[ModelDoc]:
        """The logged models of an experiment, deleted ones too, one by one."""
        with self._ws.ledger.read() as tx:
            found = catalog.by_name(tx, experiment.name)
            ids = catalog.model_ids(tx, found.experiment) if found is not None else []
        for model in ids:
            with self._ws.ledger.read() as tx:
                doc = self.model(tx, model)
            if doc is not None:
                yield doc

    def model(self, tx: Reader, model: str) -> ModelDoc | None:
        """One logged model, or None."""
        found = catalog.logged_model(tx, model)
        if found is None:
            return None
        experiment = catalog.experiment(tx, found.experiment)
        origin = _chosen(takeover.origins(tx, [f"logged-model/{model}"]))
        return _model(found, experiment.name if experiment else "", origin)

    def registered(self) -> Iterator[tuple[RegisteredDoc, list[VersionDoc]]]:
        """Every registered model with its versions by number."""
        with self._ws.ledger.read() as tx:
            names = [each.model for each in registry.named(tx)]
        for name in names:
            with self._ws.ledger.read() as tx:
                found = self.named(tx, name)
            if found is not None:
                yield found

    def named(self, tx: Reader, name: str) -> tuple[RegisteredDoc, list[VersionDoc]] | None:
        """One registered model with its versions, or None."""
        found = registry.named(tx, name)
        if not found:
            return None
        versions = registry.versions_of(tx, [name])
        subjects = [f"model/{name}", *(f"model/{each.ref}" for each in versions)]
        origins = takeover.origins(tx, subjects)
        first = {each: next(iter(origins[each]), None) for each in subjects}
        return _registered(found[0], first[f"model/{name}"]), [
            _version(each, first[f"model/{each.ref}"]) for each in versions
        ]

    def listing(self, owner: RunDoc | ModelDoc) -> Sequence[FileDoc]:
        """The files of a run or a logged model."""
        return [FileDoc(name, size) for name, (_, size) in sorted(self.digests(owner).items())]

    def open(self, owner: RunDoc | ModelDoc, name: str) -> BinaryIO:
        """A file of it."""
        found = self.digests(owner).get(name)
        if found is None:
            raise NotFound(f"{owner.id} has no file {name!r}")
        return self._ws.objects.open(found[0])

    def digests(self, owner: RunDoc | ModelDoc) -> dict[str, tuple[str, int]]:
        """(digest, size in bytes) of each file of a run or a logged model. Bundles of Noria's own are no files."""
        with self._ws.ledger.read() as tx:
            if isinstance(owner, ModelDoc):
                return {each.name: (each.digest, each.size_bytes) for each in catalog.model_files(tx, owner.id)}
            return {
                each.name: (each.digest, each.size_bytes)
                for each in tracking.artifacts(tx, owner.id)
                if each.type != "bundle"
            }


def our_store(ws: Workspace) -> Store:
    """The workspace as a store."""
    ours = Ours(ws)
    return Store(ours, ours, ws.project.name, "Noria")


def distinct(found: Curve) -> Curve:
    """The points by step, time and value, each once."""
    seen = np.stack([found.steps, found.at_us, found.values.view(np.int64)], axis=1)
    _, places = np.unique(seen, axis=0, return_index=True)
    return found if len(places) == len(found) else found.take(np.sort(places))


def _chosen(origins: dict[str, list[OriginRecord]], place: str = "") -> OriginRecord | None:
    (found,) = origins.values()
    return next((each for each in found if each.place == place), next(iter(found), None))


def _model(found: LoggedModel, experiment: str, origin: OriginRecord | None) -> ModelDoc:
    return ModelDoc(
        id=found.model,
        experiment=experiment,
        name=found.name,
        model_type=found.model_type,
        run=found.run,
        status=found.status,
        message=origin.details.get("message", "") if origin else "",
        stage=found.stage,
        created_ms=origin.created_ms if origin else found.created_ms,
        updated_ms=origin.updated_ms if origin else found.updated_ms,
        params=dict(found.params),
        tags=dict(found.tags),
        measures=tuple(sorted(_measure(each) for each in found.measures)),
        place=origin.details.get("place", "") if origin else "",
    )


def _measure(found: MeasureRecord) -> MeasureDoc:
    return MeasureDoc(
        key=found.key,
        at_ms=found.at_ms,
        step=found.step,
        run=found.run,
        value=_SPECIAL[found.special] if found.value is None else found.value,
        dataset=found.dataset,
        digest=found.content_id,
    )


def _registered(found: NamedModel, origin: OriginRecord | None) -> RegisteredDoc:
    return RegisteredDoc(
        name=found.model,
        description=found.description or "",
        created_ms=origin.created_ms if origin else _ms(found.made_at),
        updated_ms=origin.updated_ms if origin else _ms(found.changed_at),
        tags=dict(found.tags),
        aliases=dict(found.aliases),
    )


def _version(found: VersionRecord, origin: OriginRecord | None) -> VersionDoc:
    said = origin.details if origin else {}
    return VersionDoc(
        model=found.model,
        number=found.version,
        description=found.description or "",
        user=said.get("user", ""),
        stage=found.stage,
        source=found.source or f"noria:/{found.model}/{found.version}",
        storage=said.get("storage", "") if origin else found.storage,
        run=found.run,
        status=said.get("status", "READY"),
        message=said.get("message", ""),
        run_link=found.run_link,
        created_ms=origin.created_ms if origin else _ms(found.at),
        updated_ms=origin.updated_ms if origin else _ms(found.changed_at),
        tags=dict(found.tags),
    )


def _ms(at: str) -> int:
    return (instant(at) - _EPOCH) // timedelta(milliseconds=1)
