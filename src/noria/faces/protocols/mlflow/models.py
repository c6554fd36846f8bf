"""The endpoints of logged models, but for their files.

Source: mlflow/server/handlers.py and store/tracking/sqlalchemy_store.py of MLflow 3.17 (order of checks, words).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from noria.catalog import keeping
from noria.catalog.keeping import LogModel
from noria.catalog.records import LoggedModel, MeasureRecord
from noria.core.errors import NotFound
from noria.experiments.records import ACTIVE
from noria.faces.protocols.mlflow import names, shapes
from noria.faces.protocols.mlflow.experiments import PAIR
from noria.faces.protocols.mlflow.messages import TEXT, Enum, Repeated, Spec
from noria.faces.protocols.mlflow.refusals import invalid, missing
from noria.faces.protocols.mlflow.runs import random_name
from noria.faces.protocols.mlflow.wire import Wire, found_experiment, found_logged_model, logged_model_uri
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = ["ENDPOINTS", "model_json", "number_of"]

STATUS = Enum(
    {
        "LOGGED_MODEL_STATUS_UNSPECIFIED": 0,
        "LOGGED_MODEL_PENDING": 1,
        "LOGGED_MODEL_READY": 2,
        "LOGGED_MODEL_UPLOAD_FAILED": 3,
    }
)
OURS = {
    "LOGGED_MODEL_STATUS_UNSPECIFIED": "unspecified",
    "LOGGED_MODEL_PENDING": "pending",
    "LOGGED_MODEL_READY": "ready",
    "LOGGED_MODEL_UPLOAD_FAILED": "upload_failed",
}
_WORDS = {own: word for word, own in OURS.items()}


def create(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Begin to log a model."""
    name = given.get("name", "")
    names.require_logged_model_name(name)
    with ws.ledger.read() as tx:
        experiment = found_experiment(tx, given.get("experiment_id", ""))
    if experiment.stage != ACTIVE:
        raise invalid(
            f"The experiment {experiment.experiment} must be in the 'active' state. "
            f"Current state is {experiment.stage}."
        )
    params = [(each.get("key", ""), each.get("value", "")) for each in given.get("params", [])]
    said = LogModel(
        experiment=experiment.experiment,
        name=name or random_name(),
        model_type=given.get("model_type", ""),
        run=given.get("source_run_id", ""),
        params=_once(params),
        tags={tag.get("key", ""): tag.get("value", "") for tag in given.get("tags", [])},
    )
    return _told(ws, keeping.create_model(ws, said))


def get(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One logged model with all that it has."""
    with ws.ledger.read() as tx:
        found = found_logged_model(tx, given["model_id"], also_deleted=given.get("allow_deleted", "").lower() == "true")
        return {"model": model_json(tx, found)}


def finalize(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Say how logging a model went."""
    model = given["model_id"]
    _require(ws, model)
    keeping.end_model(ws, model, OURS[given.get("status", "LOGGED_MODEL_STATUS_UNSPECIFIED")])
    return _told(ws, model)


def delete(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Put a logged model away."""
    _require(ws, given["model_id"])
    keeping.delete_model(ws, given["model_id"])
    return {}


def set_tags(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Tag a logged model."""
    _require(ws, given["model_id"])
    tags = {tag.get("key", ""): tag.get("value", "") for tag in given.get("tags", [])}
    keeping.tag_model(ws, given["model_id"], tags)
    return {}


def delete_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take a tag off a logged model."""
    model, key = given["model_id"], given["tag_key"]
    _require(ws, model)
    try:
        keeping.untag_model(ws, model, key)
    except NotFound as error:
        raise missing(f"No tag with key {key!r} found for model with ID {model!r}.") from error
    return {}


def add_params(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Say with which params a model was made; each is said once."""
    model = given["model_id"]
    _require(ws, model)
    pairs = [(each.get("key", ""), each.get("value", "")) for each in given.get("params", [])]
    taken = keeping.add_params(ws, model, _once(pairs))
    if taken:
        raise invalid(f"Changing param values is not allowed. Params were already logged={sorted(taken)} for {model}.")
    return {}


def model_json(tx: Reader, found: LoggedModel, roots: dict[int, str] | None = None) -> dict[str, Any]:
    """A LoggedModel; `roots` keeps what is known of experiments between calls."""
    info: dict[str, Any] = {
        "model_id": found.model,
        "experiment_id": str(found.experiment),
        "name": found.name,
        "creation_timestamp_ms": found.created_ms,
        "last_updated_timestamp_ms": found.updated_ms,
        "artifact_uri": logged_model_uri(tx, found, roots),
        "status": _WORDS[found.status],
        "model_type": found.model_type,
        "source_run_id": found.run,
    }
    if found.tags:
        info["tags"] = shapes.pairs(found.tags)
    data: dict[str, Any] = {}
    if found.params:
        data["params"] = shapes.pairs(found.params)
    if found.measures:
        data["metrics"] = [_metric_json(found.model, each) for each in found.measures]
    return {"info": info, "data": data}


def number_of(found: MeasureRecord) -> float:
    """The value of a measure, finite or not."""
    special = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
    return special[found.special] if found.value is None else found.value


def _metric_json(model: str, found: MeasureRecord) -> dict[str, Any]:
    told = shapes.point_json(found.key, number_of(found), found.at_ms, found.step)
    if found.dataset:
        told["dataset_name"] = found.dataset
    if found.content_id:
        told["dataset_digest"] = found.content_id
    return {**told, "model_id": model, "run_id": found.run}


def _once(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Params, each of which has one value. Raises: Refused."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise invalid("Duplicate parameter keys have been submitted: a param of a logged model has one value.")
    return found


def _require(ws: Workspace, model: str) -> None:
    with ws.ledger.read() as tx:
        found_logged_model(tx, model, also_deleted=True)


def _told(ws: Workspace, model: str) -> dict[str, Any]:
    with ws.ledger.read() as tx:
        return {"model": model_json(tx, found_logged_model(tx, model, also_deleted=True))}


_ID = {"model_id": ("text", "required")}
_MODEL = "logged-models/{model_id}"
ENDPOINTS = {
    ("POST", "logged-models"): (
        Spec(
            {
                "experiment_id": TEXT,
                "name": TEXT,
                "model_type": TEXT,
                "source_run_id": TEXT,
                "params": Repeated(PAIR),
                "tags": Repeated(PAIR),
            },
            {
                "experiment_id": ("text", "required"),
                "name": ("text",),
                "model_type": ("text",),
                "source_run_id": ("text",),
                "params": ("array",),
                "tags": ("array",),
            },
        ),
        create,
    ),
    ("GET", _MODEL): (Spec({"allow_deleted": TEXT}), get),
    ("PATCH", _MODEL): (
        Spec({"model_id": TEXT, "status": STATUS}, {**_ID, "status": ("int", "required")}),
        finalize,
    ),
    ("DELETE", _MODEL): (Spec({}), delete),
    ("PATCH", f"{_MODEL}/tags"): (Spec({"tags": Repeated(PAIR)}, {"tags": ("array",)}), set_tags),
    ("DELETE", f"{_MODEL}/tags/{{tag_key}}"): (Spec({}), delete_tag),
    ("POST", f"{_MODEL}/params"): (
        Spec({"model_id": TEXT, "params": Repeated(PAIR)}, {**_ID, "params": ("array",)}),
        add_params,
    ),
}
