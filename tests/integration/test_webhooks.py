"""A webhook's receiver hears of what happens, signed, also if either side was away, and its secret is nowhere."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from postgres_server import thrown_away
from served import free_port, started

from noria.bootstrap import open_workspace

LIMIT_S = 90.0
SECRET = "correct-horse-battery-staple"
ALLOWED = '[webhooks]\nschemes = ["http"]\nprivate = ["127.0.0.1/32"]\n'
EVENTS = [
    {"entity": "REGISTERED_MODEL", "action": "CREATED"},
    {"entity": "MODEL_VERSION", "action": "CREATED"},
    {"entity": "MODEL_VERSION_TAG", "action": "SET"},
    {"entity": "MODEL_VERSION_TAG", "action": "DELETED"},
    {"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"},
    {"entity": "MODEL_VERSION_ALIAS", "action": "DELETED"},
]


class Receiver:
    """Keeps what it is told; `answers` are the statuses of its first answers, then it says 200."""

    def __init__(self, port: int, *answers: int) -> None:
        self.told: list[tuple[dict[str, str], bytes]] = []
        self.answers = list(answers)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.told.append(({key.lower(): value for key, value in self.headers.items()}, body))
                status = receiver.answers.pop(0) if receiver.answers else 200
                self.send_response(status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def events(self) -> list[str]:
        """What it was told of, in order of arrival."""
        found = [json.loads(body) for _, body in self.told]
        return [f"{each['entity']}.{each['action']}" for each in found]


@contextmanager
def receiving(port: int, *answers: int) -> Iterator[Receiver]:
    made = Receiver(port, *answers)
    try:
        yield made
    finally:
        made.close()


def ask(port: int, method: str, endpoint: str, given: Any = None, expected: int = 200) -> Any:
    """The JSON of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = None if given is None else json.dumps(given)
    connection.request(method, f"/api/2.0/mlflow/{endpoint}", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == expected, text
    return json.loads(text)


def wait_until(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    limit = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < limit, what()
        time.sleep(0.05)


def project(folder: Path) -> None:
    (folder / "noria.toml").write_text(f'[project]\nname = "told"\n{ALLOWED}', encoding="utf-8")


def create(port: int, receiver: int, **more: Any) -> str:
    said = {"name": "hook", "url": f"http://127.0.0.1:{receiver}/in", "events": EVENTS, "secret": SECRET, **more}
    found = ask(port, "POST", "webhooks", said)["webhook"]
    assert "secret" not in found
    return str(found["webhook_id"])


def _everything_happens(port: int) -> None:
    ask(port, "POST", "registered-models/create", {"name": "fraud", "tags": [{"key": "team", "value": "red"}]})
    ask(port, "POST", "registered-models/set-tag", {"name": "fraud", "key": "of the", "value": "model"})
    ask(port, "POST", "model-versions/create", {"name": "fraud", "source": "s3://bucket/model"})
    ask(port, "POST", "model-versions/set-tag", {"name": "fraud", "version": "1", "key": "k", "value": "v"})
    ask(port, "DELETE", "model-versions/delete-tag", {"name": "fraud", "version": "1", "key": "k"})
    ask(port, "POST", "registered-models/alias", {"name": "fraud", "alias": "latest-good", "version": "1"})
    ask(port, "DELETE", "registered-models/alias", {"name": "fraud", "alias": "latest-good"})


EXPECTED = {
    "registered_model.created": {"name": "fraud", "tags": {"team": "red"}, "description": ""},
    "model_version.created": {
        "name": "fraud",
        "version": "1",
        "source": "s3://bucket/model",
        "run_id": None,
        "tags": {},
        "description": None,
    },
    "model_version_tag.set": {"name": "fraud", "version": "1", "key": "k", "value": "v"},
    "model_version_tag.deleted": {"name": "fraud", "version": "1", "key": "k"},
    "model_version_alias.created": {"name": "fraud", "alias": "latest-good", "version": "1"},
    "model_version_alias.deleted": {"name": "fraud", "alias": "latest-good"},
}


def _require_told(receiver: Receiver) -> None:
    assert sorted(receiver.events()) == sorted(EXPECTED)
    for headers, body in receiver.told:
        told = json.loads(body)
        assert told["data"] == EXPECTED[f"{told['entity']}.{told['action']}"]
        signed = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
        assert headers["x-mlflow-signature"] == f"v1,{expected}"
        assert headers["content-type"] == "application/json"


def _require_no_secret(folder: Path) -> None:
    state = folder / ".noria"
    for file in [*state.rglob("*"), *folder.glob("*.out")]:
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_every_event_is_told_once_and_signed_and_the_secret_is_nowhere(tmp_path: Path) -> None:
    project(tmp_path)
    away = free_port()
    with started(tmp_path) as port, receiving(away) as receiver:
        hook = create(port, away)
        _everything_happens(port)
        wait_until(lambda: len(receiver.told) >= len(EXPECTED), receiver.events)
        _require_told(receiver)
        ask(port, "PATCH", f"webhooks/{hook}", {"status": "DISABLED"})
        ask(port, "POST", "registered-models/create", {"name": "while disabled"})
        ask(port, "PATCH", f"webhooks/{hook}", {"status": "ACTIVE", "secret": SECRET + "2"})
        ask(port, "POST", "registered-models/create", {"name": "after"})
        wait_until(lambda: len(receiver.told) > len(EXPECTED), receiver.events)
        assert json.loads(receiver.told[-1][1])["data"]["name"] == "after"
        answered = [each.payload for each in open_workspace(tmp_path).ledger.facts(kind="webhook.answered")]
    assert {each.outcome for each in answered} == {"delivered"}
    assert len({each.delivery for each in answered}) == len(answered) == len(EXPECTED) + 1
    _require_no_secret(tmp_path)


def test_postgres_tells_as_sqlite_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path)
    away = free_port()
    with thrown_away("told") as database:
        monkeypatch.setenv("NORIA_DATABASE", database.database("told"))
        with started(tmp_path) as port, receiving(away) as receiver:
            create(port, away)
            _everything_happens(port)
            wait_until(lambda: len(receiver.told) >= len(EXPECTED), receiver.events)
            _require_told(receiver)


def test_a_receiver_that_fails_is_asked_again_with_the_same_delivery(tmp_path: Path) -> None:
    project(tmp_path)
    away = free_port()
    with started(tmp_path) as port, receiving(away, 503, 429) as receiver:
        create(port, away)
        ask(port, "POST", "registered-models/create", {"name": "fraud"})
        wait_until(lambda: len(receiver.told) >= 3, receiver.events)
        ws = open_workspace(tmp_path)
        wait_until(lambda: bool(ws.ledger.facts(kind="webhook.answered")), receiver.events)
        (answered,) = [each.payload for each in ws.ledger.facts(kind="webhook.answered")]
    assert len({headers["x-mlflow-delivery-id"] for headers, _ in receiver.told}) == 1
    assert len({body for _, body in receiver.told}) == 1
    assert (answered.outcome, answered.attempts, answered.status) == ("delivered", 3, 200)


def test_a_receiver_that_refuses_is_not_asked_again(tmp_path: Path) -> None:
    project(tmp_path)
    away = free_port()
    with started(tmp_path) as port, receiving(away, 302, 400) as receiver:
        create(port, away)
        for name in ("one", "two", "three"):
            ask(port, "POST", "registered-models/create", {"name": name})
        wait_until(lambda: len(receiver.told) >= 3, receiver.events)
        ws = open_workspace(tmp_path)
        wait_until(lambda: len(ws.ledger.facts(kind="webhook.answered")) == 3, receiver.events)
        outcomes = sorted(each.payload.outcome for each in ws.ledger.facts(kind="webhook.answered"))
    assert outcomes == ["delivered", "failed", "failed"]


def test_what_happened_before_a_kill_is_told_after_it(tmp_path: Path) -> None:
    project(tmp_path)
    away = free_port()
    with started(tmp_path, kill=True) as port:
        create(port, away)  # nobody listens there yet
        _everything_happens(port)
    with receiving(away) as receiver, started(tmp_path):
        wait_until(lambda: len({body for _, body in receiver.told}) >= len(EXPECTED), receiver.events)
        ws = open_workspace(tmp_path)
        wait_until(lambda: len(ws.ledger.facts(kind="webhook.answered")) == len(EXPECTED), receiver.events)
        _require_told(receiver)
    _require_no_secret(tmp_path)


def test_a_webhook_is_tried_and_says_what_came_back(tmp_path: Path) -> None:
    project(tmp_path)
    away = free_port()
    with started(tmp_path) as port:
        hook = create(port, away)
        silent = ask(port, "POST", f"webhooks/{hook}/test", {})["result"]
        with receiving(away, 418) as receiver:
            refused = ask(port, "POST", f"webhooks/{hook}/test", {})["result"]
            event = {"entity": "PROMPT_ALIAS", "action": "CREATED"}
            heard = ask(port, "POST", f"webhooks/{hook}/test", {"event": event})["result"]
        ask(port, "DELETE", f"webhooks/{hook}")
        ask(port, "POST", f"webhooks/{hook}/test", {}, expected=404)
    assert not silent["success"]
    assert "no answer from 127.0.0.1" in silent["error_message"]
    assert refused == {"success": False, "response_status": 418, "response_body": "ok"}
    assert heard == {"success": True, "response_status": 200, "response_body": "ok"}
    assert receiver.events() == ["registered_model.created", "prompt_alias.created"]


def test_nobody_inside_is_called_unless_noria_toml_says_so(tmp_path: Path) -> None:
    (tmp_path / "noria.toml").write_text('[project]\nname = "told"\n', encoding="utf-8")
    with started(tmp_path) as port:
        for url in ("https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://169.254.169.254/latest"):
            told = ask(port, "POST", "webhooks", {"name": "h", "url": url, "events": EVENTS}, expected=400)
            assert "non-public" in told["message"]
        told = ask(port, "POST", "webhooks", {"name": "h", "url": "http://1.1.1.1/", "events": EVENTS}, expected=400)
        assert "scheme" in told["message"]
