"""What can happen to webhooks. The secret that one signs with is in none of these: they name where it is sealed."""

from __future__ import annotations

from noria.core.fact import fact

__all__ = ["FACTS", "WebhookAnswered", "WebhookChanged", "WebhookCreated", "WebhookDeleted"]


@fact("webhook.created", subject="webhook/{webhook}")
class WebhookCreated:
    """Some system is told of events from now on.

    `events` are such as "model_version_alias.created", `secret` the name under which its secret is sealed ("" if it
    has none), `status` "active" or "disabled".
    """

    webhook: str
    name: str
    url: str
    events: tuple[str, ...]
    description: str = ""
    secret: str = ""
    status: str = "active"


@fact("webhook.changed", subject="webhook/{webhook}")
class WebhookChanged:
    """A webhook is as told here from now on."""

    webhook: str
    name: str
    url: str
    events: tuple[str, ...]
    description: str = ""
    secret: str = ""
    status: str = "active"


@fact("webhook.deleted", subject="webhook/{webhook}")
class WebhookDeleted:
    """Nobody is told by this webhook any more."""

    webhook: str


@fact("webhook.answered", subject="webhook/{webhook}")
class WebhookAnswered:
    """How telling of an event ended: "delivered" or "failed", after how many tries.

    `told` is the sequence number of the fact that it was about, `delivery` the id that the receiver saw, `status`
    its last HTTP status (0: there was no answer), `reason` why it failed.
    """

    webhook: str
    event: str
    told: int
    delivery: str
    outcome: str
    attempts: int
    status: int = 0
    reason: str = ""


FACTS = (WebhookCreated, WebhookChanged, WebhookDeleted, WebhookAnswered)
