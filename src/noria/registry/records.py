"""What the registry knows now: versions, gate judgements, releases and their states, aliases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Row, Table, Text, func, select

from noria.core.fact import Stored
from noria.registry.facts import AliasMoved, GateJudged, ReleaseMade, ReleaseMoved, Verdict, VersionRegistered
from noria.store.ledger import Reader, Transaction
from noria.store.payload import decode, encode
from noria.store.rows import parsed
from noria.store.tables import project, record_table
from noria.tracking.facts import Pin

__all__ = [
    "PROJECTIONS",
    "TABLES",
    "JudgementRecord",
    "ReleaseRecord",
    "VersionRecord",
    "aliases",
    "in_flight",
    "judgement",
    "judgements",
    "last_release",
    "models",
    "place",
    "production",
    "release",
    "release_of_content",
    "releases",
    "version",
    "version_of_alias",
    "version_of_bundle",
    "versions",
]

IN_FLIGHT = ("shadow", "canary")

_version = record_table(
    "model_version",
    Column("model", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("bundle", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("pins", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("model_version_bundle", "bundle"),
    Index("model_version_run", "run"),
)
_judgement = record_table(
    "model_judgement",
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("model", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("champion", Integer, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("verdicts", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("report", Text, nullable=False),
    Column("at", Text, nullable=False),
    Index("model_judgement_version", "model", "number", "seq"),
)
_release = record_table(
    "model_release",
    Column("model", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("content", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("made_at", Text, nullable=False),
    Column("moved_at", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("model_release_state", "model", "state"),
)
_place = record_table(
    "model_place",
    Column("model", Text, primary_key=True),
    Column("environment", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("model_place_state", "model", "environment", "state"),
)
_alias = record_table(
    "model_alias",
    Column("model", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("at", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
TABLES: tuple[Table, ...] = (_version, _judgement, _release, _place, _alias)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """An immutable version of a model."""

    model: str
    version: int
    bundle: str
    run: str
    metrics: Mapping[str, float]
    pins: tuple[Pin, ...]
    at: str
    actor: str

    @property
    def ref(self) -> str:
        """Its name for people: `churn:14`."""
        return f"{self.model}:{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgementRecord:
    """What all gates said of a version, when, against which champion (0: none)."""

    model: str
    version: int
    champion: int
    passed: bool
    verdicts: tuple[Verdict, ...]
    policy: str
    report: str
    at: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRecord:
    """A release and its newest state; `environment` is where it moved last."""

    model: str
    release: int
    version: int
    content: str
    state: str
    environment: str
    reason: str
    made_at: str
    moved_at: str

    @property
    def ref(self) -> str:
        """Its name for people: `churn r31`."""
        return f"{self.model} r{self.release}"


@project(VersionRegistered)
def _registered(tx: Transaction, fact: Stored[VersionRegistered]) -> None:
    p = fact.payload
    tx.upsert(
        _version,
        model=p.model,
        number=p.version,
        bundle=p.bundle,
        run=p.run,
        metrics=json.dumps(dict(p.metrics), sort_keys=True),
        pins=json.dumps([encode(pin) for pin in p.pins], sort_keys=True),
        at=fact.at,
        actor=fact.actor,
        seq=fact.seq,
    )


@project(GateJudged)
def _judged(tx: Transaction, fact: Stored[GateJudged]) -> None:
    p = fact.payload
    tx.upsert(
        _judgement,
        seq=fact.seq,
        model=p.model,
        number=p.version,
        champion=p.champion,
        passed=p.passed,
        verdicts=json.dumps([encode(verdict) for verdict in p.verdicts], sort_keys=True),
        policy=p.policy,
        report=p.report,
        at=fact.at,
    )


@project(ReleaseMade)
def _made(tx: Transaction, fact: Stored[ReleaseMade]) -> None:
    p = fact.payload
    tx.upsert(
        _release,
        model=p.model,
        number=p.release,
        version=p.version,
        content=p.content,
        state="candidate",
        environment="",
        reason="",
        made_at=fact.at,
        moved_at=fact.at,
        seq=fact.seq,
    )


@project(ReleaseMoved)
def _moved(tx: Transaction, fact: Stored[ReleaseMoved]) -> None:
    p = fact.payload
    tx.update(
        _release,
        {"model": p.model, "number": p.release},
        state=p.after,
        environment=p.environment,
        reason=p.reason,
        moved_at=fact.at,
        seq=fact.seq,
    )
    tx.upsert(
        _place,
        model=p.model,
        environment=p.environment,
        number=p.release,
        state=p.after,
        at=fact.at,
        seq=fact.seq,
    )


@project(AliasMoved)
def _alias_moved(tx: Transaction, fact: Stored[AliasMoved]) -> None:
    p = fact.payload
    tx.upsert(_alias, model=p.model, alias=p.alias, version=p.version, at=fact.at, seq=fact.seq)


PROJECTIONS = (_registered, _judged, _made, _moved, _alias_moved)


def models(tx: Reader) -> list[str]:
    """The names of all models that have a version, sorted."""
    return [str(row[0]) for row in tx.rows(select(_version.c.model).distinct().order_by(_version.c.model))]


def version(tx: Reader, model: str, number: int) -> VersionRecord | None:
    """A version by number; 0 gives the newest."""
    query = select(_version).where(_version.c.model == model)
    query = query.where(_version.c.number == number) if number else query.order_by(_version.c.number.desc())
    return _version_of(tx.first(query.limit(1)))


def version_of_bundle(tx: Reader, model: str, bundle: str) -> VersionRecord | None:
    """The version of a model that holds a bundle."""
    return _version_of(tx.first(select(_version).where(_version.c.model == model, _version.c.bundle == bundle)))


def version_of_alias(tx: Reader, model: str, alias: str) -> VersionRecord | None:
    """The version that an alias points to."""
    number = tx.scalar(select(_alias.c.version).where(_alias.c.model == model, _alias.c.alias == alias))
    return None if number is None else version(tx, model, int(number))


def versions(tx: Reader, model: str, *, run: str = "", limit: int = 1000) -> list[VersionRecord]:
    """Versions of a model, newest first; only those of one run if it is given."""
    query = select(_version).where(_version.c.model == model)
    if run:
        query = query.where(_version.c.run == run)
    found = tx.rows(query.order_by(_version.c.number.desc()).limit(limit))
    return [record for row in found if (record := _version_of(row)) is not None]


def aliases(tx: Reader, model: str) -> dict[str, int]:
    """The aliases of a model and their versions."""
    found = tx.rows(select(_alias.c.alias, _alias.c.version).where(_alias.c.model == model).order_by(_alias.c.alias))
    return {str(row.alias): int(row.version) for row in found}


def judgement(tx: Reader, model: str, number: int) -> JudgementRecord | None:
    """What the gates said last of a version."""
    found = judgements(tx, model, number, limit=1)
    return found[0] if found else None


def judgements(tx: Reader, model: str, number: int = 0, *, limit: int = 1000) -> list[JudgementRecord]:
    """All judgements of a model, or of one version of it, newest first."""
    query = select(_judgement).where(_judgement.c.model == model)
    if number:
        query = query.where(_judgement.c.number == number)
    return [_judgement_of(row) for row in tx.rows(query.order_by(_judgement.c.seq.desc()).limit(limit))]


def release(tx: Reader, model: str, number: int) -> ReleaseRecord | None:
    """A release by number; 0 gives the newest."""
    query = select(_release).where(_release.c.model == model)
    query = query.where(_release.c.number == number) if number else query.order_by(_release.c.number.desc())
    return _release_of(tx.first(query.limit(1)))


def release_of_content(tx: Reader, model: str, content: str) -> ReleaseRecord | None:
    """The release of a model that has this content."""
    return _release_of(tx.first(select(_release).where(_release.c.model == model, _release.c.content == content)))


def releases(tx: Reader, model: str, *, state: str = "", limit: int = 1000) -> list[ReleaseRecord]:
    """Releases of a model, newest first; only those in a state if it is given."""
    query = select(_release).where(_release.c.model == model)
    if state:
        query = query.where(_release.c.state == state)
    found = tx.rows(query.order_by(_release.c.number.desc()).limit(limit))
    return [record for row in found if (record := _release_of(row)) is not None]


def last_release(tx: Reader, model: str) -> int:
    """The greatest release number of a model; 0 if it has none."""
    return int(tx.scalar(select(func.max(_release.c.number)).where(_release.c.model == model)) or 0)


def production(tx: Reader, model: str, environment: str = "local") -> ReleaseRecord | None:
    """The one release that is in production in an environment."""
    found = _placed(tx, model, environment, ("production",))
    assert len(found) < 2, f"{model} has {len(found)} production releases in {environment}"
    return found[0] if found else None


def in_flight(tx: Reader, model: str, environment: str = "local") -> list[ReleaseRecord]:
    """The releases that are in shadow or canary in an environment."""
    return _placed(tx, model, environment, IN_FLIGHT)


def place(tx: Reader, model: str, environment: str, number: int) -> str:
    """The state that a release had when it last moved in an environment; empty if it never did."""
    query = select(_place.c.state).where(
        _place.c.model == model, _place.c.environment == environment, _place.c.number == number
    )
    return str(tx.scalar(query) or "")


def _placed(tx: Reader, model: str, environment: str, states: tuple[str, ...]) -> list[ReleaseRecord]:
    query = (
        select(_release)
        .join(_place, (_place.c.model == _release.c.model) & (_place.c.number == _release.c.number))
        .where(_place.c.model == model, _place.c.environment == environment, _place.c.state.in_(states))
        .order_by(_release.c.number)
    )
    return [record for row in tx.rows(query) if (record := _release_of(row)) is not None]


def _version_of(row: Row[Any] | None) -> VersionRecord | None:
    if row is None:
        return None
    return VersionRecord(
        model=row.model,
        version=row.number,
        bundle=row.bundle,
        run=row.run,
        metrics={name: float(value) for name, value in parsed(row.metrics).items()},
        pins=tuple(decode(Pin, pin) for pin in parsed(row.pins)),
        at=row.at,
        actor=row.actor,
    )


def _judgement_of(row: Row[Any]) -> JudgementRecord:
    return JudgementRecord(
        model=row.model,
        version=row.number,
        champion=row.champion,
        passed=row.passed,
        verdicts=tuple(decode(Verdict, verdict) for verdict in parsed(row.verdicts)),
        policy=row.policy,
        report=row.report,
        at=row.at,
        seq=row.seq,
    )


def _release_of(row: Row[Any] | None) -> ReleaseRecord | None:
    if row is None:
        return None
    return ReleaseRecord(
        model=row.model,
        release=row.number,
        version=row.version,
        content=row.content,
        state=row.state,
        environment=row.environment,
        reason=row.reason,
        made_at=row.made_at,
        moved_at=row.moved_at,
    )
