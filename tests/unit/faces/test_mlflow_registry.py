"""What clients of MLflow are told where Noria's own rules bind: no 5xx, the reason, and nothing changed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from noria.config import parse_project
from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.faces.protocols.mlflow import routes
from noria.registry import records
from noria.registry.facts import VersionRegistered
from noria.store.workspace import Workspace
from noria.testing import open_memory


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace whose model `fraud` has a gate, and a bundle of it that nobody judged."""
    made = open_memory(root=tmp_path)
    document = {"project": {"name": "t"}, "model": {"fraud": {"gate": {"auc": {"min": 0.6}}}}}
    project = parse_project(document, root=tmp_path, environment={})
    with made.ledger.transaction() as tx:
        bundle = "sha256:" + "ab" * 32
        tx.append(VersionRegistered(model="fraud", version=1, bundle=bundle, run="run_1", metrics={}, pins=()))
    return replace(made, project=replace(made.project, models=project.models))


def ask(ws: Workspace, method: str, endpoint: str, given: dict[str, Any]) -> tuple[int, Any]:
    """The status and JSON of an answer."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=behind(Guard(ws), Starlette(routes=routes.routes(ws))))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            path = f"/api/2.0/mlflow/{endpoint}"
            if method == "GET":
                return await client.get(path, params=given)
            return await client.request(method, path, json=given)

    answer = asyncio.run(send())
    return answer.status_code, answer.json()


def test_an_alias_that_rules_bind_is_refused_with_the_reason(ws: Workspace) -> None:
    given = {"name": "fraud", "alias": "champion", "version": "1"}
    status, told = ask(ws, "POST", "registered-models/alias", given)
    assert (status, told["error_code"]) == (403, "PERMISSION_DENIED")
    assert "fraud:1 does not become fraud@champion: its gates were never judged" in told["message"]
    given = {"name": "fraud", "version": "1", "stage": "production"}
    assert ask(ws, "POST", "model-versions/transition-stage", given)[0] == 403
    with ws.ledger.read() as tx:
        assert records.aliases(tx, "fraud") == {}


@pytest.mark.parametrize(
    ("method", "endpoint", "given"),
    [
        ("DELETE", "model-versions/delete", {"name": "fraud", "version": "1"}),
        ("DELETE", "registered-models/delete", {"name": "fraud"}),
        ("POST", "registered-models/rename", {"name": "fraud", "new_name": "other"}),
    ],
)
def test_what_noria_made_stays(ws: Workspace, method: str, endpoint: str, given: dict[str, Any]) -> None:
    status, told = ask(ws, method, endpoint, given)
    assert (status, told["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "bundle" in told["message"]
    status, told = ask(ws, "GET", "model-versions/get", {"name": "fraud", "version": "1"})
    assert (status, told["model_version"]["source"]) == (200, "noria:/fraud/1")


def test_a_version_that_noria_made_is_found_by_clients(ws: Workspace) -> None:
    found = ask(ws, "GET", "registered-models/search", {"filter": "name = 'fraud'"})[1]["registered_models"]
    assert [each["latest_versions"][0]["run_id"] for each in found] == ["run_1"]
    uri = ask(ws, "GET", "model-versions/get-download-uri", {"name": "fraud", "version": "1"})[1]
    assert uri == {"artifact_uri": "noria:/fraud/1"}
