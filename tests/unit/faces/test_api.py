"""Verbs over HTTP: arguments in, results and errors out, limits before parsing."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from noria.config import Project, ServerConfig
from noria.faces import verbs
from noria.faces.http import api
from noria.faces.http.auth import Guard
from noria.faces.http.guarded import behind
from noria.store.workspace import Workspace
from noria.testing.workspace import open_memory


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace whose server takes small bodies."""
    return open_memory(Project(name="test", server=ServerConfig(max_body_bytes=2000)), root=tmp_path)


@pytest.fixture
def anyio_backend() -> str:
    """Only asyncio."""
    return "asyncio"


@pytest.fixture
def client(ws: Workspace) -> httpx.AsyncClient:
    """A client of the routes, without a network."""
    transport = httpx.ASGITransport(app=behind(Guard(ws), Starlette(routes=api.routes(ws))))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


pytestmark = pytest.mark.anyio


async def test_the_list_of_verbs_says_what_each_takes(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/api/v1")).json()["verbs"]
    assert len(listed) == len(verbs.collect())
    add = next(each for each in listed if each["path"] == "/api/v1/data/add")
    assert add["changes"] is True
    assert add["arguments"][0] == {"name": "path", "kind": "text", "required": True, "default": None}


async def test_the_list_of_verbs_names_the_document_and_it_is_there(client: httpx.AsyncClient) -> None:
    place = (await client.get("/api/v1")).json()["openapi"]
    answer = await client.get(place)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["openapi"] == "3.1.0"


async def test_a_verb_is_called_and_the_fact_names_the_caller(
    client: httpx.AsyncClient, ws: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("id,x\n1,2\n", encoding="utf-8")
    answer = await client.post(
        "/api/v1/data/add", json={"path": str(tmp_path / "rows.csv")}, headers={"x-noria-actor": "user:ada"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"]["rows"] == 1
    assert [fact.actor for fact in ws.ledger.facts()] == ["user:ada"]
    assert ws.ledger.actor == "user:test"


@pytest.mark.parametrize("claimed", ["service:controller", "", "a b", "x" * 65, "../x", "ü"])
async def test_nobody_speaks_for_a_service(
    client: httpx.AsyncClient, ws: Workspace, tmp_path: Path, claimed: str
) -> None:
    (tmp_path / "rows.csv").write_text("id,x\n1,2\n", encoding="utf-8")
    headers = [(b"x-noria-actor", claimed.encode())]
    await client.post("/api/v1/data/add", json={"path": str(tmp_path / "rows.csv")}, headers=headers)
    assert [fact.actor for fact in ws.ledger.facts()] == ["user:http"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "said"),
    [
        ("data/ad", "{}", 404, "not-found", "no verb"),
        ("data/log", "{}", 400, "usage", "'name' is missing"),
        ("data/log", '{"name": "nothing"}', 404, "not-found", "nothing"),
        ("data/log", '{"nme": 1}', 400, "usage", "no argument"),
        ("data/log", '{"name": ', 400, "usage", "not JSON"),
        ("data/log", "\xff", 400, "usage", "not JSON"),
        ("data/log", "[]", 400, "usage", "JSON object"),
        ("data/log", '{"name": ' + "[" * 100, 400, "usage", "deeper"),
        ("data/log", '{"name": "' + "x" * 3000 + '"}', 413, "body-too-large", "2000 bytes"),
    ],
)
async def test_what_cannot_be_is_one_clear_error(
    client: httpx.AsyncClient, path: str, body: str, status: int, code: str, said: str
) -> None:
    headers = {"content-type": "application/json"}
    answer = await client.post(f"/api/v1/{path}", content=body.encode("latin-1"), headers=headers)
    told = answer.json()["error"]
    assert (answer.status_code, told["code"]) == (status, code)
    assert said in told["message"]
    assert set(told) == {"code", "message", "where", "hint"}


@pytest.mark.parametrize("place", ["/etc/passwd", "../outside.csv", "a/../../outside", "/proc/self/environ"])
@pytest.mark.parametrize("verb", ["data/add", "data/checkout", "checks/report", "governance/export"])
async def test_a_client_names_no_place_outside_of_the_project(client: httpx.AsyncClient, verb: str, place: str) -> None:
    name = "path" if verb == "data/add" else "to"
    answer = await client.post(f"/api/v1/{verb}", json={name: place, "ref": "rows", "dataset": "rows"})
    assert answer.status_code in (400, 403)
    assert "error" in answer.json()


@pytest.mark.parametrize(("verb", "name"), [("data/add", "path"), ("data/append", "source"), ("data/upsert", "source")])
@pytest.mark.parametrize("place", ["sqlite:////etc/shadow", "postgresql://db/x", "s3://others", "/etc/passwd"])
async def test_a_client_names_no_source_that_the_project_does_not_name(
    client: httpx.AsyncClient, verb: str, name: str, place: str
) -> None:
    answer = await client.post(f"/api/v1/{verb}", json={"name": "rows", name: place})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "denied")


async def test_a_link_that_leads_outside_is_no_place_inside(
    client: httpx.AsyncClient, ws: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "rows.csv"
    outside.write_text("a,b\n1,2\n", encoding="utf-8")
    (ws.project.root / "link.csv").symlink_to(outside)
    answer = await client.post("/api/v1/data/add", json={"path": "link.csv"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "denied")


async def test_a_form_of_a_browser_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/data/log", content=b'{"name": "x"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 400


async def test_an_empty_body_means_no_arguments(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/data/list", headers={"content-type": "application/json"})
    assert answer.json() == {"result": []}


async def test_a_failure_of_ours_is_a_500_that_says_nothing_of_the_inside(
    client: httpx.AsyncClient, ws: Workspace
) -> None:
    ws.ledger.slices = None  # type: ignore[assignment]  # break it on purpose
    answer = await client.post("/api/v1/governance/verify", json={})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "Traceback" not in answer.text


ODD: dict[str, list[object]] = {
    "text": [
        "",
        "é" * 300,
        "\0",
        "M:" + "9" * 30,
        "M@" + "9" * 30,
        "fact/" + "9" * 5000,
        "../" * 50,
        "r" + "9" * 30,
        "\ud800",
    ],
    "integer": [10**30, -(10**30), 2**63, 2**63 - 1, -1],
    "number": [1e308, -1.0],
    "list": [["\0"], ["é" * 300], [""], [[]]],
    "mapping": [{"\0": 1}, {"": "é" * 300}, {"9" * 30: []}],
}
"""By kind of argument: what a fuzzer sends."""


async def test_the_largest_limit_gives_all_the_files_of_a_version(client: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,x\n1,2\n", encoding="utf-8")
    await client.post("/api/v1/data/add", json={"path": str(tmp_path / "rows.csv")})
    answer = await client.post("/api/v1/data/show", json={"ref": "rows", "limit": verbs.INTEGER_MAX})
    assert answer.status_code == 200, answer.text
    assert (len(answer.json()["result"]["entries"]), answer.json()["result"]["more"]) == (1, False)


async def test_no_verb_fails_for_what_it_is_given(client: httpx.AsyncClient) -> None:
    failed = []
    for (capability, name), found in verbs.collect().items():
        for parameter in found.parameters:
            for odd in ODD.get(parameter.kind, []):
                required = {each.name: "x" for each in found.parameters if each.is_required and each.kind == "text"}
                body = json.dumps({**required, parameter.name: odd})
                headers = {"content-type": "application/json"}
                answer = await client.post(f"/api/v1/{capability}/{name}", content=body, headers=headers)
                if answer.status_code >= 500:
                    failed.append((capability, name, body[:80], answer.text[:200]))
    assert failed == []
