"""Evaluation data sets: both servers get the same requests and the same scripts, and their answers are compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from mlflow_compared import compared, same_on_postgres
from mlflow_evalset_requests import EVALSET_LEAKS, EVALSET_REQUESTS, EVALSET_STRICTER
from mlflow_servers import Server, client, mlflow_server, noria_server

pytestmark = pytest.mark.peers
SCRIPT = Path(__file__).with_name("mlflow_evalset_script.py")
assert len({name for name, *_ in EVALSET_REQUESTS}) == len(EVALSET_REQUESTS) > 270, "names tell requests apart"


class Player:
    """Sends the requests to one server, and puts names in the place of ids, times and tokens."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ids: dict[str, str] = {}

    def play(self, name: str, method: str, endpoint: str, given: Any) -> tuple[int, Any]:
        """The status, and the answer with names for what each server makes up."""
        path = self._filled(endpoint if endpoint.startswith("/") else f"/api/3.0/mlflow/{endpoint}")
        body = None if given is None else self._filled(json.dumps(given)).encode()
        status, text = self._server.send(method, quote(path, safe="/?&=%:@'"), body)
        answer = json.loads(text) if text[:1] in ("{", "[") else {}
        made = answer.get("experiment_id") or answer.get("dataset", {}).get("dataset_id")
        if made and method == "POST":
            self._ids.setdefault(name, made)
        if "next_page_token" in answer:
            self._ids[f"{name} token"] = answer["next_page_token"]
            answer["next_page_token"] = "a token"
        if "records" in answer:
            answer["records"] = self._records(name, json.loads(answer["records"]))
        return status, self._named(answer)

    def _records(self, name: str, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The records without ids; those of one request have no order there."""
        told.sort(key=lambda each: json.dumps(each["inputs"], sort_keys=True))
        for place, each in enumerate(told):
            self._ids[f"{name} {place}"] = each.pop("dataset_record_id")
            assert each.pop("last_update_time") >= each.pop("created_time")
        return told

    def _filled(self, text: str) -> str:
        for name, found in self._ids.items():
            text = text.replace(f"{{{name}}}", found)
        return text

    def _named(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._named(item) for item in value]
        if isinstance(value, dict):
            told = {key: self._named(item) for key, item in value.items()}
            if "digest" in told and "last_update_time" in told:
                told["digest"] = self._digest(value)
                told["is changed"] = told.pop("last_update_time") > told.pop("created_time")
                told["tags"] = json.loads(told["tags"])
            return told
        if isinstance(value, str):
            for name, found in self._ids.items():
                if found.startswith("d-"):
                    value = value.replace(found, f"<{name}>")
            return value.split("Valid keys are")[0]
        return value

    def _digest(self, told: dict[str, Any]) -> str:
        """Of which time a digest is, computed here from its definition."""
        of_now = hashlib.sha256(f"{told['name']}:{told['last_update_time']}".encode()).hexdigest()[:8]
        return "of now" if told["digest"] == of_now else "of an earlier time"


def test_every_request_is_answered_as_mlflows_own_server_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        mlflow_server(tmp_path_factory.mktemp("theirs")) as there,
        noria_server(tmp_path_factory.mktemp("ours")) as here,
    ):
        wrong = compared(Player(there), Player(here), EVALSET_REQUESTS, stricter=EVALSET_STRICTER, leaks=EVALSET_LEAKS)
    assert not wrong, f"{len(wrong)} of {len(EVALSET_REQUESTS)} differ:\n" + "\n".join(wrong)


def test_postgres_answers_as_sqlite_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = (tmp_path_factory.mktemp("sqlite"), tmp_path_factory.mktemp("postgres"))
    same_on_postgres(Player, EVALSET_REQUESTS, "evaluated", folders)


def test_a_script_of_mlflows_client_ends_alike_on_both_servers(tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = [tmp_path_factory.mktemp(name) for name in ("theirs", "ours")]
    with mlflow_server(folders[0]) as there, noria_server(folders[1]) as here:
        expected = client(SCRIPT, there.url, folders[0])
        assert client(SCRIPT, here.url, folders[1]) == expected
    assert expected["records"] > 1000
