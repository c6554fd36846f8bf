"""Artifacts past the server on a real S3 server: signed addresses, named by content, killed anywhere, swept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from upload_victim import PROXY, Client

from noria.bootstrap import open_workspace
from noria.catalog import filing, keeping
from noria.catalog.filing import Begin
from noria.catalog.keeping import LogModel
from noria.core.errors import ConfigError
from noria.core.identity import Digest
from noria.engines.objects.s3 import S3Objects
from noria.engines.objects.s3direct import KEPT_S
from noria.faces.http import supervisor
from noria.tracking import records as tracking

if TYPE_CHECKING:
    from s3_server import S3Server

FILES = "/api/2.0/mlflow-artifacts"
KILLS_OF_A_COMPLETION = ("direct.joined", "direct.copied")
KILLS_OF_A_BEGINNING = ("direct.begun",)
VICTIM = Path(__file__).with_name("direct_victim.py")
FIRST, LAST = os.urandom(5 << 20), b"the end"
"""The store takes no part below 5 MiB but the last."""
WHOLE = Digest(f"sha256:{hashlib.sha256(FIRST + LAST).hexdigest()}")
TOML = '[project]\nname = "direct"\n\n[server]\nartifacts = "direct"\n\n[store]\nobjects = "{}"\n'


class Past:
    """A project whose large artifacts go past the server, a run in it, and its client."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir()
        (folder / "noria.toml").write_text(TOML.format(url), encoding="utf-8")
        self.folder = folder
        self.ws = open_workspace(folder)
        filing.ensure_default(self.ws)
        begun = Begin(experiment="Default", name="r", started_at="2026-01-01T00:00:00.000000Z")
        self.run = filing.begin_run(self.ws, begun).run
        self.client = Client(self.ws)

    @property
    def store(self) -> S3Objects:
        """The objects in the bucket."""
        assert isinstance(self.ws.objects.store, S3Objects)
        return self.ws.objects.store

    def incoming(self) -> list[str]:
        """What is on its way, by the last part of its name."""
        return sorted(Path(each.key).suffix or "bytes" for each in self.store.bucket.list("incoming/"))

    def begin(self, count: int = 2, at: str = "") -> Any:
        """An upload of `big.bin`."""
        answer = self.client.post(self.at("create", at), json={"path": "big.bin", "num_parts": count})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def at(self, verb: str, at: str = "") -> str:
        """A verb's path for the run, or for what has files."""
        return f"{PROXY}/{verb}/{at or f'0/{self.run}/artifacts'}"

    def complete(self, upload: str, tags: list[str], at: str = "", path: str = "big.bin") -> httpx.Response:
        """Name the parts."""
        named = [{"part_number": number, "etag": tag} for number, tag in enumerate(tags, 1)]
        return self.client.post(self.at("complete", at), json={"path": path, "upload_id": upload, "parts": named})

    def kept(self) -> dict[str, str]:
        """The run's artifacts."""
        with self.ws.ledger.read() as tx:
            return {each.name: each.digest for each in tracking.artifacts(tx, self.run)}


@pytest.fixture
def past(tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Past:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint)
    return Past(tmp_path / "project", s3_server.new_bucket())


def send(told: Any, *contents: bytes) -> list[str]:
    """Send parts to where an upload says, from outside; gives their tags."""
    tags = []
    for each, content in zip(told["credentials"], contents, strict=True):
        answer = httpx.put(each["url"], content=content, headers=each["headers"])
        assert answer.status_code == 200, answer.text
        tags.append(answer.headers["etag"])
    return tags


def test_parts_go_to_the_store_and_become_one_object_with_the_name_of_its_content(
    past: Past, s3_server: S3Server
) -> None:
    told = past.begin()
    assert all(each["url"].startswith(s3_server.endpoint) for each in told["credentials"])
    tags = send(told, FIRST, LAST)
    known = past.client.get(f"{PROXY}/part/{told['upload_id']}").json()
    assert [(each["part_number"], each["size"]) for each in known["parts"]] == [(1, len(FIRST)), (2, len(LAST))]
    assert past.kept() == {}
    for _ in range(2):  # the answer to the first may be lost
        assert past.complete(told["upload_id"], tags).status_code == 200
    assert past.kept() == {"big.bin": WHOLE}
    assert len(past.ws.ledger.facts(kind="artifact.logged")) == 1
    assert past.ws.objects.get_bytes(WHOLE) == FIRST + LAST
    assert past.incoming() == [".done"]
    assert not (past.folder / ".noria/uploads").exists()


def test_an_artifact_is_read_where_it_lies(past: Past, s3_server: S3Server) -> None:
    told = past.begin(1)
    assert past.complete(told["upload_id"], send(told, FIRST)).status_code == 200
    said = past.client.get(f"{FILES}/presigned/0/{past.run}/artifacts/big.bin").json()
    assert said["url"].startswith(s3_server.endpoint)
    assert said["file_size"] == len(FIRST)
    assert httpx.get(said["url"]).content == FIRST
    part = httpx.get(said["url"], headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, FIRST[10:20])
    other = said["url"].replace(past.store.bucket.url.rpartition("/")[2], "other")
    assert httpx.get(other).status_code in (403, 404)
    assert httpx.put(said["url"], content=b"x").status_code == 403
    # through the server it is the same file
    assert past.client.get(f"{FILES}/artifacts/0/{past.run}/artifacts/big.bin").content == FIRST
    info = past.client.get("/api/3.0/mlflow/server-info").json()
    assert info["multipart_downloads_enabled"] is True


def test_what_lies_in_a_pack_is_read_through_the_server(past: Past) -> None:
    small = past.store.put_many([b"one", b"two"])[0]
    filing.note_artifact(past.ws, past.run, "one.txt", small, 3)
    said = past.client.get(f"{FILES}/presigned/0/{past.run}/artifacts/one.txt").json()
    assert said["url"] == f"http://localhost{FILES}/artifacts/0/{past.run}/artifacts/one.txt"


