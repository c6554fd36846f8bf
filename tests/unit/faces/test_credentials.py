"""The file of logins: for its owner only, whole or not at all, and tokens that do not travel in the clear."""

from __future__ import annotations

import http.server
import json
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from noria.core.errors import ConfigError, Denied, StoreUnavailable, UsageError
from noria.faces import credentials
from noria.faces.client import Remote


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file will be."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return credentials.place()


def test_logins_are_kept_by_server_for_their_owner_only(place: Path) -> None:
    assert credentials.stored("https://a.test") == ""
    credentials.keep("https://a.test/", {"token": "one", "holder": "user:ann@corp"})
    credentials.keep("https://b.test", {"token": "two"})
    assert credentials.stored("https://A.test") == "one"
    assert credentials.stored("https://b.test/") == "two"
    assert credentials.stored("https://c.test") == ""
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert [each.name for each in place.parent.iterdir()] == ["credentials.json"], "nothing half-written is left"
    assert credentials.drop("https://a.test")
    assert not credentials.drop("https://a.test")
    assert "one" not in place.read_text(encoding="utf-8")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_not_believed(place: Path, mode: int) -> None:
    credentials.keep("https://a.test", {"token": "one"})
    place.chmod(mode)
    with pytest.raises(ConfigError, match="others may read"):
        credentials.stored("https://a.test")
    with pytest.raises(ConfigError):
        credentials.keep("https://a.test", {"token": "two"})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', "\xff"])
def test_a_file_that_holds_something_else_is_told(place: Path, text: str) -> None:
    place.parent.mkdir()
    place.write_bytes(text.encode("latin-1"))
    place.chmod(0o600)
    with pytest.raises(ConfigError):
        credentials.stored("https://a.test")


def test_a_folder_that_cannot_be_written_is_told_and_the_file_stays(place: Path) -> None:
    credentials.keep("https://a.test", {"token": "one"})
    before = json.loads(place.read_text(encoding="utf-8"))
    with pytest.raises(TypeError):
        credentials.keep("https://a.test", {"token": object()})  # stands for any failure half-way
    assert json.loads(place.read_text(encoding="utf-8")) == before
    assert [each.name for each in place.parent.iterdir()] == ["credentials.json"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "noria.test",
        "ftp://a.test",
        "http://noria.test",
        "http://127.0.0.1.evil.test",
        "https://u@a.test",
        "https://",
    ],
)
def test_a_token_travels_over_https_or_on_this_machine(url: str) -> None:
    with pytest.raises(UsageError):
        credentials.require_address(url)


@pytest.mark.parametrize("url", ["https://a.test/", "http://127.0.0.1:4400", "http://localhost:1", "http://[::1]:1"])
def test_an_address_is_taken_without_its_last_slash(url: str) -> None:
    assert credentials.require_address(url) == url.rstrip("/")


def test_a_server_that_is_away_is_told() -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        credentials.ask("http://127.0.0.1:1", "/oauth/token", {"a": "b"})


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that answers everything so."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("location", "https://elsewhere.test/")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [200, 303])
def test_a_server_with_a_login_is_one(status: int) -> None:
    with answering(status) as server:
        credentials.require_login(server)


def test_where_nobody_can_log_in_nobody_waits() -> None:
    with answering(404) as server, pytest.raises(Denied, match="names no provider"):
        credentials.require_login(server)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        credentials.require_login(server)


@pytest.mark.parametrize("token", ["nor_a\r", "nor\na", "nor a", "nor_\u00e4", "nor\x00"])
def test_what_cannot_be_a_token_is_told_and_not_repeated(token: str) -> None:
    with pytest.raises(UsageError, match="no token has") as refused:
        Remote("http://127.0.0.1:1", token).call("project", "status", {})
    assert token not in f"{refused.value} {refused.value.hint}"


def test_who_names_no_server_is_told_how_to(place: Path) -> None:
    with pytest.raises(UsageError, match="no server is named: give its address") as caught:
        credentials.require_address("")
    assert "noria login https://" in caught.value.hint
    assert "NORIA_SERVER" in caught.value.hint
