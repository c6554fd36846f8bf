"""Telling webhooks what happened: facts behind a mark become jobs, and jobs become signed requests.

`queue` looks at the facts since it last looked; the key of a job is the webhook and the fact, so looking twice
tells nobody twice. `work` does one job and may be begun again after any kill: then the receiver may see an
event a second time, with the same delivery id. A receiver that is away, busy or failing is asked again, later
each time (`store/jobs.py`); how it ended is a fact.

Source: mlflow/webhooks/delivery.py of MLflow 3.17 (headers, signature, body), https://www.standardwebhooks.com.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from noria.core.clock import instant
from noria.core.errors import NoriaError
from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.store.jobs import ATTEMPTS, Job
from noria.store.secrets import Secrets
from noria.store.workspace import Workspace
from noria.webhooks import events, outgoing, records
from noria.webhooks.facts import WebhookAnswered
from noria.webhooks.outgoing import Answer, Target, Unreachable
from noria.webhooks.records import ACTIVE, WebhookRecord

__all__ = ["KINDS", "Sent", "queue", "sign", "trial", "work"]

KINDS = ("webhook",)
MARK = "webhooks/told"
MARK_S = 10 * 365 * 24 * 3600.0
PAGE = 1000
REASON_MAX = 300
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which it is worth asking again."""
_DELIVERIES = uuid.UUID("6f0c7c1e-6d0e-5f57-9f0a-1b1c8c0d5a11")
Post = Callable[[Target, Mapping[str, str], bytes], Answer]


@frozen(kw_only=True)
class Sent:
    """How trying a webhook went: the answer, or why there was none."""

    answer: Answer | None = None
    error: str = ""


def queue(ws: Workspace) -> list[str]:
    """Queue what has happened since the last look, for every webhook that asked for it; gives the jobs."""
    head = ws.ledger.head()  # before the webhooks: one that is made after this is told from its own fact on
    with ws.ledger.read() as tx:
        active = [each for each in records.webhooks(tx) if each.status == ACTIVE]
    if not active:
        return []
    after = max(_mark(ws), min(each.since for each in active))
    if head <= after:
        return []
    jobs = [
        job for kind in events.KINDS for fact in _facts(ws, kind, after, head) for job in _enqueue(ws, active, fact)
    ]
    ws.jobs.acquire(MARK, owner=MARK, ttl_s=MARK_S, data={"seq": head})
    return jobs


def work(ws: Workspace, job: Job, *, post: Post = outgoing.post) -> dict[str, JSON]:
    """Tell one webhook of one fact, and keep how it ended. Raises: Unreachable if it is to be asked again."""
    name, told, event = str(job.payload["webhook"]), int(str(job.payload["told"])), str(job.payload["event"])
    data = json.loads(str(job.payload["data"]))
    with ws.ledger.read() as tx:
        webhook = records.webhook(tx, name)
        is_done = records.is_answered(tx, name, told)
    if is_done or webhook is None or webhook.status != ACTIVE:
        return {"outcome": "already answered" if is_done else "the webhook is not active any more"}
    delivery = str(uuid.uuid5(_DELIVERIES, f"{name}/{told}"))
    answered = WebhookAnswered(
        webhook=name, event=event, told=told, delivery=delivery, outcome="delivered", attempts=job.attempt
    )
    status, reason = 0, ""
    try:
        status = _send(ws, webhook, event, data, at=str(job.payload["at"]), delivery=delivery, post=post).status
        reason = "" if status < 300 else f"it answered {status}"
    except NoriaError as error:
        reason = error.message[:REASON_MAX]
        is_last = not error.is_retry_safe
    else:
        is_last = status not in AGAIN
    if reason and not is_last and job.attempt < ATTEMPTS:
        raise Unreachable(f"webhook {webhook.name}: {reason}")
    outcome = "failed" if reason else "delivered"
    ended = _ended(answered, outcome=outcome, status=status, reason=reason)
    with ws.ledger.transaction() as tx:
        if not records.is_answered(tx, name, told):
            tx.append(ended, inputs=[("event", f"fact/{told}")])
    return {"outcome": outcome, "status": status, "reason": reason}


def trial(ws: Workspace, webhook: WebhookRecord, event: str = "", *, post: Post = outgoing.post) -> Sent:
    """Send an example of an event, by default of the first that it asked for. Nothing of it is kept."""
    event = event or webhook.events[0]
    delivery = str(uuid.uuid4())
    at = ws.clock.now().isoformat()
    try:
        return Sent(answer=_send(ws, webhook, event, events.EXAMPLES[event], at=at, delivery=delivery, post=post))
    except NoriaError as error:
        return Sent(error=f"Failed to test webhook: {error.message}")


def sign(secret: str, delivery: str, timestamp: str, body: str) -> str:
    """The signature over id, time and body, such as "v1,…": HMAC with SHA-256, in base64."""
    signed = f"{delivery}.{timestamp}.{body}".encode()
    return f"v1,{base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()}"


def _send(
    ws: Workspace,
    webhook: WebhookRecord,
    event: str,
    data: Mapping[str, JSON],
    *,
    at: str,
    delivery: str,
    post: Post,
) -> Answer:
    where = outgoing.target(webhook.url, ws.project.webhooks)
    entity, _, action = event.partition(".")
    body = json.dumps({"entity": entity, "action": action, "timestamp": at, "data": data})
    timestamp = str(int(ws.clock.now().timestamp()))
    headers = {
        "Content-Type": "application/json",
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": timestamp,
    }
    if webhook.secret:
        secret = Secrets(ws.ledger.database, ws.project.state).get(webhook.secret)
        headers["X-MLflow-Signature"] = sign(secret, delivery, timestamp, body)
    return post(where, headers, body.encode())


def _ended(answered: WebhookAnswered, *, outcome: str, status: int, reason: str) -> WebhookAnswered:
    return WebhookAnswered(
        webhook=answered.webhook,
        event=answered.event,
        told=answered.told,
        delivery=answered.delivery,
        attempts=answered.attempts,
        outcome=outcome,
        status=status,
        reason=reason,
    )


def _enqueue(ws: Workspace, active: list[WebhookRecord], fact: Stored[Any]) -> list[str]:
    with ws.ledger.read() as tx:
        found = events.told(tx, fact)
    if found is None:
        return []
    event, data = found
    at = instant(fact.at).isoformat()
    return [
        ws.jobs.enqueue(
            KINDS[0],
            {"webhook": each.webhook, "told": fact.seq, "event": event, "at": at, "data": json.dumps(data)},
            key=f"webhook/{each.webhook}/{fact.seq}",
        )
        for each in active
        if event in each.events and fact.seq > each.since
    ]


def _facts(ws: Workspace, kind: str, after: int, head: int) -> list[Stored[Any]]:
    found: list[Stored[Any]] = []
    while True:
        page = ws.ledger.facts(after=after, limit=PAGE, kind=kind)
        found += [fact for fact in page if fact.seq <= head]
        if len(page) < PAGE or page[-1].seq > head:
            return found
        after = page[-1].seq


def _mark(ws: Workspace) -> int:
    found = [each for each in ws.jobs.leases(MARK) if each.name == MARK]
    return int(str(found[0].data.get("seq", 0))) if found else 0
