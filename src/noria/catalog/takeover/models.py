"""Taking over logged models: files with a name, params, tags and measures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from noria.catalog.facts import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelEnded,
    LoggedModelMeasured,
    LoggedModelParams,
    LoggedModelTagged,
    ModelPoint,
)
from noria.catalog.takeover.documents import MeasureDoc, ModelDoc
from noria.catalog.takeover.facts import OriginNoted
from noria.catalog.takeover.intake import Intake, in_parts, note_origin
from noria.experiments.records import ACTIVE
from noria.store.ledger import Transaction

__all__ = ["take_model"]

MEASURES_MAX = 400
"""Measures in one fact."""


def take_model(intake: Intake, doc: ModelDoc, experiment: int) -> None:
    """Bring a logged model in, and say where it differs. `experiment` is the number here."""
    with intake.ws.ledger.read() as tx:
        here = intake.ours.model(tx, doc.id)
    if here is None or _lacks(doc, here):
        intake.begin()
        with intake.ws.ledger.transaction() as tx:
            _add(intake, tx, doc, intake.ours.model(tx, doc.id), experiment)
    with intake.ws.ledger.read() as tx:
        here = intake.ours.model(tx, doc.id)
    intake.tally.seen["logged model"] += 1
    intake.tally.compare("logged model", doc.id, doc, here, but=["place"])


def _lacks(doc: ModelDoc, here: ModelDoc) -> bool:
    return bool(
        doc.params.keys() - here.params.keys()
        or doc.tags.keys() - here.tags.keys()
        or {_key(each) for each in doc.measures} - {_key(each) for each in here.measures}
        or (here.status == "pending" and doc.status != "pending")
        or _said(doc) != _said(here)
    )


def _said(doc: ModelDoc) -> tuple[object, ...]:
    return doc.created_ms, doc.updated_ms, doc.message


def _key(each: MeasureDoc) -> tuple[str, int, int, str]:
    return each.key, each.at_ms, each.step, each.run


def _add(intake: Intake, tx: Transaction, doc: ModelDoc, here: ModelDoc | None, experiment: int) -> None:
    if here is None:
        tx.append(
            LoggedModelCreated(
                model=doc.id, experiment=experiment, name=doc.name, model_type=doc.model_type, run=doc.run
            ),
            inputs=[("import", intake.ref), *([("run", f"run/{doc.run}")] if doc.run else [])],
            outputs=[("model", f"logged-model/{doc.id}")],
        )
        intake.tally.new["logged model"] += 1
    known_params = here.params if here else {}
    known_tags = here.tags if here else {}
    for part in in_parts({key: value for key, value in doc.params.items() if key not in known_params}):
        tx.append(LoggedModelParams(model=doc.id, params=part))
    for part in in_parts({key: value for key, value in doc.tags.items() if key not in known_tags}):
        tx.append(LoggedModelTagged(model=doc.id, tags=part))
    known = {_key(each) for each in here.measures} if here else set()
    _measure(tx, doc.id, [each for each in doc.measures if _key(each) not in known])
    if doc.status != "pending" and (here is None or here.status == "pending"):
        tx.append(LoggedModelEnded(model=doc.id, status=doc.status))
    if here is None and doc.stage != ACTIVE:
        tx.append(LoggedModelDeleted(model=doc.id))
    said = OriginNoted(
        of=f"logged-model/{doc.id}",
        place="",
        created_ms=doc.created_ms,
        updated_ms=doc.updated_ms,
        details={key: value for key, value in (("place", doc.place), ("message", doc.message)) if value},
    )
    note_origin(tx, said, intake.ref)


def _measure(tx: Transaction, model: str, measures: Sequence[MeasureDoc]) -> None:
    by_run: dict[str, list[ModelPoint]] = {}
    for each in measures:
        by_run.setdefault(each.run, []).append(
            ModelPoint(
                key=each.key,
                value=each.value if math.isfinite(each.value) else None,
                at_ms=each.at_ms,
                step=each.step,
                special="" if math.isfinite(each.value) else repr(each.value),
                dataset=each.dataset,
                content_id=each.digest,
            )
        )
    for run, points in by_run.items():
        for start in range(0, len(points), MEASURES_MAX):
            part = tuple(points[start : start + MEASURES_MAX])
            tx.append(LoggedModelMeasured(model=model, run=run, points=part), inputs=[("run", f"run/{run}")])
