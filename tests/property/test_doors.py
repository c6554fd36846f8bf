"""The doors of a server, by anything that anybody may send: an answer each time, never a failure of the server."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc import jws

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.faces import answering
from noria.faces.http import auth
from noria.faces.http.app import App
from noria.faces.http.feedback import Feedback
from noria.faces.http.login import EXCHANGE, SUBJECT_TYPES
from noria.governance import tokens
from noria.identities import AccessConfig, AllowRule, LoginConfig, WorkloadConfig
from noria.serving.runtime import Runtime
from noria.store.workspace import Workspace
from noria.testing.workspace import TestClock
from oidc_provider import CLIENT, Provider, provider

AUDIENCE = "https://noria.test"
ADDRESSES = itertools.count(1)

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["\ud800", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "repository", "azp", "nonce"]) | st.text(
    max_size=8
)
words = st.text(max_size=30) | st.sampled_from(["authorization_code", EXCHANGE, *SUBJECT_TYPES])
fields = st.dictionaries(
    st.sampled_from(["grant_type", "subject_token", "subject_token_type", "scope", "code", "code_verifier"])
    | st.text(max_size=10),
    words,
    max_size=6,
)


class Site:
    """A server's application with a provider of each kind."""

    def __init__(self, ws: Workspace, app: App, served: Provider) -> None:
        self.ws, self.app, self.served = ws, app, served

    def ask(self, method: str, path: str, **named: Any) -> httpx.Response:
        """One answer; each time from another address, so that none has to wait."""

        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=(f"10.0.{next(ADDRESSES)}", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, **named)

        return asyncio.run(one())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same for all examples: they leave nothing but refusals."""
    root: Path = tmp_path_factory.mktemp("doors")
    with pytest.MonkeyPatch.context() as patch, provider(redirects=["http://localhost/callback"]) as served:
        patch.setattr(auth, "NEW_S", 0.0)
        rule = AllowRule(match={"repository": ("acme/churn",)})
        access = AccessConfig(
            url="http://localhost",
            login={"corp": LoginConfig(issuer=served.issuer, client_id=CLIENT, roles={"viewer": ("all",)})},
            workload={"ci": WorkloadConfig(issuer=served.issuer, audience=AUDIENCE, allow=(rule,))},
        )
        project = Project(name="test", root=root, access=access)
        ws = open_workspace(project=project, actor="service:server", clock=TestClock(datetime.now(UTC)))
        runtime = Runtime(ws.project.state, now_us=lambda: time.time_ns() // 1000)
        feedback = Feedback(runtime, ws.project.state, now_us=lambda: 0, max_body_bytes=10_000)
        yield Site(ws, App(ws, runtime, feedback, others=answering.others), served)
        runtime.stop()
        feedback.close()
        ws.ledger.database.close()


@settings(max_examples=150, deadline=None)
@given(fields)
def test_any_form_is_answered(site: Site, sent: dict[str, str]) -> None:
    answer = site.ask("POST", "/oauth/token", data=sent)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error", "error_description"}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_body_is_answered(site: Site, sent: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert site.ask("POST", "/oauth/token", content=sent, headers=headers).status_code == 400


@settings(max_examples=150, deadline=None)
@example({}, "kept")
@given(st.dictionaries(names, plain, max_size=6), st.sampled_from(["kept", "bare"]))
def test_whatever_a_signed_token_says_only_its_rule_lets_it_in(site: Site, changed: dict[str, Any], base: str) -> None:
    claims = {**(site.served.claims() if base == "kept" else {}), **changed}
    head = {"alg": "RS256", "kid": "k1", "typ": "JWT"}
    token = jws.serialize_compact(head, json.dumps(claims).encode(), site.served.keys["k1"])  # also what is no JSON
    form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": SUBJECT_TYPES[0]}
    answer = site.ask("POST", "/oauth/token", data=form)
    assert answer.status_code in (200, 400), answer.text
    assert answer.status_code == 200 or changed or base == "bare"
    if answer.status_code == 200:
        said = claims["repository"]
        assert "acme/churn" in (said if isinstance(said, list) else [said])
        assert claims["iss"] == site.served.issuer
        assert AUDIENCE in claims["aud"]
        assert answer.json()["holder"].startswith("service:")


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jku", "jwk", "b64", "zip", "enc"]), plain),
    st.binary(max_size=40),
)
def test_any_head_and_signature_are_answered(site: Site, head: dict[str, Any], signature: bytes) -> None:
    parts = [json.dumps(head).encode(), json.dumps(site.served.claims()).encode(), signature]
    token = ".".join(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in parts)
    form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": SUBJECT_TYPES[0]}
    assert site.ask("POST", "/oauth/token", data=form).status_code == 400


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["/login", "/callback"]),
    st.dictionaries(
        st.sampled_from(["next", "provider", "port", "state", "challenge", "code", "error", "iss"]),
        st.text(max_size=50),
    ),
    st.binary(max_size=80),
)
def test_any_query_and_cookie_are_answered(site: Site, path: str, query: dict[str, str], cookie: bytes) -> None:
    told = base64.urlsafe_b64encode(cookie)
    answer = site.ask("GET", path, params=query, headers={b"cookie": b"noria-login=" + told + b"; noria=" + told})
    assert answer.status_code in (200, 303, 400, 403, 404), answer.text
    if answer.status_code == 303:
        assert answer.headers["location"].startswith(f"{site.served.issuer}/authorize?")


def test_after_all_of_it_nobody_has_a_role_that_no_rule_gives(site: Site) -> None:
    assert {each.role for each in tokens.tokens(site.ws)} <= {"viewer"}
    assert {each.origin for each in tokens.tokens(site.ws)} <= {"workload/ci"}
