"""The database of an MLflow server, read by its own tables: SQLite and Postgres, one moment of it.

The version of its tables stands in the database (Alembic's). Those that are known are in `KNOWN`, oldest first;
any other is refused by name, for a column that is guessed is a number that is wrong. Nothing is written, and
no library of MLflow is asked.

Source: mlflow/store/db_migrations of MLflow 3.17 (which revision brings which table and column).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, Table, create_engine, event, func, or_, select
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from noria.catalog.takeover.documents import (
    ExperimentDoc,
    InputDoc,
    MeasureDoc,
    ModelDoc,
    RegisteredDoc,
    RunDoc,
    Store,
    VersionDoc,
    named,
)
from noria.core.errors import NotFound, StoreUnavailable, UsageError
from noria.core.lazy import lazy
from noria.engines.trackers.evalsets import evalsets_in
from noria.engines.trackers.local import LocalFiles
from noria.experiments.points import Curve

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

__all__ = ["KNOWN", "database_of", "opened", "read", "shown"]

KNOWN: tuple[str, ...] = (
    "97727af70f4d", "3500859a5d39", "7f2a7d5fae7d", "2d6e25af4d3e", "acf3f17fdcc7", "867495a8f9d4",
    "5b0e9adcef9c", "4465047574b1", "f5a4f2784254", "0584bdc529eb", "400f98739977", "6953534de441",
    "bda7b8c39065", "cbc13b556ace", "770bee3ae1dd", "a1b2c3d4e5f6", "de4033877273", "1a0cddfcaa16",
    "534353b11cbc", "71994744cf8e", "3da73c924c2f", "bf29a5ff90ea", "1bd49d398cd23", "b7c8d9e0f1a2",
    "5d2d30f0abce", "c9d4e5f6a7b8", "2c33131f4dae", "d3e4f5a6b7c8", "d0e1f2a3b4c5", "c8d9e0f1a2b3",
    "1b5f0d9ad7c1", "e1f2a3b4c5d6", "76601a5f987d", "c3d6457b6d8a", "a5b4c3d2e1f0", "ae8bbe7743c9",
    "7d34483879f0", "da6fb0208061", "89d3d66ed43f", "b7e4c1a90f23", "a8b9c0d1e2f3", "c1d2e3f4a5b6",
    "c3d9e7f1a2b4", "6f8d9c3b2a1e", "1971f2d9a75b", "17e22815139b", "b7e2c1a4d9f3", "75868b020152",
    "dc11669786a5",
)  # fmt: skip
"""Revisions of the tables that are read, oldest first: from MLflow 2.0 to 3.17."""
TABLES = (
    "experiments", "experiment_tags", "runs", "params", "tags", "metrics", "datasets", "inputs", "input_tags",
    "logged_models", "logged_model_params", "logged_model_tags", "logged_model_metrics", "registered_models",
    "registered_model_tags", "registered_model_aliases", "model_versions", "model_version_tags", "latest_metrics",
)  # fmt: skip
OPTIONAL = frozenset(each for each in TABLES if each.startswith(("logged_", "dataset", "input", "registered_model_al")))
EVALSETS = ("evaluation_datasets", "evaluation_dataset_tags", "evaluation_dataset_records", "entity_associations")
"""Tables that came with MLflow 3.4: there are no evaluation data sets before."""
BATCH = 50
ROWS = 100_000
"""Points in memory at once."""
CONNECT_S = 10
STATUSES = {0: "unspecified", 1: "pending", 2: "ready", 3: "upload_failed"}
DELETED_STAGE = "Deleted_Internal"
TIME_MAX_MS = 9_000_000_000_000_000


@contextmanager
def read(address: str, folders: Sequence[Path]) -> Iterator[Store]:
    """Open the database of an MLflow server.

    Args:
        address: `sqlite:///mlflow.db`, or `postgresql://user@host/name`.
        folders: where artifacts may be; with SQLite the folder of the file too.
    Raises: NotFound; UsageError if it is no database of MLflow's, or of a version that is not known; StoreUnavailable.
    """
    place = database_of(address)
    own: Path | None = None
    if place.get_backend_name() == "sqlite":
        own = Path(str(place.database)).resolve().parent
        place = place.set(database=f"file:{Path(str(place.database)).resolve().as_posix()}", query=_READ_ONLY)
    engine = _engine(place)
    try:
        with opened(engine, address) as (connection, tables, revision):
            tracker = Database(connection, tables)
            form = f"MLflow {place.get_backend_name()} database, tables {revision}"
            files = LocalFiles(own, folders)
            lost = tuple((f"run {run}", f"there is no experiment {number}") for run, number in tracker.homeless())
            sets = evalsets_in(connection, tables)
            yield Store(tracker, files, shown(address), form, tracker.count(), left_out=lost, evalsets=sets)
    finally:
        engine.dispose()


_READ_ONLY = {"mode": "ro", "uri": "true"}


@contextmanager
def opened(engine: Engine, address: str) -> Iterator[tuple[Connection, Mapping[str, Table], str]]:
    """A connection that sees one moment, the tables, and their version. Raises: as `read`."""
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            else:
                connection.exec_driver_sql("BEGIN")
            tables, revision = reflected(connection, address)
            yield connection, tables, revision
    except DBAPIError as error:
        raise StoreUnavailable(f"the database cannot be read: {error.orig}", where=shown(address)) from error
    except SQLAlchemyError as error:
        raise UsageError(f"the database cannot be read: {error}", where=shown(address)) from error


def reflected(connection: Connection, address: str) -> tuple[Mapping[str, Table], str]:
    """The tables of MLflow as they are in a database, and their version. Raises: UsageError."""
    metadata = MetaData()
    names = set(connection.dialect.get_table_names(connection))
    if "alembic_version" not in names or "experiments" not in names:
        raise UsageError("this is no database of MLflow's", where=shown(address), hint="mlflow db upgrade makes one")
    versions = [str(row[0]) for row in connection.exec_driver_sql("SELECT version_num FROM alembic_version")]
    revision = versions[0] if len(versions) == 1 else ", ".join(sorted(versions)) or "none"
    if revision not in KNOWN:
        raise UsageError(
            f"its tables are of the version {revision}, which Noria does not know",
            where=shown(address),
            hint=f"known are MLflow 2.0 to 3.17; newest {KNOWN[-1]}. A server over it can be read: http://…",
        )
    metadata.reflect(connection, only=[each for each in (*TABLES, *EVALSETS) if each in names])
    lacking = [each for each in TABLES if each not in metadata.tables and each not in OPTIONAL]
    if lacking:
        raise UsageError(f"the database has no table {lacking[0]!r}", where=shown(address))
    return metadata.tables, revision


class Database:
    """The tables of an MLflow server as a tracking store."""

    def __init__(self, connection: Connection, tables: Mapping[str, Table]) -> None:
        self._connection = connection
        self._tables = tables

    def count(self) -> int:
        """How many runs there are."""
        return int(self._connection.scalar(select(func.count()).select_from(self._tables["runs"])) or 0)

    def homeless(self) -> list[tuple[str, object]]:
        """Runs, with what they say, whose experiment is not there: SQLite does not look after that."""
        table = self._tables["runs"]
        known = select(self._tables["experiments"].c.experiment_id)
        query = select(table.c.run_uuid, table.c.experiment_id).where(
            or_(table.c.experiment_id.is_(None), table.c.experiment_id.not_in(known))
        )
        return [(row.run_uuid, row.experiment_id) for row in self._connection.execute(query.order_by(table.c.run_uuid))]

    def experiments(self) -> list[ExperimentDoc]:
        """Every experiment by number."""
        table = self._tables["experiments"]
        tags = self._pairs("experiment_tags", "experiment_id")
        return [
            ExperimentDoc(
                id=str(row.experiment_id),
                name=row.name,
                stage=row.lifecycle_stage or "active",
                created_ms=row._mapping.get("creation_time"),
                updated_ms=row._mapping.get("last_update_time"),
                location=row.artifact_location or "",
                tags=tags.get(row.experiment_id, {}),
            )
            for row in self._connection.execute(select(table).order_by(table.c.experiment_id))
        ]

    def runs(self, experiment: ExperimentDoc) -> Iterator[RunDoc]:
        """The runs of an experiment by when they began."""
        table = self._tables["runs"]
        query = select(table.c.run_uuid).where(table.c.experiment_id == int(experiment.id))
        order = (func.coalesce(table.c.start_time, 0), table.c.run_uuid)
        ids = [row.run_uuid for row in self._connection.execute(query.order_by(*order))]
        for start in range(0, len(ids), BATCH):
            yield from self.run_page(ids[start : start + BATCH], experiment)

    def run_page(self, ids: Sequence[str], experiment: ExperimentDoc) -> Iterator[RunDoc]:
        """Runs of an experiment by their ids, those that are there."""
        table = self._tables["runs"]
        rows = {row.run_uuid: row for row in self._connection.execute(select(table).where(table.c.run_uuid.in_(ids)))}
        params, tags = self._pairs("params", "run_uuid", ids), self._pairs("tags", "run_uuid", ids)
        inputs = self._inputs(ids)
        links = self._links(ids)
        for run in (each for each in ids if each in rows):
            row = rows[run]
            name, own = named(row._mapping.get("name") or "", tags.get(run, {}))
            models_in, models_out = links.get(run, ((), ()))
            yield RunDoc(
                id=run,
                experiment=experiment.name,
                name=name,
                user=row.user_id or "",
                status=row.status or "RUNNING",
                stage=row.lifecycle_stage or "active",
                started_ms=row.start_time,
                ended_ms=row.end_time,
                params=params.get(run, {}),
                tags=own,
                inputs=tuple(inputs.get(run, ())),
                models_in=tuple(models_in),
                models_out=tuple(models_out),
                place=row.artifact_uri or "",
            )

    def _inputs(self, ids: Sequence[str]) -> dict[str, list[InputDoc]]:
        if "inputs" not in self._tables:
            return {}
        links, datasets, tags = (self._tables[name] for name in ("inputs", "datasets", "input_tags"))
        where = (links.c.destination_type == "RUN", links.c.source_type == "DATASET", links.c.destination_id.in_(ids))
        tagged: dict[str, list[tuple[str, str]]] = {}
        query = select(tags).join(links, links.c.input_uuid == tags.c.input_uuid).where(*where)
        for row in self._connection.execute(query.order_by(tags.c.name)):
            tagged.setdefault(row.input_uuid, []).append((row.name, row.value))
        found: dict[str, list[InputDoc]] = {}
        joined = select(links.c.input_uuid, links.c.destination_id, datasets).join(
            datasets, datasets.c.dataset_uuid == links.c.source_id
        )
        for row in self._connection.execute(joined.where(*where).order_by(datasets.c.name, datasets.c.digest)):
            found.setdefault(row.destination_id, []).append(
                InputDoc(
                    name=row.name,
                    digest=row.digest,
                    source_type=row.dataset_source_type,
                    source=row.dataset_source,
                    schema=row.dataset_schema,
                    profile=row.dataset_profile,
                    tags=tuple(tagged.get(row.input_uuid, ())),
                )
            )
        return found

    def _links(self, ids: Sequence[str]) -> dict[str, tuple[list[str], list[tuple[str, int]]]]:
        if "inputs" not in self._tables:
            return {}
        links = self._tables["inputs"]
        found: dict[str, tuple[list[str], list[tuple[str, int]]]] = {run: ([], []) for run in ids}
        kinds = {("RUN_INPUT", "MODEL_INPUT"): 0, ("RUN_OUTPUT", "MODEL_OUTPUT"): 1}
        query = select(links).where(links.c.source_id.in_(ids), links.c.source_type.in_(("RUN_INPUT", "RUN_OUTPUT")))
        for row in self._connection.execute(query.order_by(links.c.destination_id)):
            side = kinds.get((row.source_type, row.destination_type))
            if side == 0:
                found[row.source_id][0].append(row.destination_id)
            elif side == 1:
                found[row.source_id][1].append((row.destination_id, int(row._mapping.get("step") or 0)))
        return found

    def points(self, run: str) -> Iterator[tuple[str, Curve]]:
        """The points of a run by metric. An infinite value is the largest number, as this database has it."""
        table = self._tables["metrics"]
        query = select(table.c.key, table.c.value, table.c.timestamp, table.c.step, table.c.is_nan)
        query = query.where(table.c.run_uuid == run).order_by(table.c.key, table.c.step, table.c.timestamp)
        rows = self._connection.execution_options(stream_results=True).execute(query)
        held: list[Any] = []
        for part in rows.partitions(ROWS // 10):
            for row in part:
                if held and (row.key != held[0].key or len(held) >= ROWS):
                    yield held[0].key, _curve(held, run)
                    held = []
                held.append(row)
        if held:
            yield held[0].key, _curve(held, run)

    def models(self, experiment: ExperimentDoc) -> Iterator[ModelDoc]:
        """The logged models of an experiment by when they were made."""
        if "logged_models" not in self._tables:
            return
        table = self._tables["logged_models"]
        query = select(table.c.model_id).where(table.c.experiment_id == int(experiment.id))
        order = (table.c.creation_timestamp_ms, table.c.model_id)
        ids = [row.model_id for row in self._connection.execute(query.order_by(*order))]
        for start in range(0, len(ids), BATCH):
            yield from self.model_page(ids[start : start + BATCH], experiment)

    def model_page(self, ids: Sequence[str], experiment: ExperimentDoc) -> Iterator[ModelDoc]:
        """Logged models of an experiment by their ids, those that are there."""
        if "logged_models" not in self._tables:
            return
        table = self._tables["logged_models"]
        params = self._pairs("logged_model_params", "model_id", ids, "param_key", "param_value")
        tags = self._pairs("logged_model_tags", "model_id", ids, "tag_key", "tag_value")
        measures = self._measures(ids)
        order = (table.c.creation_timestamp_ms, table.c.model_id)
        query = select(table).where(table.c.model_id.in_(ids)).order_by(*order)
        for row in self._connection.execute(query).all():
            yield ModelDoc(
                id=row.model_id,
                experiment=experiment.name,
                name=row.name,
                model_type=row.model_type or "",
                run=row.source_run_id or "",
                status=STATUSES.get(row.status, "unspecified"),
                message=row.status_message or "",
                stage=row.lifecycle_stage or "active",
                created_ms=row.creation_timestamp_ms,
                updated_ms=row.last_updated_timestamp_ms,
                params=params.get(row.model_id, {}),
                tags=tags.get(row.model_id, {}),
                measures=tuple(sorted(measures.get(row.model_id, ()))),
                place=row.artifact_location,
            )

    def _measures(self, ids: Sequence[str]) -> dict[str, list[MeasureDoc]]:
        table = self._tables["logged_model_metrics"]
        found: dict[str, list[MeasureDoc]] = {}
        for row in self._connection.execute(select(table).where(table.c.model_id.in_(ids))):
            found.setdefault(row.model_id, []).append(
                MeasureDoc(
                    key=row.metric_name,
                    at_ms=row.metric_timestamp_ms,
                    step=row.metric_step,
                    run=row.run_id,
                    value=float("nan") if row.metric_value is None else row.metric_value,
                    dataset=row.dataset_name or "",
                    digest=row.dataset_digest or "",
                )
            )
        return found

    def registered(self) -> Iterator[tuple[RegisteredDoc, list[VersionDoc]]]:
        """Every registered model by name, with its versions."""
        table = self._tables["registered_models"]
        self._require_one_workspace(table)
        for row in self._connection.execute(select(table).order_by(table.c.name)).all():
            tags = self._pairs("registered_model_tags", "name", [row.name])
            aliases: dict[str, int] = {}
            if "registered_model_aliases" in self._tables:
                alias = self._tables["registered_model_aliases"]
                query = select(alias).where(alias.c.name == row.name).order_by(alias.c.alias)
                aliases = {each.alias: int(each.version) for each in self._connection.execute(query)}
            yield (
                RegisteredDoc(
                    name=row.name,
                    description=row.description or "",
                    created_ms=row.creation_time,
                    updated_ms=row.last_updated_time,
                    tags=tags.get(row.name, {}),
                    aliases=aliases,
                ),
                self._versions(row.name),
            )

    def _versions(self, name: str) -> list[VersionDoc]:
        table, tag = self._tables["model_versions"], self._tables["model_version_tags"]
        tags: dict[int, dict[str, str]] = {}
        for row in self._connection.execute(select(tag).where(tag.c.name == name).order_by(tag.c.key)):
            tags.setdefault(row.version, {})[row.key] = row.value or ""
        return [
            VersionDoc(
                model=name,
                number=int(row.version),
                description=row.description or "",
                user=row.user_id or "",
                stage=row.current_stage or "None",
                source=row.source or "",
                storage=row._mapping.get("storage_location") or "",
                run=row.run_id or "",
                status=row.status or "READY",
                message=row.status_message or "",
                run_link=row.run_link or "",
                created_ms=row.creation_time,
                updated_ms=row.last_updated_time,
                tags=tags.get(row.version, {}),
            )
            for row in self._connection.execute(select(table).where(table.c.name == name).order_by(table.c.version))
            if row.current_stage != DELETED_STAGE
        ]

    def _require_one_workspace(self, table: Table) -> None:
        """Names are one's own only within a workspace of MLflow's. Raises: UsageError if there are several."""
        for each in (table, self._tables["experiments"]):
            if "workspace" in each.c:
                found = [row[0] for row in self._connection.execute(select(each.c.workspace).distinct())]
                if len(found) > 1:
                    raise UsageError(
                        f"the database has things in {len(found)} workspaces: {', '.join(sorted(found))[:200]}",
                        hint="a server over one of them can be read: http://…",
                    )

    def _pairs(
        self, name: str, owner: str, ids: Sequence[Any] | None = None, key: str = "key", value: str = "value"
    ) -> dict[Any, dict[str, str]]:
        table = self._tables[name]
        query = select(table.c[owner], table.c[key], table.c[value]).order_by(table.c[key])
        if ids is not None:
            query = query.where(table.c[owner].in_(ids))
        found: dict[Any, dict[str, str]] = {}
        for one, word, text in self._connection.execute(query):
            found.setdefault(one, {})[word] = "" if text is None else text
        return found


def shown(address: str) -> str:
    """A database's address without user and password."""
    try:
        found = make_url(address)
    except ArgumentError:
        return address.partition("://")[0] + "://…"
    return str(URL.create(found.get_backend_name(), host=found.host, port=found.port, database=found.database))


