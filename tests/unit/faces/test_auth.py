"""Who may come in, and as whom: Host and Origin, tokens, the open door of a laptop."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.config import Project, ServerConfig
from noria.core.errors import Denied
from noria.faces.http import auth
from noria.faces.http.auth import ACTOR, Guard, Refusal, actor_in, is_loopback, permit
from noria.governance.access import Actor
from noria.governance.tokens import create, revoke, tokens
from noria.identities import AccessConfig, LoginConfig, WorkloadConfig
from noria.store.workspace import Workspace
from noria.testing.workspace import TestClock, open_memory

OPEN = ServerConfig(host="0.0.0.0", token="s3cret")


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace that never had a token, on loopback."""
    made = open_memory(root=tmp_path)
    yield made
    made.ledger.database.close()


def scope(method: str = "GET", path: str = "/", **headers: str) -> dict[str, Any]:
    """A request's head. `host` is localhost unless it is given."""
    given = {"host": "localhost:4400", **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()]
    return {"type": "http", "method": method, "path": path, "headers": pairs, "client": ("127.0.0.1", 5)}


def came(ws: Workspace, asked: dict[str, Any], guard: Guard | None = None) -> Refusal | Actor:
    """What a guard says of a request: who it is, or the refusal."""
    refusal = asyncio.run((guard or Guard(ws)).enter(asked))
    return refusal if refusal is not None else actor_in(asked)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def shared(tmp_path: Path) -> Workspace:
    """A workspace whose settings have one token for everybody."""
    return open_memory(Project(name="test", server=OPEN), root=tmp_path)


@pytest.mark.parametrize("host", ["localhost", "localhost:4400", "127.0.0.1:1", "127.9.9.9", "[::1]:4400", "LocalHost"])
def test_this_machine_may_call_a_loopback_server(ws: Workspace, host: str) -> None:
    assert came(ws, scope(host=host)) == Actor(name="user:http", role="admin", project="test")


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.evil.example:80"]
)
def test_a_foreign_name_for_a_loopback_server_is_refused(ws: Workspace, host: str) -> None:
    found = came(ws, scope(host=host))
    assert isinstance(found, Refusal)
    assert found.status == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999"])
def test_a_page_of_another_site_may_not_change_anything(ws: Workspace, origin: str) -> None:
    found = came(ws, scope("POST", "/api/v1/data/add", origin=origin))
    assert isinstance(found, Refusal)
    assert found.status == 403


def test_a_page_of_another_site_is_refused_whatever_token_a_browser_adds(ws: Workspace) -> None:
    made = create(ws, "ann", role="admin")
    asked = scope("POST", origin="http://evil.example", authorization=basic("ann", made.secret))
    found = came(ws, asked)
    assert isinstance(found, Refusal)
    assert found.status == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
def test_a_script_of_another_site_is_refused_whatever_it_asks_and_a_link_from_there_is_followed(
    ws: Workspace, method: str
) -> None:
    made = create(ws, "ann", role="admin")
    token = f"Bearer {made.secret}"
    found = came(ws, scope(method, origin="http://evil.example", authorization=token))
    assert isinstance(found, Refusal)
    assert (found.status, found.message) == (403, "the request comes from a page of another site")
    link = came(ws, scope(method, sec_fetch_site="cross-site", authorization=token))
    assert isinstance(link, Actor) == (method in ("GET", "HEAD", "OPTIONS"))


def test_the_own_page_and_scripts_may(ws: Workspace) -> None:
    assert isinstance(came(ws, scope("POST", origin="http://localhost:4400")), Actor)
    assert isinstance(came(ws, scope("POST")), Actor)
    assert isinstance(came(ws, scope("POST", sec_fetch_site="cross-site")), Refusal)


