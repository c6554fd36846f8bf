"""Records of experiments, and of what clients say that runs took and gave.

Every experiment has a number: 0 is the one called Default, the others count up in the order in which they
were first heard of, whether a client made them or a recording named them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from noria.catalog.facts import (
    ExperimentCreated,
    ExperimentDeleted,
    ExperimentRenamed,
    ExperimentRestored,
    ExperimentTagged,
    ExperimentUntagged,
    InputsLogged,
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelEnded,
    LoggedModelFile,
    LoggedModelFileRemoved,
    LoggedModelMeasured,
    LoggedModelParams,
    LoggedModelTagged,
    LoggedModelUntagged,
    OutputsLogged,
)
from noria.core.clock import instant
from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.experiments.facts import RunDescribed
from noria.experiments.records import ACTIVE, DELETED, file_runs, use_dataset
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import JSON, BigInteger, Column, Float, Index, Table, Text, bindparam, func, select
from noria.store.tables import project, record_table

__all__ = [
    "CONTEXT",
    "DEFAULT",
    "PROJECTIONS",
    "TABLES",
    "ExperimentRecord",
    "FileRecord",
    "InputRecord",
    "LoggedModel",
    "MeasureRecord",
    "ModelRecord",
    "by_name",
    "date",
    "experiment",
    "experiments",
    "inputs",
    "logged_head",
    "logged_model",
    "logged_models",
    "model_files",
    "model_ids",
    "models",
    "next_number",
    "with_parts",
]

DEFAULT = "Default"
CONTEXT = "mlflow.data.context"
"""The tag by which clients say what a data set was used for."""
CHUNK = 500
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
_logged = record_table(
    "logged_model",
    Column("model", Text, primary_key=True),
    Column("experiment", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("model_type", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Index("logged_model_experiment", "experiment", "created_ms"),
    Index("logged_model_run", "run"),
)
_logged_param = record_table(
    "logged_model_param",
    Column("model", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
_logged_tag = record_table(
    "logged_model_tag",
    Column("model", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
_measure = record_table(
    "logged_model_measure",
    Column("model", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("run", Text, primary_key=True),
    Column("value", Float, nullable=True),
    Column("special", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("content_id", Text, nullable=False),
)
_logged_file = record_table(
    "logged_model_file",
    Column("model", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
)
_BY = {name: select(_experiment).where(_experiment.c[name] == bindparam("value")) for name in ("experiment", "name")}
_TAGS_OF = select(_tag).where(_tag.c.experiment == bindparam("experiment")).order_by(_tag.c.key)
TABLES = (_experiment, _tag, _input, _model, _logged, _logged_param, _logged_tag, _measure, _logged_file)


@frozen(kw_only=True)
class ExperimentRecord:
    """An experiment. `stage` is active or deleted; times are milliseconds since 1970, UTC."""

    experiment: int
    name: str
    location: str
    stage: str
    created_ms: int
    updated_ms: int
    tags: Mapping[str, str]


@frozen(kw_only=True)
class InputRecord:
    """A data set that a run used, as its client described it."""

    name: str
    content_id: str
    source_type: str
    details: str
    tags: Sequence[Sequence[str]]


@frozen(kw_only=True)
class ModelRecord:
    """A logged model that a run took ("in") or gave ("out")."""

    side: str
    model: str
    step: int


@frozen(kw_only=True)
class MeasureRecord:
    """A measure of a logged model by a run. `value` is None where `special` says nan, inf or -inf."""

    key: str
    value: float | None
    special: str
    at_ms: int
    step: int
    run: str
    dataset: str
    content_id: str


@frozen(kw_only=True)
class LoggedModel:
    """A model that a client logged. `status` is pending, ready or upload_failed; `stage` active or deleted."""

    model: str
    experiment: int
    name: str
    model_type: str
    run: str
    status: str
    stage: str
    created_ms: int
    updated_ms: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    measures: Sequence[MeasureRecord]


@frozen(kw_only=True)
class FileRecord:
    """A file of a logged model."""

    name: str
    digest: str
    size_bytes: int


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


@project(LoggedModelCreated)
def model_created(tx: Transaction, fact: Stored[LoggedModelCreated]) -> None:
    """A model is pending until a client says that its files are there."""
    payload = fact.payload
    at_ms = _ms(fact.at)
    tx.upsert(
        _logged,
        model=payload.model,
        experiment=payload.experiment,
        name=payload.name,
        model_type=payload.model_type,
        run=payload.run,
        status="pending",
        stage=ACTIVE,
        created_ms=at_ms,
        updated_ms=at_ms,
    )
    _put_pairs(tx, _logged_param, payload.model, payload.params)
    _put_pairs(tx, _logged_tag, payload.model, payload.tags)


@project(LoggedModelEnded)
def model_ended(tx: Transaction, fact: Stored[LoggedModelEnded]) -> None:
    """What is said last holds."""
    payload = fact.payload
    tx.update(_logged, {"model": payload.model}, status=payload.status, updated_ms=_ms(fact.at))


@project(LoggedModelTagged)
def model_tagged(tx: Transaction, fact: Stored[LoggedModelTagged]) -> None:
    """A tag has one value."""
    _put_pairs(tx, _logged_tag, fact.payload.model, fact.payload.tags)


@project(LoggedModelUntagged)
def model_untagged(tx: Transaction, fact: Stored[LoggedModelUntagged]) -> None:
    """A tag that is not there any more may be set again."""
    tx.delete(_logged_tag, model=fact.payload.model, key=fact.payload.key)


@project(LoggedModelParams)
def model_params(tx: Transaction, fact: Stored[LoggedModelParams]) -> None:
    """A param has one value."""
    _put_pairs(tx, _logged_param, fact.payload.model, fact.payload.params)


@project(LoggedModelDeleted)
def model_deleted(tx: Transaction, fact: Stored[LoggedModelDeleted]) -> None:
    """A model that is put away keeps everything that it has."""
    tx.update(_logged, {"model": fact.payload.model}, stage=DELETED, updated_ms=_ms(fact.at))


@project(LoggedModelMeasured)
def model_measured(tx: Transaction, fact: Stored[LoggedModelMeasured]) -> None:
    """What was measured first at a step of a run stays."""
    payload = fact.payload
    for point in payload.points:
        place = {"key": point.key, "at_ms": point.at_ms, "step": point.step, "run": payload.run}
        same = [_measure.c[name] == value for name, value in {"model": payload.model, **place}.items()]
        if tx.first(select(_measure.c.model).where(*same)) is not None:
            continue
        tx.upsert(
            _measure,
            model=payload.model,
            key=point.key,
            at_ms=point.at_ms,
            step=point.step,
            run=payload.run,
            value=point.value,
            special=point.special,
            dataset=point.dataset,
            content_id=point.content_id,
        )


@project(LoggedModelFile)
def model_file(tx: Transaction, fact: Stored[LoggedModelFile]) -> None:
    """A name stands for what it was given last."""
    payload = fact.payload
    tx.upsert(
        _logged_file, model=payload.model, name=payload.name, digest=payload.digest, size_bytes=payload.size_bytes
    )


@project(LoggedModelFileRemoved)
def model_file_removed(tx: Transaction, fact: Stored[LoggedModelFileRemoved]) -> None:
    """A name that stands for nothing any more may be given again."""
    tx.delete(_logged_file, model=fact.payload.model, name=fact.payload.name)


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
    model_created,
    model_ended,
    model_tagged,
    model_untagged,
    model_params,
    model_deleted,
    model_measured,
    model_file,
    model_file_removed,
)


def date(tx: Transaction, thing: int | str, created_ms: int, updated_ms: int) -> None:
    """For projections: an experiment (its number) or a logged model is as old as the store says it came from."""
    table, column = (_experiment, "experiment") if isinstance(thing, int) else (_logged, "model")
    tx.update(table, {column: thing}, created_ms=created_ms, updated_ms=updated_ms)


def experiment(tx: Reader, number: int) -> ExperimentRecord | None:
    """The experiment of that number, or None."""
    return _one(tx, "experiment", number)


def by_name(tx: Reader, name: str) -> ExperimentRecord | None:
    """The experiment of that name, deleted or not, or None."""
    return _one(tx, "name", name)


def experiments(tx: Reader) -> list[ExperimentRecord]:
    """Every experiment, deleted ones too, by number."""
    tags: dict[int, dict[str, str]] = {}
    for row in tx.rows(select(_tag).order_by(_tag.c.experiment, _tag.c.key)):
        tags.setdefault(row.experiment, {})[row.key] = row.value
    rows = tx.rows(select(_experiment).order_by(_experiment.c.experiment))
    return [ExperimentRecord(**row._mapping, tags=tags.get(row.experiment, {})) for row in rows]


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


def logged_model(tx: Reader, model: str) -> LoggedModel | None:
    """The logged model of that id, deleted or not, or None."""
    found = _logged_models(tx, _logged.c.model == model)
    return found[0] if found else None


def logged_head(tx: Reader, model: str) -> LoggedModel | None:
    """The same without its params, tags and measures, by one query."""
    row = tx.first(select(_logged).where(_logged.c.model == model))
    return None if row is None else LoggedModel(**row._mapping, params={}, tags={}, measures=())


def logged_models(
    tx: Reader, experiments: Sequence[int], *, parts: Collection[str] = ("params", "tags", "measures")
) -> list[LoggedModel]:
    """The logged models of experiments that are not deleted, oldest first, with those parts of them that are named."""
    return _logged_models(tx, _logged.c.experiment.in_(experiments) & (_logged.c.stage == ACTIVE), parts)


def model_ids(tx: Reader, experiment: int) -> list[str]:
    """The ids of every logged model of an experiment, oldest first."""
    query = select(_logged.c.model).where(_logged.c.experiment == experiment).order_by(_logged.c.created_ms)
    return [row.model for row in tx.rows(query)]


def with_parts(tx: Reader, models: Sequence[LoggedModel]) -> list[LoggedModel]:
    """The same models in the same order, with all that is known of them."""
    ids = [each.model for each in models]
    params, tags, measures = _pairs(tx, _logged_param, ids), _pairs(tx, _logged_tag, ids), _measures(tx, ids)
    return [
        replace(each, params=params[each.model], tags=tags[each.model], measures=measures[each.model])
        for each in models
    ]


def model_files(tx: Reader, model: str) -> list[FileRecord]:
    """The files of a logged model by name."""
    rows = tx.rows(select(_logged_file).where(_logged_file.c.model == model).order_by(_logged_file.c.name))
    return [FileRecord(name=row.name, digest=row.digest, size_bytes=int(row.size_bytes)) for row in rows]


def _logged_models(
    tx: Reader, where: object, parts: Collection[str] = ("params", "tags", "measures")
) -> list[LoggedModel]:
    rows = tx.rows(select(_logged).where(where).order_by(_logged.c.created_ms, _logged.c.model))  # type: ignore[arg-type]  # a condition
    ids = [row.model for row in rows]
    params = _pairs(tx, _logged_param, ids) if "params" in parts else {}
    tags = _pairs(tx, _logged_tag, ids) if "tags" in parts else {}
    measures = _measures(tx, ids) if "measures" in parts else {}
    return [
        LoggedModel(
            **row._mapping,
            params=params.get(row.model, {}),
            tags=tags.get(row.model, {}),
            measures=measures.get(row.model, ()),
        )
        for row in rows
    ]


def _pairs(tx: Reader, table: Table, models: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {model: {} for model in models}
    for start in range(0, len(models), CHUNK):
        query = select(table).where(table.c.model.in_(models[start : start + CHUNK])).order_by(table.c.key)
        for row in tx.rows(query):
            found[row.model][row.key] = row.value
    return found


def _measures(tx: Reader, models: Sequence[str]) -> dict[str, list[MeasureRecord]]:
    found: dict[str, list[MeasureRecord]] = {model: [] for model in models}
    order = (_measure.c.key, _measure.c.at_ms, _measure.c.step, _measure.c.run)
    for start in range(0, len(models), CHUNK):
        query = select(_measure).where(_measure.c.model.in_(models[start : start + CHUNK])).order_by(*order)
        for row in tx.rows(query):
            values = {key: value for key, value in row._mapping.items() if key != "model"}
            found[row.model].append(MeasureRecord(**values))
    return found


def _put_pairs(tx: Transaction, table: Table, model: str, pairs: Mapping[str, str]) -> None:
    for key, value in pairs.items():
        tx.upsert(table, model=model, key=key, value=value)


def _one(tx: Reader, column: str, value: int | str) -> ExperimentRecord | None:
    row = tx.first(_BY[column], {"value": value})
    if row is None:
        return None
    tags = {each.key: each.value for each in tx.rows(_TAGS_OF, {"experiment": row.experiment})}
    return ExperimentRecord(**row._mapping, tags=tags)


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