def database_of(address: str) -> URL:
    """The address, read, with the driver that is here. Raises: UsageError; NotFound for a file that is not there."""
    try:
        found = make_url(address)
    except ArgumentError as error:
        raise UsageError("the address of the database cannot be read", hint="sqlite:///mlflow.db") from error
    backend = found.get_backend_name()
    if backend in ("postgres", "postgresql"):
        if importlib.util.find_spec("psycopg") is None:
            raise UsageError("PostgreSQL needs psycopg, which is not here", hint="pip install 'noria[postgres]'")
        return found.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise UsageError(f"{backend!r} is not a database that is read", hint="sqlite:///mlflow.db or postgresql://…")
    if not found.database or not Path(found.database).is_file():
        raise NotFound(f"there is no database {found.database or address}", hint="sqlite:///mlflow.db")
    return found


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": CONNECT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    return create_engine(url, connect_args={"connect_timeout": CONNECT_S})


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own


def _curve(rows: Sequence[Any], run: str) -> Curve:
    at_ms = np.array([row.timestamp for row in rows], np.int64)
    if len(at_ms) and np.abs(at_ms).max() > TIME_MAX_MS:
        raise UsageError(f"a point of {rows[0].key!r} in run {run} has a time that is none")
    values = [float("nan") if row.is_nan else row.value for row in rows]
    return Curve(np.array([row.step for row in rows], np.int64), at_ms * 1000, np.array(values, np.float64))