@pytest.mark.parametrize(
    ("headers", "path", "name"),
    [
        ({"x_noria_actor": "user:ada"}, "/", "user:ada"),
        ({"x_noria_actor": "service:controller"}, "/", "user:http"),
        ({"x_noria_actor": "a b"}, "/", "user:http"),
        ({"authorization": basic("ada", "whatever")}, "/api/2.0/mlflow/runs/create", "user:ada"),
        ({}, "/ajax-api/2.0/mlflow/runs/search", "user:mlflow"),
    ],
)
def test_where_nobody_proves_who_asks_a_name_is_believed_but_never_a_service(
    ws: Workspace, headers: dict[str, str], path: str, name: str
) -> None:
    found = came(ws, scope(path=path, **headers))
    assert isinstance(found, Actor)
    assert found.name == name


def test_the_token_of_the_settings_is_an_editors_and_names_nobody(tmp_path: Path) -> None:
    ws = shared(tmp_path)
    for sent in ("Bearer s3cret", basic("anyone", "s3cret")):
        found = came(ws, scope(authorization=sent, x_noria_actor="user:ann"))
        assert found == Actor(name="service:shared-token", role="editor", project="test")
    for wrong in ("Bearer s3cre", "Bearer", "Basic !!", "Basic czNjcmV0", "s3cret", "", "Bearer s3cretä"):
        refused = came(ws, scope(authorization=wrong))
        assert isinstance(refused, Refusal), wrong
        assert refused.status == 401
        assert (b"www-authenticate", b'Bearer realm="noria"') in refused.headers


def test_beyond_this_machine_a_token_is_asked_for_also_where_there_is_none(tmp_path: Path) -> None:
    ws = open_memory(Project(name="test", server=ServerConfig(host="0.0.0.0")), root=tmp_path)
    found = came(ws, scope())
    assert isinstance(found, Refusal)
    assert found.status == 401


def test_a_token_opens_as_bearer_and_as_basic_with_its_holders_name(ws: Workspace) -> None:
    made = create(ws, "ci", role="editor", service=True, scopes=["data.*"])
    expected = Actor(name="service:ci", role="editor", project="test", scopes=("data.*",), token=made.token)
    for sent in (f"Bearer {made.secret}", f"bearer {made.secret}", basic("ci", made.secret), basic("", made.secret)):
        assert came(ws, scope(authorization=sent)) == expected
    for sent in (basic("ann", made.secret), f"Bearer {made.secret}x", f"Bearer {made.secret[:-1]}", made.secret):
        assert isinstance(came(ws, scope(authorization=sent)), Refusal), sent


def test_once_there_was_a_token_the_door_stays_shut_also_when_it_is_over(ws: Workspace) -> None:
    guard = Guard(ws)
    assert isinstance(came(ws, scope(), guard), Actor)
    made = create(ws, "ann", expires="1h")
    fresh = Guard(ws)
    assert isinstance(came(ws, scope(), fresh), Refusal)
    asked = scope(authorization=f"Bearer {made.secret}")
    assert isinstance(came(ws, asked, fresh), Actor)
    assert isinstance(ws.clock, TestClock)
    ws.clock.forward(hours=1)
    assert isinstance(came(ws, asked, fresh), Refusal), "an end counts at once"
    assert isinstance(came(ws, scope(), Guard(ws)), Refusal)


def test_a_guard_hears_of_new_and_revoked_tokens(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "KNOWN_S", 0.0)
    monkeypatch.setattr(auth, "NEW_S", 0.0)
    guard = Guard(ws)
    assert isinstance(came(ws, scope(), guard), Actor)
    made = create(ws, "ann")
    asked = scope(authorization=f"Bearer {made.secret}")
    assert isinstance(came(ws, scope(), guard), Refusal)
    assert isinstance(came(ws, asked, guard), Actor)
    revoke(ws, made.token, "lost")
    assert isinstance(came(ws, asked, guard), Refusal)


