"""The short way of a prediction and the way of ASGI: one server, the same answers, in order, whatever callers do."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_client import ServerProcess, load, serving, wait_for
from serving_project import MODEL, make_project, make_release, rows

from noria.serving import follow
from noria.serving.deployment import deploy

LIMIT = 65_536
ROW = rows(1, 5)[0]
GOOD = {"id": "a", "key": "k", "at": "2026-03-01T00:00:00Z", "row": ROW}
SEVERAL = {"id": "many", "rows": rows(3, 6)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    ws = make_project(tmp_path_factory.mktemp("direct") / "project")
    text = (ws.project.root / "noria.toml").read_text(encoding="utf-8")
    (ws.project.root / "noria.toml").write_text(
        f"{text}max_body_bytes = {LIMIT}\nread_timeout = '2s'\n", encoding="utf-8"
    )
    make_release(ws)
    deploy(ws, MODEL)
    with serving(ws.project.root) as process:
        wait_for(lambda: process.process.pid in {found["pid"] for found in follow.servers(ws)}, what="the lease")
        yield process


def head(path: str, *lines: str, host: str = "localhost", version: str = "1.1") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/{version}", f"host: {host}", *lines, "", ""]).encode()


def whole(body: bytes, path: str = "/predict", *lines: str, **how: str) -> bytes:
    """The request as most clients send it: the short way."""
    return head(path, *lines, f"content-length: {len(body)}", **how) + body


def chunked(body: bytes, path: str = "/predict", *lines: str, **how: str) -> bytes:
    """The same request in chunks: the way of ASGI."""
    parts = [body[place : place + 1000] for place in range(0, len(body), 1000)]
    return head(path, *lines, "transfer-encoding: chunked", **how) + b"".join(
        [*(b"%x\r\n%b\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]
    )


class Caller:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.stream.makefile("rb")

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.stream.close()

    def send(self, content: bytes) -> None:
        self.stream.sendall(content)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers, and the body, which is JSON or nothing."""
        first = self.file.readline()
        if not first:
            raise EOFError
        lines = iter(self.file.readline, b"\r\n")
        found = dict(line.decode().strip().lower().split(": ", 1) for line in lines)
        body = self.file.read(int(found.get("content-length", 0)))
        return int(first[9:12]), found, json.loads(body) if body else None


def asked(port: int, request: bytes) -> tuple[int, dict[str, str], Any]:
    with Caller(port) as caller:
        caller.send(request)
        return caller.answer()


def without_id(body: Any) -> Any:
    return {name: value for name, value in body.items() if name != "prediction_id"}


@pytest.mark.parametrize(
    ("content", "path", "lines", "host", "status"),
    [
        (GOOD, "/predict", (), "localhost", 200),
        (SEVERAL, "/predict", (), "127.0.0.1:4400", 200),
        (GOOD, f"/predict/{MODEL}", ("x-noria-release: 1",), "localhost", 200),
        (GOOD, "/predict/other", (), "localhost", 404),
        (GOOD, "/predict/", (), "localhost", 200),
        (GOOD, "/predict/a/b", (), "localhost", 404),
        (GOOD, "/predict/%6cate", (), "localhost", 200),
        (GOOD, "/predict?x=1", (), "localhost", 200),
        (GOOD, "/predictions", (), "localhost", 404),
        (GOOD, "/predict", ("x-noria-release: 77",), "localhost", 404),
        (GOOD, "/predict", ("x-noria-release: new",), "localhost", 400),
        (GOOD, "/predict", (), "evil.example", 403),
        (GOOD, "/predict", ("origin: http://evil.example",), "localhost", 403),
        ({**GOOD, "row": {**ROW, "n0": "high"}}, "/predict", (), "localhost", 400),
        ({**GOOD, "row": {"n0": 1.0}}, "/predict", (), "localhost", 400),
        ({**GOOD, "at": "yesterday"}, "/predict", (), "localhost", 400),
        ({**GOOD, "more": 1}, "/predict", (), "localhost", 400),
        ({"id": "x"}, "/predict", (), "localhost", 400),
        (b"", "/predict", (), "localhost", 400),
        (b"{", "/predict", (), "localhost", 400),
        (b"[" * 5000, "/predict", (), "localhost", 400),
        (b"\xff\xfe", "/predict", (), "localhost", 400),
        (b" " * (LIMIT + 1), "/predict", (), "localhost", 413),
    ],
)
def test_both_ways_give_the_same_answer(
    server: ServerProcess, content: Any, path: str, lines: tuple[str, ...], host: str, status: int
) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    short = asked(server.port, whole(body, path, *lines, host=host))
    long = asked(server.port, chunked(body, path, *lines, host=host))
    assert short[0] == long[0] == status, short
    assert without_id(short[2]) == without_id(long[2])
    assert (short[1]["content-type"], "retry-after" in short[1]) == (long[1]["content-type"], "retry-after" in long[1])


