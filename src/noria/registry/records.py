"""What the registry knows now: versions, gate judgements, releases and their states, aliases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from noria.core.clock import utc_text
from noria.core.fact import Stored
from noria.registry.facts import (
    AliasMoved,
    AliasRemoved,
    GateJudged,
    ModelDescribed,
    ModelFiled,
    ModelRemoved,
    ModelRenamed,
    ModelTagged,
    ModelUntagged,
    ReleaseMade,
    ReleaseMoved,
    Verdict,
    VersionBundled,
    VersionFiled,
    VersionRegistered,
    VersionRemoved,
    VersionStaged,
)
from noria.registry.kept import ARCHIVED, NO_STAGE, JudgementRecord, NamedModel, ReleaseRecord, VersionRecord
from noria.store.ledger import Reader, Transaction
from noria.store.payload import decode, encode
from noria.store.rows import parsed
from noria.store.sql.words import BigInteger, Boolean, Column, Index, Integer, Select, Text, bindparam, func, select
from noria.store.tables import project, record_table
from noria.tracking.facts import Pin

__all__ = [
    "ARCHIVED",
    "NO_STAGE",
    "PROJECTIONS",
    "TABLES",
    "JudgementRecord",
    "NamedModel",
    "ReleaseRecord",
    "VersionRecord",
    "aliases",
    "date_registered",
    "in_flight",
    "is_named",
    "judgement",
    "judgements",
    "last_number",
    "last_release",
    "models",
    "named",
    "place",
    "production",
    "release",
    "release_of_content",
    "releases",
    "tags",
    "version",
    "version_of_alias",
    "version_of_bundle",
    "versions",
    "versions_of",
]

IN_FLIGHT = ("shadow", "canary")

_model = record_table(
    "registered_model",
    Column("model", Text, primary_key=True),
    Column("description", Text, nullable=True),
    Column("made_at", Text, nullable=False),
    Column("changed_at", Text, nullable=False),
    Column("last", Integer, nullable=False),
)
_tag = record_table(
    "model_tag",
    Column("model", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

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
    Column("source", Text, nullable=False),
    Column("storage", Text, nullable=False),
    Column("run_link", Text, nullable=False),
    Column("description", Text, nullable=True),
    Column("stage", Text, nullable=False),
    Column("changed_at", Text, nullable=False),
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
_LAST = select(_model.c.last).where(_model.c.model == bindparam("of"))
_TAGS = select(_tag).where(_tag.c.model == bindparam("of"), _tag.c.number == bindparam("at")).order_by(_tag.c.key)
_NUMBERED = select(_version).where(_version.c.model == bindparam("of"), _version.c.number == bindparam("at"))
_NEWEST = select(_version).where(_version.c.model == bindparam("of")).order_by(_version.c.number.desc()).limit(1)
TABLES = (_model, _tag, _version, _judgement, _release, _place, _alias)


@project(VersionRegistered)
def _registered(tx: Transaction, fact: Stored[VersionRegistered]) -> None:
    p = fact.payload
    metrics = json.dumps(dict(p.metrics), sort_keys=True)
    pins = json.dumps([encode(pin) for pin in p.pins], sort_keys=True)
    _put_version(tx, fact, p.model, p.version, bundle=p.bundle, run=p.run, metrics=metrics, pins=pins)


@project(VersionFiled)
def _version_filed(tx: Transaction, fact: Stored[VersionFiled]) -> None:
    p = fact.payload
    _put_version(
        tx,
        fact,
        p.model,
        p.version,
        run=p.run,
        source=p.source,
        storage=p.storage,
        run_link=p.run_link,
        description=p.description,
    )
    for key, value in p.tags.items():
        tx.upsert(_tag, model=p.model, number=p.version, key=key, value=value)


@project(VersionBundled)
def _bundled(tx: Transaction, fact: Stored[VersionBundled]) -> None:
    p = fact.payload
    tx.update(_version, {"model": p.model, "number": p.version}, bundle=p.bundle)


@project(ModelFiled)
def _model_filed(tx: Transaction, fact: Stored[ModelFiled]) -> None:
    p = fact.payload
    tx.upsert(
        _model,
        model=p.model,
        description=p.description,
        made_at=fact.at,
        changed_at=fact.at,
        last=last_number(tx, p.model),
    )
    for key, value in p.tags.items():
        tx.upsert(_tag, model=p.model, number=0, key=key, value=value)


@project(ModelDescribed)
def _described(tx: Transaction, fact: Stored[ModelDescribed]) -> None:
    p = fact.payload
    if p.version:
        where = {"model": p.model, "number": p.version}
        tx.update(_version, where, description=p.description, changed_at=fact.at)
    else:
        tx.update(_model, {"model": p.model}, description=p.description, changed_at=fact.at)


@project(ModelTagged)
def _tagged(tx: Transaction, fact: Stored[ModelTagged]) -> None:
    p = fact.payload
    tx.upsert(_tag, model=p.model, number=p.version, key=p.key, value=p.value)


@project(ModelUntagged)
def _untagged(tx: Transaction, fact: Stored[ModelUntagged]) -> None:
    p = fact.payload
    tx.delete(_tag, model=p.model, number=p.version, key=p.key)


@project(ModelRenamed)
def _renamed(tx: Transaction, fact: Stored[ModelRenamed]) -> None:
    p = fact.payload
    if p.model == p.before:
        return
    for table in (_model, _version, _tag, _alias):
        tx.delete(table, model=p.model)  # the name was free: this is for a fold of any facts
    for table in (_model, _version):
        tx.update(table, {"model": p.before}, model=p.model, changed_at=fact.at)
    for table in (_tag, _alias):
        tx.update(table, {"model": p.before}, model=p.model)


@project(ModelRemoved)
def _removed(tx: Transaction, fact: Stored[ModelRemoved]) -> None:
    for table in (_model, _version, _tag, _alias):
        tx.delete(table, model=fact.payload.model)


@project(VersionStaged)
def _staged(tx: Transaction, fact: Stored[VersionStaged]) -> None:
    p = fact.payload
    for number in p.archived:
        tx.update(_version, {"model": p.model, "number": number}, stage=ARCHIVED, changed_at=fact.at)
    tx.update(_version, {"model": p.model, "number": p.version}, stage=p.stage, changed_at=fact.at)
    tx.update(_model, {"model": p.model}, changed_at=fact.at)


@project(VersionRemoved)
def _version_removed(tx: Transaction, fact: Stored[VersionRemoved]) -> None:
    p = fact.payload
    tx.delete(_version, model=p.model, number=p.version)
    tx.delete(_tag, model=p.model, number=p.version)
    tx.delete(_alias, model=p.model, version=p.version)
    tx.update(_model, {"model": p.model}, changed_at=fact.at)


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


@project(AliasRemoved)
def _alias_removed(tx: Transaction, fact: Stored[AliasRemoved]) -> None:
    tx.delete(_alias, model=fact.payload.model, alias=fact.payload.alias)


PROJECTIONS = (
    _registered,
    _judged,
    _made,
    _moved,
    _alias_moved,
    _alias_removed,
    _model_filed,
    _described,
    _tagged,
    _untagged,
    _renamed,
    _removed,
    _version_filed,
    _bundled,
    _staged,
    _version_removed,
)


def date_registered(tx: Transaction, name: str, created_ms: int, updated_ms: int) -> None:
    """For projections: a model, or a version `model:number`, is as old as the store says that it came from."""
    model, mark, number = name.rpartition(":")
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    at, changed = (utc_text(epoch + timedelta(milliseconds=each)) for each in (created_ms, updated_ms))
    if mark and number.isdecimal():
        tx.update(_version, {"model": model, "number": int(number)}, at=at, changed_at=changed)
    else:
        tx.update(_model, {"model": name}, made_at=at, changed_at=changed)


def models(tx: Reader) -> list[str]:
    """The names of all models that have a version, sorted."""
    return [str(row[0]) for row in tx.rows(select(_version.c.model).distinct().order_by(_version.c.model))]


def named(tx: Reader, model: str = "") -> list[NamedModel]:
    """Every model that has a name, also those without a version, sorted; only one if its name is given."""
    wanted = [] if not model else [model]
    rows = tx.rows(_only(select(_model), _model, wanted).order_by(_model.c.model))
    tagged: dict[str, dict[str, str]] = {}
    for row in tx.rows(_only(select(_tag).where(_tag.c.number == 0), _tag, wanted).order_by(_tag.c.key)):
        tagged.setdefault(row.model, {})[row.key] = row.value
    moved: dict[str, dict[str, int]] = {}
    for row in tx.rows(_only(select(_alias), _alias, wanted).order_by(_alias.c.alias)):
        moved.setdefault(row.model, {})[row.alias] = int(row.version)
    return [
        NamedModel(
            model=row.model,
            description=row.description,
            made_at=row.made_at,
            changed_at=row.changed_at,
            tags=tagged.get(row.model, {}),
            aliases=moved.get(row.model, {}),
        )
        for row in rows
    ]


def is_named(tx: Reader, model: str) -> bool:
    """Whether a model has that name."""
    return tx.first(_LAST, {"of": model}) is not None


def versions_of(tx: Reader, models: Sequence[str] | None = None) -> list[VersionRecord]:
    """Every version of some models, or of all (None), with its tags, by model and number."""
    if models is not None and not models:
        return []
    wanted = list(models or ())
    tagged: dict[tuple[str, int], dict[str, str]] = {}
    for row in tx.rows(_only(select(_tag).where(_tag.c.number > 0), _tag, wanted).order_by(_tag.c.key)):
        tagged.setdefault((row.model, row.number), {})[row.key] = row.value
    rows = tx.rows(_only(select(_version), _version, wanted).order_by(_version.c.model, _version.c.number))
    found = [record for row in rows if (record := _version_of(row)) is not None]
    return [replace(each, tags=tagged.get((each.model, each.version), {})) for each in found]


def tags(tx: Reader, model: str, number: int) -> dict[str, str]:
    """The tags of a version of a model; those of the model itself for 0."""
    return {row.key: row.value for row in tx.rows(_TAGS, {"of": model, "at": number})}


def last_number(tx: Reader, model: str) -> int:
    """The greatest number that a version of a model ever had; 0 if it had none."""
    return int(tx.scalar(_LAST, {"of": model}) or 0)


def version(tx: Reader, model: str, number: int) -> VersionRecord | None:
    """A version by number; 0 gives the newest."""
    return _version_of(tx.first(_NUMBERED if number else _NEWEST, {"of": model, "at": number}))


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


def _only(query: Select[Any], table: Any, models: Sequence[str]) -> Select[Any]:
    """The query for those models; for all if none are named."""
    return query.where(table.c.model.in_(models)) if models else query


def _put_version(tx: Transaction, fact: Stored[Any], model: str, number: int, **values: Any) -> None:
    """A version is there from then on, and the name that it goes by."""
    blank = {"bundle": "", "run": "", "metrics": "{}", "pins": "[]", "source": "", "storage": "", "run_link": ""}
    tx.upsert(
        _version,
        model=model,
        number=number,
        at=fact.at,
        actor=fact.actor,
        stage=NO_STAGE,
        changed_at=fact.at,
        seq=fact.seq,
        **{**blank, "description": None, **values},
    )
    named = tx.first(_LAST, {"of": model})
    if named is None:
        tx.upsert(_model, model=model, description=None, made_at=fact.at, changed_at=fact.at, last=number)
    else:
        tx.update(_model, {"model": model}, changed_at=fact.at, last=max(number, named.last or 0))


def _version_of(row: Any) -> VersionRecord | None:
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
        source=row.source,
        storage=row.storage,
        run_link=row.run_link,
        description=row.description,
        stage=row.stage,
        changed_at=row.changed_at,
    )


def _judgement_of(row: Any) -> JudgementRecord:
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


def _release_of(row: Any) -> ReleaseRecord | None:
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
