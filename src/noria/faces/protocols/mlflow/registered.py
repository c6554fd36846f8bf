"""The endpoints of registered models: their names, words, tags, aliases and newest versions.

Source: mlflow/server/handlers.py and store/model_registry/sqlalchemy_store.py of MLflow 3.17 (order of checks, words).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from noria.core.errors import NotFound
from noria.faces.protocols.mlflow import names
from noria.faces.protocols.mlflow.experiments import PAIR
from noria.faces.protocols.mlflow.messages import TEXT, Repeated, Spec
from noria.faces.protocols.mlflow.refusals import Refused, exists, invalid, missing
from noria.faces.protocols.mlflow.shapes import ms, pairs
from noria.faces.protocols.mlflow.wire import Wire
from noria.registry import filing, records
from noria.registry.kept import NO_STAGE, NamedModel, VersionRecord
from noria.store.ledger import Reader
from noria.store.workspace import Workspace

__all__ = [
    "ENDPOINTS",
    "MODEL_CHECKS",
    "aliases_of",
    "canonical_stage",
    "latest",
    "model_json",
    "named",
    "no_model",
    "version_json",
    "version_of_alias",
]

STAGES = (NO_STAGE, "Staging", "Production", "Archived")
NEWEST = "latest"
"""The alias that nobody sets: the newest version has it."""


def create(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Give a model a name."""
    name = given.get("name", "")
    names.require_model_name(name)
    tags = {tag.get("key", ""): tag.get("value", "") for tag in given.get("tags", [])}
    for key, value in tags.items():
        names.require_registry_tag(key, value)
    try:
        filing.file_model(ws, name, description=given.get("description", ""), tags=tags)
    except filing.Taken as error:
        raise exists(f"Registered Model (name={name}) already exists.") from error
    return _told(ws, name)


