"""Which facts are events that others may be told of, and what they are told.

Pure but for a look at the registry's records: whether a name is a prompt is a tag of its own.

Source: mlflow/entities/webhook.py and mlflow/webhooks/types.py of MLflow 3.17 (names, payloads, examples).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.core.fact import Stored
from noria.core.identity import JSON
from noria.registry import records
from noria.registry.facts import (
    AliasMoved,
    AliasRemoved,
    ModelFiled,
    ModelTagged,
    ModelUntagged,
    VersionFiled,
    VersionRegistered,
)
from noria.store.ledger import Reader

__all__ = ["ACTIONS", "EVENTS", "EXAMPLES", "KINDS", "told"]

KINDS = (
    "model.filed",
    "version.filed",
    "version.registered",
    "model.tagged",
    "model.untagged",
    "alias.moved",
    "alias.removed",
)
"""The kinds of facts that may be events."""
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "registered_model": ("created",),
    "model_version": ("created",),
    "model_version_tag": ("deleted", "set"),
    "model_version_alias": ("created", "deleted"),
    "prompt": ("created",),
    "prompt_version": ("created",),
    "prompt_tag": ("deleted", "set"),
    "prompt_version_tag": ("deleted", "set"),
    "prompt_alias": ("created", "deleted"),
    "budget_policy": ("exceeded",),
}
"""Of what one may be told, and what may happen to it. There are no budgets here, so none is ever exceeded."""
EVENTS = tuple(f"{entity}.{action}" for entity, actions in ACTIONS.items() for action in actions)
PROMPT, TYPE, TEMPLATE = "mlflow.prompt.is_prompt", "_mlflow_prompt_type", "mlflow.prompt.text"
_TAGS = {"example_key": "example_value"}
_MODEL = {"name": "example_model"}
_PROMPT = {"name": "example_prompt"}
_ONE = {"version": "1"}
_KEY = {"key": "example_key"}
_PAIR = {**_KEY, "value": "example_value"}
_ALIAS = {"alias": "example_alias"}
EXAMPLES: Mapping[str, Mapping[str, JSON]] = {
    "registered_model.created": {**_MODEL, "tags": _TAGS, "description": "An example registered model"},
    "model_version.created": {
        **_MODEL,
        **_ONE,
        "source": "models:/123",
        "run_id": "abcd1234abcd5678",
        "tags": _TAGS,
        "description": "An example model version",
    },
    "model_version_tag.set": {**_MODEL, **_ONE, **_PAIR},
    "model_version_tag.deleted": {**_MODEL, **_ONE, **_KEY},
    "model_version_alias.created": {**_MODEL, **_ALIAS, **_ONE},
    "model_version_alias.deleted": {**_MODEL, **_ALIAS},
    "prompt.created": {**_PROMPT, "tags": _TAGS, "description": "An example prompt"},
    "prompt_version.created": {
        **_PROMPT,
        **_ONE,
        "template": "Hello {{name}}!",
        "tags": _TAGS,
        "description": "An example prompt version",
    },
    "prompt_tag.set": {**_PROMPT, **_PAIR},
    "prompt_tag.deleted": {**_PROMPT, **_KEY},
    "prompt_version_tag.set": {**_PROMPT, **_ONE, **_PAIR},
    "prompt_version_tag.deleted": {**_PROMPT, **_ONE, **_KEY},
    "prompt_alias.created": {**_PROMPT, **_ALIAS, **_ONE},
    "prompt_alias.deleted": {**_PROMPT, **_ALIAS},
    "budget_policy.exceeded": {
        "budget_policy_id": "bp-abc123",
        "budget_unit": "USD",
        "budget_amount": 100.0,
        "current_spend": 105.5,
        "duration_unit": "MONTHS",
        "duration_value": 1,
        "target_scope": "ENDPOINT",
        "workspace": "default",
        "target_value": "ep-abc123",
        "window_start": 1704067200000,
    },
}
"""What a webhook is told when it is tried."""


def told(tx: Reader, fact: Stored[Any]) -> tuple[str, dict[str, JSON]] | None:
    """(event, what is told of it) of a fact, or None if it is nobody's event."""
    payload = fact.payload
    if isinstance(payload, ModelFiled):
        is_prompt = _says_prompt(payload.tags)
        entity = "prompt" if is_prompt else "registered_model"
        tags = _shown(payload.tags) if is_prompt else dict(payload.tags)
        return f"{entity}.created", {"name": payload.model, "tags": tags, "description": payload.description}
    if isinstance(payload, VersionFiled | VersionRegistered):
        return _version(payload)
    if isinstance(payload, ModelTagged | ModelUntagged):
        return _tag(payload, is_prompt=_is_prompt(tx, payload.model))
    entity = "prompt_alias" if _is_prompt(tx, payload.model) else "model_version_alias"
    if isinstance(payload, AliasMoved):
        version = {"version": str(payload.version)}
        return f"{entity}.created", {"name": payload.model, "alias": payload.alias, **version}
    if isinstance(payload, AliasRemoved):
        return f"{entity}.deleted", {"name": payload.model, "alias": payload.alias}
    return None


def _version(payload: VersionFiled | VersionRegistered) -> tuple[str, dict[str, JSON]]:
    number: dict[str, JSON] = {"name": payload.model, "version": str(payload.version)}
    run: dict[str, JSON] = {"run_id": payload.run or None}
    if isinstance(payload, VersionRegistered):  # its files are a bundle of Noria's own
        return "model_version.created", {**number, "source": payload.bundle, **run, "tags": {}, "description": None}
    said: dict[str, JSON] = {"description": payload.description or None}
    if _says_prompt(payload.tags):
        template = payload.tags.get(TEMPLATE)
        return "prompt_version.created", {**number, "template": template, "tags": _shown(payload.tags), **said}
    return "model_version.created", {**number, "source": payload.source, **run, "tags": dict(payload.tags), **said}


def _tag(payload: ModelTagged | ModelUntagged, *, is_prompt: bool) -> tuple[str, dict[str, JSON]] | None:
    if not payload.version and not is_prompt:
        return None  # nobody is told of the tags of a model as a whole
    found: dict[str, JSON] = {"name": payload.model}
    if payload.version:
        found["version"] = str(payload.version)
    found["key"] = payload.key
    if isinstance(payload, ModelTagged):
        found["value"] = payload.value
    entity = "prompt" if is_prompt else "model"
    entity += "_version_tag" if payload.version else "_tag"
    return f"{entity}.{'set' if isinstance(payload, ModelTagged) else 'deleted'}", found


def _is_prompt(tx: Reader, model: str) -> bool:
    found = records.named(tx, model)
    return bool(found) and _says_prompt(found[0].tags)


def _says_prompt(tags: Mapping[str, str]) -> bool:
    return tags.get(PROMPT, "").lower() == "true"


def _shown(tags: Mapping[str, str]) -> dict[str, JSON]:
    return {key: value for key, value in tags.items() if key not in (PROMPT, TYPE, TEMPLATE)}