@pytest.mark.parametrize("how", ["HTTP/1.0", "expect", "close"])
def test_older_and_careful_callers_are_answered(server: ServerProcess, how: str) -> None:
    body = json.dumps(GOOD).encode()
    with Caller(server.port) as caller:
        if how == "expect":
            caller.send(head("/predict", "expect: 100-continue", f"content-length: {len(body)}"))
            assert caller.file.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert caller.file.readline() == b"\r\n"
            caller.send(body)
        elif how == "close":
            caller.send(whole(body, "/predict", "connection: close"))
        else:
            caller.send(whole(body, version="1.0"))
        status, _, found = caller.answer()
        assert (status, found["id"]) == (200, "a")
        if how != "expect":
            assert caller.file.read() == b"", "the connection ends"


def test_one_connection_goes_both_ways_in_turn(server: ServerProcess) -> None:
    with Caller(server.port) as caller:
        for number in range(20):
            body = json.dumps({**GOOD, "id": f"turn-{number}"}).encode()
            caller.send(chunked(body) if number % 3 == 0 else whole(body))
            assert caller.answer()[2]["id"] == f"turn-{number}"
            if number % 5 == 0:
                caller.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert caller.answer()[2]["ok"] is True


def test_requests_sent_together_are_answered_in_order(server: ServerProcess) -> None:
    bodies = [json.dumps({**GOOD, "id": f"together-{number}"}).encode() for number in range(60)]
    with Caller(server.port) as caller:
        caller.send(b"".join(chunked(body) if number % 7 == 3 else whole(body) for number, body in enumerate(bodies)))
        assert [caller.answer()[2]["id"] for _ in bodies] == [f"together-{number}" for number in range(60)]


def test_a_request_that_comes_byte_by_byte_is_one(server: ServerProcess) -> None:
    with Caller(server.port) as caller:
        caller.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in whole(json.dumps(GOOD).encode()):
            caller.send(bytes([byte]))
        assert caller.answer()[0] == 200


def test_who_leaves_before_the_answer_harms_nobody(server: ServerProcess) -> None:
    body = json.dumps(GOOD).encode()
    for number in range(200):
        with Caller(server.port) as caller:
            caller.send(whole(body)[: None if number % 2 else -7])
    answers = load(server.port, ({**GOOD, "id": f"stays-{number}"} for number in range(200)), at_once=8)
    assert (answers.failed, answers.broken, len(answers.found)) == (0, 0, 200)


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "1500-01-01", "2300-01-01"])
@pytest.mark.parametrize("how", [whole, chunked])
def test_a_time_that_no_frame_holds_is_refused(server: ServerProcess, how: Any, at: str) -> None:
    status, _, found = asked(server.port, how(json.dumps({**GOOD, "at": at}).encode()))
    assert (status, found["error"]["code"]) == (400, "usage")
    path = f"/v2/models/{MODEL}/feedback"
    label = json.dumps({"labels": [{"id": "a", "label": 1, "at": at}]}).encode()
    status, _, found = asked(server.port, whole(label, path))
    assert (status, found["error"]["code"]) == (400, "usage")


@pytest.mark.parametrize("how", [whole, chunked])
def test_more_rows_than_may_ever_wait_are_not_to_be_tried_again(server: ServerProcess, how: Any) -> None:
    status, _, found = asked(server.port, how(json.dumps({"rows": [{}] * 5000}).encode()))
    assert (status, found["error"]["code"]) == (413, "too-many-rows")
    assert "5000" in found["error"]["message"]
    assert "4096" in found["error"]["message"]


def test_a_body_that_says_it_is_too_large_is_not_awaited(server: ServerProcess) -> None:
    with Caller(server.port) as caller:
        caller.send(head("/predict", "content-length: 1000000000000", "expect: 100-continue"))
        status, _, found = caller.answer()
        assert (status, found["error"]["code"]) == (413, "body-too-large")


@pytest.mark.parametrize("sent", [b"", b"POST /predict HT", head("/predict", "content-length: 10") + b"{}"])
def test_a_request_that_stops_is_ended(server: ServerProcess, sent: bytes) -> None:
    with Caller(server.port) as caller:
        caller.send(sent)
        status, headers, found = caller.answer()
        assert (status, found["error"]["code"], headers["connection"]) == (408, "request-timeout", "close")
        assert caller.file.read() == b""


def test_a_chunk_that_stops_is_ended(server: ServerProcess) -> None:
    with Caller(server.port) as caller:
        caller.send(chunked(b'{"id": "half"}')[:-5])
        assert caller.answer()[0] == 408
        assert caller.file.read() == b""


@pytest.mark.parametrize(
    "lines", [b"FOO / HTTP/1.1\r\n\r\n", head("/predict", "content-length: -1"), b"\x16\x03\x01\x02"]
)
def test_what_is_no_http_is_told_so(server: ServerProcess, lines: bytes) -> None:
    with Caller(server.port) as caller:
        caller.send(lines)
        status, _, found = caller.answer()
        assert (status, found["error"]["code"]) == (400, "usage")
        assert caller.file.read() == b"", "the connection ends"


