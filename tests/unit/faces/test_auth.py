"""Who may come in: tokens, Host and Origin."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from noria.config import ServerConfig
from noria.faces.http.auth import is_loopback, refuse

LOCAL = ServerConfig()
OPEN = ServerConfig(host="0.0.0.0", token="s3cret")


def scope(method: str = "GET", path: str = "/", **headers: str) -> dict[str, Any]:
    """A request's head. `host` is localhost unless it is given."""
    given = {"host": "localhost:4400", **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()]
    return {"type": "http", "method": method, "path": path, "headers": pairs}


@pytest.mark.parametrize("host", ["localhost", "localhost:4400", "127.0.0.1:1", "127.9.9.9", "[::1]:4400", "LocalHost"])
def test_this_machine_may_call_a_loopback_server(host: str) -> None:
    assert refuse(scope(host=host), LOCAL) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.evil.example:80"]
)
def test_a_foreign_name_for_a_loopback_server_is_refused(host: str) -> None:
    found = refuse(scope(host=host), LOCAL)
    assert found is not None
    assert found.status == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999"])
def test_a_page_of_another_site_may_not_change_anything(origin: str) -> None:
    found = refuse(scope("POST", "/api/v1/data/add", origin=origin), LOCAL)
    assert found is not None
    assert found.status == 403


def test_the_own_page_and_scripts_may() -> None:
    assert refuse(scope("POST", origin="http://localhost:4400"), LOCAL) is None
    assert refuse(scope("POST"), LOCAL) is None
    assert refuse(scope("POST", sec_fetch_site="cross-site"), LOCAL) is not None


def test_a_token_is_asked_for_wherever_one_is_set() -> None:
    basic = base64.b64encode(b"anyone:s3cret").decode()
    assert refuse(scope(authorization="Bearer s3cret"), OPEN) is None
    assert refuse(scope(authorization=f"Basic {basic}"), OPEN) is None
    for wrong in ("Bearer s3cre", "Bearer", "Basic !!", "Basic czNjcmV0", "s3cret", ""):
        found = refuse(scope(authorization=wrong), OPEN)
        assert found is not None, wrong
        assert found.status == 401
        assert (b"www-authenticate", b'Bearer realm="noria"') in found.headers


def test_health_is_open_and_says_nothing_else() -> None:
    assert refuse(scope(path="/healthz"), OPEN) is None
    assert refuse(scope(path="/healthz/../api"), OPEN) is not None


def test_a_refusal_is_ready_to_send() -> None:
    found = refuse(scope(), OPEN)
    assert found is not None
    told = json.loads(found.body)["error"]
    assert told["code"] == "denied"
    assert "s3cret" not in found.body.decode()
    assert (b"content-length", str(len(found.body)).encode()) in found.headers


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
