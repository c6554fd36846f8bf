"""Searching registered models and their versions.

Prompts are registered models with a tag, and left out unless they are asked for.

Source: store/model_registry/sqlalchemy_store.py of MLflow 3.17 (order of checks, words).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.faces.protocols.mlflow import filters, shapes
from noria.faces.protocols.mlflow.filters import MODELS, VERSIONS, Comparison
from noria.faces.protocols.mlflow.messages import INT, TEXT, Repeated, Spec
from noria.faces.protocols.mlflow.refusals import Refused, invalid
from noria.faces.protocols.mlflow.registered import latest, model_json, version_json
from noria.faces.protocols.mlflow.wire import Wire
from noria.registry import records
from noria.registry.kept import NamedModel, VersionRecord
from noria.store.workspace import Workspace

__all__ = ["ENDPOINTS"]

PROMPT = "mlflow.prompt.is_prompt"
MODELS_MAX, VERSIONS_MAX = 1000, 200_000
MODELS_SIZE, VERSIONS_SIZE = 100, 200_000
_MODEL_KEYS = {"name": "name", "timestamp": "changed_at", "last_updated_timestamp": "changed_at"}
_VERSION_KEYS = {
    "name": "model",
    "version_number": "version",
    "creation_timestamp": "at",
    "last_updated_timestamp": "changed_at",
}
Order = list[tuple[str, bool]]


def models(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Registered models that fit a filter, page by page."""
    size = given.get("max_results", MODELS_SIZE)
    if size > MODELS_MAX:
        raise _too_many(size, MODELS_MAX)
    where = filters.parse_filter(MODELS, given.get("filter", ""))
    order = _model_order(given.get("order_by", []))
    start = shapes.offset_of(given.get("page_token", ""))
    if size < 0:
        raise invalid(f"Invalid value for request parameter max_results. It may not be negative, but got value {size}")
    with ws.ledger.read() as tx:
        named = records.named(tx)
        prompts = {each.model for each in named if each.tags.get(PROMPT) == "true"}
        found = [each for each in named if _fits(each, {"name": each.model}, where, prompts)]
        values = {"name": "model", "changed_at": "changed_at"}
        for key, is_descending in reversed(order):
            found.sort(key=lambda each, key=key: shown(each, values[key]), reverse=is_descending)  # type: ignore[misc]  # the default binds the loop's key
        page = found[start : start + size]
        versions = records.versions_of(tx, [each.model for each in page])
    newest = {each.model: latest([one for one in versions if one.model == each.model]) for each in page}
    return _page("registered_models", [model_json(each, newest[each.model]) for each in page], found, start, size)


