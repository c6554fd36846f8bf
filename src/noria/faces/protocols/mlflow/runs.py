"""The endpoints of runs, but for what is logged to them.

Source: mlflow/server/handlers.py and store/tracking/sqlalchemy_store.py of MLflow 3.17 (order of checks, words).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from noria.catalog import filing
from noria.catalog import records as catalog
from noria.catalog.filing import Begin
from noria.core.errors import NotFound, UsageError
from noria.experiments import records
from noria.experiments.grammar import Clause, Order
from noria.experiments.records import STATUSES, LoggedRun
from noria.faces.protocols.mlflow import filters, names, shapes
from noria.faces.protocols.mlflow.experiments import PAIR, VIEWS, require_page_size, stages
from noria.faces.protocols.mlflow.filters import RUNS, Comparison
from noria.faces.protocols.mlflow.messages import INT, INT32, TEXT, Enum, Repeated, Spec
from noria.faces.protocols.mlflow.refusals import Refused, invalid, missing
from noria.faces.protocols.mlflow.shapes import PARENT, RUN_NAME
from noria.faces.protocols.mlflow.wire import (
    Wire,
    active_run,
    details_of,
    experiment_of,
    found_experiment,
    found_run,
)
from noria.store.ledger import Reader
from noria.store.workspace import Workspace
from noria.tracking.facts import Code

__all__ = ["ENDPOINTS", "RUN_CHECKS", "RUN_ID", "STATUS", "random_name"]

STATUS = Enum({"RUNNING": 1, "SCHEDULED": 2, "FINISHED": 3, "FAILED": 4, "KILLED": 5})
OURS = {
    "RUNNING": "running",
    "SCHEDULED": "scheduled",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "cancelled",
}
CHUNK = 500
_COLUMNS = {
    "run_id": "run",
    "run_name": "name",
    "start_time": "started_at",
    "end_time": "finished_at",
    "user_id": "user",
    "status": "status",
    "artifact_uri": "run",
}
_FIRST = (
    "bold brave calm clever crisp eager fair gentle glad keen kind late lively merry mild neat proud quick still wise"
)
_SECOND = "ash birch brook cove dale elm fern finch hare heron lark lynx mole otter owl pine reed swan tern wren"


def create(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Begin a run."""
    text = given.get("experiment_id", "")
    if not text:
        raise Refused("BAD_REQUEST", "Missing value for required parameter 'experiment_id'.")
    with ws.ledger.read() as tx:
        experiment = found_experiment(tx, text)
    if experiment.stage != records.ACTIVE:
        raise invalid(
            f"The experiment {experiment.experiment} must be in the 'active' state. "
            f"Current state is {experiment.stage}."
        )
    tags = {tag.get("key", ""): tag.get("value", "") for tag in given.get("tags", [])}
    for key, value in tags.items():
        tags[key] = names.require_tag(key, value)[1]
    name, tagged = given.get("run_name", ""), tags.pop(RUN_NAME, "")
    if name and tagged and name != tagged:
        raise invalid(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with "
            f"different values (run_name='{name}', mlflow.runName='{tagged}')."
        )
    said = Begin(
        experiment=experiment.name,
        name=name or tagged or random_name(),
        started_at=shapes.time_text(given.get("start_time", 0)),
        user=given.get("user_id", ""),
        parent=_parent(ws, tags.get(PARENT, "")),
        code=Code(
            commit=tags.get("mlflow.source.git.commit", ""),
            branch=tags.get("mlflow.source.git.branch", ""),
            remote=tags.get("mlflow.source.git.repoURL", ""),
            entry=tags.get("mlflow.source.name", ""),
        ),
        tags=tags,
    )
    found = filing.begin_run(ws, said)
    wire.begun(found)
    told = shapes.run_json(shapes.run_info(found, experiment), found, tags=tags)
    del told["outputs"]
    return {"run": told}


