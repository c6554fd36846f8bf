"""Whatever an MLflow client sends is answered in MLflow's form, never as a failure of the server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.faces.protocols.mlflow import routes
from noria.testing import open_memory

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["{run}", "0", "1", "nobody", "NaN", "Infinity", "\x00", "\ud800", "a" * 300, "FINISHED", "ALL"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
WORDS = ["metrics.a", "params.`b c`", "tags.", "status", "start_time", ">", "=", "LIKE", "IN", "IS NULL", "and"]
WORDS += ["version_number", "run_id", "source_path", "attributes.name", "creation_time", "NOT IN", "tags.`x`"]
WORDS += ["or", "'x'", "5", "1e999", "('a', 'b')", "(", ")", "'", '"', "`", ";", "name", "end_time", "-", "%", "\\"]
FILTERS = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
PARTS = ["models:", "runs:", "s3:", "file:", "mlflow-artifacts:", "http:", "/", "//", "known", "@", "1", "latest"]
PARTS += ["{run}", "{model}", "artifacts", "..", "%2e", "%252e", "[", "\\", " ", "champion", "0", "?", "#", "m-1", "ü"]
SOURCES = st.lists(st.sampled_from(PARTS), max_size=7).map("".join)


class Wire:
    """The routes over a workspace in memory, and a run to log to."""

    def __init__(self, folder: Path) -> None:
        ws = open_memory(root=folder)
        app = behind(Guard(ws), Starlette(routes=routes.routes(ws)))
        self._transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        made = self.send("POST", "runs/create", b'{"experiment_id": "0", "start_time": 5, "run_name": "r"}')
        self.run = made.json()["run"]["info"]["run_id"]
        made = self.send("POST", "logged-models", b'{"experiment_id": "0", "name": "l"}')
        self.model = made.json()["model"]["info"]["model_id"]

    def register(self) -> None:
        """A registered model with two versions, anew if a request took it away."""
        if self.send("POST", "registered-models/create", b'{"name": "known"}').status_code == 200:
            for _ in range(2):
                self.send("POST", "model-versions/create", b'{"name": "known", "source": "s3://bucket/model"}')

    def send(self, method: str, endpoint: str, body: bytes | None = None, query: dict[str, str] | None = None) -> Any:
        """The answer."""

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://localhost") as client:
                return await client.request(
                    method,
                    f"/api/2.0/mlflow/{endpoint}",
                    content=body,
                    params=query,
                    headers={"content-type": "application/json"},
                )

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Wire:
    return Wire(tmp_path_factory.mktemp("wire"))


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, Any]:
    """(method, endpoint, JSON): known fields with values of any kind."""
    method, endpoint = draw(st.sampled_from(sorted(routes.ENDPOINTS)))
    fields = sorted(routes.ENDPOINTS[method, endpoint][0].fields)
    given = draw(st.dictionaries(st.sampled_from([*fields, "else"]), VALUES, max_size=len(fields)))
    if "run_id" in fields and draw(st.booleans()):
        given["run_id"] = "{run}"
    if "name" in fields and draw(st.booleans()):
        given.update(name="known", version=draw(st.sampled_from(["1", "2", "99", "-1", "x", "9" * 30])))
    if "source" in fields and draw(st.booleans()):
        given["source"] = draw(SOURCES)
    if "filter" in fields and draw(st.booleans()):
        given.update(filter=draw(FILTERS), experiment_ids=["0"], max_results=5)
    if "order_by" in fields and draw(st.booleans()):
        given.update(order_by=draw(st.lists(FILTERS, max_size=2)), experiment_ids=["0"], max_results=5)
    return method, endpoint, given


@example(request=("POST", "runs/search", {"max_results": None}))
@example(request=("POST", "runs/search", {"max_results": {}}))
@given(request=requests())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_request_is_answered_and_none_is_the_servers_failure(wire: Wire, request: tuple[str, str, Any]) -> None:
    method, endpoint, given = request
    wire.register()
    text = json.dumps(given).replace("{run}", wire.run).replace("{model}", wire.model)
    endpoint = endpoint.replace("{model_id}", wire.model).replace("{tag_key}", "t")
    if method == "GET":
        query = {key: str(value) for key, value in json.loads(text).items()}
        clean = {key: value.encode("utf-8", "replace").decode() for key, value in query.items()}
        answer = wire.send(method, endpoint, query=clean)
    else:
        answer = wire.send(method, endpoint, text.encode("utf-8", "surrogatepass"))
    assert answer.status_code < 500, (endpoint, given, answer.text)
    if answer.status_code != 200:
        told = answer.json()
        assert told["error_code"]
        assert "Traceback" not in told["message"]


@given(
    body=st.binary(max_size=60),
    endpoint=st.sampled_from([path for verb, path in sorted(routes.ENDPOINTS) if verb == "POST"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_answered(wire: Wire, body: bytes, endpoint: str) -> None:
    assert wire.send("POST", endpoint, body).status_code in (200, 400, 404)


def test_a_body_over_the_limit_is_refused_before_it_is_read(wire: Wire) -> None:
    answer = wire.send("POST", "runs/log-batch", b" " * (routes.BODY_MAX + 1))
    assert answer.status_code == 413
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
