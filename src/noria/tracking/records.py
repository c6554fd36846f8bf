"""Records of runs: state, pins, artifacts and sealed metrics, as the facts left them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from typing import Any

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import JSON, BigInteger, Column, Float, Index, Integer, Row, Text, bindparam, select
from noria.store.tables import project, record_table
from noria.tracking.facts import (
    ArtifactLogged,
    ArtifactRemoved,
    CancelRequested,
    Code,
    MetricsSealed,
    Pin,
    RunFinished,
    RunReproduced,
    RunResumed,
    RunStarted,
)

__all__ = [
    "PROJECTIONS",
    "TABLES",
    "ArtifactRecord",
    "ReproductionRecord",
    "RunRecord",
    "artifact",
    "artifacts",
    "by_prefix",
    "newest",
    "reproductions",
    "run",
    "running",
    "runs",
    "segments",
]

_run = record_table(
    "run",
    Column("run", Text, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("finished_at", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("actor", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("code", JSON, nullable=False),
    Column("config", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("pins", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("resumed", Integer, nullable=False),
    Column("cancel", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("run_status", "status", "seq"),
    Index("run_seq", "seq"),
)
_artifact = record_table(
    "artifact",
    Column("run", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
)
_segment = record_table(
    "metric_segment",
    Column("run", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("points", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
_reproduction = record_table(
    "reproduction",
    Column("seq", BigInteger, primary_key=True),
    Column("run", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Index("reproduction_run", "run", "seq"),
)
TABLES = (_run, _artifact, _segment, _reproduction)
_BY_RUN = select(_run).where(_run.c.run == bindparam("run"))
_ARTIFACT = select(_artifact).where(_artifact.c.run == bindparam("run"), _artifact.c.name == bindparam("name"))
_ARTIFACTS = select(_artifact).where(_artifact.c.run == bindparam("run")).order_by(_artifact.c.name)


@frozen(kw_only=True)
class RunRecord:
    """One run. `status` is running, finished, failed, stopped, cancelled, preempted or lost; times are UTC texts.

    `resumed` counts how often it was taken up again; `cancel` says why it is to end, if somebody asked.
    """

    run: str
    pipeline: str
    status: str
    cause: str
    reason: str
    started_at: str
    finished_at: str
    seconds: float
    actor: str
    owner: str
    code: Code
    config: str
    environment: str
    seed: int
    pins: tuple[Pin, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    resumed: int = 0
    cancel: str = ""
    seq: int = 0
    host: str = ""


@frozen(kw_only=True)
class ArtifactRecord:
    """A named object of a run."""

    run: str
    name: str
    digest: str
    size_bytes: int
    type: str


@frozen(kw_only=True)
class ReproductionRecord:
    """One time that a run was done again; `verdict` is identical, tolerated, different or impossible."""

    run: str
    verdict: str
    document: str
    environment: str
    step: str
    kind: str
    seconds: float
    at: str
    actor: str
    seq: int


@project(RunStarted)
def started(tx: Transaction, fact: Stored[RunStarted]) -> None:
    """A run is running from its start on."""
    payload = fact.payload
    tx.upsert(
        _run,
        run=payload.run,
        pipeline=payload.pipeline,
        status="running",
        cause=payload.cause,
        reason="",
        started_at=fact.at,
        finished_at="",
        seconds=0.0,
        actor=fact.actor,
        owner=payload.owner,
        code=asdict(payload.code),
        config=payload.config,
        environment=payload.environment,
        host=payload.host,
        seed=payload.seed,
        pins=[asdict(pin) for pin in payload.pins],
        metrics={},
        resumed=0,
        cancel="",
        seq=fact.seq,
    )


@project(RunFinished)
def finished(tx: Transaction, fact: Stored[RunFinished]) -> None:
    """A run ends once, and again only when it was resumed; any other end is not taken."""
    payload = fact.payload
    tx.update(
        _run,
        {"run": payload.run, "status": "running"},
        status=payload.status,
        reason=payload.reason,
        finished_at=fact.at,
        seconds=payload.seconds,
        metrics=dict(payload.metrics),
    )


@project(RunResumed)
def resumed(tx: Transaction, fact: Stored[RunResumed]) -> None:
    """The run is running again, and its new owner's."""
    payload = fact.payload
    found = run(tx, payload.run)
    if found is not None:
        tx.update(
            _run,
            {"run": payload.run},
            status="running",
            reason="",
            finished_at="",
            owner=payload.owner,
            resumed=found.resumed + 1,
            cancel="",
        )


@project(CancelRequested)
def cancel_requested(tx: Transaction, fact: Stored[CancelRequested]) -> None:
    """What is asked for stands with the run until it is resumed."""
    payload = fact.payload
    tx.update(_run, {"run": payload.run}, cancel=payload.reason or f"asked for by {fact.actor}")


