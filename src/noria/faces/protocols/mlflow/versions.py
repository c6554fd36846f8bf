"""The endpoints of model versions.

Source: mlflow/server/handlers.py and store/model_registry/sqlalchemy_store.py of MLflow 3.17 (order of checks, words).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from noria.catalog import keeping
from noria.core.errors import NotFound
from noria.faces.protocols.mlflow import names, sources
from noria.faces.protocols.mlflow.experiments import PAIR
from noria.faces.protocols.mlflow.messages import BOOL, TEXT, Repeated, Spec
from noria.faces.protocols.mlflow.refusals import invalid
from noria.faces.protocols.mlflow.registered import (
    MODEL_CHECKS,
    aliases_of,
    canonical_stage,
    no_model,
    version_json,
)
from noria.faces.protocols.mlflow.wire import Wire
from noria.registry import filing, records
from noria.registry.filing import Filed
from noria.registry.kept import VersionRecord
from noria.store.ledger import Reader, Transaction
from noria.store.workspace import Workspace

__all__ = ["ENDPOINTS", "found_version"]

ACTIVE_STAGES = ["Staging", "Production"]


def create(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Make files that a client keeps a version of a model."""
    tags = {tag.get("key", ""): tag.get("value", "") for tag in given.get("tags", [])}
    source = sources.resolve(ws, given, is_prompt=tags.get("mlflow.prompt.is_prompt", "false").lower() == "true")
    name = given.get("name", "")
    names.require_model_name(name)
    for key, value in tags.items():
        names.require_registry_tag(key, value)
    said = Filed(
        source=source.source,
        storage=source.storage,
        run=source.run,
        logged=source.logged,
        run_link=given.get("run_link", ""),
        description=given.get("description", ""),
        tags=tags,
    )

    def noted(tx: Transaction, number: int) -> None:
        if source.logged:
            keeping.note_version(tx, source.logged, name, number)

    try:
        number = filing.file_version(ws, name, said, also=noted)
    except NotFound as error:
        raise no_model(name) from error
    return _told(ws, name, number)


def get(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One version."""
    name, number = _asked(given)
    return _told(ws, name, number)


def update(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Say something of a version, or nothing any more."""
    name, number = _asked(given)
    _require(ws, name, number)
    filing.describe(ws, name, given.get("description"), version=number)
    return _told(ws, name, number)


def delete(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take a version away, and the aliases that point to it."""
    number = names.version_number(given.get("version", ""))
    name = given.get("name", "")
    names.require_model_name(name)
    _require(ws, name, number)
    filing.remove_version(ws, name, number)
    return {}


def transition(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Put a version in a stage."""
    text, is_archiving = given.get("stage", ""), bool(given.get("archive_existing_versions"))
    stage = canonical_stage(text)
    if is_archiving and stage not in ACTIVE_STAGES:
        raise invalid(
            "Model version transition cannot archive existing model versions "
            f"because '{text}' is not an Active stage. Valid stages are {ACTIVE_STAGES}"
        )
    name, number = _asked(given)
    _require(ws, name, number)
    filing.stage_version(ws, name, number, stage, archive=is_archiving)
    return _told(ws, name, number)


def download_uri(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Where the files of a version are."""
    name, number = _asked(given)
    with ws.ledger.read() as tx:
        found = found_version(tx, name, number)
    return {"artifact_uri": found.storage or version_json(found)["source"]}


def set_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Tag a version."""
    name, number = _asked(given)
    key, value = given.get("key", ""), given.get("value", "")
    names.require_registry_tag(key, value)
    _require(ws, name, number)
    filing.tag(ws, name, key, value, version=number)
    return {}


def delete_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take a tag off a version."""
    name, number = _asked(given)
    key = given.get("key", "")
    names.require_name(key, "key")
    _require(ws, name, number)
    filing.untag(ws, name, key, version=number)
    return {}


def found_version(tx: Reader, name: str, number: int) -> VersionRecord:
    """A version, with its tags. Raises: Refused."""
    try:
        found = filing.found_version(tx, name, number)
    except NotFound as error:
        raise names.no_version(name, f"version={number}") from error
    return replace(found, tags=records.tags(tx, name, number))


def _asked(given: dict[str, Any]) -> tuple[str, int]:
    """The model and number of a version that a request names. Raises: Refused."""
    name = given.get("name", "")
    names.require_model_name(name)
    return name, names.version_number(given.get("version", ""))


def _require(ws: Workspace, name: str, number: int) -> None:
    with ws.ledger.read() as tx:
        found_version(tx, name, number)


def _told(ws: Workspace, name: str, number: int) -> dict[str, Any]:
    with ws.ledger.read() as tx:
        found = found_version(tx, name, number)
        return {"model_version": version_json(found, aliases_of(records.aliases(tx, name), number))}


_CHECKS = {**MODEL_CHECKS, "version": ("text", "required")}
_KEY = ("text", "required")
_ONE = Spec({"name": TEXT, "version": TEXT}, _CHECKS)
ENDPOINTS = {
    ("POST", "model-versions/create"): (
        Spec(
            {
                "name": TEXT,
                "source": TEXT,
                "run_id": TEXT,
                "tags": Repeated(PAIR),
                "run_link": TEXT,
                "description": TEXT,
                "model_id": TEXT,
            },
            {
                **MODEL_CHECKS,
                "source": ("text", "required"),
                "run_id": ("text",),
                "tags": ("array",),
                "run_link": ("text",),
                "description": ("text",),
                "model_id": ("text",),
            },
        ),
        create,
    ),
    ("GET", "model-versions/get"): (_ONE, get),
    ("PATCH", "model-versions/update"): (
        Spec({"name": TEXT, "version": TEXT, "description": TEXT}, {**_CHECKS, "description": ("text",)}),
        update,
    ),
    ("DELETE", "model-versions/delete"): (_ONE, delete),
    ("POST", "model-versions/transition-stage"): (
        Spec(
            {"name": TEXT, "version": TEXT, "stage": TEXT, "archive_existing_versions": BOOL},
            {**_CHECKS, "stage": ("text", "required"), "archive_existing_versions": ("bool",)},
        ),
        transition,
    ),
    ("GET", "model-versions/get-download-uri"): (Spec({"name": TEXT, "version": TEXT}), download_uri),
    ("POST", "model-versions/set-tag"): (
        Spec({"name": TEXT, "version": TEXT, "key": TEXT, "value": TEXT}, {**_CHECKS, "key": _KEY, "value": ("text",)}),
        set_tag,
    ),
    ("DELETE", "model-versions/delete-tag"): (
        Spec({"name": TEXT, "version": TEXT, "key": TEXT}, {**_CHECKS, "key": _KEY}),
        delete_tag,
    ),
}
