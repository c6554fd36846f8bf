"""The doors: `/login`, `/callback`, `/logout` for browsers, and `/oauth/token` for machines and command lines.

Open to everybody while `[access]` names a provider, so nothing is done here but to hand over what was sent (to
`desk.py`), within limits. A session is in a cookie that no script reads and no other site's request carries
along but by a link; the address to go on to is a path of this server, always.

Source: RFC 6749 §4.1, §5; RFC 7636 (PKCE); RFC 8252 (loopback); RFC 8693 (token exchange); RFC 9700 (practice).
"""

from __future__ import annotations

import base64
import importlib.resources
import logging
import os
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from noria.core.clock import instant
from noria.core.errors import Denied, NoriaError, UsageError
from noria.core.lazy import lazy
from noria.faces import verbs
from noria.faces.http.auth import actor_in, cookie_name, cookies_in, guard_in, headers_of
from noria.faces.http.body import read_body
from noria.faces.http.desk import LOGIN_S, Begun, Desk, Entered, command_line
from noria.faces.http.guarded import ANYBODY, guarded
from noria.faces.mark import mark
from noria.governance.claims import IdentityRefused, ProviderUnavailable
from noria.governance.tokens import NewToken
from noria.store.workspace import Workspace

__all__ = ["routes"]

jinja2 = lazy("jinja2")
log = logging.getLogger("noria.login")
BODY_MAX = 64 << 10
NEXT_MAX = 500
FIELDS_MAX = 20
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
SUBJECT_TYPES = ("urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:jwt")
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
TOO_MANY = "too much that was wrong came from this address"


def routes(workspace: Workspace) -> list[Route]:
    """The doors of one workspace; none where `[access]` names no provider. Plain functions run in threads."""
    access = workspace.project.access
    if not access.has_providers:
        return []
    desk = Desk(workspace)
    url = access.url
    cookie = cookie_name(url)

    def login(request: Request) -> Response:
        begun = _begin(request, desk, workspace)
        if begun is None:
            return _page("choose", providers=desk.providers, next=_next(request.query_params.get("next", "")))
        answer = Response("", 303, {**HEADERS, "location": desk.address(begun)})
        answer.set_cookie(f"{cookie}-login", begun.cookie(), max_age=LOGIN_S, **_kept(url))
        return answer

    def callback(request: Request) -> Response:
        held = cookies_in(headers_of(request.scope)).get(f"{cookie}-login", "")
        entered = desk.enter(held, _single(list(request.query_params.multi_items())))
        answer = _entered(entered, workspace, cookie)
        answer.delete_cookie(f"{cookie}-login", **_kept(url))
        guard_in(request.scope).forget()
        return answer

    def logout(request: Request) -> Response:
        is_over = desk.leave(actor_in(request.scope).token)
        guard_in(request.scope).forget()
        if "text/html" not in request.headers.get("accept", ""):
            return Response(verbs.encode({"is_over": is_over}), 200, HEADERS, media_type="application/json")
        answer = _page("left")
        answer.delete_cookie(cookie, **_kept(url))
        return answer

    async def token(request: Request) -> Response:
        try:
            fields = await _form(request)
            return _granted(await run_in_threadpool(_given, desk, fields), workspace)
        except NoriaError as error:
            if isinstance(error, IdentityRefused):
                guard_in(request.scope).failed(request.scope)
            return _oauth_error(error)

    pages = (("/login", login, "GET"), ("/callback", callback, "GET"), ("/logout", logout, "POST"))
    found = [_route(path, _careful(handler), [method]) for path, handler, method in pages if access.login]
    if not access.login:
        found = [_route("/logout", _careful(logout), ["POST"])]
    return [*found, _route("/oauth/token", _unless_barred(token), ["POST"])]


def _route(path: str, handler: Callable[[Request], Any], methods: list[str]) -> Route:
    return Route(path, guarded(handler, ANYBODY, refuse=_refused), methods=methods)


