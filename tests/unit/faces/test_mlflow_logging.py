"""What a training logs over MLflow's wire, request after request: the answers are the same, whoever makes them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.faces.protocols.mlflow import routes
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.testing import open_memory

Sent = tuple[str, str, dict[str, Any]]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return open_memory(root=tmp_path)


def asked(ws: Workspace, sent: list[Sent]) -> tuple[str, list[httpx.Response]]:
    """A run that was begun, and the answers to what is sent of it: each (method, endpoint, JSON without the run)."""

    async def send() -> tuple[str, list[httpx.Response]]:
        transport = httpx.ASGITransport(app=behind(Guard(ws), Starlette(routes=routes.routes(ws))))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            made = await client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0", "start_time": 1})
            run = made.json()["run"]["info"]["run_id"]
            answers = [
                await client.request(method, f"/api/2.0/mlflow/{endpoint}", json={"run_id": run, **given})
                for method, endpoint, given in sent
            ]
            answers.append(await client.get("/api/2.0/mlflow/runs/get", params={"run_id": run}))
            return run, answers

    return asyncio.run(send())


def point(step: int, value: Any = 0.5) -> Sent:
    return "POST", "runs/log-metric", {"key": "loss", "value": value, "timestamp": 1000 + step, "step": step}


def param(value: str) -> Sent:
    return "POST", "runs/log-parameter", {"key": "lr", "value": value}


def test_what_is_logged_one_by_one_is_there_at_the_next_read(ws: Workspace) -> None:
    batch = {"metrics": [{"key": "auc", "value": 1.0, "timestamp": 5, "step": 0}], "tags": [{"key": "a", "value": "b"}]}
    _, answers = asked(ws, [param("0.1"), point(0), point(1, 0.25), param("0.1"), ("POST", "runs/log-batch", batch)])
    assert [answer.status_code for answer in answers] == [200] * 6
    data = answers[-1].json()["run"]["data"]
    assert {each["key"]: (each["value"], each["step"]) for each in data["metrics"]} == {
        "loss": (0.25, 1),
        "auc": (1.0, 0),
    }
    assert data["params"] == [{"key": "lr", "value": "0.1"}]
    assert {"key": "a", "value": "b"} in data["tags"]
    assert difference(ws.ledger) == []


def test_a_refusal_is_the_same_for_a_run_that_is_being_logged_to(ws: Workspace) -> None:
    wrong: list[Sent] = [param("0.2"), point(2, "x"), ("POST", "runs/log-metric", {"key": "loss"})]
    _, first = asked(ws, [param("0.1"), *wrong])
    _, later = asked(ws, [param("0.1"), point(0), point(1), *wrong])
    assert [answer.status_code for answer in later[3:6]] == [400] * 3
    told = [[answer.json()["message"].split(" for run ID")[0] for answer in each] for each in (first[1:4], later[3:6])]
    assert told[0] == told[1]


def test_a_run_that_is_put_away_takes_nothing_more_at_once(ws: Workspace) -> None:
    _, answers = asked(ws, [point(0), point(1), ("POST", "runs/delete", {}), point(2)])
    assert [answer.status_code for answer in answers] == [200, 200, 200, 400, 200]
    assert "must be in the 'active' state" in answers[3].json()["message"]
    assert answers[-1].json()["run"]["data"]["metrics"][0]["step"] == 1


def test_a_run_that_ended_takes_more_and_keeps_all(ws: Workspace) -> None:
    end = ("POST", "runs/update", {"status": "FINISHED", "end_time": 60_001})
    _, answers = asked(ws, [point(0), end, point(1, 0.25), end])
    assert [answer.status_code for answer in answers] == [200] * 5
    found = answers[-1].json()["run"]
    assert (found["info"]["status"], found["info"]["end_time"]) == ("FINISHED", 60_001)
    assert [(each["value"], each["step"]) for each in found["data"]["metrics"]] == [(0.25, 1)]
    assert difference(ws.ledger) == []


def test_an_endpoint_says_which_methods_it_takes(ws: Workspace) -> None:
    _, answers = asked(ws, [("PUT", "runs/log-metric", {})])
    assert (answers[0].status_code, answers[0].headers["allow"]) == (405, "POST")


def test_large_batches_are_taken_whether_or_not_the_run_was_logged_to_before(ws: Workspace) -> None:
    batches: list[Sent] = [
        (
            "POST",
            "runs/log-batch",
            {
                "metrics": [
                    {"key": "loss", "value": 1 / (step + 1), "timestamp": 1000 + step, "step": step}
                    for step in range(first, first + 500)
                ],
                "params": [{"key": f"p{first}", "value": "1"}],
            },
        )
        for first in (0, 500, 1000)
    ]
    wrong: Sent = (
        "POST",
        "runs/log-batch",
        {"metrics": [{"key": "a" * 20_000, "value": 1, "timestamp": 1, "step": 0}]},
    )
    history: Sent = ("POST", "runs/log-metric", {"key": "loss", "value": 0.0, "timestamp": 9000, "step": 1500})
    _, answers = asked(ws, [*batches, wrong, history])
    assert [answer.status_code for answer in answers] == [200, 200, 200, 400, 200, 200]
    data = answers[-1].json()["run"]["data"]
    assert [(each["key"], each["value"], each["step"]) for each in data["metrics"]] == [("loss", 0.0, 1500)]
    assert {each["key"] for each in data["params"]} == {"p0", "p500", "p1000"}
    assert difference(ws.ledger) == []