def test_files_of_logged_models_go_the_same_way(past: Past) -> None:
    model = keeping.create_model(past.ws, LogModel(experiment=0, name="m", run=past.run))
    at = f"0/models/{model}/artifacts"
    told = past.begin(1, at)
    assert past.complete(told["upload_id"], send(told, LAST), at).status_code == 200
    assert past.client.get(f"{FILES}/artifacts/{at}/big.bin").content == LAST


def test_only_whole_uploads_of_the_named_file_count(past: Past) -> None:
    told = past.begin()
    tags = send(told, FIRST, LAST)
    upload = told["upload_id"]
    for answer in (
        past.complete(upload, tags[:1]),
        past.complete(upload, tags[::-1]),
        past.complete(upload, [tags[0], '"0123456789abcdef0123456789abcdef"']),
        past.complete(upload, tags, path="other.bin"),
    ):
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer.text
    assert past.kept() == {}
    for unknown in ("0" * 32, "../" + upload, "", upload[:-1]):
        assert past.complete(unknown, tags).status_code == 404
    said = {"path": "other.bin", "upload_id": upload}
    assert past.client.post(past.at("abort"), json=said).status_code == 400
    assert past.complete(upload, tags).status_code == 200


def test_parts_that_are_too_small_are_refused_with_what_to_do(past: Past) -> None:
    told = past.begin()
    answer = past.complete(told["upload_id"], send(told, b"tiny", LAST))
    assert answer.status_code == 400
    assert "5 MiB" in answer.json()["message"]


def test_an_upload_that_is_given_up_leaves_nothing(past: Past) -> None:
    told = past.begin()
    send(told, FIRST, LAST)
    for _ in range(2):
        said = {"path": "big.bin", "upload_id": told["upload_id"]}
        assert past.client.post(past.at("abort"), json=said).json() == {}
    assert past.incoming() == []
    assert httpx.put(told["credentials"][0]["url"], content=b"late").status_code == 404
    assert past.complete(told["upload_id"], ["a", "b"]).status_code == 404


def test_nothing_is_begun_for_a_run_that_is_deleted_or_not_there(past: Past) -> None:
    given = {"path": "big.bin", "num_parts": 1}
    assert past.client.post(f"{PROXY}/create/0/nobody/artifacts", json=given).status_code == 404
    told = past.begin(1)
    tags = send(told, LAST)
    assert past.client.post("/api/2.0/mlflow/runs/delete", json={"run_id": past.run}).status_code == 200
    assert past.client.post(past.at("create"), json=given).status_code == 400
    assert past.complete(told["upload_id"], tags).status_code == 400
    assert past.incoming() == [".json"]


def killed(past: Past, name: str, *words: str) -> None:
    """A victim that was killed at a point."""
    environ = {**os.environ, "NORIA_FAILPOINT": f"{name}:1"}
    died = subprocess.run(
        [sys.executable, str(VICTIM), str(past.folder), past.run, *words],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert died.returncode == -9, died.stderr


@pytest.mark.parametrize("name", KILLS_OF_A_COMPLETION)
def test_a_completion_killed_anywhere_is_gone_on_with(past: Past, name: str) -> None:
    told = past.begin()
    tags = send(told, FIRST, LAST)
    killed(past, name, told["upload_id"], *tags)
    assert past.kept() == {}, "an artifact is there when it is whole"
    assert past.complete(told["upload_id"], tags).status_code == 200
    assert past.kept() == {"big.bin": WHOLE}
    assert past.ws.objects.get_bytes(WHOLE) == FIRST + LAST
    assert past.incoming() == [".done"]


@pytest.mark.parametrize("name", KILLS_OF_A_BEGINNING)
def test_a_beginning_that_was_killed_is_known_to_who_sweeps(past: Past, name: str) -> None:
    killed(past, name)
    assert past.incoming() == [".json"]
    assert past.kept() == {}
    assert past.complete(past.begin(1)["upload_id"], ["x"]).status_code == 400


def test_what_nobody_ended_for_a_week_goes(past: Past, s3_server: S3Server) -> None:
    left, ended = past.begin(), past.begin(1)
    send(left, FIRST, LAST)
    assert past.complete(ended["upload_id"], send(ended, LAST)).status_code == 200
    assert past.incoming() == [".done", ".json"]
    later = S3Objects(past.store.bucket.url, s3_server.endpoint, clock=lambda: time.time() + KEPT_S + 60)
    begun = later.direct.begin("0/x/artifacts/y", 1)
    assert past.incoming() == [".json"]
    assert later.direct.find(begun.id) is not None
    assert later.direct.find(left["upload_id"]) is None
    assert past.kept() == {"big.bin": f"sha256:{hashlib.sha256(LAST).hexdigest()}"}


def test_what_is_on_its_way_is_no_object_and_is_left_by_a_collection(past: Past) -> None:
    told = past.begin()
    tags = send(told, FIRST, LAST)
    assert list(past.store.list()) == [item for item in past.store.list() if item[0] != WHOLE]
    names = [name for name, _ in past.store.list()]
    past.store.trash(names, at=1, unseen_since=2**33)
    assert past.complete(told["upload_id"], tags).status_code == 200
    assert past.store.has(WHOLE)


def test_a_store_without_addresses_is_said_when_the_server_starts(tmp_path: Path) -> None:
    (tmp_path / "noria.toml").write_text(TOML.format("objects"), encoding="utf-8")
    ws = open_workspace(tmp_path)
    with pytest.raises(ConfigError, match="no addresses to give to clients"):
        supervisor.up(ws.project)
