"""Webhooks, data sets and traces: both servers get the same requests, and their answers are compared."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from mlflow_compared import compared, same_on_postgres
from mlflow_servers import Server, mlflow_server, noria_server
from mlflow_trace_requests import TRACE_LEAKS, TRACE_REQUESTS, TRACE_STRICTER

pytestmark = pytest.mark.peers
TIMES = ("creation_timestamp", "last_updated_timestamp", "last_update_time", "creation_time")
MORE = ("mlflow.trace.spansLocation", "links")
"""What is told here from the beginning, and what the other server forgets: links of a span to others."""
assert len({name for name, *_ in TRACE_REQUESTS}) == len(TRACE_REQUESTS) > 240, "names tell requests apart"


class Player:
    """Sends the requests to one server, and puts names in the place of the ids that it gave."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ids: dict[str, str] = {}

    def play(self, name: str, method: str, endpoint: str, given: Any) -> tuple[int, Any]:
        """The status, and the answer with names for ids."""
        path = self._filled(endpoint if endpoint.startswith("/") else f"/api/2.0/mlflow/{endpoint}")
        path = quote(path, safe="/?&=%:@")
        if isinstance(given, tuple):
            headers = {key: self._filled(value) for key, value in given[0].items()}
            kind = headers.pop("content-type", "application/json")
            status, text = self._server.send(method, path, given[1], kind, headers)
        else:
            body = None if given is None else self._filled(json.dumps(given)).encode()
            status, text = self._server.send(method, path, body)
        answer = json.loads(text) if text[:1] in ("{", "[") else {}
        found = answer.get("experiment_id") or answer.get("run", {}).get("info", {}).get("run_id")
        found = (
            found or answer.get("webhook", {}).get("webhook_id") or answer.get("assessment", {}).get("assessment_id")
        )
        if found and method == "POST":
            self._ids[name] = found
        return status, self._named(answer)

    def _filled(self, text: str) -> str:
        for name, found in self._ids.items():
            text = text.replace(f"{{{name}}}", found)
        return text

    def _named(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._named(item, name) for name, item in value.items() if name not in MORE}
        if isinstance(value, list):
            items = [self._named(item) for item in value]
            is_set = key in ("dataset_summaries", "assessments") or (items and "entity" in items[0])
            return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if is_set else items
        if key in TIMES:
            return "a time"
        if isinstance(value, str):
            for name, found in self._ids.items():
                if not name.startswith("e"):
                    value = value.replace(found, f"<{name}>")
            return value.split(" not one of ")[0].split("Valid keys are")[0].split("Valid values are")[0]
        return value


def test_every_request_is_answered_as_mlflows_own_server_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        mlflow_server(tmp_path_factory.mktemp("theirs")) as there,
        noria_server(tmp_path_factory.mktemp("ours")) as here,
    ):
        wrong = compared(Player(there), Player(here), TRACE_REQUESTS, stricter=TRACE_STRICTER, leaks=TRACE_LEAKS)
    assert not wrong, f"{len(wrong)} of {len(TRACE_REQUESTS)} differ:\n" + "\n".join(wrong)


def test_postgres_answers_as_sqlite_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = (tmp_path_factory.mktemp("sqlite"), tmp_path_factory.mktemp("postgres"))
    same_on_postgres(Player, TRACE_REQUESTS, "traced", folders)
