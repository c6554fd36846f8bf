"""The endpoints of webhooks. A secret comes in and is never told again.

Source: mlflow/server/handlers.py and store/model_registry/sqlalchemy_store.py of MLflow 3.17 (order of checks, words).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.core.errors import NotFound, UsageError
from noria.faces.protocols.mlflow import shapes
from noria.faces.protocols.mlflow.messages import INT32, TEXT, Enum, Message, Repeated, Spec
from noria.faces.protocols.mlflow.refusals import invalid, missing
from noria.faces.protocols.mlflow.wire import Wire
from noria.store.workspace import Workspace
from noria.webhooks import delivering, filing, records
from noria.webhooks.events import ACTIONS
from noria.webhooks.filing import Wanted
from noria.webhooks.records import WebhookRecord

__all__ = ["ENDPOINTS"]

_ENTITIES = ("entity_unspecified", *ACTIONS)
_DEEDS = ("action_unspecified", "created", "updated", "deleted", "set", "exceeded")
STATUS = Enum({"ACTIVE": 1, "DISABLED": 2})
EVENT = Message(
    {
        "entity": Enum({word.upper(): place for place, word in enumerate(_ENTITIES)}),
        "action": Enum({word.upper(): place for place, word in enumerate(_DEEDS)}),
    }
)
PAGE, PAGE_MAX = 100, 1000
_HOOK = "webhooks/{webhook_id}"


def create(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Tell a system of events from now on."""
    wanted = Wanted(
        name=given.get("name", ""),
        url=given.get("url", ""),
        events=_events(given.get("events", [])),
        description=given.get("description"),
        secret=given.get("secret"),
        status=given["status"].lower() if "status" in given else None,
    )
    try:
        made = filing.create(ws, wanted)
    except UsageError as error:
        raise invalid(error.message) from error
    return {"webhook": _told(_found(ws, made))}


def list_all(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Webhooks, newest first, page by page."""
    size = given.get("max_results", 0) or PAGE
    if not 1 <= size <= PAGE_MAX:
        raise invalid(f"max_results must be between 1 and {PAGE_MAX}.")
    start = shapes.offset_of(given.get("page_token", ""))
    with ws.ledger.read() as tx:
        found = records.webhooks(tx, skip=start, limit=size + 1)
    told: dict[str, Any] = {"webhooks": [_told(each) for each in found[:size]]} if found else {}
    if len(found) > size:
        told["next_page_token"] = shapes.page_token(start + size)
    return told


def get(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """One webhook."""
    return {"webhook": _told(_found(ws, given["webhook_id"]))}


def update(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Change what is given of a webhook."""
    wanted = Wanted(
        name=given.get("name") or None,
        url=given.get("url") or None,
        events=_events(given["events"]) if given.get("events") else None,
        description=given.get("description"),
        secret=given.get("secret"),
        status=given["status"].lower() if "status" in given else None,
    )
    try:
        filing.change(ws, given["webhook_id"], wanted)
    except NotFound as error:
        raise missing(error.message) from error
    except UsageError as error:
        raise invalid(error.message) from error
    return {"webhook": _told(_found(ws, given["webhook_id"]))}


def delete(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Tell nobody by a webhook any more."""
    try:
        filing.delete(ws, given["webhook_id"])
    except NotFound as error:
        raise missing(error.message) from error
    return {}


def test(wire: Wire, ws: Workspace, given: dict[str, Any]) -> dict[str, Any]:
    """Send an example, and say how it went."""
    event = _events([given["event"]])[0] if "event" in given else ""
    sent = delivering.trial(ws, _found(ws, given["webhook_id"]), event)
    if sent.answer is None:
        return {"result": {"success": False, "error_message": sent.error}}
    status = sent.answer.status
    return {"result": {"success": status < 400, "response_status": status, "response_body": sent.answer.body}}


def _events(given: Sequence[dict[str, Any]]) -> list[str]:
    """Events by Noria's names. Raises: Refused for what cannot happen."""
    found = []
    for each in given:
        entity = each.get("entity", "ENTITY_UNSPECIFIED").lower()
        action = each.get("action", "ACTION_UNSPECIFIED").lower()
        if entity not in ACTIONS:
            raise invalid(f"{entity!r} is not a valid WebhookEntity")
        if action not in ACTIONS[entity]:
            raise invalid(
                f"Invalid action '{action}' for entity '{entity}'. Valid actions are: {sorted(ACTIONS[entity])}"
            )
        found.append(f"{entity}.{action}")
    return found


def _found(ws: Workspace, webhook: str) -> WebhookRecord:
    with ws.ledger.read() as tx:
        try:
            return filing.found(tx, webhook)
        except NotFound as error:
            raise missing(error.message) from error


def _told(found: WebhookRecord) -> dict[str, Any]:
    events = [dict(zip(("entity", "action"), event.upper().split("."), strict=True)) for event in found.events]
    told: dict[str, Any] = {"webhook_id": found.webhook, "name": found.name, "url": found.url, "events": events}
    if found.description:
        told["description"] = found.description
    return {
        **told,
        "status": found.status.upper(),
        "creation_timestamp": found.created_ms,
        "last_updated_timestamp": found.updated_ms,
    }


_FIELDS = {
    "name": TEXT,
    "description": TEXT,
    "url": TEXT,
    "events": Repeated(EVENT),
    "secret": TEXT,
    "status": STATUS,
}
ENDPOINTS = {
    ("POST", "webhooks"): (
        Spec(
            _FIELDS,
            {
                "name": ("text", "required"),
                "url": ("text", "required"),
                "events": ("array", "required"),
                "description": ("text",),
                "secret": ("text",),
                "status": ("text",),
            },
        ),
        create,
    ),
    ("GET", "webhooks"): (
        Spec({"max_results": INT32, "page_token": TEXT}, {"max_results": ("int",), "page_token": ("text",)}),
        list_all,
    ),
    ("GET", _HOOK): (Spec({}), get),
    ("PATCH", _HOOK): (
        Spec(
            _FIELDS,
            {
                "name": ("text",),
                "description": ("text",),
                "url": ("text",),
                "events": ("array",),
                "secret": ("text",),
                "status": ("text",),
            },
        ),
        update,
    ),
    ("DELETE", _HOOK): (Spec({}), delete),
    ("POST", f"{_HOOK}/test"): (Spec({"event": EVENT}), test),
}
