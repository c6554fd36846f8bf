"""Records of traces: when, where, how they went, their tags and metadata, and which objects hold the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.store.compare import compared
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import BigInteger, Boolean, Column, Index, Row, Table, Text, and_, func, or_, select
from noria.store.tables import project, record_table
from noria.traces.facts import (
    AssessmentLogged,
    AssessmentRemoved,
    SpansLogged,
    TraceDeleted,
    TraceLinked,
    TraceLogged,
    TraceTagged,
    TraceUntagged,
)

__all__ = [
    "IN_PROGRESS",
    "NAME",
    "PROJECTIONS",
    "SOURCE_RUN",
    "TABLES",
    "AssessmentRecord",
    "Condition",
    "TraceRecord",
    "assessment",
    "assessments",
    "oldest",
    "search",
    "span_objects",
    "trace",
    "traces",
]

IN_PROGRESS, UNSPECIFIED = "IN_PROGRESS", "STATE_UNSPECIFIED"
NAME = "mlflow.traceName"
"""The tag that is a trace's name."""
SOURCE_RUN = "mlflow.sourceRun"
"""The metadata by which a client says which run a trace is of."""
CHUNK = 500

_trace: Table = record_table(
    "trace",
    Column("trace", Text, primary_key=True),
    Column("experiment", BigInteger, nullable=False),
    Column("began_ms", BigInteger, nullable=False),
    Column("took_ms", BigInteger, nullable=True),
    Column("state", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("trace_experiment", "experiment", "began_ms"),
)
_tag: Table = record_table(
    "trace_tag",
    Column("trace", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
_metadata: Table = record_table(
    "trace_metadata",
    Column("trace", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
_spans: Table = record_table(
    "trace_spans",
    Column("trace", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("details", Text, nullable=False),
)
_run: Table = record_table(
    "trace_run",
    Column("trace", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Index("trace_run_run", "run"),
)
_assessment: Table = record_table(
    "trace_assessment",
    Column("trace", Text, primary_key=True),
    Column("assessment", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("is_valid", Boolean, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
TABLES = (_trace, _tag, _metadata, _spans, _run, _assessment)


@frozen(kw_only=True)
class TraceRecord:
    """A trace without its spans. `details` is empty where only spans came yet."""

    trace: str
    experiment: int
    began_ms: int
    took_ms: int | None
    state: str
    request: str
    details: str
    seq: int
    tags: Mapping[str, str]
    metadata: Mapping[str, str]


@frozen(kw_only=True)
class AssessmentRecord:
    """A judgement of a trace; `details` is the digest of what it says."""

    trace: str
    assessment: str
    name: str
    details: str
    is_valid: bool
    seq: int


@frozen(kw_only=True)
class Condition:
    """What a trace must fit: `kind` is attribute (a column, or "ended_ms"), tag, metadata or run."""

    kind: str
    key: str
    operator: str
    value: str | float | tuple[str, ...] = ""


@project(TraceLogged)
def logged(tx: Transaction, fact: Stored[TraceLogged]) -> None:
    """What a client says of the whole goes before what its spans told."""
    payload = fact.payload
    before = tx.first(select(_trace.c.seq).where(_trace.c.trace == payload.trace))
    tx.upsert(
        _trace,
        trace=payload.trace,
        experiment=payload.experiment,
        began_ms=payload.began_ms,
        took_ms=payload.took_ms,
        state=payload.state,
        request=payload.request,
        details=payload.details,
        seq=fact.seq if before is None else before.seq,
    )
    _put(tx, _tag, payload.trace, payload.tags)
    _put(tx, _metadata, payload.trace, payload.metadata)


@project(SpansLogged)
def spans_logged(tx: Transaction, fact: Stored[SpansLogged]) -> None:
    """A trace lasts from its first span to its last, and stands as its root span does."""
    payload = fact.payload
    row = tx.first(select(_trace).where(_trace.c.trace == payload.trace))
    if row is None:
        took = None if payload.ended_ms is None else payload.ended_ms - payload.began_ms
        tx.upsert(
            _trace,
            trace=payload.trace,
            experiment=payload.experiment,
            began_ms=payload.began_ms,
            took_ms=took,
            state=payload.state or IN_PROGRESS,
            request="",
            details="",
            seq=fact.seq,
        )
    else:
        began = min(int(row.began_ms), payload.began_ms)
        ends = [payload.ended_ms] if payload.ended_ms is not None else []
        ends += [row.began_ms + row.took_ms] if row.took_ms is not None else []
        is_open = row.state in (IN_PROGRESS, UNSPECIFIED)
        tx.update(
            _trace,
            {"trace": payload.trace},
            began_ms=began,
            took_ms=max(ends) - began if ends else None,
            state=payload.state if is_open and payload.state else row.state,
        )
    tx.upsert(_spans, trace=payload.trace, seq=fact.seq, details=payload.details)
    _put(tx, _tag, payload.trace, payload.tags)


@project(TraceTagged)
def tagged(tx: Transaction, fact: Stored[TraceTagged]) -> None:
    """A tag has one value."""
    _put(tx, _tag, fact.payload.trace, {fact.payload.key: fact.payload.value})


@project(TraceUntagged)
def untagged(tx: Transaction, fact: Stored[TraceUntagged]) -> None:
    """A tag that is not there any more may be set again."""
    tx.delete(_tag, trace=fact.payload.trace, key=fact.payload.key)


@project(TraceDeleted)
def deleted(tx: Transaction, fact: Stored[TraceDeleted]) -> None:
    """Nothing of it is found any more."""
    name = fact.payload.trace
    for table, column in ((_tag, "key"), (_metadata, "key"), (_run, "run"), (_assessment, "assessment")):
        for row in tx.rows(select(table.c[column]).where(table.c.trace == name)):
            tx.delete(table, trace=name, **{column: row[0]})
    for row in tx.rows(select(_spans.c.seq).where(_spans.c.trace == name)):
        tx.delete(_spans, trace=name, seq=row.seq)
    tx.delete(_trace, trace=name)


@project(TraceLinked)
def linked(tx: Transaction, fact: Stored[TraceLinked]) -> None:
    """Once is enough."""
    tx.upsert(_run, trace=fact.payload.trace, run=fact.payload.run)


@project(AssessmentLogged)
def assessment_logged(tx: Transaction, fact: Stored[AssessmentLogged]) -> None:
    """What is said last holds, in the place of what was said first."""
    payload = fact.payload
    before = assessment(tx, payload.trace, payload.assessment)
    tx.upsert(
        _assessment,
        trace=payload.trace,
        assessment=payload.assessment,
        name=payload.name,
        details=payload.details,
        is_valid=payload.is_valid,
        seq=fact.seq if before is None else before.seq,
    )


@project(AssessmentRemoved)
def assessment_removed(tx: Transaction, fact: Stored[AssessmentRemoved]) -> None:
    """The others stay."""
    tx.delete(_assessment, trace=fact.payload.trace, assessment=fact.payload.assessment)


PROJECTIONS = (
    logged,
    spans_logged,
    tagged,
    untagged,
    deleted,
    linked,
    assessment_logged,
    assessment_removed,
)


def trace(tx: Reader, name: str) -> TraceRecord | None:
    """The trace of that id, or None."""
    return next(iter(traces(tx, [name])), None)


def traces(tx: Reader, names: Sequence[str], experiments: Sequence[int] | None = None) -> list[TraceRecord]:
    """The traces of these ids that are there, each once, where it is named last; `experiments` narrows them."""
    found: dict[str, Row[Any]] = {}
    for start in range(0, len(names), CHUNK):
        query = select(_trace).where(_trace.c.trace.in_(names[start : start + CHUNK]))
        if experiments is not None:
            query = query.where(_trace.c.experiment.in_(experiments))
        found |= {row.trace: row for row in tx.rows(query)}
    return _whole(tx, [found[name] for name in reversed(dict.fromkeys(reversed(names))) if name in found])


def span_objects(tx: Reader, names: Sequence[str]) -> dict[str, list[str]]:
    """The digests of what holds the spans of traces, in the order in which they came."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for start in range(0, len(names), CHUNK):
        query = select(_spans).where(_spans.c.trace.in_(names[start : start + CHUNK]))
        for row in tx.rows(query.order_by(_spans.c.trace, _spans.c.seq)):
            found[row.trace].append(row.details)
    return found


def assessment(tx: Reader, name: str, judgement: str) -> AssessmentRecord | None:
    """A judgement of a trace, or None."""
    row = tx.first(select(_assessment).where(_assessment.c.trace == name, _assessment.c.assessment == judgement))
    return None if row is None else AssessmentRecord(**row._mapping)


def assessments(tx: Reader, names: Sequence[str]) -> dict[str, list[AssessmentRecord]]:
    """The judgements of traces, in the order in which they were first said."""
    found: dict[str, list[AssessmentRecord]] = {name: [] for name in names}
    for start in range(0, len(names), CHUNK):
        query = select(_assessment).where(_assessment.c.trace.in_(names[start : start + CHUNK]))
        for row in tx.rows(query.order_by(_assessment.c.trace, _assessment.c.seq)):
            found[row.trace].append(AssessmentRecord(**row._mapping))
    return found


def oldest(
    tx: Reader, experiment: int, *, upto_ms: int | None = None, names: Sequence[str] = (), limit: int = 10_000
) -> list[str]:
    """The ids of traces of an experiment, oldest first: those that began by a time, or those of these ids."""
    query = select(_trace.c.trace).where(_trace.c.experiment == experiment)
    if upto_ms is not None:
        query = query.where(_trace.c.began_ms <= upto_ms)
    if names:
        query = query.where(_trace.c.trace.in_(names))
    return [row.trace for row in tx.rows(query.order_by(_trace.c.began_ms, _trace.c.trace).limit(limit))]


def search(
    tx: Reader,
    experiments: Sequence[int],
    where: Sequence[Condition],
    order: Sequence[tuple[str, str, bool]],
    *,
    skip: int,
    limit: int,
) -> list[TraceRecord]:
    """Traces that fit every condition, newest first unless `order` (kind, key, is descending) says otherwise."""
    keys: list[Any] = []
    joined: Any = _trace
    for number, (kind, key, is_descending) in enumerate(order):
        if kind == "attribute":
            column: Any = _column(key)
        else:
            table = (_tag if kind == "tag" else _metadata).alias(f"ordered_{number}")
            joined = joined.outerjoin(table, and_(table.c.trace == _trace.c.trace, table.c.key == key))
            column = table.c.value
        keys += [column.is_(None), column.desc() if is_descending else column.asc()]
    query = (
        select(_trace)
        .select_from(joined)
        .where(_trace.c.experiment.in_(experiments), *(_condition(each) for each in where))
        .order_by(*keys, _trace.c.began_ms.desc(), _trace.c.trace)
        .offset(skip)
        .limit(limit)
    )
    return _whole(tx, tx.rows(query))


def _condition(asked: Condition) -> Any:
    if asked.kind == "attribute":
        return compared(_column(asked.key), asked.operator, asked.value)
    if asked.kind == "run":
        said = select(_metadata.c.trace).where(
            _metadata.c.key == SOURCE_RUN, compared(_metadata.c.value, asked.operator, asked.value)
        )
        told = select(_run.c.trace).where(compared(_run.c.run, asked.operator, asked.value))
        return or_(_trace.c.trace.in_(said), _trace.c.trace.in_(told))
    table = _tag if asked.kind == "tag" else _metadata
    if asked.operator in ("IS NULL", "IS NOT NULL"):
        has = _trace.c.trace.in_(select(table.c.trace).where(table.c.key == asked.key))
        return has if asked.operator == "IS NOT NULL" else ~has
    fits = compared(table.c.value, asked.operator, asked.value)
    return _trace.c.trace.in_(select(table.c.trace).where(table.c.key == asked.key, fits))


def _column(key: str) -> Any:
    if key == "ended_ms":  # what has no duration yet counts as over at once, as in MLflow's searches
        return _trace.c.began_ms + func.coalesce(_trace.c.took_ms, 0)
    return _trace.c[key]


def _whole(tx: Reader, rows: Sequence[Row[Any]]) -> list[TraceRecord]:
    names = [row.trace for row in rows]
    tags, metadata = _pairs(tx, _tag, names), _pairs(tx, _metadata, names)
    return [TraceRecord(**row._mapping, tags=tags[row.trace], metadata=metadata[row.trace]) for row in rows]


def _pairs(tx: Reader, table: Table, names: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for start in range(0, len(names), CHUNK):
        query = select(table).where(table.c.trace.in_(names[start : start + CHUNK])).order_by(table.c.key)
        for row in tx.rows(query):
            found[row.trace][row.key] = row.value
    return found


def _put(tx: Transaction, table: Table, name: str, pairs: Mapping[str, str]) -> None:
    for key, value in pairs.items():
        tx.upsert(table, trace=name, key=key, value=value)
