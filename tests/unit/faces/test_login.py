"""The doors of a server: logins of people and of command lines, tokens of jobs, against a real OpenID provider."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import html
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.faces import answering
from noria.faces.http import auth, desk
from noria.faces.http.app import App
from noria.faces.http.feedback import Feedback
from noria.faces.http.login import EXCHANGE, SUBJECT_TYPES
from noria.faces.mark import mark
from noria.governance import tokens
from noria.identities import AccessConfig, AllowRule, LoginConfig, WorkloadConfig
from noria.serving.runtime import Runtime
from noria.store.workspace import Workspace
from noria.testing.workspace import TestClock
from oidc_provider import CLIENT, Provider, by_hand, provider, sign

URL = "http://localhost"
SECRET = "NORIA_TEST_OIDC_SECRET"
HTML = {"accept": "text/html"}
Ask = Callable[[httpx.AsyncClient], Any]


@dataclass
class Place:
    """A server's application over a workspace, a provider of people, and a platform of jobs."""

    ws: Workspace
    clock: TestClock
    people: Provider
    jobs: Provider
    app: App
    cookies: httpx.Cookies = field(default_factory=httpx.Cookies)

    def ask(self, *asks: Ask, address: str = "10.0.0.1", base: str = URL) -> list[Any]:
        """The answers to requests of one browser, whose cookies are kept between calls."""

        async def all_of_them() -> list[Any]:
            transport = httpx.ASGITransport(app=self.app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url=base, cookies=self.cookies) as client:
                found = [await each(client) for each in asks]
                self.cookies = client.cookies
                return found

        return asyncio.run(all_of_them())

    def get(self, path: str, **headers: str) -> httpx.Response:
        """One page."""
        (found,) = self.ask(lambda client: client.get(path, headers=headers))
        assert isinstance(found, httpx.Response)
        return found

    def begin(self, path: str = "/login") -> httpx.URL:
        """The address of the provider that a login leads to."""
        answer = self.get(path)
        assert answer.status_code == 303, answer.text
        return httpx.URL(answer.headers["location"])

    def at_provider(self, address: httpx.URL) -> str:
        """Log in there; gives the path with which the browser comes back."""
        answer = httpx.get(address, verify=False)  # plain HTTP: the authorities of certificates need not be read
        assert answer.status_code == 302, answer.text
        return answer.headers["location"].removeprefix(URL)

    def login(self, path: str = "/login") -> httpx.Response:
        """The whole way of a browser."""
        return self.get(self.at_provider(self.begin(path)))

    def token(self, address: str = "10.0.0.1", **fields: str) -> httpx.Response:
        """What `/oauth/token` answers."""
        (found,) = self.ask(lambda client: client.post("/oauth/token", data=fields), address=address)
        assert isinstance(found, httpx.Response)
        return found

    def exchange(self, token: str, address: str = "10.0.0.1", **more: str) -> httpx.Response:
        """A job's token changed for Noria's."""
        fields = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": SUBJECT_TYPES[0], **more}
        return self.token(address, **fields)

    def refusals(self) -> list[str]:
        """The reasons of refusals that are on record, in order."""
        return [each.payload.reason for each in self.ws.ledger.facts(kind="login.refused")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A server with one provider for people and one platform for jobs."""
    monkeypatch.setattr(auth, "NEW_S", 0.0)
    monkeypatch.setenv(SECRET, "the-s3cret.of~the_client")
    with provider(redirects=[f"{URL}/callback"]) as people, provider() as jobs:
        people.user["groups"] = ["all", "leads"]
        login = LoginConfig(
            issuer=people.issuer,
            client_id=CLIENT,
            client_secret=f"env:{SECRET}",
            roles={"viewer": ("all",), "approver": ("leads",), "admin": ("platform",)},
            approves={"ml-lead": ("leads",)},
        )
        rules = (
            AllowRule(match={"repository": ("acme/churn",), "ref": ("refs/heads/main",)}, role="editor", ttl="10m"),
            AllowRule(match={"repository": ("acme/*",)}, scopes=("data.read",)),
        )
        workload = WorkloadConfig(issuer=jobs.issuer, audience="https://noria.test", allow=rules)
        access = AccessConfig(url=URL, login={"corp": login}, workload={"github": workload})
        clock = TestClock(datetime.now(UTC))
        project = Project(name="test", root=tmp_path, access=access)
        ws = open_workspace(project=project, actor="service:server", clock=clock)
        with application(ws) as app:
            yield Place(ws, clock, people, jobs, app)
        ws.ledger.database.close()


class application:
    """The application of a server over a workspace, for the length of a block."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws

    def __enter__(self) -> App:
        state = self._ws.project.state
        self._runtime = Runtime(state, now_us=lambda: time.time_ns() // 1000)
        self._feedback = Feedback(self._runtime, state, now_us=lambda: 0, max_body_bytes=10_000)
        return App(self._ws, self._runtime, self._feedback, others=answering.others)

    def __exit__(self, *_: object) -> None:
        self._runtime.stop()
        self._feedback.close()


# A browser.


def test_a_browser_logs_in_looks_and_logs_out(place: Place) -> None:
    first = place.get("/", **HTML)
    assert (first.status_code, first.headers["location"]) == (303, "/login?next=/")
    assert place.get("/").status_code == 401, "what is no browser is told so"
    address = place.begin("/login?next=/")
    asked = address.params
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert asked["redirect_uri"] == f"{URL}/callback"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    done = place.get(place.at_provider(address))
    assert (done.status_code, done.headers["location"]) == (303, "/")
    (session,) = [each for each in done.headers.get_list("set-cookie") if each.startswith("noria=nor_")]
    assert "HttpOnly" in session
    assert "SameSite=lax" in session
    assert re.search(r"Max-Age=28[78]\d\d", session)
    assert "Secure" not in session, "this machine has no https"
    page = place.get("/", **HTML)
    assert page.status_code == 200
    assert "user:ann@corp" in page.text
    assert page.headers["referrer-policy"] == "same-origin", "else its form comes as from another site"
    assert "form-action 'self'" in page.headers["content-security-policy"]
    (left,) = place.ask(lambda client: client.post("/logout", headers={**HTML, "origin": URL}))
    assert left.status_code == 200
    assert "logged out" in left.text
    assert "noria" not in place.cookies
    assert place.get("/", **HTML).status_code == 303
    kinds = [each.fact.kind for each in place.ws.ledger.facts()]
    assert [kind for kind in kinds if kind.split(".")[0] in ("identity", "token", "login")] == [
        "identity.bound", "token.created", "token.revoked"]  # fmt: skip


def test_a_session_that_was_logged_out_opens_nothing_though_its_cookie_is_kept(place: Place) -> None:
    place.login()
    kept = place.cookies["noria"]
    place.ask(lambda client: client.post("/logout", headers={"origin": URL}))
    place.cookies.set("noria", kept, domain="localhost.local", path="/")
    assert place.get("/").status_code == 401


def test_an_admin_takes_a_session_back_and_it_ends_by_itself(place: Place) -> None:
    place.login()
    (found,) = tokens.tokens(place.ws)
    assert found.origin == "login/corp"
    tokens.revoke(place.ws, found.token, "test")
    place.app.guard.forget()
    assert place.get("/").status_code == 401
    place.login()
    assert place.get("/").status_code == 200
    place.clock.forward(hours=8, seconds=5)
    assert place.get("/").status_code == 401


def test_a_cookie_opens_what_reads_and_no_more(place: Place) -> None:
    place.people.user["groups"] = ["platform"]
    place.login()
    before = place.ws.ledger.head()
    posts = ("/api/v1/governance/token-list", "/predict", "/api/2.0/mlflow/experiments/create", "/v2/models/m/infer")
    for path in posts:
        for headers in ({}, {"origin": URL}, {"sec-fetch-site": "same-origin"}):
            (answer,) = place.ask(lambda client: client.post(path, json={"name": "x"}, headers=headers))  # noqa: B023
            assert answer.status_code == 401, path
    assert place.get("/api/v1").status_code == 200
    assert place.ws.ledger.head() == before


def test_the_secret_of_a_cookie_is_no_bearer_token_and_the_other_way_round(place: Place) -> None:
    place.login()
    cookie = place.cookies["noria"]
    place.cookies.clear()
    assert place.get("/", authorization=f"Bearer {cookie}").status_code == 401
    plain = tokens.create(place.ws, "bob", role="viewer").secret
    place.app.guard.forget()
    assert place.get("/", authorization=f"Bearer {plain}").status_code == 200
    assert place.get("/", cookie=f"noria={plain}").status_code == 401


def test_a_page_of_another_site_logs_nobody_out(place: Place) -> None:
    place.login()
    for headers in ({"origin": "https://evil.test"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        (answer,) = place.ask(lambda client: client.post("/logout", headers=headers))  # noqa: B023
        assert answer.status_code == 403
    assert place.get("/").status_code == 200


def test_over_https_the_cookie_is_this_hosts_alone(place: Place) -> None:
    place.people.redirects = ["https://noria.test/callback"]
    access = dataclasses.replace(place.ws.project.access, url="https://noria.test")
    project = dataclasses.replace(place.ws.project, access=access)
    with application(dataclasses.replace(place.ws, project=project)) as app:
        place.app = app
        begun, *_ = place.ask(lambda client: client.get("/login"), base="https://localhost")
        (cookie,) = begun.headers.get_list("set-cookie")
        assert cookie.startswith("__Host-noria-login=")
        assert all(word in cookie for word in ("Secure", "HttpOnly", "Path=/", "SameSite=lax"))
        assert "Domain" not in cookie


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("/", "/"),
        ("/api/v1", "/api/v1"),
        ("/x?a=b&c=d", "/x?a=b&c=d"),
        ("//evil.test/", "/"),
        ("///evil.test/", "/"),
        ("https://evil.test/", "/"),
        ("/\\evil.test", "/"),
        ("\\\\evil.test", "/"),
        ("javascript:alert(1)", "/"),
        ("/\r\nset-cookie: a=b", "/"),
        ("/\tevil", "/"),
        ("evil.test", "/"),
        ("@evil.test", "/"),
        ("/login?next=/login", "/"),
        ("/callback", "/"),
        ("/" + "x" * 600, "/"),
        ("/ä", "/"),
    ],
)
def test_a_login_goes_on_to_a_path_of_this_server_only(place: Place, path: str, to: str) -> None:
    answer = place.login(f"/login?{httpx.QueryParams({'next': path})}")
    assert answer.headers["location"] == to


# What must not let anybody in.


def test_another_browser_does_not_finish_a_login(place: Place) -> None:
    back = place.at_provider(place.begin())
    place.cookies.clear()
    assert place.get(back).status_code == 403
    place.begin()  # a login of its own, which is another one
    assert place.get(back).status_code == 403
    assert place.refusals() == ["state"]
    assert not tokens.tokens(place.ws)


def test_a_cookie_that_was_changed_finishes_nothing(place: Place) -> None:
    back = place.at_provider(place.begin())
    cookie = place.cookies["noria-login"]
    text = base64.urlsafe_b64decode(cookie + "==").decode()
    for changed in (
        text.replace('"next":"/"', '"next":"/x"'),
        text.replace("}", " }"),
        text.replace('"at":', '"at":1'),
        "[]", "null", "{}", "x", '{"provider":1}',
    ):  # fmt: skip
        sent = base64.urlsafe_b64encode(changed.encode()).decode().rstrip("=")
        assert place.get(back, cookie=f"noria-login={sent}").status_code in (403, 429)
    assert set(place.refusals()) == {"state"}


def test_a_cookie_that_somebody_made_up_brings_no_code_to_another_host(place: Place) -> None:
    """As from a neighbour that may set cookies: all of it fits together, but the port is no port."""
    asked = desk.CommandLine(port=50000, state="s" * 20, challenge="c" * 43)
    evil = dataclasses.replace(asked, port="80@evil.test/")  # type: ignore[arg-type]  # that is the point
    for made, status in ((asked, 200), (evil, 403)):
        begun = desk.Begun(
            provider="corp", at=int(place.clock.now().timestamp()), secret="x", next="/", command_line=made
        )
        address = httpx.URL(place.begin())
        address = address.copy_merge_params({"state": begun.derived("state"), "nonce": begun.derived("nonce")})
        challenge = hashlib.sha256(begun.derived("verifier").encode()).digest()
        encoded = base64.urlsafe_b64encode(challenge).decode().rstrip("=")
        back = place.at_provider(address.copy_merge_params({"code_challenge": encoded}))
        answer = place.get(back, cookie=f"noria-login={begun.cookie()}")
        assert answer.status_code == status
        assert "evil.test" not in answer.text


def test_a_login_is_finished_once(place: Place) -> None:
    back = place.at_provider(place.begin())
    cookie = place.cookies["noria-login"]
    assert place.get(back).status_code == 303
    again = place.get(back, cookie=f"noria-login={cookie}")
    assert again.status_code == 403
    assert "invalid_grant" in again.text, "the provider itself does not take a code twice"
    assert place.refusals() == ["code"]


def test_a_provider_that_takes_a_code_twice_changes_nothing(place: Place) -> None:
    back = place.at_provider(place.begin())
    cookie, codes = place.cookies["noria-login"], dict(place.people.codes)
    assert place.get(back).status_code == 303
    place.people.codes.update(codes)
    assert place.get(back, cookie=f"noria-login={cookie}").status_code == 403
    assert place.refusals() == ["replayed"]
    assert len(tokens.tokens(place.ws)) == 1


def test_a_login_that_takes_too_long_is_over(place: Place) -> None:
    back = place.at_provider(place.begin())
    place.clock.forward(seconds=desk.LOGIN_S + 2)
    assert "too long" in place.get(back).text
    assert place.refusals() == ["late"]


def test_a_code_of_somebody_elses_login_is_refused_by_its_challenge(place: Place) -> None:
    place.people.bent["challenge"] = base64.urlsafe_b64encode(hashlib.sha256(b"x" * 43).digest()).decode().rstrip("=")
    answer = place.login()
    assert answer.status_code == 403
    assert place.refusals() == ["code"]


@pytest.mark.parametrize(
    ("bent", "reason"),
    [
        ({"nonce": "another"}, "nonce"),
        ({"claims": {"aud": "another"}}, "audience"),
        ({"claims": {"aud": [CLIENT, "another"]}}, "party"),
        ({"claims": {"azp": "another"}}, "party"),
        ({"claims": {"iss": "https://evil.test"}}, "issuer"),
        ({"claims": {"exp": 1}}, "expired"),
        ({"claims": {"nbf": 99_999_999_999}}, "not-yet"),
        ({"claims": {"iat": 99_999_999_999}}, "not-yet"),
    ],
)
def test_an_identity_token_that_is_not_of_this_login_is_refused(
    place: Place, bent: Mapping[str, Any], reason: str
) -> None:
    place.people.bent.update(bent)
    answer = place.login()
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert place.refusals() == [reason]


def test_an_answer_that_says_it_is_another_providers_is_not_redeemed(place: Place) -> None:
    back = place.at_provider(place.begin())
    asked = place.people.asked["/token"]
    assert place.get(f"{back}&iss=https://evil.test").status_code == 403
    assert place.refusals() == ["issuer"]
    assert place.people.asked["/token"] == asked, "the code went nowhere"
    again = place.at_provider(place.begin())
    assert place.get(f"{again}&iss={place.people.issuer}").status_code == 303


def test_who_has_no_role_is_known_and_not_let_in(place: Place) -> None:
    place.people.user["groups"] = ["others"]
    answer = place.login()
    assert answer.status_code == 403
    assert "no group of yours has a role" in answer.text
    assert "leads" not in answer.text
    (fact,) = place.ws.ledger.facts(kind="login.refused")
    assert (fact.payload.origin, fact.payload.reason) == ("login/corp", "no-role")
    assert len(fact.payload.identity) == 64


@pytest.mark.parametrize(
    "query",
    [
        "error=access_denied",
        "error=<script>alert(1)</script>",
        "code=x",
        "code=x&iss=https://evil.test",
        "code=&error=",
        "code=%00",
        "code=a&code=b",
        "",
    ],
)
def test_an_answer_that_is_none_is_refused_and_shown_as_text(place: Place, query: str) -> None:
    state = place.begin().params["state"]
    answer = place.get(f"/callback?state={state}&{query}")
    assert answer.status_code in (400, 403)
    assert "<script" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not tokens.tokens(place.ws)


def test_a_provider_that_is_away_is_said_so_and_sessions_go_on(place: Place) -> None:
    place.login()
    place.people.status = 503
    back = place.begin()  # its document is known
    place.people.status = 200
    path = place.at_provider(back)
    place.people.status = 503
    answer = place.get(path)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert "provider answers 503" in answer.text
    assert place.get("/").status_code == 200
    place.jobs.status = 500
    told = place.exchange(place.jobs.token())
    assert (told.status_code, told.json()["error"]) == (503, "temporarily_unavailable")
    assert place.refusals() == [], "nobody was refused"


def test_a_provider_that_noria_toml_names_no_more_lets_nobody_stay(place: Place) -> None:
    place.login()
    ci = place.exchange(place.jobs.token()).json()["access_token"]
    assert place.get("/", authorization=f"Bearer {ci}").status_code == 200
    access = dataclasses.replace(place.ws.project.access, workload={})
    project = dataclasses.replace(place.ws.project, access=access)
    with application(dataclasses.replace(place.ws, project=project)) as app:
        place.app = app
        assert place.get("/", authorization=f"Bearer {ci}").status_code == 401
        assert place.get("/").status_code == 200


# A command line.


def of_command_line(place: Place, verifier: str = "v" * 43, **changed: str) -> httpx.Response:
    """The page at the end of a command line's login."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    query = httpx.QueryParams({"port": "50000", "state": "s" * 20, "challenge": challenge, **changed})
    answer = place.get(f"/login?{query}")
    if answer.status_code != 303:
        return answer
    return place.get(place.at_provider(httpx.URL(answer.headers["location"])))


def code_in(page: httpx.Response) -> str:
    """The code that the page would bring to the command line."""
    found = re.search(r'href="(http://127\.0\.0\.1:50000/callback[^"]*)"', page.text)
    assert found is not None, page.text
    address = httpx.URL(html.unescape(found[1]))
    assert address.params["state"] == "s" * 20
    return address.params["code"]


def test_a_command_line_gets_a_token_by_a_code_that_only_it_can_use(place: Place) -> None:
    page = of_command_line(place)
    assert page.status_code == 200, "a person goes on, no redirect"
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).decode().rstrip("=")
    assert mark("s" * 20, challenge) in page.text
    assert "noria" not in place.cookies, "the browser itself is not logged in by it"
    code = code_in(page)
    fields = {"grant_type": "authorization_code", "code": code}
    wrong = place.token(**fields, code_verifier="w" * 43)
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")
    answer = place.token(**fields, code_verifier="v" * 43)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert (told["holder"], told["role"], told["token_type"]) == ("user:ann@corp", "approver", "Bearer")
    assert 0 < told["expires_in"] <= 8 * 3600
    assert place.get("/", authorization=f"Bearer {told['access_token']}").status_code == 200
    again = place.token(**fields, code_verifier="v" * 43)
    assert again.json()["error"] == "invalid_grant"
    assert place.refusals() == ["code", "replayed"]


def test_a_code_is_over_after_two_minutes(place: Place) -> None:
    code = code_in(of_command_line(place))
    place.clock.forward(seconds=desk.CODE_S + 1)
    answer = place.token(grant_type="authorization_code", code=code, code_verifier="v" * 43)
    assert answer.json()["error"] == "invalid_grant"


def test_a_command_line_that_logs_out_ends_its_token_at_the_server(place: Place) -> None:
    code = code_in(of_command_line(place))
    token = place.token(grant_type="authorization_code", code=code, code_verifier="v" * 43).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    (left,) = place.ask(lambda client: client.post("/logout", headers=headers))
    assert left.json() == {"is_over": True}
    assert place.get("/", **headers).status_code == 401


@pytest.mark.parametrize(
    "changed",
    [
        {"port": "80"}, {"port": "70000"}, {"port": "x"}, {"port": "50000@evil.test"}, {"port": ""}, {"port": "٥٠٠٠٠"},
        {"state": "short"}, {"state": '"><script>alert(1)</script>xx'}, {"challenge": "x"}, {"challenge": "v" * 44},
    ],
)  # fmt: skip
def test_a_command_line_that_is_none_is_not_served(place: Place, changed: dict[str, str]) -> None:
    answer = of_command_line(place, **changed)
    assert answer.status_code == 403
    assert "<script" not in answer.text


# A job.


def test_a_job_changes_its_token_for_a_short_one_of_its_rule(place: Place) -> None:
    answer = place.exchange(place.jobs.token())
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert (told["role"], told["project"]) == ("editor", "test")
    assert 590 <= told["expires_in"] <= 600
    assert re.fullmatch(r"service:repo-acme-churn-[A-Za-z0-9.-]+@github", told["holder"])
    assert place.get("/", authorization=f"Bearer {told['access_token']}").status_code == 200
    (created,) = place.ws.ledger.facts(kind="token.created")
    assert created.payload.because == ("repository=acme/churn", "ref=refs/heads/main")
    assert created.actor == told["holder"]
    place.clock.forward(minutes=11)
    assert place.get("/", authorization=f"Bearer {told['access_token']}").status_code == 401


def test_the_second_rule_is_narrower_and_a_job_may_ask_for_less(place: Place) -> None:
    told = place.exchange(place.jobs.token(ref="refs/pull/7/merge", repository="acme/other")).json()
    assert (told["role"], told["scope"]) == ("viewer", "data.read")
    assert place.get("/", authorization=f"Bearer {told['access_token']}").status_code == 403
    less = place.exchange(place.jobs.token(), scope="registry.read data.add").json()
    assert less["scope"] == "data.add registry.read"
    more = place.exchange(place.jobs.token(ref="x"), scope="registry.read")
    assert (more.status_code, more.json()["error"]) == (400, "invalid_scope")
    none = place.exchange(place.jobs.token(), scope="governance.admin")
    assert (none.status_code, none.json()["error"]) == (400, "invalid_request")


def test_a_jobs_token_is_changed_once(place: Place) -> None:
    token = place.jobs.token()
    assert place.exchange(token).status_code == 200
    again = place.exchange(token)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    without = place.jobs.token(jti=None)
    assert place.exchange(without).status_code == 200
    assert place.exchange(without).status_code == 400
    assert place.refusals() == ["replayed"]


def test_a_platform_whose_tokens_are_used_again_says_so(place: Place) -> None:
    access = place.ws.project.access
    github = dataclasses.replace(access.workload["github"], once=False)
    project = dataclasses.replace(place.ws.project, access=dataclasses.replace(access, workload={"github": github}))
    with application(dataclasses.replace(place.ws, project=project)) as app:
        place.app, token = app, place.jobs.token()
        assert [place.exchange(token).status_code for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    ("changed", "reason", "word"),
    [
        ({"iss": "https://evil.test"}, "issuer", "invalid_grant"),
        ({"aud": "https://other.test"}, "audience", "invalid_target"),
        ({"exp": 1}, "expired", "invalid_grant"),
        ({"nbf": 99_999_999_999}, "not-yet", "invalid_grant"),
        ({"iat": 99_999_999_999}, "not-yet", "invalid_grant"),
        ({"repository": "evil/churn"}, "no-rule", "invalid_grant"),
        ({"repository": None}, "no-rule", "invalid_grant"),
        ({"sub": None}, "form", "invalid_grant"),
        ({"sub": ""}, "subject", "invalid_grant"),
    ],
)
def test_a_jobs_token_that_is_wrong(place: Place, changed: dict[str, Any], reason: str, word: str) -> None:
    token = place.jobs.token(**changed)
    answer = place.exchange(token)
    assert (answer.status_code, answer.json()["error"]) == (400, word)
    assert place.refusals() == [reason]
    assert token not in answer.text
    for secret in ("acme", "refs/heads", "https://noria.test"):
        assert secret not in answer.json()["error_description"]
    content = b"".join(path.read_bytes() for path in place.ws.project.root.rglob("*") if path.is_file())
    assert token.encode() not in content


def test_forged_tokens_of_a_job(place: Place) -> None:
    claims = place.jobs.claims()
    public = place.jobs.keys["k1"].as_pem(private=False)
    head, payload, signature = place.jobs.token().split(".")
    for token in (
        by_hand({"alg": "none"}, claims) + "x",
        by_hand({"alg": "HS256", "kid": "k1"}, claims, public),
        by_hand({"alg": "RS256", "kid": "k1"}, claims, public),
        f"{head}.{by_hand({}, place.jobs.claims(sub='x')).split('.')[1]}.{signature}",
        sign(place.people.keys["k1"], claims, kid="k1"),
        sign(place.people.keys["k1"], claims, kid="k1", jku=f"{place.people.issuer}/jwks"),
        sign(place.people.keys["k1"], {**claims, "iss": place.people.issuer}, kid="k1"),
        place.people.token(),
        "x" * 20_000,
        "",
        "a.b.c",
        payload,
    ):
        answer = place.exchange(token)
        assert answer.status_code == 400, token[:40]
    assert not tokens.tokens(place.ws)


def test_a_login_is_no_workload_and_a_workload_no_login(place: Place) -> None:
    place.people.bent["claims"] = {"aud": [CLIENT, "https://noria.test"], "azp": CLIENT}
    page = of_command_line(place)
    assert page.status_code == 200
    assert place.exchange(place.people.token()).status_code == 400, "the provider of people is no platform of jobs"


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"actor_token": "x"}, "invalid_request"),
        ({"subject_token": ""}, "invalid_request"),
    ],
)
def test_a_request_that_asks_for_something_else(place: Place, changed: dict[str, str], word: str) -> None:
    fields = {"grant_type": EXCHANGE, "subject_token": place.jobs.token(), "subject_token_type": SUBJECT_TYPES[1]}
    answer = place.token(**{**fields, **changed})
    assert (answer.status_code, answer.json()["error"]) == (400, word)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"grant_type": "x"}', "application/json"),
        (b"grant_type=a&grant_type=b", "application/x-www-form-urlencoded"),
        (b"&".join(b"a%d=b" % number for number in range(50)), "application/x-www-form-urlencoded"),
        (b"\xff=\xfe", "application/x-www-form-urlencoded"),
        (b"x" * 70_000, "application/x-www-form-urlencoded"),
        (b"--b--", "multipart/form-data; boundary=b"),
        (b"", "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_that_is_no_form_is_refused_before_anything_is_done(place: Place, body: bytes, kind: str) -> None:
    headers = {"content-type": kind}
    (answer,) = place.ask(lambda client: client.post("/oauth/token", content=body, headers=headers))
    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_request", "unsupported_grant_type")
    assert not place.jobs.asked


def test_an_address_that_sends_much_that_is_wrong_waits_and_others_do_not(place: Place) -> None:
    wrong = place.jobs.token(aud="x")
    statuses = [place.exchange(wrong).status_code for _ in range(25)]
    assert statuses == [400] * auth.FAILURES_MAX + [429] * 5
    assert place.exchange(place.jobs.token()).json()["error"] == "slow_down"
    good = place.exchange(place.jobs.token(), address="10.0.0.2")
    assert good.status_code == 200
    (answer,) = place.ask(lambda client: client.get("/login"))
    assert answer.status_code == 429
    headers = {"authorization": f"Bearer {good.json()['access_token']}"}
    assert place.get("/", **headers).status_code == 200, "a token that is good goes on from everywhere"
    assert len(place.refusals()) == 1


def test_two_servers_change_one_token_once(place: Place) -> None:
    token, ends = place.jobs.token(), []
    with application(place.ws) as other:
        places = [place, dataclasses.replace(place, app=other)]
        threads = [
            threading.Thread(target=lambda each=each: ends.append(each.exchange(token).status_code)) for each in places
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert sorted(ends) == [200, 400]


def test_without_providers_there_are_no_doors(tmp_path: Path) -> None:
    ws = open_workspace(project=Project(name="x", root=tmp_path), actor="user:x", clock=TestClock())
    with application(ws) as app:
        place = Place(ws, TestClock(), Provider(), Provider(), app)
        for method, path in (("GET", "/login"), ("GET", "/callback"), ("POST", "/logout"), ("POST", "/oauth/token")):
            (answer,) = place.ask(lambda client: client.request(method, path))  # noqa: B023
            assert answer.status_code == 404
    ws.ledger.database.close()


def test_several_providers_are_chosen_from(place: Place) -> None:
    access = place.ws.project.access
    both = {**access.login, "other": dataclasses.replace(access.login["corp"], issuer=place.jobs.issuer)}
    project = dataclasses.replace(place.ws.project, access=dataclasses.replace(access, login=both))
    with application(dataclasses.replace(place.ws, project=project)) as app:
        place.app = app
        page = place.get('/login?next=/x"><script>')
        assert page.status_code == 200
        assert "<script" not in page.text
        assert '"/login?provider=other&amp;next=' in page.text
        assert place.begin("/login?provider=other").host == "127.0.0.1"
        assert place.get("/login?provider=none").status_code == 404
        # an answer of one provider does not finish a login at the other
        state = place.begin("/login?provider=other").params["state"]
        code = place.begin("/login?provider=corp").params
        mixed = place.get(f"/callback?state={state}&code=x&iss={place.people.issuer}")
        assert mixed.status_code == 403
        assert code["state"] != state
