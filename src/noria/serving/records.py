"""Records of serving: what should answer now, every rollout and its state, and the sealed log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.serving.facts import (
    Arm,
    DeploymentChanged,
    PredictionsSealed,
    RolloutAdvanced,
    RolloutFinished,
    RolloutStarted,
    SmokeFinished,
)
from noria.store.ledger import Reader, Transaction
from noria.store.rows import parsed
from noria.store.sql.words import Boolean, Column, Float, Index, Integer, Row, Text, select
from noria.store.tables import project, record_table

__all__ = [
    "OPEN",
    "PROJECTIONS",
    "TABLES",
    "DeploymentRecord",
    "RolloutRecord",
    "SegmentRecord",
    "SmokeRecord",
    "deployment",
    "deployments",
    "has_segment",
    "history",
    "logged_models",
    "open_rollout",
    "rollout",
    "rollouts",
    "segments",
    "smoke",
    "step_deployments",
]

OPEN = "open"
"""The outcome of a rollout that has not ended."""

_deployment = record_table(
    "deployment",
    Column("environment", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
)
_history = record_table(
    "deployment_history",
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("environment", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("rollout", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Index("deployment_history_model", "model", "environment", "seq"),
)
_rollout = record_table(
    "rollout",
    Column("rollout", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("before", Integer, nullable=False),
    Column("release", Integer, nullable=False),
    Column("plan", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("slow_us", Integer),
    Column("started_at", Text, nullable=False),
    Column("step_at", Text, nullable=False),
    Column("ended_at", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Index("rollout_model", "model", "environment", "seq"),
)
_smoke = record_table(
    "smoke",
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("model", Text, nullable=False),
    Column("release", Integer, nullable=False),
    Column("environment", Text, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Text, nullable=False),
    Index("smoke_release", "model", "release"),
)
_segment = record_table(
    "prediction_segment",
    Column("source", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("environment", Text, nullable=False),
    Column("segment", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_id", Text, nullable=False),
    Column("last_id", Text, nullable=False),
    Column("event_min", Text, nullable=False),
    Column("event_max", Text, nullable=False),
    Column("releases", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("at", Text, nullable=False),
    Index("prediction_segment_seq", "model", "seq"),
)

TABLES = (_deployment, _history, _rollout, _smoke, _segment)


@frozen(kw_only=True)
class DeploymentRecord:
    """The desired state of one model in one environment; `seq` names it in logs and acknowledgements.

    `rollout` and `step` say which rollout's step it stands for; empty and -1 for none.
    """

    model: str
    environment: str
    arms: tuple[Arm, ...]
    shadow: int
    seed: str
    kept: tuple[int, ...]
    cause: str
    seq: int
    at: str
    actor: str
    rollout: str = ""
    step: int = -1

    @property
    def production(self) -> int:
        """The release with the largest share."""
        return max(self.arms, key=lambda arm: arm.weight).release


@frozen(kw_only=True)
class RolloutRecord:
    """A rollout: its plan, the step it is at, and how it ended (`outcome` is "open" until then)."""

    rollout: str
    model: str
    environment: str
    before: int
    release: int
    plan: Mapping[str, Any]
    step: int
    outcome: str
    reason: str
    evidence: Mapping[str, Any]
    slow_us: int | None
    started_at: str
    step_at: str
    ended_at: str
    seq: int


@frozen(kw_only=True)
class SmokeRecord:
    """One smoke test of a release."""

    model: str
    release: int
    environment: str
    passed: bool
    rows: int
    seconds: float
    reason: str
    at: str
    seq: int


@frozen(kw_only=True)
class SegmentRecord:
    """A sealed piece of the prediction log: `segment` is the Parquet object's digest."""

    model: str
    environment: str
    segment: str
    source: str
    count: int
    first_id: str
    last_id: str
    event_min: str
    event_max: str
    releases: tuple[int, ...]
    seq: int
    at: str


