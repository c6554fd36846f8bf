"""What clients of MLflow's do to evaluation data sets: what facts hold of it, what is refused, and what is told."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from noria.evalsets import merging
from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.faces.protocols.mlflow import evalset_filters, routes
from noria.faces.protocols.mlflow.refusals import Refused
from noria.store.workspace import Workspace
from noria.testing import open_memory
from noria.traces import keeping as traces


class Server:
    """MLflow's paths over a workspace."""

    def __init__(self, ws: Workspace) -> None:
        self.ws = ws
        self._transport = httpx.ASGITransport(app=behind(Guard(ws), Starlette(routes=routes.routes(ws))))

    def ask(self, method: str, endpoint: str, given: Any = None, version: str = "3.0") -> tuple[int, Any]:
        """The status and JSON of an answer."""

        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://localhost") as client:
                path = f"/api/{version}/mlflow/{endpoint}"
                if method == "GET":
                    return await client.get(path, params=given)
                return await client.request(method, path, json=given)

        answer = asyncio.run(send())
        return answer.status_code, answer.json()

    def made(self, name: str, **more: Any) -> str:
        """The id of a new evaluation data set."""
        status, told = self.ask("POST", "datasets/create", {"name": name, **more})
        assert status == 200, told
        return str(told["dataset"]["dataset_id"])

    def merge(self, evalset: str, *given: Any) -> tuple[int, Any]:
        """The answer to records that come in."""
        return self.ask("POST", f"datasets/{evalset}/records", {"records": json.dumps(given)})


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(open_memory(root=tmp_path))


def test_facts_name_what_records_are_of_and_hold_nothing_of_what_they_say(server: Server) -> None:
    server.ask("POST", "experiments/search", {"max_results": 1}, version="2.0")
    traces.log(
        server.ws, traces.Said(trace="tr-1", experiment=0, began_ms=1, took_ms=1, state="OK", tags={}, metadata={})
    )
    evalset = server.made("asked", experiment_ids=["0", "999"])
    of_trace = {"source_type": "TRACE", "source_data": {"trace_id": "tr-1"}}
    of_nobody = {"source_type": "TRACE", "source_data": {"trace_id": "tr-2"}}
    tags = {"private": "private", "mlflow.user": "ann"}
    given = {"inputs": {"q": "private"}, "expectations": {"a": "private"}, "outputs": "private", "tags": tags}
    told = server.merge(evalset, {**given, "source": of_trace}, {"inputs": {"q": "other"}, "source": of_nobody})
    assert told == (200, {"inserted_count": 2, "updated_count": 0})
    assert not any("private" in each.body for each in server.ws.ledger.bodies())
    created, merged = (server.ws.ledger.facts(kind=kind)[0] for kind in ("evalset.created", "records.merged"))
    assert created.fact.inputs == (("experiment", "experiment/0"),)
    assert merged.fact.inputs == (("trace", "trace/tr-1"),)
    assert merged.subject == f"evalset/{evalset}"


def test_what_is_merged_adds_to_the_schema_and_what_goes_is_counted(server: Server) -> None:
    evalset = server.made("counted")
    server.merge(evalset, {"inputs": {"a": 1, "b": None}}, {"inputs": {"a": "x", "c": []}, "outputs": {"o": True}})
    server.merge(evalset, {"inputs": {"d": {}}, "expectations": {"e": 0.5}, "outputs": [1]})
    told = server.ask("GET", f"datasets/{evalset}")[1]["dataset"]
    assert json.loads(told["schema"]) == {
        "inputs": {"a": "integer", "b": "null", "c": "array", "d": "object"},
        "outputs": {"o": "boolean"},
        "expectations": {"e": "float"},
        "version": "1.0",
    }
    assert json.loads(told["profile"]) == {"num_records": 3}
    found = json.loads(server.ask("GET", f"datasets/{evalset}/records")[1]["records"])
    ids = [each["dataset_record_id"] for each in found]
    assert server.ask("DELETE", f"datasets/{evalset}/records", {"dataset_record_ids": ids[:2]})[1]["deleted_count"] == 2
    assert json.loads(server.ask("GET", f"datasets/{evalset}")[1]["dataset"]["profile"]) == {"num_records": 1}
    server.ask("DELETE", f"datasets/{evalset}/records", {"dataset_record_ids": ids})
    assert server.ask("GET", f"datasets/{evalset}")[1]["dataset"]["profile"] == "null"


