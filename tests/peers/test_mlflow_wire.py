"""MLflow's server and Noria's get the same requests, and their answers are compared field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from mlflow_compared import compared, same_on_postgres
from mlflow_registry_requests import MODEL_LEAKS, MODEL_REQUESTS, MODEL_STRICTER
from mlflow_requests import LEAKS, REQUESTS, STRICTER
from mlflow_servers import Server, mlflow_server, noria_server

pytestmark = pytest.mark.peers
TIMES = (
    "creation_time",
    "last_update_time",
    "creation_timestamp",
    "last_updated_timestamp",
    "creation_timestamp_ms",
    "last_updated_timestamp_ms",
)
UNORDERED = ("tags", "params", "aliases", "latest_versions")
EVERYTHING = [*REQUESTS, *MODEL_REQUESTS]
assert len({name for name, *_ in EVERYTHING}) > 700, "names tell requests apart"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    with (
        mlflow_server(tmp_path_factory.mktemp("theirs")) as theirs,
        noria_server(tmp_path_factory.mktemp("ours")) as ours,
    ):
        yield theirs, ours


class Player:
    """Sends the requests to one server, and puts names in the place of the ids that it gave."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ids: dict[str, str] = {}

    def play(self, name: str, method: str, endpoint: str, given: Any) -> tuple[int, Any]:
        """The status, and the answer with names for ids."""
        path = "/api/2.0/mlflow/" + quote(self._filled(endpoint), safe="/?&=%:@'`\"(),.!*+;<>{}[]|^~")
        body = given if isinstance(given, bytes | None) else self._filled(json.dumps(given)).encode()
        status, text = self._server.send(method, path, body)
        answer = json.loads(text) if text[:1] in "{[" else {}
        found = answer.get("experiment_id") or answer.get("run", {}).get("info", {}).get("run_id")
        found = found or answer.get("model", {}).get("info", {}).get("model_id")
        if found and method == "POST":
            self._ids[name] = found
        return status, self._named(answer)

    def _filled(self, text: str) -> str:
        for name, found in self._ids.items():
            text = text.replace(f"{{{name}}}", found)
        return text

    def _named(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._named(item, name) for name, item in value.items()}
        if isinstance(value, list):
            items = [self._named(item) for item in value]
            return sorted(items, key=json.dumps) if key in UNORDERED or _has_keys(key, items) else items
        if key in TIMES:
            return "a time"
        if isinstance(value, str):
            for name, found in self._ids.items():
                if name.startswith(("r", "m")):
                    value = value.replace(found, f"<{name}>")
            return re.sub(r"Valid keys are .*|not one of .*|(?<=Only the ')\{.*?\}", "", value, flags=re.DOTALL)
        return value


def _has_keys(key: str, items: list[Any]) -> bool:
    """Whether a list is the newest values of different metrics, whose order means nothing."""
    names = [item.get("key") for item in items if isinstance(item, dict)]
    return key == "metrics" and len(set(names)) == len(names)


def test_every_request_is_answered_as_mlflows_own_server_does(servers: tuple[Server, Server]) -> None:
    theirs, ours = (Player(server) for server in servers)
    stricter, leaks = STRICTER | MODEL_STRICTER, LEAKS | MODEL_LEAKS
    wrong = compared(theirs, ours, EVERYTHING, stricter=stricter, leaks=leaks)
    assert len(EVERYTHING) > 700
    assert not wrong, f"{len(wrong)} of {len(EVERYTHING)} differ:\n" + "\n".join(wrong)


def test_postgres_answers_as_sqlite_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = (tmp_path_factory.mktemp("sqlite"), tmp_path_factory.mktemp("postgres"))
    same_on_postgres(Player, EVERYTHING, "wired", folders)
