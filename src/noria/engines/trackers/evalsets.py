"""Evaluation data sets in the database of an MLflow server: read from its tables, and written into them.

Source: mlflow/store/tracking/dbmodels/models.py and sqlalchemy_store.py of MLflow 3.17.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Table, insert, select
from sqlalchemy.engine import Connection

from noria.catalog.takeover.documents import EvalRecordDoc, EvalsetDoc
from noria.core.errors import UsageError

__all__ = ["DatabaseEvalsets", "evalsets_in", "write_evalset"]

ROWS = 1000
OUTPUT = "mlflow_wrapped"
"""What the database keeps outputs under, so that they may be of any type."""
SET, EXPERIMENT = "evaluation_dataset", "experiment"


def evalsets_in(connection: Connection, tables: Mapping[str, Table]) -> DatabaseEvalsets | None:
    """The evaluation data sets of a database; None if its version has no tables for them."""
    return DatabaseEvalsets(connection, tables) if "evaluation_datasets" in tables else None


class DatabaseEvalsets:
    """The evaluation data sets of an MLflow server's database."""

    def __init__(self, connection: Connection, tables: Mapping[str, Table]) -> None:
        self._connection = connection
        self._tables = tables

    def evalsets(self) -> list[EvalsetDoc]:
        """Every one, by when it was made."""
        table, tag = self._tables["evaluation_datasets"], self._tables["evaluation_dataset_tags"]
        tags: dict[str, dict[str, str]] = {}
        for row in self._connection.execute(select(tag).order_by(tag.c.key)):
            tags.setdefault(row.dataset_id, {})[row.key] = row.value or ""
        experiments = self._experiments()
        query = select(table).order_by(table.c.created_time, table.c.dataset_id)
        return [
            EvalsetDoc(
                id=row.dataset_id,
                name=row.name,
                created_ms=row.created_time,
                updated_ms=row.last_update_time,
                created_by=row.created_by or "",
                updated_by=row.last_updated_by or "",
                digest=row.digest or "",
                schema=row.schema or "",
                profile=row.profile or "",
                tags=tags.get(row.dataset_id, {}),
                experiments=tuple(experiments.get(row.dataset_id, ())),
            )
            for row in self._connection.execute(query)
        ]

    def _experiments(self) -> dict[str, list[str]]:
        """The names of the experiments that each belongs to; one that is gone for good has none."""
        link, table = self._tables["entity_associations"], self._tables["experiments"]
        names = {str(row.experiment_id): row.name for row in self._connection.execute(select(table))}
        found: dict[str, list[str]] = {}
        for source, target, of, to in (
            (link.c.source_type, link.c.destination_type, link.c.source_id, link.c.destination_id),
            (link.c.destination_type, link.c.source_type, link.c.destination_id, link.c.source_id),
        ):
            query = select(of.label("of"), to.label("to")).where(source == SET, target == EXPERIMENT)
            for row in self._connection.execute(query.order_by(link.c.created_time, to)):
                if row.to in names:
                    found.setdefault(row.of, []).append(names[row.to])
        return found

    def records(self, evalset: str) -> Iterator[EvalRecordDoc]:
        """The records of one, by when they came and then by id."""
        table = self._tables["evaluation_dataset_records"]
        query = select(table).where(table.c.dataset_id == evalset)
        query = query.order_by(table.c.created_time, table.c.dataset_record_id)
        for part in self._connection.execution_options(stream_results=True).execute(query).partitions(ROWS):
            for row in part:
                said = row._mapping
                yield EvalRecordDoc(
                    id=row.dataset_record_id,
                    inputs=row.inputs,
                    outputs=(said.get("outputs") or {}).get(OUTPUT),
                    expectations=row.expectations,
                    tags=row.tags or {},
                    source=row.source,
                    created_ms=row.created_time,
                    updated_ms=row.last_update_time,
                    created_by=row.created_by or "",
                    updated_by=row.last_updated_by or "",
                )


def write_evalset(
    connection: Connection, tables: Mapping[str, Table], doc: EvalsetDoc, records: Iterable[EvalRecordDoc]
) -> int:
    """Write one that is not there, with its records; gives 1, or 0 if it is there. Raises: UsageError.

    The caller's transaction makes it whole or not at all.
    """
    table = tables.get("evaluation_datasets")
    if table is None:
        raise UsageError(
            "the database has no table for evaluation data sets: it is of an older MLflow",
            hint="mlflow db upgrade brings it up to date",
        )
    if connection.scalar(select(table.c.dataset_id).where(table.c.dataset_id == doc.id)) is not None:
        return 0
    row = {
        "dataset_id": doc.id,
        "name": doc.name,
        "schema": doc.schema or None,
        "profile": doc.profile or None,
        "digest": doc.digest or None,
        "created_time": doc.created_ms,
        "last_update_time": doc.updated_ms,
        "created_by": doc.created_by or None,
        "last_updated_by": doc.updated_by or None,
    }
    connection.execute(insert(table).values(**row))
    tags = [{"dataset_id": doc.id, "key": key, "value": value} for key, value in doc.tags.items()]
    if tags:
        connection.execute(insert(tables["evaluation_dataset_tags"]), tags)
    _link(connection, tables, doc)
    held: list[dict[str, Any]] = []
    for each in records:
        held.append(_record_row(doc.id, each, has_outputs="outputs" in tables["evaluation_dataset_records"].c))
        if len(held) >= ROWS:
            connection.execute(insert(tables["evaluation_dataset_records"]), held)
            held = []
    if held:
        connection.execute(insert(tables["evaluation_dataset_records"]), held)
    return 1


def _link(connection: Connection, tables: Mapping[str, Table], doc: EvalsetDoc) -> None:
    """The experiments that it belongs to, in their order."""
    table, link = tables["experiments"], tables["entity_associations"]
    query = select(table.c.experiment_id, table.c.name).where(table.c.name.in_(doc.experiments))
    numbers = {row.name: str(row.experiment_id) for row in connection.execute(query)}
    rows = [
        {
            "association_id": f"a-{hashlib.sha256(f'{doc.id} {name}'.encode()).hexdigest()[:32]}",
            "source_type": SET,
            "source_id": doc.id,
            "destination_type": EXPERIMENT,
            "destination_id": numbers[name],
            "created_time": (doc.created_ms or 0) + place,
        }
        for place, name in enumerate(doc.experiments)
        if name in numbers
    ]
    if rows:
        connection.execute(insert(link), rows)


def _record_row(evalset: str, each: EvalRecordDoc, *, has_outputs: bool) -> dict[str, Any]:
    source = each.source or {}
    kind = source.get("source_type")
    named = (source.get("source_data") or {}).get("trace_id" if kind == "TRACE" else "source_id")
    row = {
        "dataset_record_id": each.id,
        "dataset_id": evalset,
        "inputs": dict(each.inputs),
        "outputs": None if each.outputs is None else {OUTPUT: each.outputs},
        "expectations": each.expectations,
        "tags": dict(each.tags),
        "source": each.source,
        "source_id": named,
        "source_type": kind,
        "created_time": each.created_ms,
        "last_update_time": each.updated_ms,
        "created_by": each.created_by or None,
        "last_updated_by": each.updated_by or None,
        # as MLflow tells records with the same inputs
        "input_hash": hashlib.sha256(json.dumps(each.inputs, sort_keys=True).encode()).hexdigest(),
    }
    return row if has_outputs else {key: value for key, value in row.items() if key != "outputs"}