@project(DeploymentChanged)
def _deployment_changed(tx: Transaction, fact: Stored[DeploymentChanged]) -> None:
    payload = fact.payload
    body = json.dumps(asdict(payload), sort_keys=True)
    place = {"environment": payload.environment, "model": payload.model}
    tx.upsert(_deployment, **place, seq=fact.seq, body=body, at=fact.at, actor=fact.actor)
    query = select(_rollout.c.rollout, _rollout.c.step).where(
        _rollout.c.model == payload.model, _rollout.c.environment == payload.environment, _rollout.c.outcome == OPEN
    )
    found = tx.first(query)
    tx.upsert(
        _history,
        **place,
        seq=fact.seq,
        body=body,
        at=fact.at,
        actor=fact.actor,
        rollout=found.rollout if found else "",
        step=found.step if found else -1,
    )


@project(RolloutStarted)
def _rollout_started(tx: Transaction, fact: Stored[RolloutStarted]) -> None:
    payload = fact.payload
    tx.upsert(
        _rollout,
        rollout=payload.rollout,
        model=payload.model,
        environment=payload.environment,
        before=payload.before,
        release=payload.release,
        plan=json.dumps(payload.plan, sort_keys=True, default=_plain),
        step=0,
        outcome=OPEN,
        reason="",
        evidence="{}",
        slow_us=payload.plan.get("slow_us"),
        started_at=fact.at,
        step_at=fact.at,
        ended_at="",
        seq=fact.seq,
    )


@project(RolloutAdvanced)
def _rollout_advanced(tx: Transaction, fact: Stored[RolloutAdvanced]) -> None:
    payload = fact.payload
    tx.update(
        _rollout,
        {"rollout": payload.rollout},
        step=payload.step,
        step_at=fact.at,
        evidence=json.dumps(payload.evidence, sort_keys=True, default=_plain),
        slow_us=payload.evidence.get("slow_us"),
    )


@project(RolloutFinished)
def _rollout_finished(tx: Transaction, fact: Stored[RolloutFinished]) -> None:
    payload = fact.payload
    tx.update(
        _rollout,
        {"rollout": payload.rollout},
        outcome=payload.outcome,
        reason=payload.reason,
        evidence=json.dumps(payload.evidence, sort_keys=True, default=_plain),
        ended_at=fact.at,
    )


@project(SmokeFinished)
def _smoke_finished(tx: Transaction, fact: Stored[SmokeFinished]) -> None:
    tx.upsert(_smoke, seq=fact.seq, at=fact.at, **asdict(fact.payload))


@project(PredictionsSealed)
def _predictions_sealed(tx: Transaction, fact: Stored[PredictionsSealed]) -> None:
    values = asdict(fact.payload)
    releases = json.dumps(list(values.pop("releases")))
    tx.upsert(_segment, **values, releases=releases, seq=fact.seq, at=fact.at)


PROJECTIONS = (
    _deployment_changed,
    _rollout_started,
    _rollout_advanced,
    _rollout_finished,
    _smoke_finished,
    _predictions_sealed,
)


def deployment(tx: Reader, model: str, environment: str = "local") -> DeploymentRecord | None:
    """What should answer for a model now; None if it was never deployed."""
    found = tx.first(
        select(_history)
        .where(_history.c.model == model, _history.c.environment == environment)
        .order_by(_history.c.seq.desc())
        .limit(1)
    )
    return None if found is None else _deployment_of(found)


def deployments(tx: Reader, environment: str = "local") -> list[DeploymentRecord]:
    """What should answer now, for every model of an environment, by name."""
    newest = select(_deployment.c.seq).where(_deployment.c.environment == environment)
    query = select(_history).where(_history.c.seq.in_(newest)).order_by(_history.c.model)
    return [_deployment_of(row) for row in tx.rows(query)]


