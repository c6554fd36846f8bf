"""Runs, models and a registry written into the database of an MLflow server, whose tables MLflow itself made.

The tables are MLflow's business: `mlflow db upgrade` makes them, and they are filled by what they are. What is
in the database already stays as it is, so one that was broken off is gone on with. Files lie beside it, in the
layout that MLflow gives them.

Source: mlflow/store/tracking/dbmodels/models.py, store/model_registry/dbmodels/models.py and
store/artifact layouts of MLflow 3.17.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import sys
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from sqlalchemy import Table, create_engine, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from noria.catalog.takeover.documents import (
    RUN_NAME,
    EvalRecordDoc,
    EvalsetDoc,
    ExperimentDoc,
    ModelDoc,
    RegisteredDoc,
    RunDoc,
    Tracker,
    VersionDoc,
)
from noria.core.errors import NotFound, StoreUnavailable, UsageError
from noria.core.lazy import lazy
from noria.engines.trackers import database
from noria.engines.trackers.evalsets import write_evalset
from noria.store.objects import BLOCK_BYTES, disk_faults

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

__all__ = ["DatabaseWriter", "write"]

ROWS = 5_000
FLOAT_MAX = sys.float_info.max
STATUSES = {word: number for number, word in database.STATUSES.items()}
DATA, RUN = "DATASET", "RUN"


@contextmanager
def write(address: str, folder: Path) -> Iterator[DatabaseWriter]:
    """Open a database of MLflow's for writing.

    Args:
        address: `sqlite:///mlflow.db`, or `postgresql://user@host/name`; its tables are there.
        folder: where artifacts go.
    Raises: NotFound; UsageError if its tables are not MLflow's, or of a version that is not known; StoreUnavailable.
    """
    engine = create_engine(database.database_of(address))
    try:
        with engine.connect() as connection:
            tables, _ = database.reflected(connection, address)
        yield DatabaseWriter(engine, tables, folder.resolve(), address)
    except DBAPIError as error:
        raise StoreUnavailable(f"the database refused: {error.orig}", where=database.shown(address)) from error
    finally:
        engine.dispose()


NAME_BYTES = 255
"""What file systems take as the name of a file."""


class DatabaseWriter:
    """A database of MLflow's that is being filled."""

    def __init__(self, engine: Engine, tables: Mapping[str, Table], folder: Path, address: str) -> None:
        lacking = [each for each in database.TABLES if each not in tables]
        if lacking:
            raise UsageError(
                f"the database has no table {lacking[0]!r}: it is of an older MLflow",
                where=database.shown(address),
                hint="mlflow db upgrade brings it up to date",
            )
        self._engine = engine
        self._tables = tables
        self._folder = folder

    def experiment(self, doc: ExperimentDoc) -> str:
        """Make an experiment under its number if that is free there, else under the next; gives it."""
        table = self._tables["experiments"]
        with self._engine.begin() as connection:
            found = connection.scalar(select(table.c.experiment_id).where(table.c.name == doc.name))
            if found is not None:
                self._tag_experiment(connection, int(found), doc)
                return str(found)
            number = int(doc.id)
            if connection.scalar(select(table.c.name).where(table.c.experiment_id == number)) is not None:
                number = int(connection.scalar(select(func.max(table.c.experiment_id))) or 0) + 1
            connection.execute(
                insert(table).values(
                    experiment_id=number,
                    name=doc.name,
                    artifact_location=str(self._folder / str(number)),
                    lifecycle_stage=doc.stage,
                    creation_time=doc.created_ms,
                    last_update_time=doc.updated_ms,
                )
            )
            self._tag_experiment(connection, number, doc)
        return str(number)

    def _tag_experiment(self, connection: Connection, number: int, doc: ExperimentDoc) -> None:
        tags = [{"experiment_id": number, "key": key, "value": value} for key, value in doc.tags.items()]
        self._add(connection, "experiment_tags", tags)
        table = self._tables["experiments"]
        values = {"creation_time": doc.created_ms, "last_update_time": doc.updated_ms}
        has_runs = self._tables["runs"].c.experiment_id == number
        if connection.scalar(select(func.count()).select_from(self._tables["runs"]).where(has_runs)) == 0:
            # MLflow makes the first one by itself, with the time of making its tables
            connection.execute(table.update().where(table.c.experiment_id == number).values(**values))

    def runs(self, experiment: str, docs: Sequence[RunDoc], source: Tracker) -> int:
        """Write runs with their points, all of them or none; gives how many are new."""
        table = self._tables["runs"]
        with self._engine.begin() as connection:
            known = self._known(connection, table.c.run_uuid, [doc.id for doc in docs])
            new = [doc for doc in docs if doc.id not in known]
            self._add(connection, "runs", [self._run_row(experiment, doc) for doc in new])
            params = [{"run_uuid": doc.id, "key": k, "value": v} for doc in new for k, v in doc.params.items()]
            self._add(connection, "params", params)
            tags = [
                {"run_uuid": doc.id, "key": key, "value": value}
                for doc in new
                for key, value in {**doc.tags, RUN_NAME: doc.name}.items()
            ]
            self._add(connection, "tags", tags)
            for doc in new:
                self._points(connection, doc.id, source)
                self._links(connection, experiment, doc)
        return len(new)

    def _run_row(self, experiment: str, doc: RunDoc) -> dict[str, Any]:
        is_deleted = doc.stage != "active"
        return {
            "run_uuid": doc.id,
            "name": doc.name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": doc.user,
            "status": doc.status,
            "start_time": doc.started_ms,
            "end_time": doc.ended_ms,
            "deleted_time": (doc.ended_ms or doc.started_ms) if is_deleted else None,
            "source_version": "",
            "lifecycle_stage": doc.stage,
            "artifact_uri": str(self._folder / experiment / doc.id / "artifacts"),
            "experiment_id": int(experiment),
        }

    def _points(self, connection: Connection, run: str, source: Tracker) -> None:
        latest: dict[str, tuple[int, int, float, bool]] = {}
        for key, part in source.points(run):
            is_nan = np.isnan(part.values)
            values = np.where(is_nan, 0.0, np.clip(part.values, -FLOAT_MAX, FLOAT_MAX))
            columns = (part.steps.tolist(), (part.at_us // 1000).tolist(), values.tolist(), is_nan.tolist())
            rows = list(zip(*columns, strict=True))
            latest[key] = max([*rows, *([latest[key]] if key in latest else [])])
            for start in range(0, len(rows), ROWS):
                told = [_point(run, key, row) for row in rows[start : start + ROWS]]
                self._add(connection, "metrics", told)
        if "latest_metrics" in self._tables:
            self._add(connection, "latest_metrics", [_point(run, key, row) for key, row in latest.items()])

    def _links(self, connection: Connection, experiment: str, doc: RunDoc) -> None:
        """The data sets and logged models of a run."""
        for item in doc.inputs:
            dataset = _id("dataset", experiment, item.name, item.digest)
            row = {
                "dataset_uuid": dataset,
                "experiment_id": int(experiment),
                "name": item.name,
                "digest": item.digest,
                "dataset_source_type": item.source_type,
                "dataset_source": item.source,
                "dataset_schema": item.schema,
                "dataset_profile": item.profile,
            }
            table = self._tables["datasets"]
            same = (table.c.experiment_id == int(experiment), table.c.name == item.name, table.c.digest == item.digest)
            found = connection.scalar(select(table.c.dataset_uuid).where(*same))
            if found is None:
                self._add(connection, "datasets", [row])
            link = self._link(connection, (DATA, found or dataset), (RUN, doc.id))
            tags = [{"input_uuid": link, "name": key, "value": value} for key, value in item.tags]
            self._add(connection, "input_tags", tags)
        for model in doc.models_in:
            self._link(connection, ("RUN_INPUT", doc.id), ("MODEL_INPUT", model))
        for model, step in doc.models_out:
            self._link(connection, ("RUN_OUTPUT", doc.id), ("MODEL_OUTPUT", model), step)

    def _link(self, connection: Connection, start: tuple[str, str], end: tuple[str, str], step: int = 0) -> str:
        link = _id("input", *start, *end)
        row = {
            "input_uuid": link,
            "source_type": start[0],
            "source_id": start[1],
            "destination_type": end[0],
            "destination_id": end[1],
            "step": step,
        }
        self._add(connection, "inputs", [row])
        return link

    def models(self, experiment: str, docs: Sequence[ModelDoc]) -> int:
        """Write logged models; gives how many are new."""
        table = self._tables["logged_models"]
        with self._engine.begin() as connection:
            known = self._known(connection, table.c.model_id, [doc.id for doc in docs])
            new = [doc for doc in docs if doc.id not in known]
            self._add(connection, "logged_models", [self._model_row(experiment, doc) for doc in new])
            for doc in new:
                own = {"model_id": doc.id, "experiment_id": int(experiment)}
                params = [{**own, "param_key": key, "param_value": value} for key, value in doc.params.items()]
                self._add(connection, "logged_model_params", params)
                tags = [{**own, "tag_key": key, "tag_value": value} for key, value in doc.tags.items()]
                self._add(connection, "logged_model_tags", tags)
                measures = [
                    {
                        **own,
                        "metric_name": each.key,
                        "metric_timestamp_ms": each.at_ms,
                        "metric_step": each.step,
                        "metric_value": max(-FLOAT_MAX, min(FLOAT_MAX, each.value)) if each.value == each.value else 0,
                        "run_id": each.run,
                        "dataset_name": each.dataset or None,
                        "dataset_digest": each.digest or None,
                    }
                    for each in doc.measures
                ]
                self._add(connection, "logged_model_metrics", measures)
        return len(new)

    def _model_row(self, experiment: str, doc: ModelDoc) -> dict[str, Any]:
        return {
            "model_id": doc.id,
            "experiment_id": int(experiment),
            "name": doc.name,
            "artifact_location": str(self._folder / experiment / "models" / doc.id / "artifacts"),
            "creation_timestamp_ms": doc.created_ms or 0,
            "last_updated_timestamp_ms": doc.updated_ms or doc.created_ms or 0,
            "status": STATUSES[doc.status],
            "lifecycle_stage": doc.stage,
            "model_type": doc.model_type or None,
            "source_run_id": doc.run or None,
            "status_message": doc.message or None,
        }

    def registered(self, doc: RegisteredDoc, versions: Sequence[VersionDoc]) -> int:
        """Write a registered model with its versions; gives how many versions are new."""
        table = self._tables["model_versions"]
        with self._engine.begin() as connection:
            model = {
                "name": doc.name,
                "creation_time": doc.created_ms,
                "last_updated_time": doc.updated_ms,
                "description": doc.description or None,
            }
            if not self._known(connection, self._tables["registered_models"].c.name, [doc.name]):
                self._add(connection, "registered_models", [model])
            tags = [{"name": doc.name, "key": key, "value": value} for key, value in doc.tags.items()]
            self._add(connection, "registered_model_tags", tags)
            query = select(table.c.version).where(table.c.name == doc.name)
            known = {int(row.version) for row in connection.execute(query)}
            new = [each for each in versions if each.number not in known]
            self._add(connection, "model_versions", [self._version_row(connection, each) for each in new])
            version_tags = [
                {"name": doc.name, "version": each.number, "key": key, "value": value}
                for each in new
                for key, value in each.tags.items()
            ]
            self._add(connection, "model_version_tags", version_tags)
            there = {*known, *(each.number for each in new)}
            aliases = [
                {"name": doc.name, "alias": alias, "version": number}
                for alias, number in doc.aliases.items()
                if number in there
            ]
            self._add(connection, "registered_model_aliases", aliases)
        return len(new)

    def evalset(self, doc: EvalsetDoc, records: Iterable[EvalRecordDoc]) -> int:
        """Write an evaluation data set with its records, whole or not at all; gives 0 if it is there, else 1."""
        with self._engine.begin() as connection:
            return write_evalset(connection, self._tables, doc, records)

    def _version_row(self, connection: Connection, each: VersionDoc) -> dict[str, Any]:
        return {
            "name": each.model,
            "version": each.number,
            "creation_time": each.created_ms,
            "last_updated_time": each.updated_ms,
            "description": each.description or None,
            "user_id": each.user or None,
            "current_stage": each.stage,
            "source": each.source,
            "run_id": each.run or None,
            "status": each.status,
            "status_message": each.message or None,
            "run_link": each.run_link or None,
            "storage_location": self._storage(connection, each.storage or each.source),
        }

    def _storage(self, connection: Connection, place: str) -> str:
        """Where the files of a version are there: beside the database if they are a run's or a logged model's."""
        if place.startswith("models:/m-"):
            model, _, inside = place.removeprefix("models:/").partition("/")
            return self._below(connection, model, inside.split("/") if inside else []) or place
        if place.startswith("runs:/"):
            run, _, inside = place.removeprefix("runs:/").partition("/")
            return self._below(connection, run, inside.split("/") if inside else []) or place
        parts = urllib.parse.unquote(urllib.parse.urlparse(place).path).strip("/").split("/")
        for index, part in enumerate(parts):
            if part == "artifacts" and index:
                found = self._below(connection, parts[index - 1], parts[index + 1 :])
                if found:
                    return found
        return place

    def _below(self, connection: Connection, owner: str, inside: Sequence[str]) -> str:
        runs, models = self._tables["runs"], self._tables["logged_models"]
        found = connection.scalar(select(models.c.artifact_location).where(models.c.model_id == owner))
        if found is None:
            found = connection.scalar(select(runs.c.artifact_uri).where(runs.c.run_uuid == owner))
        return "/".join([found, *inside]) if found else ""

    def file(self, owner: RunDoc | ModelDoc, name: str, stream: BinaryIO) -> None:
        """Write a file where the database says that its owner's are; one that is there is left."""
        parts = PurePosixPath(name).parts
        is_odd = (
            not parts
            or name.startswith("/")
            or any(part in ("", ".", "..") or len(part.encode()) > NAME_BYTES for part in parts)
        )
        if is_odd or "\\" in name or "\0" in name:
            raise UsageError(f"{name[:100]!r} cannot be the name of a file", where=owner.id)
        with self._engine.connect() as connection:
            root = self._below(connection, owner.id, [])
        if not root:
            raise NotFound(f"{owner.id} is not in the database")
        place = Path(root).joinpath(*parts)
        if place.is_file():
            return
        above = list(itertools.takewhile(lambda each: each != Path(root), place.parents))
        if place.is_dir() or any(each.is_file() for each in above):
            raise UsageError(f"{name!r} is a file, and the folder of others", where=owner.id)
        with disk_faults(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary = place.parent / f".{hashlib.sha256(name.encode()).hexdigest()[:16]}.part"
            with temporary.open("wb") as target:
                shutil.copyfileobj(stream, target, BLOCK_BYTES)
                target.flush()
                os.fsync(target.fileno())
            temporary.replace(place)

    def _known(self, connection: Connection, column: Any, ids: Sequence[str]) -> set[str]:
        return {str(row[0]) for row in connection.execute(select(column).where(column.in_(list(ids))))}

    def _add(self, connection: Connection, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of a table; one that is there stays as it is. A column that the table does not have is left out."""
        if not rows:
            return
        table = self._tables[name]
        known = [each.name for each in table.columns]
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        kept = [{key: value for key, value in row.items() if key in known} for row in rows]
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), kept)


def _point(run: str, key: str, row: tuple[int, int, float, bool]) -> dict[str, Any]:
    step, at_ms, value, is_nan = row
    return {"run_uuid": run, "key": key, "step": step, "timestamp": at_ms, "value": value, "is_nan": is_nan}


def _id(*parts: str) -> str:
    """An id of MLflow's form that is the same whenever the same is written."""
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]