def versions(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Versions of models that fit a filter, page by page."""
    size = given.get("max_results", VERSIONS_SIZE)
    if size < 1:
        raise invalid(f"Invalid value for max_results. It must be a positive integer, but got {size}")
    if size > VERSIONS_MAX:
        raise _too_many(size, VERSIONS_MAX)
    where = filters.parse_filter(VERSIONS, given.get("filter", ""))
    usual = ["last_updated_timestamp DESC", "name ASC", "version_number DESC"]
    order = _version_order(given.get("order_by", []) or usual)
    start = shapes.offset_of(given.get("page_token", ""))
    only = [
        str(each.value) for each in where if each.kind == "attribute" and (each.key, each.operator) == ("name", "=")
    ]
    with ws.ledger.read() as tx:
        known = records.versions_of(tx, only[:1] or None)
    prompts = {each.model for each in known if each.tags.get(PROMPT) == "true"}
    found = [each for each in known if _fits(each, _attributes(each), where, prompts)]
    for key, is_descending in reversed(order):
        found.sort(key=lambda each, key=key: shown(each, key), reverse=is_descending)  # type: ignore[misc]  # the default binds the loop's key
    page = found[start : start + size]
    return _page("model_versions", [version_json(each) for each in page], found, start, size)


def shown(found: NamedModel | VersionRecord, key: str) -> Any:
    """What a list is ordered by; times to the millisecond, as clients see them."""
    value = getattr(found, key)
    return shapes.ms(value) if key in ("at", "changed_at") else value


def _attributes(found: VersionRecord) -> dict[str, Any]:
    told = version_json(found)
    return {
        "name": found.model,
        "version_number": found.version,
        "run_id": found.run,
        "source_path": told["source"],
    }


def _fits(
    found: NamedModel | VersionRecord, attributes: dict[str, Any], where: Sequence[Comparison], prompts: set[str]
) -> bool:
    is_prompts = _asks_for_prompts(where)
    if not is_prompts and found.model in prompts:
        return False
    for each in where:
        if each.kind == "tag":
            if each.key == PROMPT and not is_prompts:
                continue  # it asks for what is no prompt, which has no such tag
            if each.key not in found.tags or not filters.matches(found.tags[each.key], each.operator, each.value):
                return False
        elif not filters.matches(attributes[each.key], each.operator, each.value):
            return False
    return True


def _asks_for_prompts(where: Sequence[Comparison]) -> bool:
    for each in where:
        if each.kind == "tag" and each.key == PROMPT:
            wanted = str(each.value).lower()
            return (each.operator == "=" and wanted == "true") or (each.operator == "!=" and wanted == "false")
    return False


def _model_order(texts: Sequence[str]) -> Order:
    order: Order = []
    for text in texts:
        word, is_descending = filters.parse_order_word(text)
        if word not in _MODEL_KEYS:
            raise invalid(f"Invalid order by key '{word}' specified. Valid keys are '{ {'name', 'timestamp'} }'")
        _put(order, _MODEL_KEYS[word], is_descending, texts)
    return order if any(key == "name" for key, _ in order) else [*order, ("name", False)]


def _version_order(texts: Sequence[str]) -> Order:
    order: Order = []
    for text in texts:
        word, is_descending = filters.parse_order_word(text)
        prefix, dot, key = word.partition(".")
        if dot and prefix not in ("attribute", "tag", "tags"):
            raise invalid(f"Invalid entity type '{prefix}'. Valid entity types are {('attribute', 'tag', 'tags')}")
        key = key if dot else word
        if key not in _VERSION_KEYS:
            if prefix in ("tag", "tags") and dot:
                raise invalid(f"Invalid order by key '{key}' specified. Valid keys are {set(_VERSION_KEYS)}")
            raise invalid(f"Invalid attribute key '{key}' specified. Valid keys are '{set(_VERSION_KEYS)}'")
        _put(order, _VERSION_KEYS[key], is_descending, texts)
    if not any(key == "model" for key, _ in order):
        order.append(("model", False))
    return order if any(key == "version" for key, _ in order) else [*order, ("version", True)]


def _put(order: Order, key: str, is_descending: bool, texts: Sequence[str]) -> None:
    if any(known == key for known, _ in order):
        raise invalid(f"`order_by` contains duplicate fields: {list(texts)}")
    order.append((key, is_descending))


def _page(name: str, told: list[dict[str, Any]], found: Sequence[Any], start: int, size: int) -> dict[str, Any]:
    answer: dict[str, Any] = {name: told} if told else {}
    if len(found) > start + size:
        answer["next_page_token"] = shapes.page_token(start + size)
    return answer


def _too_many(size: int, limit: int) -> Refused:
    return invalid(f"Invalid value for request parameter max_results. It must be at most {limit}, but got value {size}")


def _at_most(limit: int) -> Any:
    return lambda value: int(value) <= limit


_FIELDS = {"filter": TEXT, "max_results": INT, "order_by": Repeated(TEXT), "page_token": TEXT}
_CHECKS: dict[str, Any] = {"filter": ("text",), "order_by": ("array", "texts"), "page_token": ("text",)}
ENDPOINTS = {
    ("GET", "registered-models/search"): (
        Spec(_FIELDS, {**_CHECKS, "max_results": ("int", _at_most(MODELS_MAX))}),
        models,
    ),
    ("GET", "model-versions/search"): (
        Spec(_FIELDS, {**_CHECKS, "max_results": ("int", _at_most(VERSIONS_MAX))}),
        versions,
    ),
}
