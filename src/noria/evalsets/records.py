"""Records of evaluation data sets: names, times, tags, experiments, and which objects hold what the records say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from noria.catalog.takeover.facts import OriginNoted
from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.evalsets.facts import (
    EvalsetAssigned,
    EvalsetCreated,
    EvalsetDeleted,
    EvalsetTagged,
    EvalsetUnassigned,
    EvalsetUntagged,
    RecordsMerged,
    RecordsRemoved,
)
from noria.store.compare import compared
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import BigInteger, Column, Index, Row, Table, Text, and_, or_, select
from noria.store.tables import project, record_table

__all__ = [
    "PROJECTIONS",
    "TABLES",
    "USER",
    "Condition",
    "EvalsetRecord",
    "RowRecord",
    "by_ids",
    "by_keys",
    "evalset",
    "experiments",
    "page",
    "present",
    "search",
]

USER = "mlflow.user"
"""The tag by which a client says whose doing something is."""
CHUNK = 500

_evalset: Table = record_table(
    "evalset",
    Column("evalset", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("schema", Text, nullable=False),
    Column("profile", Text, nullable=True),
    Column("digest", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=True),
    Column("updated_by", Text, nullable=True),
    Index("evalset_created", "created_ms"),
)
_tag: Table = record_table(
    "evalset_tag",
    Column("evalset", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
_experiment: Table = record_table(
    "evalset_experiment",
    Column("evalset", Text, primary_key=True),
    Column("experiment", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Index("evalset_experiment_experiment", "experiment"),
)
_row: Table = record_table(
    "evalset_row",
    Column("evalset", Text, primary_key=True),
    Column("record", Text, primary_key=True),
    Column("key", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("evalset_row_key", "evalset", "key"),
    Index("evalset_row_created", "evalset", "created_ms", "record"),
)
TABLES = (_evalset, _tag, _experiment, _row)


@frozen(kw_only=True)
class EvalsetRecord:
    """An evaluation data set without its records. Times are milliseconds.

    `schema` is the digest of the object that holds it, empty while there is none; `profile` is JSON, None before
    the first record came, "null" when the last one went.
    """

    evalset: str
    name: str
    schema: str
    profile: str | None
    digest: str
    created_ms: int
    updated_ms: int
    created_by: str | None
    updated_by: str | None
    tags: Mapping[str, str]


@frozen(kw_only=True)
class RowRecord:
    """A record of an evaluation data set; `details` is the digest of the object with what it says, of `size` bytes."""

    evalset: str
    record: str
    key: str
    details: str
    size: int
    created_ms: int
    updated_ms: int


@frozen(kw_only=True)
class Condition:
    """What an evaluation data set must fit: `kind` is attribute (a column) or tag."""

    kind: str
    key: str
    operator: str
    value: str | float | tuple[str, ...]


@project(EvalsetCreated)
def created(tx: Transaction, fact: Stored[EvalsetCreated]) -> None:
    """It has no records yet."""
    payload = fact.payload
    by = payload.tags.get(USER)
    tx.upsert(
        _evalset,
        evalset=payload.evalset,
        name=payload.name,
        schema="",
        profile=None,
        digest=_digest(payload.name, payload.at_ms),
        created_ms=payload.at_ms,
        updated_ms=payload.at_ms,
        created_by=by,
        updated_by=by,
    )
    _tags(tx, payload.evalset, payload.tags)
    _assign(tx, payload.evalset, payload.experiments, payload.at_ms)


@project(EvalsetTagged)
def tagged(tx: Transaction, fact: Stored[EvalsetTagged]) -> None:
    """A tag has one value."""
    _tags(tx, fact.payload.evalset, fact.payload.tags)


@project(EvalsetUntagged)
def untagged(tx: Transaction, fact: Stored[EvalsetUntagged]) -> None:
    """A tag that is not there any more may be set again."""
    tx.delete(_tag, evalset=fact.payload.evalset, key=fact.payload.key)


@project(EvalsetAssigned)
def assigned(tx: Transaction, fact: Stored[EvalsetAssigned]) -> None:
    """Its digest stays as it is."""
    payload = fact.payload
    _assign(tx, payload.evalset, payload.experiments, payload.at_ms)
    tx.update(_evalset, {"evalset": payload.evalset}, updated_ms=payload.at_ms)


@project(EvalsetUnassigned)
def unassigned(tx: Transaction, fact: Stored[EvalsetUnassigned]) -> None:
    """Its digest stays as it is."""
    payload = fact.payload
    for name in payload.experiments:
        tx.delete(_experiment, evalset=payload.evalset, experiment=name)
    tx.update(_evalset, {"evalset": payload.evalset}, updated_ms=payload.at_ms)


@project(EvalsetDeleted)
def deleted(tx: Transaction, fact: Stored[EvalsetDeleted]) -> None:
    """Nothing of it is found any more."""
    for table in TABLES:
        tx.delete(table, evalset=fact.payload.evalset)


@project(RecordsMerged)
def merged(tx: Transaction, fact: Stored[RecordsMerged]) -> None:
    """A record that was there keeps when it came."""
    payload = fact.payload
    before = _rows(tx, payload.evalset, _row.c.record, [each.record for each in payload.records])
    came = {row.record: int(row.created_ms) for row in before}
    for each in payload.records:
        tx.upsert(
            _row,
            evalset=payload.evalset,
            record=each.record,
            key=each.key,
            details=each.details,
            size=each.size,
            created_ms=came.get(each.record, payload.at_ms),
            updated_ms=payload.at_ms,
        )
    found = tx.first(select(_evalset).where(_evalset.c.evalset == payload.evalset))
    if found is None:
        return
    count = _counted(found.profile) + len({each.record for each in payload.records} - came.keys())
    tx.update(
        _evalset,
        {"evalset": payload.evalset},
        schema=payload.schema or found.schema,
        profile=_profile(count) if count else found.profile,
        digest=_digest(found.name, payload.at_ms),
        updated_ms=payload.at_ms,
        updated_by=payload.by,
    )


@project(RecordsRemoved)
def removed(tx: Transaction, fact: Stored[RecordsRemoved]) -> None:
    """Digest and time stay as they are."""
    payload = fact.payload
    gone = len(_rows(tx, payload.evalset, _row.c.record, payload.records))
    for name in payload.records:
        tx.delete(_row, evalset=payload.evalset, record=name)
    found = tx.first(select(_evalset).where(_evalset.c.evalset == payload.evalset))
    if found is not None and gone:
        count = _counted(found.profile) - gone
        tx.update(_evalset, {"evalset": payload.evalset}, profile=_profile(count) if count > 0 else "null")


@project(OriginNoted)
def dated(tx: Transaction, fact: Stored[OriginNoted]) -> None:
    """One that was taken over is, as a whole, what its store said of it."""
    payload = fact.payload
    kind, _, name = payload.of.partition("/")
    if kind != "evalset" or payload.created_ms is None:
        return
    said = payload.details
    tx.update(
        _evalset,
        {"evalset": name},
        created_ms=payload.created_ms,
        updated_ms=payload.created_ms if payload.updated_ms is None else payload.updated_ms,
        created_by=said.get("created_by"),
        updated_by=said.get("updated_by"),
        digest=said.get("digest", ""),
        profile=said.get("profile"),
        schema=said.get("schema", ""),
    )


PROJECTIONS = (created, tagged, untagged, assigned, unassigned, deleted, merged, removed, dated)


def evalset(tx: Reader, name: str) -> EvalsetRecord | None:
    """The evaluation data set of that id, or None."""
    row = tx.first(select(_evalset).where(_evalset.c.evalset == name))
    return None if row is None else _whole(tx, [row])[0]


def search(
    tx: Reader,
    assigned_to: Sequence[str],
    where: Sequence[Condition],
    order: Sequence[tuple[str, bool]],
    *,
    skip: int,
    limit: int,
) -> list[EvalsetRecord]:
    """Those that fit every condition, of any of the experiments (of all if none is named).

    `order` is (column, is descending); newest first if there is none.
    """
    query = select(_evalset).where(*(_condition(each) for each in where))
    if assigned_to:
        chosen = select(_experiment.c.evalset).where(_experiment.c.experiment.in_(assigned_to))
        query = query.where(_evalset.c.evalset.in_(chosen))
    keys = [(_evalset.c[name], is_descending) for name, is_descending in order or [("created_ms", True)]]
    keys.append((_evalset.c.evalset, True))
    ordered = query.order_by(*(column.desc() if is_descending else column.asc() for column, is_descending in keys))
    return _whole(tx, tx.rows(ordered.offset(skip).limit(limit)))


def experiments(tx: Reader, name: str) -> list[str]:
    """The ids of the experiments of an evaluation data set, in the order in which it came to belong to them."""
    query = select(_experiment.c.experiment).where(_experiment.c.evalset == name)
    return [row.experiment for row in tx.rows(query.order_by(_experiment.c.at_ms, _experiment.c.experiment))]


def by_keys(tx: Reader, name: str, keys: Sequence[str]) -> dict[str, RowRecord]:
    """The records with these inputs, by the digest of the inputs."""
    return {row.key: RowRecord(**row._mapping) for row in _rows(tx, name, _row.c.key, keys)}


def by_ids(tx: Reader, name: str, ids: Sequence[str]) -> dict[str, RowRecord]:
    """The records with these ids."""
    return {row.record: RowRecord(**row._mapping) for row in _rows(tx, name, _row.c.record, ids)}


def present(tx: Reader, name: str, ids: Sequence[str]) -> list[str]:
    """Those of the ids that are records of an evaluation data set."""
    return [row.record for row in _rows(tx, name, _row.c.record, ids)]


def page(tx: Reader, name: str, *, behind: tuple[int, str] | None, skip: int, limit: int) -> list[RowRecord]:
    """Records as they came; `behind` is the time and id of the one before the first."""
    query = select(_row).where(_row.c.evalset == name)
    if behind is not None:
        at_ms, last = behind
        query = query.where(
            or_(_row.c.created_ms > at_ms, and_(_row.c.created_ms == at_ms, _row.c.record > last)),
        )
    ordered = query.order_by(_row.c.created_ms, _row.c.record).offset(skip).limit(limit)
    return [RowRecord(**row._mapping) for row in tx.rows(ordered)]


def _rows(tx: Reader, name: str, column: Any, values: Sequence[str]) -> list[Row[Any]]:
    wanted = list(dict.fromkeys(values))
    found: list[Row[Any]] = []
    for start in range(0, len(wanted), CHUNK):
        query = select(_row).where(_row.c.evalset == name, column.in_(wanted[start : start + CHUNK]))
        found += tx.rows(query.order_by(_row.c.record))
    return found


def _condition(asked: Condition) -> Any:
    if asked.kind == "attribute":
        return compared(_evalset.c[asked.key], asked.operator, asked.value)
    fits = compared(_tag.c.value, asked.operator, asked.value)
    return _evalset.c.evalset.in_(select(_tag.c.evalset).where(_tag.c.key == asked.key, fits))


def _whole(tx: Reader, rows: Sequence[Row[Any]]) -> list[EvalsetRecord]:
    names = [row.evalset for row in rows]
    tags: dict[str, dict[str, str]] = {name: {} for name in names}
    for start in range(0, len(names), CHUNK):
        query = select(_tag).where(_tag.c.evalset.in_(names[start : start + CHUNK])).order_by(_tag.c.key)
        for row in tx.rows(query):
            tags[row.evalset][row.key] = row.value
    return [EvalsetRecord(**row._mapping, tags=tags[row.evalset]) for row in rows]


def _tags(tx: Transaction, name: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        tx.upsert(_tag, evalset=name, key=key, value=value)


def _assign(tx: Transaction, name: str, chosen: Sequence[str], at_ms: int) -> None:
    known = set(experiments(tx, name))
    for each in chosen:
        if each not in known:
            tx.upsert(_experiment, evalset=name, experiment=each, at_ms=at_ms)


def _counted(profile: str | None) -> int:
    """How many records a profile tells of: kept up to date, since counting a million takes long."""
    told = json.loads(profile or "null")
    return int(told["num_records"]) if told else 0


def _profile(count: int) -> str:
    return json.dumps({"num_records": count})


def _digest(name: str, at_ms: int) -> str:
    return hashlib.sha256(f"{name}:{at_ms}".encode()).hexdigest()[:8]
