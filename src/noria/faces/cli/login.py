"""`noria login` and `noria logout`: a person through their provider, or a job of CI through its platform.

A person: a listener on this machine waits on a port of the system's choice (RFC 8252 §7.3), the browser logs in at
the server, and brings back a code that only this process can change for a token (PKCE, RFC 7636). A job: the
platform's identity token is exchanged (RFC 8693). The token is kept in a file with
mode 0600, and printed with --show-token only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import http.server
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from noria.core.errors import Denied, StoreUnavailable, UsageError
from noria.faces import credentials
from noria.faces.client import NoRedirect
from noria.faces.mark import mark

__all__ = ["login_command", "logout_command"]

WAIT_S = 300.0
ANSWER_MAX = 1 << 20
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
PAGE = b"<!doctype html><title>Noria</title><p>You are logged in at the command line. You can close this page.</p>"
EPILOG = """\b
Examples:
  noria login https://noria.example.org
  noria login --no-browser
  noria login https://noria.example.org --workload
  noria login --workload --show-token"""
OUT_EPILOG = """\b
Examples:
  noria logout
  noria logout https://noria.example.org"""


@click.command("login", epilog=EPILOG)
@click.argument("server", default="")
@click.option("--provider", default="", metavar="NAME", help="Which of [access.login] of the server.")
@click.option("--workload", is_flag=True, help="As a job: exchange the identity token of the platform.")
@click.option("--audience", default="", help="With --workload on GitHub: what to ask the token for, else the server.")
@click.option("--no-browser", is_flag=True, help="Print the address, and open nothing.")
@click.option("--show-token", is_flag=True, help="Print the token and nothing else, for another client.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def login_command(
    server: str, provider: str, workload: bool, audience: str, no_browser: bool, show_token: bool, is_json: bool
) -> int:
    """Log in to SERVER (else NORIA_SERVER): what follows there is done as you.

    With --workload as a job: on GitHub its token is found (permissions: id-token: write), elsewhere it is in
    NORIA_ID_TOKEN, or in the file that NORIA_ID_TOKEN_FILE names.
    """
    address = credentials.require_address(server or os.environ.get("NORIA_SERVER", ""))
    if workload:
        found = credentials.ask(address, "/oauth/token", _exchange(audience or address))
    else:
        found = _by_browser(address, provider, is_quiet=no_browser)
    told = {name: str(found.get(name, "")) for name in ("holder", "role", "project", "expires")}
    if not found.get("access_token"):
        raise StoreUnavailable("the server gave no token", where=address)
    credentials.keep(address, {"token": str(found["access_token"]), **told})
    if show_token:
        click.echo(str(found["access_token"]))
        return 0
    if is_json:
        click.echo(json.dumps({"server": address, **told}))
        return 0
    click.echo(
        f"  {click.style(told['holder'], bold=True)} is {told['role']} of {told['project']} until {told['expires']}"
    )
    click.echo(click.style("next: ", dim=True) + f"NORIA_SERVER={address} noria status")
    return 0


@click.command("logout", epilog=OUT_EPILOG)
@click.argument("server", default="")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one line of JSON.")
def logout_command(server: str, is_json: bool) -> int:
    """End the login at SERVER (else NORIA_SERVER), and forget its token."""
    address = credentials.require_address(server or os.environ.get("NORIA_SERVER", ""))
    token = credentials.stored(address)
    if not token:
        raise UsageError("nobody is logged in there", where=address, hint=f"noria login {address}")
    try:
        is_over = bool(credentials.ask(address, "/logout", {}, token).get("is_over"))
    finally:  # a server that is away must not keep the token on this machine
        credentials.drop(address)
    if is_json:
        click.echo(json.dumps({"server": address, "is_over": is_over}))
    else:
        click.echo("  logged out" if is_over else "  forgotten here; the login was over at the server already")
    return 0


