"""Records of webhooks: whom to tell of what, since when, and how the last delivery ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from noria.core.clock import instant
from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import JSON, BigInteger, Column, Row, Table, Text, select
from noria.store.tables import project, record_table
from noria.webhooks.facts import WebhookAnswered, WebhookChanged, WebhookCreated, WebhookDeleted

__all__ = [
    "ACTIVE",
    "DELETED",
    "DISABLED",
    "PROJECTIONS",
    "TABLES",
    "WebhookRecord",
    "is_answered",
    "webhook",
    "webhooks",
]

ACTIVE, DISABLED, DELETED = "active", "disabled", "deleted"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_webhook: Table = record_table(
    "webhook",
    Column("webhook", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", JSON, nullable=False),
    Column("description", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
)
_answered: Table = record_table(
    "webhook_answered",
    Column("webhook", Text, primary_key=True),
    Column("told", BigInteger, primary_key=True, autoincrement=False),
    Column("outcome", Text, nullable=False),
)
TABLES = (_webhook, _answered)


@frozen(kw_only=True)
class WebhookRecord:
    """A webhook. `since` is the fact after which it tells of what happens; times are milliseconds since 1970, UTC."""

    webhook: str
    name: str
    url: str
    events: Sequence[str]
    description: str
    secret: str
    status: str
    created_ms: int
    updated_ms: int
    seq: int
    since: int


@project(WebhookCreated)
def created(tx: Transaction, fact: Stored[WebhookCreated]) -> None:
    """It tells of what happens from then on."""
    at_ms = _ms(fact.at)
    tx.upsert(_webhook, **_said(fact.payload), created_ms=at_ms, updated_ms=at_ms, seq=fact.seq, since=fact.seq)


@project(WebhookChanged)
def changed(tx: Transaction, fact: Stored[WebhookChanged]) -> None:
    """One that was disabled tells nothing of what happened meanwhile."""
    before = webhook(tx, fact.payload.webhook)
    tx.update(
        _webhook,
        {"webhook": fact.payload.webhook},
        **{key: value for key, value in _said(fact.payload).items() if key != "webhook"},
        updated_ms=_ms(fact.at),
        since=before.since if before is not None and before.status == ACTIVE else fact.seq,
    )


@project(WebhookDeleted)
def deleted(tx: Transaction, fact: Stored[WebhookDeleted]) -> None:
    """What was told stays known; the secret is named no more."""
    tx.update(_webhook, {"webhook": fact.payload.webhook}, status=DELETED, secret="", updated_ms=_ms(fact.at))


@project(WebhookAnswered)
def answered(tx: Transaction, fact: Stored[WebhookAnswered]) -> None:
    """Each webhook is told of a fact once."""
    payload = fact.payload
    tx.upsert(_answered, webhook=payload.webhook, told=payload.told, outcome=payload.outcome)


PROJECTIONS = (created, changed, deleted, answered)


def webhook(tx: Reader, name: str) -> WebhookRecord | None:
    """The webhook of that id, deleted or not, or None."""
    row = tx.first(select(_webhook).where(_webhook.c.webhook == name))
    return None if row is None else _record(row)


def webhooks(tx: Reader, *, skip: int = 0, limit: int = 10_000) -> list[WebhookRecord]:
    """Webhooks that are not deleted, newest first."""
    query = select(_webhook).where(_webhook.c.status != DELETED).order_by(_webhook.c.seq.desc())
    return [_record(row) for row in tx.rows(query.offset(skip).limit(limit))]


def is_answered(tx: Reader, name: str, told: int) -> bool:
    """Whether a webhook is done with a fact, delivered or not."""
    query = select(_answered.c.told).where(_answered.c.webhook == name, _answered.c.told == told)
    return tx.first(query) is not None


def _said(payload: WebhookCreated | WebhookChanged) -> dict[str, Any]:
    return {
        "webhook": payload.webhook,
        "name": payload.name,
        "url": payload.url,
        "events": list(payload.events),
        "description": payload.description,
        "secret": payload.secret,
        "status": payload.status,
    }


def _record(row: Row[Any]) -> WebhookRecord:
    return WebhookRecord(**row._mapping)


def _ms(at: str) -> int:
    return (instant(at) - _EPOCH) // timedelta(milliseconds=1)