def get(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One model by name."""
    return _told(ws, given.get("name", ""))


def update(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Say something of a model."""
    name = given.get("name", "")
    with ws.ledger.read() as tx:
        named(tx, name)
    filing.describe(ws, name, given.get("description", ""))
    return _told(ws, name)


def rename(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Give a model another name."""
    name, new = given.get("name", ""), given.get("new_name", "")
    if not new.strip():
        raise names.absent("new_name")
    names.require_model_name(new)
    with ws.ledger.read() as tx:
        named(tx, name)
    try:
        filing.rename_model(ws, name, new)
    except filing.Taken as error:
        raise exists(f"Registered Model (name={new}) already exists.") from error
    return _told(ws, new)


def delete(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take a model away with all that it has."""
    name = given.get("name", "")
    with ws.ledger.read() as tx:
        named(tx, name)
    filing.remove_model(ws, name)
    return {}


def set_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Tag a model."""
    name, key, value = given.get("name", ""), given.get("key", ""), given.get("value", "")
    names.require_model_name(name)
    names.require_registry_tag(key, value)
    with ws.ledger.read() as tx:
        named(tx, name)
    filing.tag(ws, name, key, value)
    return {}


def delete_tag(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take a tag off a model."""
    name, key = given.get("name", ""), given.get("key", "")
    names.require_model_name(name)
    names.require_name(key, "key")
    with ws.ledger.read() as tx:
        named(tx, name)
    filing.untag(ws, name, key)
    return {}


def get_latest(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """The newest version in each stage that is asked for, or in every one."""
    name = given.get("name", "")
    wanted = [canonical_stage(stage) for stage in given.get("stages", [])]
    with ws.ledger.read() as tx:
        found = named(tx, name)
        newest = latest(records.versions_of(tx, [name]))
    shown = [each for each in newest if not wanted or each.stage in wanted]
    told = [version_json(each, aliases_of(found.aliases, each.version)) for each in shown]
    return {"model_versions": told} if told else {}


def set_alias(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Point an alias at a version."""
    name, alias = given.get("name", ""), given.get("alias", "")
    names.require_model_name(name)
    names.require_alias(alias, is_set=True)
    number = names.version_number(given.get("version", ""))
    try:
        filing.point_alias(ws, name, alias, number)
    except NotFound as error:
        raise names.no_version(name, f"version={number}") from error
    return {}


def delete_alias(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Take an alias away."""
    name, alias = given.get("name", ""), given.get("alias", "")
    names.require_model_name(name)
    names.require_alias(alias)
    with ws.ledger.read() as tx:
        named(tx, name)
    filing.remove_alias(ws, name, alias)
    return {}


def get_by_alias(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """The version that an alias points to."""
    name, alias = given.get("name", ""), given.get("alias", "")
    names.require_model_name(name)
    names.require_alias(alias)
    with ws.ledger.read() as tx:
        found = version_of_alias(tx, name, alias)
        return {"model_version": version_json(found, aliases_of(named(tx, name).aliases, found.version))}


def version_of_alias(tx: Reader, name: str, alias: str) -> VersionRecord:
    """The version that an alias of a model points to, with its tags. Raises: Refused."""
    found = named(tx, name)
    is_newest = alias.lower() == NEWEST
    number = 0 if is_newest else found.aliases.get(alias)
    version = None if number is None else records.version(tx, name, number)
    if version is not None:
        return replace(version, tags=records.tags(tx, name, version.version))
    if is_newest:
        raise missing(f"Latest version not found for model {name}.")
    raise invalid(f"Registered model alias {alias} not found.")


def named(tx: Reader, name: str) -> NamedModel:
    """The model of that name. Raises: Refused."""
    names.require_model_name(name)
    try:
        return filing.found_model(tx, name)
    except NotFound as error:
        raise no_model(name) from error


def no_model(name: str) -> Refused:
    """The words for a model that is not there."""
    return missing(f"Registered Model with name={name} not found")


def latest(versions: Sequence[VersionRecord]) -> list[VersionRecord]:
    """The newest version of each stage."""
    found: dict[str, VersionRecord] = {}
    for each in sorted(versions, key=lambda each: each.version):
        found[each.stage] = each
    return list(found.values())


def canonical_stage(text: str) -> str:
    """A stage as it is written. Raises: Refused."""
    for stage in STAGES:
        if stage.lower() == text.lower():
            return stage
    raise invalid(f"Invalid Model Version stage: {text}. Value must be one of {', '.join(STAGES)}.")


def aliases_of(aliases: Mapping[str, int], number: int) -> list[str]:
    """The aliases that point to a version."""
    return [alias for alias, version in aliases.items() if version == number]


def model_json(found: NamedModel, newest: Sequence[VersionRecord]) -> dict[str, Any]:
    """A RegisteredModel. In its list of newest versions the aliases are left out, as the other server does."""
    told: dict[str, Any] = {
        "name": found.model,
        "creation_timestamp": ms(found.made_at),
        "last_updated_timestamp": ms(found.changed_at),
    }
    if found.description:
        told["description"] = found.description
    if newest:
        told["latest_versions"] = [version_json(each) for each in newest]
    if found.tags:
        told["tags"] = pairs(found.tags)
    if found.aliases:
        told["aliases"] = [{"alias": alias, "version": str(number)} for alias, number in found.aliases.items()]
    return told


def version_json(found: VersionRecord, aliases: Sequence[str] = ()) -> dict[str, Any]:
    """A ModelVersion. What Noria made is a bundle, which a client of MLflow cannot load: its source says so."""
    told: dict[str, Any] = {
        "name": found.model,
        "version": str(found.version),
        "creation_timestamp": ms(found.at),
        "last_updated_timestamp": ms(found.changed_at),
        "current_stage": found.stage,
        "source": found.source or f"noria:/{found.model}/{found.version}",
        "run_id": found.run,
        "status": "READY",
        "run_link": found.run_link,
    }
    if found.description is not None:
        told["description"] = found.description
    if found.tags:
        told["tags"] = pairs(found.tags)
    if aliases:
        told["aliases"] = list(aliases)
    return told


def _told(ws: Workspace, name: str) -> dict[str, Any]:
    with ws.ledger.read() as tx:
        found = named(tx, name)
        return {"registered_model": model_json(found, latest(records.versions_of(tx, [name])))}


MODEL_CHECKS = {"name": ("text", "required")}
_KEY = ("text", "required")
_LATEST = Spec({"name": TEXT, "stages": Repeated(TEXT)}, {**MODEL_CHECKS, "stages": ("array", "texts")})
_ALIAS = Spec({"name": TEXT, "alias": TEXT}, {**MODEL_CHECKS, "alias": _KEY})
ENDPOINTS = {
    ("POST", "registered-models/create"): (
        Spec(
            {"name": TEXT, "tags": Repeated(PAIR), "description": TEXT},
            {**MODEL_CHECKS, "tags": ("array",), "description": ("text",)},
        ),
        create,
    ),
    ("GET", "registered-models/get"): (Spec({"name": TEXT}, MODEL_CHECKS), get),
    ("PATCH", "registered-models/update"): (
        Spec({"name": TEXT, "description": TEXT}, {**MODEL_CHECKS, "description": ("text",)}),
        update,
    ),
    ("POST", "registered-models/rename"): (
        Spec({"name": TEXT, "new_name": TEXT}, {**MODEL_CHECKS, "new_name": _KEY}),
        rename,
    ),
    ("DELETE", "registered-models/delete"): (Spec({"name": TEXT}, MODEL_CHECKS), delete),
    ("POST", "registered-models/set-tag"): (
        Spec({"name": TEXT, "key": TEXT, "value": TEXT}, {**MODEL_CHECKS, "key": _KEY, "value": ("text",)}),
        set_tag,
    ),
    ("DELETE", "registered-models/delete-tag"): (
        Spec({"name": TEXT, "key": TEXT}, {**MODEL_CHECKS, "key": _KEY}),
        delete_tag,
    ),
    ("POST", "registered-models/get-latest-versions"): (_LATEST, get_latest),
    ("GET", "registered-models/get-latest-versions"): (_LATEST, get_latest),
    ("POST", "registered-models/alias"): (
        Spec({"name": TEXT, "alias": TEXT, "version": TEXT}, {**MODEL_CHECKS, "alias": _KEY, "version": _KEY}),
        set_alias,
    ),
    ("DELETE", "registered-models/alias"): (_ALIAS, delete_alias),
    ("GET", "registered-models/alias"): (_ALIAS, get_by_alias),
}
