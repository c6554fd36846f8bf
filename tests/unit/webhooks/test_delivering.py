"""What happened is told once to each webhook that asked for it, and how that ended is a fact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from noria.registry import filing as registry
from noria.store.jobs import ATTEMPTS, Job
from noria.store.workspace import Workspace
from noria.testing.workspace import open_memory
from noria.webhooks import delivering, filing
from noria.webhooks.filing import Wanted
from noria.webhooks.outgoing import Answer, Target, Unreachable

URL = "https://93.184.216.34/hook"
EVENTS = ("registered_model.created", "prompt.created")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return open_memory(root=tmp_path)


class Receiver:
    """Answers with these statuses in turn, then with 200; None is no answer."""

    def __init__(self, *statuses: int | None) -> None:
        self.statuses = list(statuses)
        self.told: list[tuple[Mapping[str, str], bytes]] = []

    def __call__(self, where: Target, headers: Mapping[str, str], body: bytes) -> Answer:
        self.told.append((headers, body))
        status = self.statuses.pop(0) if self.statuses else 200
        if status is None:
            raise Unreachable("no answer")
        return Answer(status=status, body="")


def create(ws: Workspace, **more: str) -> str:
    return filing.create(ws, Wanted(name="hook", url=URL, events=EVENTS, **more))  # type: ignore[arg-type]  # texts


def claim(ws: Workspace) -> Job:
    job = ws.jobs.claim(delivering.KINDS, owner="test")
    assert job is not None
    return job


def test_looking_twice_tells_nobody_twice(ws: Workspace) -> None:
    for _ in range(2):
        create(ws)
    registry.file_model(ws, "fraud")
    first = delivering.queue(ws)
    assert len(set(first)) == 2
    assert delivering.queue(ws) == []
    ws.jobs.release(delivering.MARK, delivering.MARK)  # as if it were never noted
    assert set(delivering.queue(ws)) == set(first)


def test_what_happened_before_or_while_disabled_is_not_told(ws: Workspace) -> None:
    registry.file_model(ws, "before")
    hook = create(ws)
    filing.change(ws, hook, Wanted(status="disabled"))
    registry.file_model(ws, "meanwhile")
    filing.change(ws, hook, Wanted(status="active"))
    registry.file_model(ws, "after")
    assert len(delivering.queue(ws)) == 1


def test_what_happened_before_a_change_is_told_as_it_was_asked_for(ws: Workspace) -> None:
    hook = create(ws)
    registry.file_model(ws, "fraud")
    filing.change(ws, hook, Wanted(events=("model_version.created",)))
    assert claim(ws).payload["event"] == "registered_model.created"


def test_a_prompt_is_told_as_a_prompt(ws: Workspace) -> None:
    create(ws)
    registry.file_model(ws, "greeting", tags={"mlflow.prompt.is_prompt": "true", "team": "red"})
    delivering.queue(ws)
    assert claim(ws).payload["event"] == "prompt.created"


@pytest.mark.parametrize("status", [None, 408, 429, 500, 503])
def test_a_receiver_that_is_away_is_asked_again_until_attempts_end(ws: Workspace, status: int | None) -> None:
    create(ws)
    registry.file_model(ws, "fraud")
    delivering.queue(ws)
    job = claim(ws)
    receiver = Receiver(*[status] * ATTEMPTS)
    with pytest.raises(Unreachable) as failed:
        delivering.work(ws, job, post=receiver)
    assert failed.value.is_retry_safe
    assert ws.ledger.facts(kind="webhook.answered") == []
    last = Job(job.id, job.kind, job.payload, job.key, ATTEMPTS)
    assert delivering.work(ws, last, post=receiver)["outcome"] == "failed"
    (ended,) = ws.ledger.facts(kind="webhook.answered")
    assert (ended.payload.outcome, ended.payload.attempts) == ("failed", ATTEMPTS)
    ids = {headers["X-MLflow-Delivery-Id"] for headers, _ in receiver.told}
    assert ids == {ended.payload.delivery}


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410])
def test_a_receiver_that_says_no_is_believed(ws: Workspace, status: int) -> None:
    create(ws)
    registry.file_model(ws, "fraud")
    delivering.queue(ws)
    assert delivering.work(ws, claim(ws), post=Receiver(status))["outcome"] == "failed"


def test_a_job_that_is_done_again_tells_no_second_time(ws: Workspace) -> None:
    create(ws)
    registry.file_model(ws, "fraud")
    delivering.queue(ws)
    job, receiver = claim(ws), Receiver()
    for _ in range(2):
        delivering.work(ws, job, post=receiver)
    assert len(receiver.told) == len(ws.ledger.facts(kind="webhook.answered")) == 1


def test_a_webhook_that_was_deleted_meanwhile_is_not_told(ws: Workspace) -> None:
    hook = create(ws, secret="sesame")
    registry.file_model(ws, "fraud")
    delivering.queue(ws)
    filing.delete(ws, hook)
    receiver = Receiver()
    delivering.work(ws, claim(ws), post=receiver)
    assert receiver.told == []


def test_a_signature_is_only_there_with_a_secret_and_no_fact_has_it(ws: Workspace) -> None:
    create(ws)
    create(ws, secret="sesame")
    registry.file_model(ws, "fraud")
    delivering.queue(ws)
    receiver = Receiver()
    for _ in range(2):
        delivering.work(ws, claim(ws), post=receiver)
    assert sorted("X-MLflow-Signature" in headers for headers, _ in receiver.told) == [False, True]
    assert all("sesame" not in body.body for body in ws.ledger.bodies())