@project(ArtifactLogged)
def artifact_logged(tx: Transaction, fact: Stored[ArtifactLogged]) -> None:
    """The newest object under a name is the run's artifact of that name."""
    payload = fact.payload
    tx.upsert(
        _artifact,
        run=payload.run,
        name=payload.name,
        digest=payload.digest,
        size_bytes=payload.size_bytes,
        type=payload.type,
    )


@project(ArtifactRemoved)
def artifact_removed(tx: Transaction, fact: Stored[ArtifactRemoved]) -> None:
    """A name that is not there any more may be given again."""
    tx.delete(_artifact, run=fact.payload.run, name=fact.payload.name)


@project(MetricsSealed)
def metrics_sealed(tx: Transaction, fact: Stored[MetricsSealed]) -> None:
    """A run's metric points are in its segments, in order of their facts."""
    payload = fact.payload
    tx.upsert(_segment, run=payload.run, segment=payload.segment, points=payload.points, seq=fact.seq)


@project(RunReproduced)
def reproduced(tx: Transaction, fact: Stored[RunReproduced]) -> None:
    """Every time that a run was done again is kept."""
    payload = fact.payload
    tx.upsert(
        _reproduction,
        seq=fact.seq,
        run=payload.run,
        verdict=payload.verdict,
        document=payload.document,
        environment=payload.environment,
        step=payload.step,
        kind=payload.kind,
        seconds=payload.seconds,
        at=fact.at,
        actor=fact.actor,
    )


PROJECTIONS = (
    started,
    finished,
    resumed,
    cancel_requested,
    artifact_logged,
    artifact_removed,
    metrics_sealed,
    reproduced,
)


def run(tx: Reader, name: str) -> RunRecord | None:
    """The run of that id, or None."""
    found = tx.first(_BY_RUN, {"run": name})
    return None if found is None else _record(found)


def by_prefix(tx: Reader, prefix: str, limit: int = 3) -> list[RunRecord]:
    """Runs whose id begins or ends with the text, newest first."""
    fits = _run.c.run.startswith(prefix, autoescape=True) | _run.c.run.endswith(prefix, autoescape=True)
    return [_record(row) for row in tx.rows(select(_run).where(fits).order_by(_run.c.seq.desc()).limit(limit))]


def newest(tx: Reader, pipeline: str = "", status: str = "") -> RunRecord | None:
    """The newest run, of a pipeline or in a status if these are given."""
    found = runs(tx, pipeline=pipeline, status=status, limit=1)
    return found[0] if found else None


def runs(tx: Reader, *, pipeline: str = "", status: str = "", limit: int = 50) -> list[RunRecord]:
    """Runs, newest first."""
    query = select(_run).order_by(_run.c.seq.desc()).limit(limit)
    if pipeline:
        query = query.where(_run.c.pipeline == pipeline)
    if status:
        query = query.where(_run.c.status == status)
    return [_record(row) for row in tx.rows(query)]


def running(tx: Reader) -> list[RunRecord]:
    """Runs that have not ended, oldest first."""
    return [_record(row) for row in tx.rows(select(_run).where(_run.c.status == "running").order_by(_run.c.seq))]


def artifacts(tx: Reader, name: str) -> list[ArtifactRecord]:
    """The artifacts of a run, by name."""
    rows = tx.rows(_ARTIFACTS, {"run": name})
    return [ArtifactRecord(**row._mapping) for row in rows]


def artifact(tx: Reader, run: str, name: str) -> ArtifactRecord | None:
    """An artifact of a run by its name."""
    rows = tx.rows(_ARTIFACT, {"run": run, "name": name})
    return next((ArtifactRecord(**row._mapping) for row in rows), None)


def segments(tx: Reader, name: str) -> Sequence[str]:
    """The digests of a run's sealed metric points, oldest first."""
    rows = tx.rows(select(_segment.c.segment).where(_segment.c.run == name).order_by(_segment.c.seq))
    return [str(row.segment) for row in rows]


def reproductions(tx: Reader, name: str) -> list[ReproductionRecord]:
    """Every time that a run was done again, newest first."""
    rows = tx.rows(select(_reproduction).where(_reproduction.c.run == name).order_by(_reproduction.c.seq.desc()))
    return [ReproductionRecord(**row._mapping) for row in rows]


def _record(row: Row[Any]) -> RunRecord:
    values = dict(row._mapping)
    values["code"] = Code(**values["code"])
    values["pins"] = tuple(Pin(**pin) for pin in values["pins"])
    return RunRecord(**values)
