"""Making, changing and deleting webhooks: each change is one transaction that reads, decides and appends.

A secret is sealed under a name of its own before the fact that names it; the one that it takes the place of is
forgotten after. A kill between leaves a sealed row that nobody names, never a webhook without its secret.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from noria.core.errors import NotFound, UsageError
from noria.core.frozen import frozen
from noria.store.ledger import Reader
from noria.store.secrets import Secrets
from noria.store.workspace import Workspace, new_id
from noria.webhooks import delivering, outgoing, records
from noria.webhooks.events import EVENTS
from noria.webhooks.facts import WebhookChanged, WebhookCreated, WebhookDeleted
from noria.webhooks.outgoing import Resolve
from noria.webhooks.records import ACTIVE, DELETED, DISABLED, WebhookRecord

__all__ = ["Wanted", "change", "create", "delete", "found"]

TEXT_MAX = 1000
SECRET_MAX = 1000
COUNT_MAX = 1000
"""So many webhooks there may be at once: each event asks all of them."""
_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)


@frozen(kw_only=True)
class Wanted:
    """What a webhook is to be; None leaves it as it is. `secret` is the secret itself, "" for none."""

    name: str | None = None
    url: str | None = None
    events: Sequence[str] | None = None
    description: str | None = None
    secret: str | None = None
    status: str | None = None


def found(tx: Reader, webhook: str) -> WebhookRecord:
    """The webhook of that id. Raises: NotFound, also if it was deleted."""
    record = records.webhook(tx, webhook)
    if record is None or record.status == DELETED:
        raise NotFound(f"Webhook with ID {webhook} not found.")
    return record


def create(ws: Workspace, wanted: Wanted, *, resolve: Resolve = outgoing.resolved) -> str:
    """Tell a system of events from now on; gives the webhook's id. Raises: UsageError."""
    wanted = Wanted(
        name=wanted.name or "",
        url=wanted.url or "",
        events=wanted.events or (),
        description=wanted.description,
        secret=wanted.secret,
        status=wanted.status,
    )
    _require(ws, wanted, resolve)
    webhook = str(uuid.uuid4())
    secret = _seal(ws, wanted.secret)
    with ws.ledger.transaction() as tx:
        if len(records.webhooks(tx)) >= COUNT_MAX:
            raise UsageError(f"there are {COUNT_MAX} webhooks already", hint="delete one")
        tx.append(
            WebhookCreated(
                webhook=webhook,
                name=wanted.name or "",
                url=wanted.url or "",
                events=tuple(dict.fromkeys(wanted.events or ())),
                description=wanted.description or "",
                secret=secret,
                status=wanted.status or ACTIVE,
            )
        )
    return webhook


def change(ws: Workspace, webhook: str, wanted: Wanted, *, resolve: Resolve = outgoing.resolved) -> None:
    """Change what is given of a webhook. What happened before is told as it was. Raises: NotFound; UsageError."""
    with ws.ledger.read() as tx:
        found(tx, webhook)
    _require(ws, wanted, resolve)
    delivering.queue(ws)
    secret = _seal(ws, wanted.secret)
    with ws.ledger.transaction() as tx:
        before = found(tx, webhook)
        tx.append(
            WebhookChanged(
                webhook=webhook,
                name=before.name if wanted.name is None else wanted.name,
                url=before.url if wanted.url is None else wanted.url,
                events=tuple(dict.fromkeys(before.events if wanted.events is None else wanted.events)),
                description=before.description if wanted.description is None else wanted.description,
                secret=before.secret if wanted.secret is None else secret,
                status=wanted.status or before.status,
            )
        )
    if wanted.secret is not None and before.secret:
        secrets(ws).drop(before.secret)


def delete(ws: Workspace, webhook: str) -> None:
    """Tell nobody by this webhook any more, and forget its secret. Raises: NotFound."""
    with ws.ledger.transaction() as tx:
        before = found(tx, webhook)
        tx.append(WebhookDeleted(webhook=webhook))
    if before.secret:
        secrets(ws).drop(before.secret)


def secrets(ws: Workspace) -> Secrets:
    """The sealed secrets of a workspace."""
    return Secrets(ws.ledger.database, ws.project.state)


def _require(ws: Workspace, wanted: Wanted, resolve: Resolve) -> None:
    if wanted.name is not None and _NAME.fullmatch(wanted.name) is None:
        raise UsageError(
            f"Webhook name {wanted.name!r} is invalid. It must start and end with a letter or digit, "
            "be less than 63 characters long, and contain only letters, digits, dots (.), "
            "underscores (_), and hyphens (-)."
        )
    if wanted.url is not None:
        outgoing.target(wanted.url, ws.project.webhooks, resolve)
    if wanted.events is not None:
        if not wanted.events:
            raise UsageError("Webhook events must be a non-empty list of WebhookEvent objects: [].")
        for event in wanted.events:
            if event not in EVENTS:
                raise UsageError(f"{event[:80]!r} is no event", hint=f"one of: {', '.join(EVENTS)}")
    if wanted.status not in (None, ACTIVE, DISABLED):
        raise UsageError(f"a webhook is {ACTIVE} or {DISABLED}, not {str(wanted.status)[:40]!r}")
    for what, text, limit in (("description", wanted.description, TEXT_MAX), ("secret", wanted.secret, SECRET_MAX)):
        if text is not None and len(text) > limit:
            raise UsageError(f"the {what} of a webhook is longer than {limit} characters")


def _seal(ws: Workspace, text: str | None) -> str:
    """The name under which a secret is sealed, "" for none."""
    if not text:
        return ""
    name = new_id(ws, "secret")
    secrets(ws).put(name, text)
    return name