def history(tx: Reader, model: str, environment: str = "local", *, limit: int = 1000) -> list[DeploymentRecord]:
    """Every deployment that a model ever had, newest first."""
    query = select(_history).where(_history.c.model == model, _history.c.environment == environment)
    return [_deployment_of(row) for row in tx.rows(query.order_by(_history.c.seq.desc()).limit(limit))]


def step_deployments(tx: Reader, rollout_id: str) -> dict[int, int]:
    """The step that each deployment of a rollout stands for, by its seq."""
    query = select(_history.c.seq, _history.c.step).where(_history.c.rollout == rollout_id)
    return {row.seq: row.step for row in tx.rows(query)}


def open_rollout(tx: Reader, model: str, environment: str = "local") -> RolloutRecord | None:
    """The rollout of a model that is under way, or None."""
    query = select(_rollout).where(
        _rollout.c.model == model, _rollout.c.environment == environment, _rollout.c.outcome == OPEN
    )
    found = tx.first(query)
    return None if found is None else _rollout_of(found)


def rollout(tx: Reader, rollout_id: str) -> RolloutRecord | None:
    """One rollout by id, or None."""
    found = tx.first(select(_rollout).where(_rollout.c.rollout == rollout_id))
    return None if found is None else _rollout_of(found)


def rollouts(tx: Reader, model: str = "", environment: str = "local", *, limit: int = 1000) -> list[RolloutRecord]:
    """Rollouts, newest first; of every model if none is named."""
    query = select(_rollout).where(_rollout.c.environment == environment)
    if model:
        query = query.where(_rollout.c.model == model)
    return [_rollout_of(row) for row in tx.rows(query.order_by(_rollout.c.seq.desc()).limit(limit))]


def smoke(tx: Reader, model: str, release: int, environment: str = "local") -> SmokeRecord | None:
    """The newest smoke test of a release, or None."""
    query = select(_smoke).where(
        _smoke.c.model == model, _smoke.c.release == release, _smoke.c.environment == environment
    )
    found = tx.first(query.order_by(_smoke.c.seq.desc()).limit(1))
    return None if found is None else SmokeRecord(**found._mapping)


def segments(tx: Reader, model: str, environment: str = "local", *, after: int = 0) -> list[SegmentRecord]:
    """Sealed segments of a model's prediction log with a seq above `after`, oldest first."""
    query = select(_segment).where(
        _segment.c.model == model, _segment.c.environment == environment, _segment.c.seq > after
    )
    return [
        SegmentRecord(**{**row._mapping, "releases": tuple(parsed(row.releases))})
        for row in tx.rows(query.order_by(_segment.c.seq))
    ]


def logged_models(tx: Reader) -> list[str]:
    """The models that have a sealed prediction log, sorted."""
    return [str(row[0]) for row in tx.rows(select(_segment.c.model).distinct().order_by(_segment.c.model))]


def has_segment(tx: Reader, model: str, source: str) -> bool:
    """Whether a log file was sealed."""
    return tx.first(select(_segment.c.seq).where(_segment.c.model == model, _segment.c.source == source)) is not None


def _deployment_of(row: Row[Any]) -> DeploymentRecord:
    body = parsed(row.body)
    return DeploymentRecord(
        model=row.model,
        environment=row.environment,
        arms=tuple(Arm(**arm) for arm in body["arms"]),
        shadow=body["shadow"],
        seed=body["seed"],
        kept=tuple(body["kept"]),
        cause=body["cause"],
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        rollout=row.rollout,
        step=row.step,
    )


def _rollout_of(row: Row[Any]) -> RolloutRecord:
    values = dict(row._mapping)
    values["plan"], values["evidence"] = parsed(values["plan"]), parsed(values["evidence"])
    return RolloutRecord(**values)


def _plain(value: Any) -> Any:
    """Frozen mappings and tuples of a fact's payload as json sees them."""
    return dict(value) if isinstance(value, Mapping) else list(value)
