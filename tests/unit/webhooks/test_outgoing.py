"""Where a webhook may lead: nowhere inside, whatever the URL is called and however the name resolves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from noria.config import WebhooksConfig
from noria.core.errors import UsageError
from noria.webhooks.outgoing import ANSWER_MAX, Target, Unreachable, post, resolved, target

PUBLIC = "93.184.216.34"
OPEN = WebhooksConfig()
INSIDE = WebhooksConfig(schemes=("https", "http"), private=("127.0.0.0/8", "hooks.internal"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2001:db8::1",
    ],
)
def test_no_name_leads_to_an_address_that_is_not_public(address: str) -> None:
    with pytest.raises(UsageError, match="non-public IP address"):
        target("https://hooks.example.com/x", OPEN, lambda _: [address])
    with pytest.raises(UsageError, match="non-public IP address"):
        target("https://hooks.example.com/x", OPEN, lambda _: [PUBLIC, address])


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
    ],
)
def test_no_spelling_of_this_machine_is_called(url: str) -> None:
    with pytest.raises(UsageError, match=r"non-public IP address|Cannot resolve"):
        target(url, OPEN, resolved)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("http://hooks.example.com/", "scheme"),
        ("ftp://hooks.example.com/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://hooks.example.com/", "scheme"),
        ("hooks.example.com", "scheme"),
        ("https://", "hostname"),
        ("https:///path", "hostname"),
        ("https://user:word@hooks.example.com/", "user or password"),
        ("https://user@hooks.example.com/", "user or password"),
        ("https://hooks.example.com:99999/", "Invalid webhook URL"),
        ("https://hooks.example.com:x/", "Invalid webhook URL"),
        ("https://[::1/", "Invalid webhook URL"),
        ("https://hooks.example.com/a b", "a blank in it"),
        ("https://hooks.example.com/a\r\nHost: other", "a blank in it"),
        ("https://hooks.example.com/" + "a" * 3000, "longer than"),
    ],
)
def test_a_url_that_says_something_odd_is_refused(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        target(url, OPEN, lambda _: [PUBLIC])


def test_a_public_host_is_called_at_the_address_that_was_looked_at() -> None:
    asked: list[str] = []

    def resolve(host: str) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    found = target("https://hooks.example.com:8443/path?q=1", OPEN, resolve)
    assert found == Target(is_tls=True, host="hooks.example.com", port=8443, address=PUBLIC, path="/path?q=1")
    assert found.host_header == "hooks.example.com:8443"
    assert asked == ["hooks.example.com"]


def test_what_noria_toml_names_may_be_called_and_nothing_else_of_it() -> None:
    assert target("http://127.0.0.1:80/", INSIDE, resolved).host_header == "127.0.0.1"
    assert target("http://hooks.internal/", INSIDE, lambda _: ["10.0.0.7"]).address == "10.0.0.7"
    with pytest.raises(UsageError, match="non-public"):
        target("http://other.internal/", INSIDE, lambda _: ["10.0.0.7"])
    only = WebhooksConfig(hosts=("hooks.example.com",))
    assert target("https://hooks.example.com/", only, lambda _: [PUBLIC]).address == PUBLIC
    with pytest.raises(UsageError, match="not one of those"):
        target("https://elsewhere.example.com/", only, lambda _: [PUBLIC])


@contextmanager
def answering(*parts: bytes, every_s: float = 0.0) -> Iterator[tuple[Target, list[bytes]]]:
    """A server that takes one request and answers with these bytes, one part each time."""
    listening = socket.create_server(("127.0.0.1", 0))
    got: list[bytes] = []
    over = threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            got.append(connection.recv(65536))
            try:
                for part in parts:
                    connection.sendall(part)
                    if over.wait(every_s):
                        return
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    port = listening.getsockname()[1]
    try:
        yield Target(is_tls=False, host="hooks.example.com", port=port, address="127.0.0.1", path="/x"), got
    finally:
        over.set()
        thread.join(10)
        listening.close()


def test_the_host_header_is_the_name_and_the_connection_goes_to_the_address() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (where, got):
        answer = post(where, {"X-A": "b"}, b"{}")
    assert (answer.status, answer.body) == (200, "ok")
    assert got[0].startswith(b"POST /x HTTP/1.1\r\nHost: hooks.example.com:")
    assert b"\r\nX-A: b\r\n" in got[0]


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    text = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    with answering(text) as (where, _):
        assert post(where, {}, b"{}").status == 302


def test_no_more_of_an_answer_is_read_than_is_needed() -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {1 << 22}\r\n\r\n".encode()
    with answering(head, b"a" * (1 << 22)) as (where, _):
        assert len(post(where, {}, b"{}").body) == ANSWER_MAX


@pytest.mark.parametrize("text", [b"", b"what?\r\n\r\n"])
def test_what_is_no_whole_answer_is_told_by_its_kind_alone(text: bytes) -> None:
    with answering(text) as (where, _), pytest.raises(Unreachable, match=r"no answer from hooks\.example\.com"):
        post(where, {}, b"{}", timeout_s=5.0)


def test_an_answer_that_comes_byte_by_byte_is_cut_off() -> None:
    with answering(*[b"a"] * 1000, every_s=0.05) as (where, _), pytest.raises(Unreachable):
        post(where, {}, b"{}", timeout_s=0.5)


def test_a_body_that_comes_byte_by_byte_is_cut_off_too() -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    with answering(head, *[b"a"] * 100_000, every_s=0.05) as (where, _):
        answer = post(where, {}, b"{}", timeout_s=0.5)
    assert answer.status == 200, "its head came whole, and was the answer"
    assert set(answer.body) == {"a"}


def test_a_server_without_a_certificate_for_the_name_is_not_told() -> None:
    with answering(b"plain text") as (where, got):
        secure = Target(is_tls=True, host=where.host, port=where.port, address=where.address, path="/")
        with pytest.raises(Unreachable):
            post(secure, {}, b"secret", timeout_s=5.0)
    assert b"secret" not in got[0]