def get(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One run with everything but the histories of its metrics."""
    run = _run_id(given)
    wire.inbox.send(run)
    with ws.ledger.read() as tx:
        found = found_run(tx, run)
        return {"run": _told(tx, ws, [found])[0]}


def update(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Say how a run stands, when it ended, or how it is called."""
    run = _run_id(given)
    with ws.ledger.read() as tx:
        seen = active_run(tx, run)
        experiment = experiment_of(tx, seen)
    status = OURS.get(given.get("status", ""), "")
    ended = shapes.time_text(given["end_time"]) if "end_time" in given else None
    name, is_ending = given.get("run_name", ""), status in ("finished", "failed", "cancelled")
    with wire.inbox.closing(run) if is_ending else nullcontext() as waiting:
        found = filing.amend_run(ws, run, name=name, status=status, ended=ended, log=waiting, seen=seen)
    wire.forget(run)
    return {"run_info": shapes.run_info(found, experiment)}


def delete(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Put a run away."""
    run = _run_id(given)
    with ws.ledger.read() as tx:
        found_run(tx, run)
    filing.delete_run(ws, run)
    wire.forget(run)
    return {}


def restore(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Bring a run back."""
    run = _run_id(given)
    with ws.ledger.read() as tx:
        found_run(tx, run)
    filing.restore_run(ws, run)
    wire.forget(run)
    return {}


def delete_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take a tag off a run."""
    run, key = _run_id(given), given.get("key", "")
    wire.inbox.send(run)
    with ws.ledger.read() as tx:
        active_run(tx, run)
    try:
        filing.remove_tag(ws, run, key)
    except NotFound as error:
        raise missing(f"No tag with name: {key} in run with id {run}") from error
    return {}


def search(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Runs of experiments that fit a filter, page by page."""
    size = given.get("max_results", 1000)
    require_page_size(size)
    where = _clauses(filters.parse_filter(RUNS, given.get("filter", "")))
    order = _orders(given.get("order_by", []))
    start = shapes.offset_of(given.get("page_token", ""))
    numbers = {names.experiment_number(text) for text in given.get("experiment_ids", [])}
    where.append(Clause("attribute", "stage", "IN", tuple(stages(given.get("run_view_type", "ACTIVE_ONLY")))))
    wire.inbox.send()
    with ws.ledger.read() as tx:
        chosen = [each for each in (catalog.experiment(tx, number) for number in sorted(numbers)) if each]
        called = [each.name for each in chosen] + ([""] if 0 in numbers else [])
        if not called:
            return {}
        where.append(Clause("attribute", "experiment", "IN", tuple(called)))
        try:
            found = records.search(tx, where, order, skip=start, limit=size + 1)
        except UsageError as error:
            raise invalid(error.message) from error
        runs = [run for run, _ in found[:size]]
        shown = [each for at in range(0, len(runs), CHUNK) for each in _told(tx, ws, runs[at : at + CHUNK])]
        for each in shown:  # the other server leaves them out of lists too
            each["inputs"].pop("model_inputs", None)
    told: dict[str, Any] = {"runs": shown} if shown else {}
    if len(found) > size:
        told["next_page_token"] = shapes.page_token(start + size)
    return told


def _told(tx: Reader, ws: Workspace, runs: Sequence[LoggedRun]) -> list[dict[str, Any]]:
    """Runs with all that they have, each kind of it read once."""
    ids = [run.run for run in runs]
    metrics, params, tags = records.metrics(tx, ids), records.params(tx, ids), records.tags(tx, ids)
    inputs, models = catalog.inputs(tx, ids), catalog.models(tx, ids)
    details = details_of(ws, [each.details for run in ids for each in inputs[run]])
    experiments = {run.experiment: run for run in runs}
    known = {name: experiment_of(tx, run) for name, run in experiments.items()}
    return [
        shapes.run_json(
            shapes.run_info(run, known[run.experiment]),
            run,
            metrics=metrics[run.run],
            params=params[run.run],
            tags=tags[run.run],
            inputs=[shapes.input_json(each, details[each.details]) for each in inputs[run.run]],
            models=models[run.run],
        )
        for run in runs
    ]


def _clauses(where: Sequence[Comparison]) -> list[Clause]:
    """A filter of MLflow's in the terms of the records."""
    found: list[Clause] = []
    for each in where:
        operator, value = each.operator, each.value
        if each.kind == "tag" and each.key == RUN_NAME:
            if operator == "IS NOT NULL":
                continue
            found.append(
                Clause("attribute", "run", "=", "") if operator == "IS NULL" else _named("name", operator, value)
            )
        elif each.kind == "attribute":
            if each.key == "artifact_uri" and isinstance(value, str):
                value = value.removesuffix("/artifacts").rpartition("/")[2]
            found.append(_named(_COLUMNS[each.key], operator, value))
        elif each.kind == "metric":
            found.append(Clause("metric", each.key, operator, value))
        elif each.kind == "dataset":
            found.append(Clause("dataset", each.key, operator, value))
        else:
            found.append(Clause("param" if each.kind == "parameter" else "tag", each.key, operator, value))
    return found


def _named(column: str, operator: str, value: Any) -> Clause:
    return Clause("attribute", column, operator, value)


def _orders(texts: Sequence[str]) -> list[Order]:
    found: list[Order] = []
    for text in texts:
        kind, key, is_descending = filters.parse_order(RUNS, text)
        if kind == "dataset":
            raise invalid(f"Invalid identifier type '{kind}'")
        if kind == "attribute":
            made = Order("attribute", _COLUMNS[filters.alias(key)], is_descending)
        elif kind == "tag" and key == RUN_NAME:
            made = Order("attribute", "name", is_descending)
        else:
            made = Order(
                "metric" if kind == "metric" else "param" if kind == "parameter" else "tag", key, is_descending
            )
        if any((each.kind, each.key) == (made.kind, made.key) for each in found):
            raise invalid(f"`order_by` contains duplicate fields: {list(texts)}")
        found.append(made)
    if not any((each.kind, each.key) == ("attribute", "started_at") for each in found):
        found.append(Order("attribute", "started_at", True))
    return [*found, Order("attribute", "run")] if not any(each.key == "run" for each in found) else found


def _parent(ws: Workspace, run: str) -> str:
    """The run that one is nested in, if it is one that is known."""
    if not run:
        return ""
    with ws.ledger.read() as tx:
        return run if records.run(tx, run) is not None else ""


def _run_id(given: Mapping[str, Any]) -> str:
    return str(given.get("run_id", "") or given.get("run_uuid", ""))


def random_name() -> str:
    """A name for what was given none."""
    return f"{random.choice(_FIRST.split())}-{random.choice(_SECOND.split())}-{random.randrange(1000)}"


RUN_ID = {"run_id": TEXT, "run_uuid": TEXT}
RUN_CHECKS = {"run_id": ("required", "text")}
assert set(OURS) == set(STATUSES), "both name how a run stands"
ENDPOINTS = {
    ("POST", "runs/create"): (
        Spec(
            {"experiment_id": TEXT, "user_id": TEXT, "run_name": TEXT, "start_time": INT, "tags": Repeated(PAIR)},
            {"experiment_id": ("text",), "start_time": ("int",), "run_name": ("text",)},
        ),
        create,
    ),
    ("GET", "runs/get"): (Spec(RUN_ID, RUN_CHECKS), get),
    ("POST", "runs/update"): (
        Spec(
            {**RUN_ID, "status": STATUS, "end_time": INT, "run_name": TEXT},
            {**RUN_CHECKS, "end_time": ("int",), "status": ("text",), "run_name": ("text",)},
        ),
        update,
    ),
    ("POST", "runs/delete"): (Spec({"run_id": TEXT}, RUN_CHECKS), delete),
    ("POST", "runs/restore"): (Spec({"run_id": TEXT}, RUN_CHECKS), restore),
    ("POST", "runs/delete-tag"): (
        Spec({"run_id": TEXT, "key": TEXT}, {**RUN_CHECKS, "key": ("required", "text")}),
        delete_tag,
    ),
    ("POST", "runs/search"): (
        Spec(
            {
                "experiment_ids": Repeated(TEXT),
                "filter": TEXT,
                "run_view_type": VIEWS,
                "max_results": INT32,
                "order_by": Repeated(TEXT),
                "page_token": TEXT,
            },
            {
                "experiment_ids": ("array",),
                "filter": ("text",),
                "max_results": ("int", lambda value: int(value) <= 50_000),
                "order_by": ("array", "texts"),
            },
        ),
        search,
    ),
}
