"""Records for finding runs: one narrow row a run, and typed rows of params, tags and metrics beside it.

Every run is here, whatever made it: pipelines, scripts, searches and recordings. Searches go through the
indexes of the typed rows, pages by the last row's place and never by counting, and a list reads only what
it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from noria.core.clock import instant, utc_text
from noria.core.errors import UsageError
from noria.core.fact import Stored
from noria.core.lazy import lazy
from noria.experiments.facts import (
    PointsMerged,
    RunAmended,
    RunDeleted,
    RunDescribed,
    RunLogged,
    RunRestored,
    Summary,
    TagRemoved,
)
from noria.experiments.kept import LoggedRun, Metric, NoteRecord, UsedDataset
from noria.store.compare import SPECIAL, behind, compared, number_compared, number_keys, text_keys
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import BigInteger, Column, Float, Index, Row, Text, and_, bindparam, func, select
from noria.store.tables import project, record_table
from noria.tracking.facts import MetricsSealed, RunFinished, RunResumed, RunStarted
from noria.tracking.system import is_system

if TYPE_CHECKING:
    from noria.experiments import grammar
    from noria.experiments.grammar import Clause, Order
else:  # folding a fact reads no filter
    grammar = lazy("noria.experiments.grammar")

__all__ = [
    "ACTIVE",
    "DELETED",
    "PROJECTIONS",
    "TABLES",
    "LoggedRun",
    "Metric",
    "NoteRecord",
    "UsedDataset",
    "children",
    "datasets",
    "described",
    "experiments",
    "file_runs",
    "latest",
    "metrics",
    "notes",
    "params",
    "run",
    "search",
    "segments",
    "tags",
    "upto",
    "use_dataset",
]

ACTIVE, DELETED = "active", "deleted"
HEAD = 200
"""How much of a text an index holds; the rest is compared when the head fits."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_run = record_table(
    "logged_run",
    Column("run", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("experiment", Text, nullable=False),
    Column("parent", Text, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("finished_at", Text, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("user", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Index("logged_run_seq", "seq"),
    Index("logged_run_experiment", "experiment", "seq"),
    Index("logged_run_started", "experiment", "started_at"),
    Index("logged_run_parent", "parent", "seq"),
    Index("logged_run_status", "status", "seq"),
)
_param = record_table(
    "logged_param",
    Column("run", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("head", Text, nullable=False),
    Index("logged_param_value", "key", "head", "run"),
)
_tag = record_table(
    "logged_tag",
    Column("run", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("head", Text, nullable=False),
    Index("logged_tag_value", "key", "head", "run"),
)
_metric = record_table(
    "logged_metric",
    Column("run", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Float, nullable=True),
    Column("special", Text, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("low", Float, nullable=True),
    Column("high", Float, nullable=True),
    Column("points", BigInteger, nullable=False),
    Index("logged_metric_value", "key", "value", "run"),
)
_note = record_table(
    "logged_note",
    Column("seq", BigInteger, primary_key=True),
    Column("place", BigInteger, primary_key=True),
    Column("run", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("at", Text, nullable=False),
    Index("logged_note_run", "run", "seq"),
)
_dataset = record_table(
    "logged_dataset",
    Column("run", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("context", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Index("logged_dataset_name", "name", "run"),
    Index("logged_dataset_digest", "digest", "run"),
)
_segment = record_table(
    "logged_segment",
    Column("run", Text, primary_key=True),
    Column("segment", Text, primary_key=True),
    Column("points", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
_writer = record_table(
    "logged_writer",
    Column("run", Text, primary_key=True),
    Column("writer", Text, primary_key=True),
    Column("upto", BigInteger, nullable=False),
)
TABLES = (_run, _param, _tag, _metric, _note, _dataset, _segment, _writer)
_BY_RUN = select(_run).where(_run.c.run == bindparam("run"))
_UPTO = select(_writer.c.upto).where(_writer.c.run == bindparam("run"), _writer.c.writer == bindparam("writer"))
_SEGMENTS = select(_segment).where(_segment.c.run == bindparam("run")).order_by(_segment.c.seq, _segment.c.segment)
_STANDING = select(_metric).where(
    _metric.c.run == bindparam("run"), _metric.c.key.in_(bindparam("keys", expanding=True))
)
_KEYS_MAX = 500

STATUSES: Mapping[str, tuple[str, ...]] = {
    "RUNNING": ("running",),
    "SCHEDULED": ("scheduled",),
    "FINISHED": ("finished",),
    "FAILED": ("failed", "stopped"),
    "KILLED": ("lost", "cancelled", "preempted"),
}
"""MLflow's words for how a run stands, and ours that each stands for."""


@project(RunStarted)
def started(tx: Transaction, fact: Stored[RunStarted]) -> None:
    """Every run can be found from its start on."""
    payload = fact.payload
    tx.upsert(
        _run,
        run=payload.run,
        name="",
        experiment="",
        parent="",
        pipeline=payload.pipeline,
        cause=payload.cause,
        status="running",
        reason="",
        actor=fact.actor,
        started_at=fact.at,
        finished_at="",
        seconds=0.0,
        user="",
        stage=ACTIVE,
        seq=fact.seq,
    )
    for pin in payload.pins:
        tx.upsert(_dataset, run=payload.run, name=pin.dataset, context="", version=pin.version, digest=pin.tree)


@project(RunDescribed)
def run_described(tx: Transaction, fact: Stored[RunDescribed]) -> None:
    """A recording says how its run is called, and when it really began."""
    payload = fact.payload
    tx.update(
        _run,
        {"run": payload.run},
        name=payload.name,
        experiment=payload.experiment,
        parent=payload.parent,
        started_at=payload.began,
        user=payload.user,
    )


@project(RunAmended)
def run_amended(tx: Transaction, fact: Stored[RunAmended]) -> None:
    """What a client says later takes the place of what it said before."""
    payload = fact.payload
    said = {"name": payload.name, "status": payload.status}
    values = {key: value for key, value in said.items() if value}
    if payload.ended is not None:
        values["finished_at"] = payload.ended
    if values:
        tx.update(_run, {"run": payload.run}, **values)


@project(RunDeleted)
def run_deleted(tx: Transaction, fact: Stored[RunDeleted]) -> None:
    """A run that is put away keeps everything that it has."""
    tx.update(_run, {"run": fact.payload.run}, stage=DELETED)


@project(RunRestored)
def run_restored(tx: Transaction, fact: Stored[RunRestored]) -> None:
    """A run is there again as it was."""
    tx.update(_run, {"run": fact.payload.run}, stage=ACTIVE)


@project(TagRemoved)
def tag_removed(tx: Transaction, fact: Stored[TagRemoved]) -> None:
    """A tag that is not there any more may be set again."""
    tx.delete(_tag, run=fact.payload.run, key=fact.payload.key)


@project(RunResumed)
def run_resumed(tx: Transaction, fact: Stored[RunResumed]) -> None:
    """A run that goes on is running again."""
    tx.update(_run, {"run": fact.payload.run}, status="running", reason="", finished_at="")


@project(RunFinished)
def run_finished(tx: Transaction, fact: Stored[RunFinished]) -> None:
    """A run ends once; only a run that was taken for lost may end after all, when its log comes in."""
    payload = fact.payload
    found = run(tx, payload.run)
    if found is None or not (found.status == "running" or (found.status == "lost" and payload.status != "lost")):
        return
    ended = fact.at
    if found.experiment:
        ended = utc_text(instant(found.started_at) + timedelta(seconds=payload.seconds))
    tx.update(
        _run,
        {"run": payload.run},
        status=payload.status,
        reason=payload.reason,
        finished_at=ended,
        seconds=payload.seconds,
    )
    if not found.experiment:
        _fold_metrics(tx, payload.run, {key: _single(value, fact.at) for key, value in payload.metrics.items()})


@project(MetricsSealed)
def metrics_sealed(tx: Transaction, fact: Stored[MetricsSealed]) -> None:
    """What the machine did meanwhile can be found; the run's own metrics are told by its end."""
    last = fact.payload.last.items()
    found = {key: value for key, value in last if is_system(key) and isinstance(value, int | float)}
    _fold_metrics(tx, fact.payload.run, {key: _single(value, fact.at) for key, value in found.items()})


@project(RunLogged)
def run_logged(tx: Transaction, fact: Stored[RunLogged]) -> None:
    """A batch counts once: one whose bytes are on record already changes nothing."""
    payload = fact.payload
    if payload.upto <= upto(tx, payload.run, payload.writer):
        return
    tx.upsert(_writer, run=payload.run, writer=payload.writer, upto=payload.upto)
    for table, pairs in ((_param, payload.params), (_tag, payload.tags)):
        for key, value in pairs.items():
            tx.upsert(table, run=payload.run, key=key, value=value, head=value[:HEAD])
    _fold_metrics(tx, payload.run, payload.metrics)
    said = [("note", text) for text in payload.notes] + [("problem", text) for text in payload.problems]
    for place, (kind, text) in enumerate(said):
        tx.upsert(_note, seq=fact.seq, place=place, run=payload.run, kind=kind, text=text, at=fact.at)
    for item in payload.datasets:
        values = {"name": item.name, "context": item.context, "version": item.version, "digest": item.tree}
        tx.upsert(_dataset, run=payload.run, **values)
    if payload.segment:
        tx.upsert(_segment, run=payload.run, segment=payload.segment, points=payload.points, seq=fact.seq)


@project(PointsMerged)
def points_merged(tx: Transaction, fact: Stored[PointsMerged]) -> None:
    """One segment takes the place of those before it."""
    payload = fact.payload
    tx.delete(_segment, run=payload.run)
    tx.upsert(_segment, run=payload.run, segment=payload.segment, points=payload.points, seq=fact.seq)


PROJECTIONS = (
    started,
    run_resumed,
    run_described,
    run_finished,
    metrics_sealed,
    run_logged,
    points_merged,
    run_amended,
    run_deleted,
    run_restored,
    tag_removed,
)


def file_runs(tx: Transaction, experiment: str, *, name: str = "", stage: str = "") -> None:
    """For projections of what happens to an experiment: its runs go by a new name, or into a stage with it."""
    if name:
        tx.update(_run, {"experiment": experiment}, experiment=name)
    if stage:
        tx.update(_run, {"experiment": experiment}, stage=stage)


def _single(value: float, at: str) -> Summary:
    at_us = (instant(at) - _EPOCH) // timedelta(microseconds=1)
    return Summary(points=1, step=0, at_us=at_us, last=value, low=value, high=value)


def _fold_metrics(tx: Transaction, name: str, summaries: Mapping[str, Summary]) -> None:
    keys = list(summaries)
    rows: dict[str, Row[Any]] = {}
    for start in range(0, len(keys), _KEYS_MAX):
        part = tx.rows(_STANDING, {"run": name, "keys": keys[start : start + _KEYS_MAX]})
        rows.update((row.key, row) for row in part)
    for key, summary in summaries.items():
        _fold_metric(tx, name, key, summary, rows.get(key))


def _fold_metric(tx: Transaction, name: str, key: str, summary: Summary, row: Row[Any] | None) -> None:
    """The newest point is that of the highest step, then time, then value (NaN as 0); bounds and counts add up."""
    low, high, points = summary.low, summary.high, summary.points
    if row is not None:
        low = min((each for each in (row.low, low) if each is not None), default=None)
        high = max((each for each in (row.high, high) if each is not None), default=None)
        points += row.points
    value = SPECIAL.get(summary.special, summary.last)
    if row is not None and (summary.step, summary.at_us, value or 0.0) < (row.step, row.at_us, row.value or 0.0):
        tx.update(_metric, {"run": name, "key": key}, low=low, high=high, points=points)
        return
    tx.upsert(
        _metric,
        run=name,
        key=key,
        value=value,
        special=summary.special,
        step=summary.step,
        at_us=summary.at_us,
        low=low,
        high=high,
        points=points,
    )


def use_dataset(tx: Transaction, run: str, name: str, context: str, digest: str) -> None:
    """For projections: a run used data that is no version here."""
    tx.upsert(_dataset, run=run, name=name, context=context, version=0, digest=digest)


def run(tx: Reader, name: str) -> LoggedRun | None:
    """The run of that id, or None."""
    row = tx.first(_BY_RUN, {"run": name})
    return None if row is None else LoggedRun(**row._mapping)


def described(tx: Reader, name: str) -> bool:
    """Whether a run is on record as a recording."""
    found = run(tx, name)
    return found is not None and bool(found.experiment)


def upto(tx: Reader, name: str, writer: str) -> int:
    """How many bytes of a writer's log are on record."""
    found = tx.scalar(_UPTO, {"run": name, "writer": writer})
    return int(found or 0)


def children(tx: Reader, name: str, limit: int) -> list[LoggedRun]:
    """The runs nested in one, oldest first."""
    rows = tx.rows(select(_run).where(_run.c.parent == name).order_by(_run.c.seq).limit(limit))
    return [LoggedRun(**row._mapping) for row in rows]


def experiments(tx: Reader) -> list[tuple[str, int, str]]:
    """(name, runs, start of the newest) of every experiment that has runs, by name."""
    query = (
        select(_run.c.experiment, func.count().label("runs"), func.max(_run.c.started_at).label("newest"))
        .where(_run.c.experiment != "", _run.c.stage == ACTIVE)
        .group_by(_run.c.experiment)
        .order_by(_run.c.experiment)
    )
    return [(str(row.experiment), int(row.runs), str(row.newest)) for row in tx.rows(query)]


def params(tx: Reader, names: Sequence[str], keys: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """The params of runs, or those of these keys: run -> key -> value."""
    return _texts(tx, _param, names, keys)


def tags(tx: Reader, names: Sequence[str], keys: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """The tags of runs, or those of these keys: run -> key -> value."""
    return _texts(tx, _tag, names, keys)


def metrics(tx: Reader, names: Sequence[str], keys: Sequence[str] = ()) -> dict[str, list[Metric]]:
    """Where the metrics of runs stand, or those of these keys, by key."""
    query = select(_metric).where(_metric.c.run.in_(names)).order_by(_metric.c.run, _metric.c.key)
    if keys:
        query = query.where(_metric.c.key.in_(keys))
    found: dict[str, list[Metric]] = {name: [] for name in names}
    for row in tx.rows(query):
        values = dict(row._mapping)
        value = None if row.special else row.value
        found[values.pop("run")].append(Metric(**{**values, "value": value}))
    return found


def latest(tx: Reader, names: Sequence[str], keys: Sequence[str] = ()) -> dict[str, dict[str, float | None]]:
    """The newest values of the metrics of runs, or of those of these keys: run -> key -> value; None is NaN."""
    query = select(_metric.c.run, _metric.c.key, _metric.c.value, _metric.c.special).where(_metric.c.run.in_(names))
    if keys:
        query = query.where(_metric.c.key.in_(keys))
    found: dict[str, dict[str, float | None]] = {name: {} for name in names}
    for row in tx.rows(query.order_by(_metric.c.run, _metric.c.key)):
        found[row.run][row.key] = None if row.special else row.value
    return found


def notes(tx: Reader, name: str) -> list[NoteRecord]:
    """The notes and problems of a run, oldest first."""
    rows = tx.rows(select(_note).where(_note.c.run == name).order_by(_note.c.seq, _note.c.place))
    return [NoteRecord(kind=row.kind, text=row.text, at=row.at) for row in rows]


def datasets(tx: Reader, name: str) -> list[UsedDataset]:
    """The data sets that a run used, by name."""
    rows = tx.rows(select(_dataset).where(_dataset.c.run == name).order_by(_dataset.c.name, _dataset.c.context))
    return [UsedDataset(name=row.name, version=row.version, digest=row.digest, context=row.context) for row in rows]


def segments(tx: Reader, name: str) -> list[tuple[str, int]]:
    """(digest, points) of a run's segments, oldest first."""
    rows = tx.rows(_SEGMENTS, {"run": name})
    return [(str(row.segment), int(row.points)) for row in rows]


def search(
    tx: Reader,
    where: Sequence[Clause] = (),
    order: Sequence[Order] = (),
    *,
    after: Sequence[str | float] = (),
    skip: int = 0,
    limit: int = 50,
) -> list[tuple[LoggedRun, tuple[str | float, ...]]]:
    """Runs that fit every clause, newest first unless `order` says otherwise; each with its place.

    Args:
        after: the place of a run; those behind it are given, but for the first `skip`.
    """
    keys: list[tuple[Any, bool]] = []
    joined: Any = _run
    for number, each in enumerate(order):
        if each.kind == "attribute":
            keys.append((_run.c[each.key], each.is_descending))
            continue
        table = {"metric": _metric, "param": _param, "tag": _tag}[each.kind].alias(f"ordered_{number}")
        joined = joined.outerjoin(table, and_(table.c.run == _run.c.run, table.c.key == each.key))
        keys += (
            number_keys(table, each.is_descending) if each.kind == "metric" else text_keys(table, each.is_descending)
        )
    keys.append((_run.c.seq, True))
    if after and len(after) != len(keys):
        raise UsageError("the page does not belong to this order", hint="ask for the first page again")
    columns = [key.label(f"place_{number}") for number, (key, _) in enumerate(keys)]
    query = select(_run, *columns).select_from(joined).where(*(_condition(clause) for clause in where))
    if after:
        query = query.where(behind(keys, after))
    query = (
        query.order_by(*(key.desc() if is_descending else key.asc() for key, is_descending in keys))
        .offset(skip)
        .limit(limit)
    )
    return [_placed(row, len(keys)) for row in tx.rows(query)]


def _placed(row: Row[Any], count: int) -> tuple[LoggedRun, tuple[str | float, ...]]:
    values = dict(row._mapping)
    place = tuple(values.pop(f"place_{number}") for number in range(count))
    return LoggedRun(**values), place


def _condition(clause: Clause) -> Any:
    if clause.kind == "attribute":
        return _of_attribute(clause)
    if clause.kind == "metric":
        return _run.c.run.in_(
            select(_metric.c.run).where(
                _metric.c.key == clause.key, number_compared(_metric, clause.operator, clause.value)
            )
        )
    if clause.kind == "dataset":
        column = _dataset.c[clause.key]
        return _run.c.run.in_(select(_dataset.c.run).where(compared(column, clause.operator, clause.value)))
    table = _param if clause.kind == "param" else _tag
    if clause.operator in ("IS NULL", "IS NOT NULL"):
        has = _run.c.run.in_(select(table.c.run).where(table.c.key == clause.key))
        return has if clause.operator == "IS NOT NULL" else ~has
    query = select(table.c.run).where(table.c.key == clause.key, compared(table.c.value, clause.operator, clause.value))
    if clause.operator == "=":
        query = query.where(table.c.head == str(clause.value)[:HEAD])
    return _run.c.run.in_(query)


def _of_attribute(clause: Clause) -> Any:
    column = _run.c[clause.key]
    if clause.key in grammar.TIMES:
        return and_(column != "", compared(column, clause.operator, _moment(clause.value)))
    if clause.key == "status" and clause.operator in ("=", "!=", "IN", "NOT IN"):
        asked = clause.value if isinstance(clause.value, tuple) else (str(clause.value),)
        words = {word for each in asked for word in STATUSES.get(each.upper(), (each.lower(),))}
        found = column.in_(sorted(words))
        return found if clause.operator in ("=", "IN") else ~found
    return compared(column, clause.operator, clause.value)


def _moment(value: Any) -> str:
    """A time as its text: MLflow's milliseconds since the epoch, or an ISO date or time."""
    try:
        if isinstance(value, float):
            return utc_text(_EPOCH + timedelta(milliseconds=value))
        return utc_text(instant(str(value)))
    except (ValueError, OverflowError) as error:
        hint = "milliseconds since 1970, or '2026-11-21' or '2026-11-21T04:40:00'"
        raise UsageError(f"{value!r} is no time", hint=hint) from error


def _texts(tx: Reader, table: Any, names: Sequence[str], keys: Sequence[str]) -> dict[str, dict[str, str]]:
    query = select(table.c.run, table.c.key, table.c.value).where(table.c.run.in_(names))
    if keys:
        query = query.where(table.c.key.in_(keys))
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for row in tx.rows(query.order_by(table.c.run, table.c.key)):
        found[row.run][row.key] = row.value
    return found