@pytest.mark.parametrize("how", [whole, chunked])
@pytest.mark.parametrize("bad", [b"FOO\r\n\r\n", head("/predict", "transfer-encoding: chunked") + b"zz\r\n"])
def test_whole_requests_before_nonsense_are_answered(server: ServerProcess, how: Any, bad: bytes) -> None:
    with Caller(server.port) as caller:
        caller.send(b"".join(how(json.dumps({**GOOD, "id": name}).encode()) for name in ("one", "two")) + bad)
        assert caller.answer()[2]["id"] == "one"
        assert caller.answer()[2]["id"] == "two"
        assert caller.file.read() == b"", "the connection ends"


@pytest.mark.parametrize(
    "lines",
    [
        head("/predict", "content-length: 2", *(f"x-{number}: {number}" for number in range(50_000))) + b"{}",
        head("/predict", "content-length: 2", "x: " + "y" * 1_000_000) + b"{}",
        b"POST /predict?" + b"z" * 200_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        head("/predict", "x: " + "y" * 100_000)[:-2],
    ],
)
def test_a_head_without_end_is_refused(server: ServerProcess, lines: bytes) -> None:
    with Caller(server.port) as caller:
        caller.send(lines)
        status, _, found = caller.answer()
        assert (status, found["error"]["code"]) == (431, "head-too-large")
    assert asked(server.port, whole(json.dumps(GOOD).encode()))[0] == 200


def test_a_large_head_that_may_be_is_answered(server: ServerProcess) -> None:
    body = json.dumps(GOOD).encode()
    lines = head("/predict", f"content-length: {len(body)}", "x: " + "y" * 60_000)
    assert asked(server.port, lines + body)[0] == 200


@pytest.mark.parametrize("digits", [9, 14, 15, 16, 18, 19, 30])
@pytest.mark.parametrize("path", ["/predict", "/api/v1/data/log", "/v2/models/x/infer"])
def test_a_length_of_any_number_of_digits_is_not_awaited(server: ServerProcess, path: str, digits: int) -> None:
    with Caller(server.port) as caller:
        caller.send(head(path, "content-length: " + "9" * digits) + b"{")
        assert caller.answer()[0] in (400, 404, 413)


def test_a_label_with_more_than_a_label_is_refused(server: ServerProcess) -> None:
    body = json.dumps({"labels": [{"id": "a", "label": 1, "whent": "2026-01-01"}]}).encode()
    status, _, found = asked(server.port, whole(body, f"/v2/models/{MODEL}/feedback"))
    assert (status, found["error"]["code"]) == (400, "usage")
    assert "whent" in found["error"]["message"]


def test_who_leaves_many_requests_behind_harms_nobody(server: ServerProcess) -> None:
    body = json.dumps({**SEVERAL, "rows": rows(40, 6)}).encode()
    for number in range(60):
        with Caller(server.port) as caller:
            caller.send((whole(body) if number % 2 else chunked(body)) * 30)
            if number % 3:
                caller.answer()
            caller.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert asked(server.port, whole(json.dumps(GOOD).encode()))[0] == 200
    log = Path(server._root / "server.log").read_text(encoding="utf-8")
    assert "Traceback" not in log, log[-2000:]


def test_who_never_reads_is_not_served_without_end(server: ServerProcess) -> None:
    request = whole(json.dumps({**SEVERAL, "rows": rows(40, 6)}).encode())
    sent, deadline = 0, time.monotonic() + 60
    with socket.create_connection(("127.0.0.1", server.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(3)
        try:
            while time.monotonic() < deadline:
                sent += deaf.send(request)
        except TimeoutError:
            assert sent, "it took some"
        else:
            pytest.fail(f"the server went on reading: {sent} bytes")
        assert asked(server.port, whole(json.dumps(GOOD).encode()))[0] == 200


def test_a_server_that_is_told_to_end_answers_what_it_has_taken(server: ServerProcess) -> None:
    callers = {f"end-{number}": Caller(server.port) for number in range(24)}
    for name, caller in callers.items():
        caller.send(whole(json.dumps({"id": name, "rows": rows(50, 8)}).encode()))
    wait_for(lambda: callers["end-0"].stream.recv(1, socket.MSG_PEEK), what="the first answer")
    os.kill(server.process.pid, signal.SIGTERM)
    answered = set()
    for name, caller in callers.items():
        with caller:
            try:
                status, _, found = caller.answer()
            except (EOFError, ConnectionError):  # it had not been read when the end came
                continue
            assert (status, found["id"], len(found["score"])) == (200, name, 50)
            assert caller.file.read() == b"", "the connection ends"
            answered.add(name)
    server.process.wait(timeout=60)
    written = b"".join(path.read_bytes() for path in (server._root / ".noria" / "predictions").rglob("*.log"))
    taken = {name for name in callers if f'"rid":"{name}#'.encode() in written}
    assert "end-0" in answered
    assert taken == answered, "what is on record was answered, and what was answered is on record"
    log = Path(server._root / "server.log").read_text(encoding="utf-8")
    assert "Traceback" not in log, log[-2000:]
