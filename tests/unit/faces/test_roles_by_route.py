"""Every route, by every method, as every role: who may is what the permissions say, and nothing else opens.

The table is not written here: a verb's permission is its own declaration, MLflow's endpoints are those of its
table, and the paths that are matched by hand are told apart by what they are for. A request that passes is
stopped by its arguments wherever it can be, so that nothing of it is done.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from noria.config import Project
from noria.faces import answering, verbs
from noria.faces.http import auth
from noria.faces.http.app import App
from noria.faces.http.feedback import Feedback
from noria.faces.protocols.mlflow.permissions import permission_of
from noria.faces.protocols.mlflow.routes import ENDPOINTS, ENDPOINTS_3, PREFIXES, PREFIXES_3, PROXIED, SPANS, UPLOADS
from noria.governance.access import LEAST, PEOPLE_ONLY, ROLES
from noria.governance.claims import Grant
from noria.governance.sessions import Subject, open_session
from noria.governance.tokens import create
from noria.identities import MACHINE_ROLES, AccessConfig, LoginConfig, WorkloadConfig
from noria.serving.facts import Arm
from noria.serving.routes import Route, Routes, Served
from noria.serving.runtime import Runtime
from noria.store.workspace import Workspace
from noria.testing.workspace import open_memory

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
RAW = {
    ("POST", "/predict"): "serving.predict",
    ("POST", "/predict/m"): "serving.predict",
    ("POST", "/v2/models/m/infer"): "serving.predict",
    ("POST", "/v2/models/m/versions/1/infer"): "serving.predict",
    ("POST", "/v2/models/m/feedback"): "monitoring.feedback",
    ("GET", "/v2"): "serving.read",
    ("GET", "/v2/models"): "serving.read",
    ("GET", "/v2/models/m"): "serving.read",
    ("GET", "/v2/models/m/ready"): "serving.read",
    ("GET", "/metrics"): "serving.read",
    ("GET", "/"): "project.read",
    ("GET", "/runs"): "experiments.read",
    ("GET", "/runs/compare"): "experiments.read",
    ("GET", "/runs/run_1"): "experiments.read",
    ("GET", "/api/v1"): "project.read",
    ("GET", "/api/v1/openapi.json"): "project.read",
    ("GET", "/version"): "experiments.read",
    ("POST", SPANS): "experiments.write",
    ("GET", "/api/3.0/mlflow/server-info"): "experiments.read",
    ("GET", "/ajax-api/3.0/mlflow/server-info"): "experiments.read",
    **{("GET", f"{prefix}/artifacts"): "experiments.read" for prefix in PROXIED},
    **{
        (method, f"{prefix}/artifacts/r/artifacts/f"): f"experiments.{'read' if method in ('GET', 'HEAD') else 'write'}"
        for method in ("GET", "HEAD", "PUT", "DELETE")
        for prefix in PROXIED
    },
    **{
        (method, f"{prefix}/{re.sub(r'{[^}]*}', '1', path)}"): f"experiments.{'read' if method == 'GET' else 'write'}"
        for method, path in UPLOADS
        for prefix in PROXIED
    },
}
VERBS = {
    ("POST", f"/api/v1/{capability}/{name}"): found.declaration.permission
    for (capability, name), found in verbs.collect().items()
}
MLFLOW = {
    (method, f"{prefix}/{endpoint.replace('{', '').replace('}', '')}"): permission_of(method, endpoint)
    for endpoints, prefixes in ((ENDPOINTS, PREFIXES), (ENDPOINTS_3, PREFIXES_3))
    for method, endpoint in endpoints
    for prefix in prefixes
}
TABLE = {**RAW, **VERBS, **MLFLOW}
CHANGES = ("POST", "PUT", "PATCH", "DELETE")
OPEN = {("GET", "/login"), ("GET", "/callback"), ("POST", "/logout"), ("POST", "/oauth/token")}
"""Where somebody comes in or leaves: open to all by these methods, and nothing is given without proof."""
ACCESS = AccessConfig(
    url="http://localhost",
    login={"corp": LoginConfig(issuer="http://127.0.0.1:1", client_id="noria", roles={"viewer": ("all",)})},
    workload={"ci": WorkloadConfig(issuer="http://127.0.0.1:1", audience="noria")},
)


CALLERS = (
    ("browser", "user", "corp", ROLES),
    ("command line", "user", "corp", ROLES),
    ("exchange", "service", "ci", MACHINE_ROLES),
)
"""Who comes by a provider: (way, kind, provider, roles)."""


@dataclass
class Door:
    """The whole application over a workspace, and a token for each role; of one who came by a cookie, in it."""

    ws: Workspace
    app: App
    tokens: dict[str, str]

    def ask(self, asked: list[tuple[str, str, str]], body: bytes = b'{"no-such-argument": 1}') -> list[httpx.Response]:
        """The answers to (method, path, role), in order; an empty role sends no token."""

        async def all_of_them() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return [await one(client, *each) for each in asked]

        async def one(client: httpx.AsyncClient, method: str, path: str, role: str) -> httpx.Response:
            headers = {"content-type": "application/json"}
            if role.startswith("browser "):
                headers["cookie"] = f"noria={self.tokens[role]}"
            elif role:
                headers["authorization"] = f"Bearer {self.tokens[role]}"
            return await client.request(method, path, content=body, headers=headers)

        return asyncio.run(all_of_them())


class Always:
    """A model double that nobody asks here."""

    task = "regression"
    labels: tuple[Any, ...] = ()
    threshold = 0.0

    def check(self, row: dict[str, Any]) -> None:
        return None

    def predict(self, data: Sequence[dict[str, Any]]) -> npt.NDArray[np.float64]:
        return np.zeros(len(data))


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """An application of a project with one token for each role, and no model."""
    monkeypatch.setattr(auth, "KNOWN_S", 1e9)
    ws = open_memory(Project(name="test", access=ACCESS), root=tmp_path)
    tokens = {role: create(ws, role, role=role).secret for role in ROLES}
    for way, kind, provider, roles in CALLERS:
        for role in roles:
            who = Subject(kind=kind, provider=provider, issuer="http://127.0.0.1:1", subject=way + role, wanted=role)
            tokens[f"{way} {role}"] = open_session(ws, who, Grant(role=role, life="8h"), way=way).secret
    runtime = Runtime(ws.project.state, now_us=lambda: time.time_ns() // 1000)
    feedback = Feedback(runtime, ws.project.state, now_us=lambda: 0, max_body_bytes=10_000)
    made = Door(ws, App(ws, runtime, feedback, others=answering.others), tokens)
    made.ask([("GET", "/api/2.0/mlflow/experiments/search", "viewer")])  # the first request makes Default
    yield made
    runtime.stop()
    feedback.close()
    ws.ledger.database.close()


def test_the_table_knows_every_route_of_the_application(door: Door) -> None:
    for route in door.app._build().routes:
        if route.path != "/health":
            assert any(route.path_regex.match(each) for _, each in (*TABLE, *OPEN)), route.path


def test_who_may_is_what_the_permissions_say(door: Door) -> None:
    asked = [(method, path, role) for (method, path) in TABLE for role in ROLES]
    wrong = []
    for (method, path, role), answer in zip(asked, door.ask(asked), strict=True):
        may = ROLES.index(role) >= ROLES.index(LEAST[TABLE[method, path]])
        if (answer.status_code not in (401, 403)) != may:
            wrong.append((method, path, role, answer.status_code))
    assert wrong == []
    assert len(asked) > 800


def test_who_came_by_a_provider_may_what_its_role_may_and_a_cookie_only_looks(door: Door) -> None:
    callers = [f"{way} {role}" for way, _, _, roles in CALLERS for role in roles]
    asked = [(method, path, caller) for (method, path) in TABLE for caller in callers]
    wrong = []
    for (method, path, caller), answer in zip(asked, door.ask(asked), strict=True):
        way, _, role = caller.rpartition(" ")
        may = ROLES.index(role) >= ROLES.index(LEAST[TABLE[method, path]])
        if way == "browser":
            may = may and method in ("GET", "HEAD")
        if way == "exchange":
            may = may and TABLE[method, path] not in PEOPLE_ONLY
        if (answer.status_code not in (401, 403)) != may:
            wrong.append((method, path, caller, answer.status_code))
    assert wrong == []
    assert len(asked) > 2000


def test_the_doors_take_their_own_method_and_give_nobody_anything(door: Door) -> None:
    before = door.ws.ledger.head()
    for role in ("", "viewer", "admin", "browser viewer", "exchange editor"):
        asked = [(method, path, role) for _, path in sorted(OPEN) for method in METHODS]
        for (method, path, _), answer in zip(asked, door.ask(asked), strict=True):
            is_own = (method, path) in OPEN or (method == "HEAD" and ("GET", path) in OPEN)
            if not is_own:
                assert answer.status_code in (401, 405), (method, path, role, answer.status_code)
            elif path == "/logout":
                assert answer.status_code == 200
            else:
                assert answer.status_code in (400, 403, 503), (method, path, role, answer.status_code)
            assert "nor_" not in answer.text + str(answer.headers)
    kinds = [fact.fact.kind for fact in door.ws.ledger.facts(after=before)]
    assert set(kinds) == {"login.refused", "token.revoked"}
    assert kinds.count("token.revoked") == 2, "the two who had a session left; who has a plain token keeps it"


def test_what_looks_like_a_door_is_none(door: Door) -> None:
    paths = (
        "/login/",
        "/Login",
        "/login/x",
        "//login",
        "/callback/",
        "/oauth/token/",
        "/oauth",
        "/logout/",
        "/%6cogin/x",
    )
    answers = door.ask([(method, path, "") for path in paths for method in METHODS])
    assert {answer.status_code for answer in answers} == {401}


def test_nobody_without_a_token_gets_anywhere_by_any_method(door: Door) -> None:
    paths = sorted({path for _, path in TABLE} | {"/nowhere", "/api/v1/no/verb", "/predictable", "/docs"})
    asked = [(method, path, "") for path in paths for method in METHODS]
    answers = door.ask(asked)
    assert {answer.status_code for answer in answers} == {401}
    for (method, path, _), answer in zip(asked, answers, strict=True):
        if method != "HEAD":
            assert ("error_code" if "/mlflow" in path else "error") in answer.json(), (method, path)


def test_no_method_but_its_own_opens_a_path_to_a_viewer(door: Door) -> None:
    paths = sorted({path for _, path in TABLE})
    asked = [(method, path, "viewer") for path in paths for method in METHODS if not _is_viewers(method, path)]
    before = door.ws.ledger.head()
    answers = zip(asked, door.ask(asked), strict=True)
    closed = (403, 404, 405)
    open_ones = [(*each, answer.status_code) for each, answer in answers if answer.status_code not in closed]
    assert open_ones == []
    facts = door.ws.ledger.facts(after=before)
    assert {fact.fact.kind for fact in facts} <= {"access.refused"}, "and what was refused is on record"
    assert facts


def _is_viewers(method: str, path: str) -> bool:
    """Whether the table gives a viewer this. HEAD asks what GET does."""
    looked = [TABLE.get((each, path)) for each in ((method, "GET") if method == "HEAD" else (method,))]
    return any(LEAST[found] == "viewer" for found in looked if found)


def test_what_a_viewer_may_ask_changes_nothing(door: Door) -> None:
    asked = [(method, path, "viewer") for (method, path), needed in TABLE.items() if LEAST[needed] == "viewer"]
    before = door.ws.ledger.head()
    for body in (b"{}", b'{"no-such-argument": 1}'):
        mlflow = [each for each in asked if "/mlflow" in each[1]]
        door.ask(mlflow if body == b"{}" else asked, body)
    assert door.ws.ledger.head() == before


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/data/add/",
        "/api/v1/data/add//",
        "/api/v1//data/add",
        "//api/v1/data/add",
        "/API/v1/data/add",
        "/api/v1/DATA/add",
        "/api/v1/data/Add",
        "/api/v1/data%2fadd",
        "/api/v1/data%252fadd",
        "/api/v1/%64ata/add",
        "/api/v1/data/add%00",
        "/api/v1/data/add;x",
        "/api/v1/data/add%20",
        "/api/v1/data/list/../add",
        "/api/v1/data/list/%2e%2e/add",
        "/healthz/../api/v1/data/add",
        "/api/v1/data/add?permission=data.read",
        "/api/2.0/mlflow/runs/create/",
        "/api/2.0/mlflow//runs/create",
        "/api/2.0/mlflow/runs%2fcreate",
        "/api/2.0/mlflow/runs/search/../create",
        "/api/2.0/mlflow/RUNS/create",
        "/ajax-api/2.0/mlflow/runs/create",
        "/AJAX-API/2.0/mlflow/runs/create",
        "/ajax-api/2.0/mlflow/registered-models/create/",
        "/v2/models/m//feedback",
        "/v2//models/m/feedback/",
        "/v2/models/m%2ffeedback",
        "/v2/health/live/../../models/m/feedback",
    ],
)
def test_no_spelling_of_a_path_gets_around_its_permission(door: Door, path: str) -> None:
    before = door.ws.ledger.head()
    for method, role in itertools.product(CHANGES, ("", "viewer")):
        (answer,) = door.ask([(method, path, role)], b'{"experiment_id": "0", "path": "x.csv", "name": "m"}')
        allowed = (401,) if not role else (307, 403, 404, 405)
        assert answer.status_code in allowed, (method, role, answer.status_code, answer.text)
        if answer.status_code == 307:
            assert httpx.URL(answer.headers["location"]).host == "localhost"
    assert {fact.fact.kind for fact in door.ws.ledger.facts(after=before)} <= {"access.refused"}


def test_a_model_that_is_not_there_is_said_so_whatever_the_body_and_what_is_there_only_to_who_may_see_it(
    door: Door,
) -> None:
    door.tokens["shop"] = create(door.ws, "shop", scopes=("serving.predict",), service=True).secret
    model = Always()
    arm = Arm(name="a", release=1, content="", weight=1.0)
    for names in (("churn",), ("churn", "late")):
        made = {name: Route(name, 5, "seed", (arm,), {1: Served(1, "c", "b", model)}) for name in names}
        door.app._runtime.swap(Routes(made))
        paths = ("/predict/nope", "/v2/models/nope/infer")
        for path in paths:
            for role, hint in (("viewer", f"deployed here: {', '.join(names)}"), ("shop", "")):
                (answer,) = door.ask([("POST", path, role)], body=b"{}")
                error = answer.json()["error"]
                assert (answer.status_code, error["code"]) == (404, "not-found")
                assert (error["message"], error["hint"]) == ("no model named 'nope' is deployed here", hint)
    for role, hint in (("viewer", "/predict/churn"), ("shop", "")):
        (answer,) = door.ask([("POST", "/predict", role)], body=b"{}")
        assert (answer.json()["error"]["message"], answer.json()["error"]["hint"]) == (
            "several models are deployed: name one",
            hint,
        )


@pytest.mark.parametrize("name", ["x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"])
def test_no_header_changes_what_is_asked(door: Door, name: str) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=door.app)
        headers = {"authorization": f"Bearer {door.tokens['viewer']}", name: "/healthz" if "url" in name else "GET"}
        headers |= {"x-noria-actor": "user:admin", "x-forwarded-user": "admin", "x-forwarded-for": "127.0.0.1"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/api/v1/registry/reject", json={}, headers=headers)

    assert asyncio.run(ask()).status_code == 403


def test_facts_are_by_whom_the_token_names_not_by_what_is_claimed(door: Door) -> None:
    before = door.ws.ledger.head()

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=door.app)
        headers = {"authorization": f"Bearer {door.tokens['editor']}", "x-noria-actor": "user:admin"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            (door.ws.project.root / "rows.csv").write_text("id,x\n1,2\n", encoding="utf-8")
            made: list[Any] = [await client.post("/api/v1/data/add", json={"path": "rows.csv"})]
            made.append(await client.post("/api/2.0/mlflow/experiments/create", json={"name": "e"}))
            return made

    assert [answer.status_code for answer in asyncio.run(ask())] == [200, 200]
    facts = door.ws.ledger.facts(after=before)
    assert len(facts) == 2
    assert {fact.actor for fact in facts} == {"user:editor"}


def test_health_says_that_the_server_lives_to_everybody(door: Door) -> None:
    for answer in door.ask([("GET", path, "") for path in sorted(auth.OPEN_PATHS)]):
        assert answer.status_code in (200, 503)
    anybody, viewer = door.ask([("GET", "/healthz", ""), ("GET", "/healthz", "viewer")])
    assert set(anybody.json()) == {"ok"}
    assert set(viewer.json()) == {"ok", "models", "queued_rows", "scheduling"}