def _careful(handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """A handler of a page: every failure is a page too, and what was wrong counts against its address."""

    def careful(request: Request) -> Response:
        guard = guard_in(request.scope)
        if guard.is_barred(request.scope):
            return _page("refused", 429, message=TOO_MANY, hint="wait a minute")
        try:
            return handler(request)
        except IdentityRefused as error:
            guard.failed(request.scope)
            return _refused(error)
        except NoriaError as error:
            return _refused(error)
        except Exception:
            log.exception("%s failed", request.url.path)
            return _page("refused", 500, message="the server failed; its log says why", hint="")

    return careful


def _unless_barred(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def asked(request: Request) -> Response:
        if guard_in(request.scope).is_barred(request.scope):
            body = {"error": "slow_down", "error_description": f"{TOO_MANY}; wait a minute"}
            return Response(verbs.encode(body), 429, {**HEADERS, "retry-after": "60"}, media_type="application/json")
        found: Response = await handler(request)
        return found

    return asked


def _begin(request: Request, desk: Desk, ws: Workspace) -> Begun | None:
    """The login that a browser asks for; None where it has to say first with which provider."""
    given = _single(list(request.query_params.multi_items()))
    provider = given.get("provider", "") or (desk.providers[0] if len(desk.providers) == 1 else "")
    asked = None
    if "port" in given:
        asked = command_line(given["port"], given.get("state", ""), given.get("challenge", ""))
        provider = provider or desk.providers[0]
    if not provider:
        return None
    return Begun(
        provider=provider,
        at=int(ws.clock.now().timestamp()),
        secret=base64.urlsafe_b64encode(os.urandom(32)).decode("ascii").rstrip("="),
        next=_next(given.get("next", "")),
        command_line=asked,
    )


def _entered(entered: Entered, ws: Workspace, cookie: str) -> Response:
    if entered.session is not None:
        answer = Response("", 303, {**HEADERS, "location": _next(entered.begun.next)})
        life = int((instant(entered.session.expires) - ws.clock.now()).total_seconds())
        answer.set_cookie(cookie, entered.session.secret, max_age=life, **_kept(ws.project.access.url))
        return answer
    asked = entered.begun.command_line
    assert asked is not None, "a login without a session is a command line's"
    query = urllib.parse.urlencode({"code": entered.code, "state": asked.state})
    # A person goes on, not a redirect: another user of this machine may listen there, and send links around.
    address = f"http://127.0.0.1:{asked.port}/callback?{query}"
    return _page(
        "command_line",
        address=address,
        mark=mark(asked.state, asked.challenge),
        holder=entered.holder,
        project=ws.project.name,
    )


def _given(desk: Desk, fields: Mapping[str, str]) -> NewToken:
    """The token for what a machine or a command line sends. Raises: NoriaError."""
    grant = fields.get("grant_type", "")
    if grant == "authorization_code":
        return desk.redeem(fields.get("code", ""), fields.get("code_verifier", ""))
    if grant != EXCHANGE:
        raise _Unsupported("grant_type is none that is served", hint=f"{EXCHANGE}, or authorization_code")
    if fields.get("subject_token_type") not in SUBJECT_TYPES:
        raise UsageError("subject_token_type is none that is taken", hint=f"one of: {', '.join(SUBJECT_TYPES)}")
    if fields.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN or "actor_token" in fields:
        raise UsageError("only an access token is given, for who asks and nobody else")
    if not fields.get("subject_token"):
        raise UsageError("subject_token is missing")
    return desk.exchange(fields["subject_token"], fields.get("scope", "").split())


class _Unsupported(UsageError):
    """A way of asking for a token that is not served."""


def _granted(made: NewToken, ws: Workspace) -> Response:
    told = {
        "access_token": made.secret,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": int((instant(made.expires) - ws.clock.now()).total_seconds()),
        "scope": " ".join(made.scopes),
        "holder": made.holder,
        "role": made.role,
        "project": made.project,
        "expires": made.expires,
    }
    return Response(verbs.encode(told), 200, HEADERS, media_type="application/json")


def _oauth_error(error: NoriaError) -> Response:
    """A failure in the words of RFC 6749 §5.2; a provider that is away is 503, as RFC 6749 §4.1.2.1 calls it."""
    status, word = 400, "invalid_request"
    if isinstance(error, IdentityRefused):
        word = {"audience": "invalid_target", "scope": "invalid_scope"}.get(error.reason, "invalid_grant")
    elif isinstance(error, _Unsupported):
        word = "unsupported_grant_type"
    elif not isinstance(error, UsageError):
        status, word = (503, "temporarily_unavailable") if error.status == 503 else (500, "server_error")
    told = {"error": word, "error_description": f"{error.message}; {error.hint}" if error.hint else error.message}
    headers = {**HEADERS, "retry-after": "30"} if status == 503 else HEADERS
    return Response(verbs.encode(told), status, headers, media_type="application/json")


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a form, each once. Raises: UsageError; BodyTooLarge."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise UsageError("the body must be a form", hint="curl --data-urlencode NAME=VALUE")
    body = await read_body(request.scope, request.receive, limit=BODY_MAX)
    try:
        pairs = urllib.parse.parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=FIELDS_MAX
        )
    except ValueError as error:
        raise UsageError("the body is no form that can be read") from error
    return _single(pairs)


def _single(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The pairs as a mapping. Raises: UsageError for a name that comes twice (RFC 6749 §3.1)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UsageError("a parameter comes twice")
    return found


def _next(path: str) -> str:
    """Where to go on to: a path of this server, and the first page for whatever else it is."""
    plain = path.isascii() and path.isprintable() and "\\" not in path and len(path) <= NEXT_MAX
    if not plain or not path.startswith("/") or path.startswith("//"):
        return "/"
    parts = urllib.parse.urlsplit(path)
    if parts.scheme or parts.netloc or parts.path in ("/login", "/callback", "/logout"):
        return "/"
    return urllib.parse.quote(path, safe="/?&=%:,.~-_")


def _kept(url: str) -> dict[str, Any]:
    """How a cookie is kept: Lax, because the provider sends the browser back here by a redirect of its own."""
    return {"path": "/", "secure": url.startswith("https:"), "httponly": True, "samesite": "lax"}


def _refused(error: NoriaError) -> Response:
    status = error.status if isinstance(error, Denied | ProviderUnavailable | UsageError) else 503
    answer = _page("refused", status, message=error.message, hint=error.hint)
    if status == 503:
        answer.headers["retry-after"] = "30"
    return answer


def _page(what: str, status: int = 200, **values: Any) -> Response:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    source = importlib.resources.files("noria.faces.ui") / "templates" / "login.html"
    text = environment.from_string(source.read_text(encoding="utf-8")).render(what=what, **values)
    return Response(text, status, HEADERS, media_type="text/html")