def test_a_merge_that_is_refused_changes_nothing(server: Server) -> None:
    evalset = server.made("refused")
    head = server.ws.ledger.head()
    fine = {"inputs": {"a": 1}}
    for wrong in (
        5,
        {"inputs": None},
        {"inputs": [1]},
        {"inputs": {}, "tags": "x"},
        {"inputs": {}, "tags": {"mlflow.user": {"a": 1}}},
        {"inputs": {}, "tags": {"mlflow.user": "\x00"}},
        {"inputs": {}, "expectations": [1]},
        {"inputs": {}, "source": "CODE"},
        {"inputs": {}, "source": {"source_type": "nobody"}},
        {"inputs": {}, "source": {"source_type": "TRACE", "source_data": {"trace_id": 5}}},
        {"inputs": {}, "source": {"source_type": "CODE", "source_data": [1]}},
    ):
        status, told = server.merge(evalset, fine, wrong)
        assert (status, told["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), wrong
        assert len(told["message"].splitlines()) == 1
    assert server.merge(evalset, *[fine] * (merging.GIVEN_MAX + 1))[0] == 400
    deep = "[" * 100_000 + "]" * 100_000
    told = server.ask("POST", f"datasets/{evalset}/records", {"records": deep})
    assert told[0] == 400
    assert server.ws.ledger.head() == head
    assert server.merge("nobody", fine)[0] == 400


@pytest.mark.parametrize(
    "token", ["x", "-5", "9" * 30, base64.b64encode(b"x:y").decode(), base64.b64encode(b"1:\x00").decode()]
)
def test_a_page_token_that_no_page_gave_is_refused(server: Server, token: str) -> None:
    evalset = server.made("paged")
    status, told = server.ask("GET", f"datasets/{evalset}/records", {"page_token": token})
    assert (status, told["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_names_tags_and_experiments_have_limits(server: Server) -> None:
    for given in (
        {"name": "n" * 256},
        {"name": "x", "tags": json.dumps({"k" * 256: "v"})},
        {"name": "x", "tags": json.dumps({"k": "v" * 5001})},
        {"name": "x", "tags": json.dumps({str(number): "v" for number in range(1001)})},
        {"name": "x", "tags": '{"k": "\\ud800"}'},
        {"name": "x", "experiment_ids": ["1" * 37]},
        {"name": "x", "experiment_ids": ["0", "0"]},
    ):
        assert server.ask("POST", "datasets/create", given)[0] == 400, given
    assert server.ask("POST", "datasets/search", {})[1] == {}


def test_a_word_of_a_path_is_only_a_word(server: Server) -> None:
    for endpoint in ("datasets/{dataset_id}", "datasets/a%00b", "datasets/..%2f", "datasets/%F0%9F%8E%B2"):
        assert server.ask("GET", endpoint)[0] == 404, endpoint
    assert server.ask("POST", "webhooks/{webhook_id}/test", {}, version="2.0")[0] == 404
    assert server.ask("PUT", "datasets/x", {})[0] == 405


def test_filters_ask_what_they_say() -> None:
    found = evalset_filters.parse("name ILIKE 'a%' AND tags.`x` != 'b' and created_time >= -5 AND name IN ('a', 'b')")
    assert [(each.kind, each.key, each.operator, each.value) for each in found] == [
        ("attribute", "name", "ILIKE", "a%"),
        ("tag", "`x`", "!=", "b"),
        ("attribute", "created_ms", ">=", -5),
        ("attribute", "name", "IN", ("a", "b")),
    ]
    assert evalset_filters.parse_order(["name", "created_time DESC"]) == [("name", False), ("created_ms", True)]
    for wrong in ("name =", "name IN ('a'); name = 'b'", "created_time = '5'", "tags.a IS NULL", "name = 'a' " * 60):
        with pytest.raises(Refused):
            evalset_filters.parse(wrong)