def _by_browser(server: str, provider: str, *, is_quiet: bool) -> Mapping[str, Any]:
    """The server's answer with the token. Raises: Denied; StoreUnavailable."""
    credentials.require_login(server)  # else somebody would wait here for a browser that cannot come back
    verifier, state = _random(), _random()
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    with _Listener(state) as listener:
        asked = {"port": str(listener.server_address[1]), "state": state, "challenge": challenge}
        query = urllib.parse.urlencode({**asked, **({"provider": provider} if provider else {})})
        address = f"{server}/login?{query}"
        click.echo(f"  code   {click.style(mark(state, challenge), bold=True)}   the page shows the same", err=True)
        if is_quiet or not _open(address):
            click.echo(f"  open   {address}", err=True)
        code = listener.wait()
    return credentials.ask(
        server, "/oauth/token", {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
    )


def _open(address: str) -> bool:
    if not (sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    return webbrowser.open(address)


class _Listener(http.server.HTTPServer):
    """Waits on a free port of this machine for the browser that brings the code of this very login."""

    def __init__(self, state: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.state = state
        self.code = ""

    def wait(self) -> str:
        """The code. Raises: Denied if nobody brings it in time."""
        deadline = time.monotonic() + WAIT_S
        while not self.code:
            self.timeout = deadline - time.monotonic()
            if self.timeout <= 0:
                raise Denied(f"nobody logged in within {WAIT_S:.0f} s", hint="noria login again")
            self.handle_request()
        return self.code


class _Answering(http.server.BaseHTTPRequestHandler):
    """Takes the one request that has the state; says to others that there is nothing."""

    timeout = 10.0  # of one connection: a browser opens some that it does not use
    server: _Listener

    def do_GET(self) -> None:
        """The way back of the browser."""
        parts = urllib.parse.urlsplit(self.path)
        given = dict(urllib.parse.parse_qsl(parts.query, max_num_fields=10))
        good = parts.path == "/callback" and hmac.compare_digest(
            given.get("state", "").encode(), self.server.state.encode()
        )
        if good:
            self.server.code = given.get("code", "")
        body = PAGE if good else b"there is nothing here\n"
        self.send_response(200 if good else 404)
        self.send_header("content-type", "text/html; charset=utf-8" if good else "text/plain")
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.send_header("referrer-policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the address has the code."""


def _exchange(audience: str) -> Mapping[str, str]:
    return {"grant_type": EXCHANGE, "subject_token": _identity(audience), "subject_token_type": ID_TOKEN}


def _identity(audience: str) -> str:
    """The identity token of this job, from wherever its platform puts it. Raises: UsageError; StoreUnavailable."""
    given = os.environ.get("NORIA_ID_TOKEN", "")
    file = os.environ.get("NORIA_ID_TOKEN_FILE", "")
    if given:
        return given.strip()
    if file:
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"NORIA_ID_TOKEN_FILE cannot be read: {error}") from error
    url, bearer = (os.environ.get(f"ACTIONS_ID_TOKEN_REQUEST_{name}", "") for name in ("URL", "TOKEN"))
    if not url or not bearer:
        hint = "on GitHub: permissions: id-token: write; elsewhere: NORIA_ID_TOKEN or NORIA_ID_TOKEN_FILE"
        raise UsageError("this job has no identity token", hint=hint)
    asked = f"{url}{'&' if '?' in url else '?'}{urllib.parse.urlencode({'audience': audience})}"
    request = urllib.request.Request(asked, headers={"authorization": f"bearer {bearer}", "accept": "application/json"})
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=credentials.TIMEOUT_S) as answer:
            found = json.loads(answer.read(ANSWER_MAX))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise StoreUnavailable(
            f"GitHub gave no identity token: {error}", hint="permissions: id-token: write"
        ) from error
    return str(found.get("value", "")) if isinstance(found, dict) else ""


def _random() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode("ascii").rstrip("=")