def test_a_new_token_is_good_also_while_a_look_from_before_it_is_still_under_way(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, begun, go_on = Guard(ws), threading.Event(), threading.Event()
    known = f"Bearer {create(ws, 'bob').secret}"
    assert isinstance(came(ws, scope(authorization=known), guard), Actor)
    first = auth.records.tokens_seq

    def slow(tx: Any) -> int:
        found = first(tx)
        if not begun.is_set():
            begun.set()
            assert go_on.wait(30)
        return found

    monkeypatch.setattr(auth.records, "tokens_seq", slow)
    monkeypatch.setattr(auth, "WAIT_S", 0.1)

    async def both() -> Refusal | None:
        guard.forget()
        older = asyncio.ensure_future(guard.enter(scope(authorization=known)))
        await asyncio.to_thread(begun.wait, 30)
        made = await asyncio.to_thread(create, ws, "ann")
        newer = asyncio.ensure_future(guard.enter(scope(authorization=f"Bearer {made.secret}")))
        await asyncio.sleep(0.3)  # longer than a request waits for a copy that is merely old
        go_on.set()
        await older
        return await newer

    assert asyncio.run(both()) is None


def test_the_last_use_is_noted_and_listed(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "KNOWN_S", 0.0)
    monkeypatch.setattr(auth, "NEW_S", 0.0)
    made = create(ws, "ann")
    assert [each.last_used for each in tokens(ws)] == [""]
    guard = Guard(ws)
    came(ws, scope(authorization=f"Bearer {made.secret}"), guard)
    guard.look()
    assert [each.last_used[:10] for each in tokens(ws)] == ["2026-01-01"]


def test_health_is_open_and_nothing_near_it(ws: Workspace) -> None:
    create(ws, "ann")
    for path in sorted(auth.OPEN_PATHS):
        found = came(ws, scope(path=path))
        assert isinstance(found, Actor)
        assert found.role == "", "and who comes in so may do nothing"
    made = create(ws, "bob")
    found = came(ws, scope(path="/healthz", authorization=f"Bearer {made.secret}"))
    assert isinstance(found, Actor)
    assert found.role == "viewer", "who says who they are is told more"
    for path in (
        "/healthz/../api",
        "/healthz/",
        "/Healthz",
        "//healthz",
        "/healthz%2f",
        "/health/x",
        "/v2/health/live/",
    ):
        assert isinstance(came(ws, scope(path=path)), Refusal), path


def test_wrong_tokens_are_slowed_down_and_good_ones_never(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ws = shared(tmp_path)
    made = create(ws, "ann")
    guard = Guard(ws)
    with caplog.at_level(logging.DEBUG):
        statuses = []
        for number in range(auth.FAILURES_MAX + 3):
            found = came(ws, scope(authorization=f"Bearer guess{number}"), guard)
            assert isinstance(found, Refusal)
            statuses.append(found.status)
    assert statuses == [401] * auth.FAILURES_MAX + [429] * 3
    found = came(ws, scope(authorization="Bearer s3cret"), guard)
    assert isinstance(found, Refusal), "what people chose can be guessed: it is not even compared"
    assert (b"retry-after", b"60") in found.headers
    assert isinstance(came(ws, scope(authorization=f"Bearer {made.secret}"), guard), Actor), "and this cannot"
    other = {**scope(authorization="Bearer s3cret"), "client": ("10.0.0.9", 5)}
    assert isinstance(came(ws, other, guard), Actor)
    assert "guess" not in caplog.text
    assert "s3cret" not in caplog.text


def test_a_refusal_is_ready_to_send_in_the_form_of_its_route(tmp_path: Path) -> None:
    ws = shared(tmp_path)
    found = came(ws, scope())
    assert isinstance(found, Refusal)
    told = json.loads(found.body)["error"]
    assert told["code"] == "denied"
    assert "s3cret" not in found.body.decode()
    assert (b"content-length", str(len(found.body)).encode()) in found.headers
    for path in (
        "/api/2.0/mlflow/runs/create",
        "/ajax-api/2.0/mlflow/runs/create",
        "/api/2.0/mlflow-artifacts/artifacts/x",
    ):
        found = came(ws, scope(path=path))
        assert isinstance(found, Refusal)
        assert json.loads(found.body)["error_code"] == "UNAUTHENTICATED"


def test_what_is_refused_is_a_fact_by_who_asked_once_an_hour(ws: Workspace) -> None:
    made = create(ws, "ann", role="viewer")
    guard = Guard(ws)
    asked = scope(authorization=f"Bearer {made.secret}")
    came(ws, asked, guard)
    for _ in range(3):
        with pytest.raises(Denied, match="takes the role editor, and it is viewer"):
            permit(asked, "registry.promote")
    assert guard.has_to_tell
    guard.tell()
    facts = ws.ledger.facts(kind="access.refused")
    assert [(fact.actor, fact.payload.permission, fact.payload.token) for fact in facts] == [
        ("user:ann", "registry.promote", made.token)
    ]


def test_what_no_guard_let_in_may_do_nothing() -> None:
    with pytest.raises(Denied):
        permit(scope(), "project.read")
    with pytest.raises(Denied):
        permit({**scope(), ACTOR: Actor(name="user:eve", role="admin", project="test")}, "project.read")


def test_the_quick_way_says_the_same_of_a_prediction(ws: Workspace) -> None:
    guard = Guard(ws)
    assert not guard.admits(scope(), "serving.predict"), "nothing is known yet"
    guard.look()
    assert guard.admits(scope(), "serving.predict")
    assert not guard.admits(scope(host="evil.example"), "serving.predict")
    viewer, narrow = create(ws, "ann"), create(ws, "bob", role="editor", scopes=["data.*"])
    guard = Guard(ws)
    guard.look()
    assert not guard.admits(scope(), "serving.predict")
    assert guard.admits(scope(authorization=f"Bearer {viewer.secret}"), "serving.predict")
    assert not guard.admits(scope(authorization=f"Bearer {narrow.secret}"), "serving.predict")
    assert not guard.admits(scope(authorization="Bearer x"), "serving.predict")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("::1", True),
        ("127.1.2.3", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_token_is_good_at_once_also_where_the_tokens_were_just_read(ws: Workspace) -> None:
    create(ws, "ann")
    guard = Guard(ws)
    for name in ("bob", "eve", "kim"):
        guard.look()
        made = create(ws, name)
        found = came(ws, scope(authorization=f"Bearer {made.secret}"), guard)
        assert isinstance(found, Actor)
        assert found.name == f"user:{name}"


def test_behind_a_proxy_on_this_machine_the_public_name_is_the_servers_too(tmp_path: Path) -> None:
    access = AccessConfig(
        url="https://noria.example.org", workload={"ci": WorkloadConfig(issuer="https://ci.example", audience="x")}
    )
    ws = open_memory(Project(name="test", access=access), root=tmp_path)
    made = create(ws, "ann", role="admin")
    here = {"host": "noria.example.org", "authorization": f"Bearer {made.secret}"}
    assert isinstance(came(ws, scope(**here)), Actor)
    assert isinstance(came(ws, scope("POST", origin="https://noria.example.org", **here)), Actor)
    for host in ("evil.example", "", "noria.example.org.evil.example", "x.noria.example.org"):
        found = came(ws, scope(**{**here, "host": host}))
        assert isinstance(found, Refusal)
        assert found.status == 403
    ws.ledger.database.close()


def test_a_browser_is_sent_to_the_login_and_a_script_is_told(tmp_path: Path) -> None:
    login = LoginConfig(issuer="https://sso.example", client_id="n", roles={"viewer": ("all",)})
    access = AccessConfig(url="http://localhost:4400", login={"corp": login})
    ws = open_memory(Project(name="test", access=access), root=tmp_path)
    for path, to in (("/", "/"), ("/a b", "/a%20b"), ("/\r\nx", "/%0D%0Ax"), ("//evil.example", "//evil.example")):
        found = came(ws, scope(path=path, accept="text/html,*/*"))
        assert isinstance(found, Refusal)
        assert dict(found.headers)[b"location"] == f"/login?next={to}".encode()
    for asked in (scope(), scope("POST", accept="text/html"), scope(accept="text/html", authorization="Bearer x")):
        found = came(ws, asked)
        assert isinstance(found, Refusal)
        assert found.status == 401
    ws.ledger.database.close()
