"""Records of experiments, and of what clients say that runs took and gave.

Every experiment has a number: 0 is the one called Default, the others count up in the order in which they
were first heard of, whether a client made them or a recording named them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import JSON, BigInteger, Column, Index, Text, func, select

from noria.catalog.facts import (
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentRenamed,
    ExperimentRestored,
    ExperimentTagged,
    ExperimentUntagged,
    InputsLogged,
    OutputsLogged,
)
from noria.core.clock import instant
from noria.core.fact import Stored
from noria.experiments.facts import RunDescribed
from noria.experiments.records import ACTIVE, DELETED, file_runs, use_dataset
from noria.store.ledger import Reader, Transaction
from noria.store.tables import project, record_table

__all__ = [
    "DEFAULT",
    "PROJECTIONS",
    "TABLES",
    "ExperimentRecord",
    "InputRecord",
    "ModelRecord",
    "by_name",
    "experiment",
    "experiments",
    "inputs",
    "models",
    "next_number",
]

DEFAULT = "Default"
CONTEXT = "mlflow.data.context"
"""The tag by which clients say what a data set was used for."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_experiment = record_table(
    "experiment",
    Column("experiment", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("experiment_name", "name"),
)
_tag = record_table(
    "experiment_tag",
    Column("experiment", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
_input = record_table(
    "run_input",
    Column("run", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("content_id", Text, primary_key=True),
    Column("source_type", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
)
_model = record_table(
    "run_model",
    Column("run", Text, primary_key=True),
    Column("side", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("step", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
)
TABLES = (_experiment, _tag, _input, _model)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRecord:
    """An experiment. `stage` is active or deleted; times are milliseconds since 1970, UTC."""

    experiment: int
    name: str
    location: str
    stage: str
    created_ms: int
    updated_ms: int
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRecord:
    """A data set that a run used, as its client described it."""

    name: str
    content_id: str
    source_type: str
    details: str
    tags: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A logged model that a run took ("in") or gave ("out")."""

    side: str
    model: str
    step: int


@project(ExperimentCreated)
def created(tx: Transaction, fact: Stored[ExperimentCreated]) -> None:
    """An experiment is there from then on."""
    payload = fact.payload
    _file(tx, payload.experiment, payload.name, payload.location, fact.at)
    for key, value in payload.tags.items():
        tx.upsert(_tag, experiment=payload.experiment, key=key, value=value)


@project(RunDescribed)
def described(tx: Transaction, fact: Stored[RunDescribed]) -> None:
    """An experiment that a recording is the first to name is there from then on too."""
    name = fact.payload.experiment
    if name and by_name(tx, name) is None:
        _file(tx, 0 if name == DEFAULT else next_number(tx), name, "", fact.at)


@project(ExperimentRenamed)
def renamed(tx: Transaction, fact: Stored[ExperimentRenamed]) -> None:
    """The runs go along."""
    payload = fact.payload
    tx.update(_experiment, {"experiment": payload.experiment}, name=payload.name, updated_ms=_ms(fact.at))
    file_runs(tx, payload.before, name=payload.name)


@project(ExperimentDeleted)
def deleted(tx: Transaction, fact: Stored[ExperimentDeleted]) -> None:
    """The runs go along."""
    payload = fact.payload
    tx.update(_experiment, {"experiment": payload.experiment}, stage=DELETED, updated_ms=_ms(fact.at))
    file_runs(tx, payload.name, stage=DELETED)


@project(ExperimentRestored)
def restored(tx: Transaction, fact: Stored[ExperimentRestored]) -> None:
    """The runs come along, also those that were deleted one by one."""
    payload = fact.payload
    tx.update(_experiment, {"experiment": payload.experiment}, stage=ACTIVE, updated_ms=_ms(fact.at))
    file_runs(tx, payload.name, stage=ACTIVE)


@project(ExperimentTagged)
def tagged(tx: Transaction, fact: Stored[ExperimentTagged]) -> None:
    """A tag has one value."""
    payload = fact.payload
    tx.upsert(_tag, experiment=payload.experiment, key=payload.key, value=payload.value)


@project(ExperimentUntagged)
def untagged(tx: Transaction, fact: Stored[ExperimentUntagged]) -> None:
    """A tag that is not there any more may be set again."""
    tx.delete(_tag, experiment=fact.payload.experiment, key=fact.payload.key)


@project(InputsLogged)
def inputs_logged(tx: Transaction, fact: Stored[InputsLogged]) -> None:
    """What was said first of the same data in the same run stays."""
    payload = fact.payload
    known = {(item.name, item.content_id) for item in inputs(tx, [payload.run])[payload.run]}
    for place, item in enumerate(payload.datasets):
        if (item.name, item.content_id) in known:
            continue
        known.add((item.name, item.content_id))
        tx.upsert(
            _input,
            run=payload.run,
            name=item.name,
            content_id=item.content_id,
            source_type=item.source_type,
            details=item.details,
            tags=[list(pair) for pair in item.tags],
            seq=fact.seq,
            place=place,
        )
        context = next((value for key, value in item.tags if key == CONTEXT), "")
        use_dataset(tx, payload.run, item.name, context, item.content_id)
    for place, model in enumerate(payload.models):
        tx.upsert(_model, run=payload.run, side="in", model=model, step=0, seq=fact.seq, place=place)


@project(OutputsLogged)
def outputs_logged(tx: Transaction, fact: Stored[OutputsLogged]) -> None:
    """A model that a run gives again has the newest step."""
    payload = fact.payload
    for place, item in enumerate(payload.models):
        tx.upsert(_model, run=payload.run, side="out", model=item.model, step=item.step, seq=fact.seq, place=place)


PROJECTIONS = (
    created,
    described,
    renamed,
    deleted,
    restored,
    tagged,
    untagged,
    inputs_logged,
    outputs_logged,
)


def experiment(tx: Reader, number: int) -> ExperimentRecord | None:
    """The experiment of that number, or None."""
    found = _experiments(tx, _experiment.c.experiment == number)
    return found[0] if found else None


def by_name(tx: Reader, name: str) -> ExperimentRecord | None:
    """The experiment of that name, deleted or not, or None."""
    found = _experiments(tx, _experiment.c.name == name)
    return found[0] if found else None


def experiments(tx: Reader) -> list[ExperimentRecord]:
    """Every experiment, deleted ones too, by number."""
    return _experiments(tx, _experiment.c.experiment >= 0)


def next_number(tx: Reader) -> int:
    """The number of the next experiment; 0 is kept for Default."""
    return int(tx.scalar(select(func.max(_experiment.c.experiment))) or 0) + 1


def inputs(tx: Reader, runs: Sequence[str]) -> dict[str, list[InputRecord]]:
    """The data sets that clients said of runs, in the order in which they were said."""
    rows = tx.rows(select(_input).where(_input.c.run.in_(runs)).order_by(_input.c.seq, _input.c.place))
    found: dict[str, list[InputRecord]] = {run: [] for run in runs}
    for row in rows:
        found[row.run].append(
            InputRecord(
                name=row.name,
                content_id=row.content_id,
                source_type=row.source_type,
                details=row.details,
                tags=row.tags,
            )
        )
    return found


def models(tx: Reader, runs: Sequence[str]) -> dict[str, list[ModelRecord]]:
    """The logged models that runs took and gave, in the order in which they were said."""
    rows = tx.rows(select(_model).where(_model.c.run.in_(runs)).order_by(_model.c.seq, _model.c.place))
    found: dict[str, list[ModelRecord]] = {run: [] for run in runs}
    for row in rows:
        found[row.run].append(ModelRecord(side=row.side, model=row.model, step=int(row.step)))
    return found


def _experiments(tx: Reader, where: object) -> list[ExperimentRecord]:
    rows = tx.rows(select(_experiment).where(where).order_by(_experiment.c.experiment))  # type: ignore[arg-type]  # a condition
    if not rows:
        return []
    tags: dict[int, dict[str, str]] = {row.experiment: {} for row in rows}
    query = select(_tag)
    if len(rows) == 1:
        query = query.where(_tag.c.experiment == rows[0].experiment)
    for row in tx.rows(query.order_by(_tag.c.experiment, _tag.c.key)):
        tags.setdefault(row.experiment, {})[row.key] = row.value
    return [ExperimentRecord(**row._mapping, tags=tags[row.experiment]) for row in rows]


def _file(tx: Transaction, number: int, name: str, location: str, at: str) -> None:
    at_ms = _ms(at)
    tx.upsert(
        _experiment,
        experiment=number,
        name=name,
        location=location,
        stage=ACTIVE,
        created_ms=at_ms,
        updated_ms=at_ms,
    )


def _ms(at: str) -> int:
    return (instant(at) - _EPOCH) // timedelta(milliseconds=1)
