"""Records of monitoring: sealed labels, the newest drift and quality of each window, and alerts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.monitoring.facts import AlertRaised, AlertResolved, DriftMeasured, Estimate, LabelsSealed, QualityMeasured
from noria.store.ledger import Reader, Transaction
from noria.store.rows import parsed
from noria.store.sql.words import Column, Index, Integer, Row, Text, select
from noria.store.tables import project, record_table

__all__ = [
    "PROJECTIONS",
    "TABLES",
    "AlertRecord",
    "DriftRecord",
    "LabelSegment",
    "QualityRecord",
    "alert",
    "alerts",
    "drift",
    "drifts",
    "label_segments",
    "qualities",
    "quality",
]

_labels = record_table(
    "label_segment",
    Column("model", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("segment", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("event_min", Text, nullable=False),
    Column("event_max", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Index("label_segment_seq", "model", "seq"),
)
_drift = record_table(
    "drift_window",
    Column("model", Text, primary_key=True),
    Column("window", Text, primary_key=True),
    Column("start", Text, nullable=False),
    Column("end", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("reference", Text, nullable=False),
    Column("drifted", Text, nullable=False),
    Column("report", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("at", Text, nullable=False),
)
_quality = record_table(
    "quality_window",
    Column("model", Text, primary_key=True),
    Column("window", Text, primary_key=True),
    Column("start", Text, nullable=False),
    Column("end", Text, nullable=False),
    Column("as_of", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("labelled", Integer, nullable=False),
    Column("live", Text, nullable=False),
    Column("frozen", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("at", Text, nullable=False),
)
_alert = record_table(
    "alert",
    Column("model", Text, primary_key=True),
    Column("alert", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("window", Text, nullable=False),
    Column("raised_at", Text, nullable=False),
    Column("resolved_at", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("seq", Integer, nullable=False),
)

TABLES = (_labels, _drift, _quality, _alert)


@frozen(kw_only=True)
class LabelSegment:
    """A sealed piece of the label log: `segment` is the Parquet object's digest."""

    model: str
    source: str
    segment: str
    count: int
    event_min: str
    event_max: str
    seq: int


@frozen(kw_only=True)
class DriftRecord:
    """The newest drift measurement of a window; `report` is the digest of the columns' figures."""

    model: str
    window: str
    start: str
    end: str
    rows: int
    reference: str
    drifted: tuple[str, ...]
    report: str
    seq: int
    at: str


@frozen(kw_only=True)
class QualityRecord:
    """The newest quality measurement of a window."""

    model: str
    window: str
    start: str
    end: str
    as_of: str
    rows: int
    labelled: int
    live: Mapping[str, Estimate]
    frozen: Mapping[str, Estimate]
    seq: int
    at: str


@frozen(kw_only=True)
class AlertRecord:
    """An alert; `resolved_at` is empty while it stands."""

    model: str
    alert: str
    kind: str
    severity: str
    message: str
    window: str
    raised_at: str
    resolved_at: str
    reason: str
    seq: int

    @property
    def is_open(self) -> bool:
        """Whether it stands."""
        return not self.resolved_at


@project(LabelsSealed)
def _labels_sealed(tx: Transaction, fact: Stored[LabelsSealed]) -> None:
    tx.upsert(_labels, seq=fact.seq, **asdict(fact.payload))


@project(DriftMeasured)
def _drift_measured(tx: Transaction, fact: Stored[DriftMeasured]) -> None:
    values = asdict(fact.payload)
    tx.upsert(_drift, **{**values, "drifted": json.dumps(values["drifted"])}, seq=fact.seq, at=fact.at)


@project(QualityMeasured)
def _quality_measured(tx: Transaction, fact: Stored[QualityMeasured]) -> None:
    payload = fact.payload
    tx.upsert(
        _quality,
        model=payload.model,
        window=payload.window,
        start=payload.start,
        end=payload.end,
        as_of=payload.as_of,
        rows=payload.rows,
        labelled=payload.labelled,
        live=_estimates(payload.live),
        frozen=_estimates(payload.frozen),
        seq=fact.seq,
        at=fact.at,
    )


@project(AlertRaised)
def _alert_raised(tx: Transaction, fact: Stored[AlertRaised]) -> None:
    tx.upsert(_alert, raised_at=fact.at, resolved_at="", reason="", seq=fact.seq, **asdict(fact.payload))


@project(AlertResolved)
def _alert_resolved(tx: Transaction, fact: Stored[AlertResolved]) -> None:
    payload = fact.payload
    where = {"model": payload.model, "alert": payload.alert}
    tx.update(_alert, where, resolved_at=fact.at, reason=payload.reason)


PROJECTIONS = (_labels_sealed, _drift_measured, _quality_measured, _alert_raised, _alert_resolved)


def label_segments(tx: Reader, model: str) -> list[LabelSegment]:
    """Sealed labels of a model, oldest first."""
    query = select(_labels).where(_labels.c.model == model).order_by(_labels.c.seq)
    return [LabelSegment(**row._mapping) for row in tx.rows(query)]


def drift(tx: Reader, model: str, window: str) -> DriftRecord | None:
    """The drift of one window, or None if it was never measured."""
    found = tx.first(select(_drift).where(_drift.c.model == model, _drift.c.window == window))
    return None if found is None else _drift_of(found)


def drifts(tx: Reader, model: str) -> list[DriftRecord]:
    """The drift of every measured window, in time order."""
    query = select(_drift).where(_drift.c.model == model).order_by(_drift.c.start, _drift.c.window)
    return [_drift_of(row) for row in tx.rows(query)]


def quality(tx: Reader, model: str, window: str) -> QualityRecord | None:
    """The quality of one window, or None if it was never measured."""
    found = tx.first(select(_quality).where(_quality.c.model == model, _quality.c.window == window))
    return None if found is None else _quality_of(found)


def qualities(tx: Reader, model: str) -> list[QualityRecord]:
    """The quality of every measured window, in time order."""
    query = select(_quality).where(_quality.c.model == model).order_by(_quality.c.start, _quality.c.window)
    return [_quality_of(row) for row in tx.rows(query)]


def alert(tx: Reader, model: str, name: str) -> AlertRecord | None:
    """One alert by name, open or not, or None."""
    found = tx.first(select(_alert).where(_alert.c.model == model, _alert.c.alert == name))
    return None if found is None else AlertRecord(**found._mapping)


def alerts(tx: Reader, model: str = "", *, every: bool = False) -> list[AlertRecord]:
    """Open alerts, newest first; resolved ones too if asked; of every model if none is named."""
    query = select(_alert)
    if model:
        query = query.where(_alert.c.model == model)
    if not every:
        query = query.where(_alert.c.resolved_at == "")
    return [AlertRecord(**row._mapping) for row in tx.rows(query.order_by(_alert.c.seq.desc()))]


def _estimates(values: Mapping[str, Estimate]) -> str:
    return json.dumps({name: asdict(value) for name, value in values.items()}, sort_keys=True)


def _drift_of(row: Row[Any]) -> DriftRecord:
    return DriftRecord(**{**row._mapping, "drifted": tuple(parsed(row.drifted))})


def _quality_of(row: Row[Any]) -> QualityRecord:
    found = {
        side: {name: Estimate(**value) for name, value in parsed(row._mapping[side]).items()}
        for side in ("live", "frozen")
    }
    return QualityRecord(**{**row._mapping, **found})
