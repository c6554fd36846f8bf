"""The remote workspace against a small real server: results, errors of the same class, tokens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from noria.core.errors import Denied, GateClosed, NotFound, StoreUnavailable, UsageError
from noria.faces.client import Remote


class Answering(BaseHTTPRequestHandler):
    """Answers as `plan` says and keeps what was asked."""

    plan: ClassVar[tuple[int, bytes]] = (200, b"{}")
    asked: ClassVar[list[tuple[str, dict[str, str], Any]]] = []

    def do_POST(self) -> None:
        """Keep the request, give the planned answer."""
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        Answering.asked.append((self.path, headers, json.loads(body)))
        status, content = Answering.plan
        self.send_response(status)
        if status == 302:
            self.send_header("location", "http://127.0.0.1:1/elsewhere")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Be quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a server that answers as planned."""
    Answering.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def told(status: int, code: str, message: str = "no", hint: str = "do this") -> tuple[int, bytes]:
    """An error as the API gives it."""
    error = {"code": code, "message": message, "where": "there", "hint": hint}
    return status, json.dumps({"error": error}).encode()


def test_a_call_sends_arguments_token_and_actor(url: str) -> None:
    Answering.plan = (200, b'{"result": {"x": 1}}')
    assert Remote(url, "t0ken", "ada").call("data", "log", {"name": "flights"}) == {"x": 1}
    path, headers, body = Answering.asked[0]
    assert path == "/api/v1/data/log"
    assert body == {"name": "flights"}
    assert headers["authorization"] == "Bearer t0ken"
    assert headers["x-noria-actor"] == "ada"


@pytest.mark.parametrize(
    ("plan", "kind"),
    [
        (told(404, "not-found"), NotFound),
        (told(422, "gate-closed"), GateClosed),
        (told(401, "denied"), Denied),
        (told(400, "an-unknown-code"), UsageError),
        ((502, b"<html>"), StoreUnavailable),
        ((500, b'{"error": "text"}'), StoreUnavailable),
    ],
)
def test_an_error_comes_back_as_the_same_class(url: str, plan: tuple[int, bytes], kind: type[Exception]) -> None:
    Answering.plan = plan
    with pytest.raises(kind):
        Remote(url).call("data", "log", {})


def test_a_redirect_is_refused_so_that_no_token_travels(url: str) -> None:
    Answering.plan = (302, b"")
    with pytest.raises(UsageError, match="never redirects"):
        Remote(url, "t0ken").call("data", "log", {})


@pytest.mark.parametrize("address", ["ftp://x", "localhost:4400", "", "http://"])
def test_a_bad_address_is_named(address: str) -> None:
    with pytest.raises(UsageError, match="address"):
        Remote(address).call("data", "log", {})


def test_a_server_out_of_reach_may_be_asked_again() -> None:
    with pytest.raises(StoreUnavailable) as error:
        Remote("http://127.0.0.1:1").call("data", "log", {})
    assert error.value.is_retry_safe
