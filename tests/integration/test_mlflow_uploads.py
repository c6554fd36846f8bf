"""Artifacts in parts and in stretches: killed, cut, out of order, twice; what is there is whole or not there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from upload_victim import COUNT, PROXY, Client, parts

from noria.bootstrap import open_workspace
from noria.catalog import filing
from noria.catalog.filing import Begin
from noria.core.errors import Corrupt
from noria.faces.protocols.mlflow import artifacts
from noria.faces.protocols.mlflow.refusals import Refused
from noria.faces.protocols.mlflow.wire import Wire
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

KILLS_OF_AN_UPLOAD = ("upload.begun", "upload.part", "upload.part:2", "upload.joined")
VICTIM = Path(__file__).with_name("upload_victim.py")
FILES = "/api/2.0/mlflow-artifacts"
CONTENT = b"".join(parts())


def begin(folder: Path) -> tuple[Workspace, str]:
    folder.mkdir()
    (folder / "noria.toml").write_text('[project]\nname = "uploads"\n', encoding="utf-8")
    ws = open_workspace(folder)
    filing.ensure_default(ws)
    return ws, filing.begin_run(ws, Begin(experiment="Default", name="r", started_at="2026-01-01T00:00:00.000000Z")).run


def kept(ws: Workspace, run: str) -> dict[str, str]:
    with ws.ledger.read() as tx:
        return {each.name: each.digest for each in tracking.artifacts(tx, run)}


def victim(folder: Path, *words: str, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NORIA_")}
    if kill_at:
        kept["NORIA_FAILPOINT"] = kill_at if ":" in kill_at else f"{kill_at}:1"
    return subprocess.run(
        [sys.executable, str(VICTIM), str(folder), *words],
        env=kept,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("name", KILLS_OF_AN_UPLOAD)
def test_an_upload_killed_anywhere_goes_on_with_what_is_missing(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "project"
    ws, run = begin(folder)
    died = victim(folder, run, kill_at=name)
    assert died.returncode == -9, died.stderr
    assert kept(ws, run) == {}, "an artifact is there when it is whole"
    uploads = [each.name for each in (folder / ".noria/uploads").iterdir()]
    assert len(uploads) == 1
    done = victim(folder, run, uploads[0])
    assert done.returncode == 0, done.stderr
    there = {"upload.begun": 0, "upload.part": 1, "upload.part:2": 2, "upload.joined": COUNT}[name]
    assert json.loads(done.stdout.splitlines()[-1])["sent"] == COUNT - there
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert kept(ws, run) == {"deep/big.bin": digest}
    assert len(ws.ledger.facts(kind="artifact.logged")) == 1
    assert sorted(each.name for each in (folder / ".noria/uploads").glob("*/*")) == ["done"]


@pytest.fixture
def served(tmp_path: Path) -> tuple[Workspace, str, Client]:
    ws, run = begin(tmp_path / "project")
    return ws, run, Client(ws)


def created(client: Client, run: str, count: int = 2, **headers: str) -> Any:
    said = {"path": "big.bin", "num_parts": count}
    answer = client.post(f"{PROXY}/create/0/{run}/artifacts", json=said, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def completed(client: Client, run: str, upload: str, named: list[tuple[int, str]], path: str = "big.bin") -> Any:
    said = [{"part_number": number, "etag": tag} for number, tag in named]
    given = {"path": path, "upload_id": upload, "parts": said}
    return client.post(f"{PROXY}/complete/0/{run}/artifacts", json=given)


def test_the_addresses_of_parts_carry_the_callers_own_authorization(served: tuple[Workspace, str, Client]) -> None:
    _, run, client = served
    told = created(client, run, authorization="Bearer mine")
    assert [each["headers"] for each in told["credentials"]] == [{"Authorization": "Bearer mine"}] * 2
    for each in told["credentials"]:
        assert each["url"] == f"http://localhost{PROXY}/part/{told['upload_id']}/{each['part_number']}"
    assert [each["headers"] for each in created(client, run)["credentials"]] == [{}, {}]


def test_parts_come_in_any_order_and_again_and_only_whole_ones_count(served: tuple[Workspace, str, Client]) -> None:
    ws, run, client = served
    upload = created(client, run)["upload_id"]
    second = client.put(f"{PROXY}/part/{upload}/2", content=b"two").headers["etag"]
    early = completed(client, run, upload, [(1, '"x"'), (2, second)])
    assert (early.status_code, early.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    wrong = client.put(f"{PROXY}/part/{upload}/1", content=b"wrong").headers["etag"]
    first = client.put(f"{PROXY}/part/{upload}/1", content=b"one ").headers["etag"]
    assert completed(client, run, upload, [(1, wrong), (2, second)]).status_code == 400
    assert completed(client, run, upload, [(2, second), (1, first)]).status_code == 400
    assert completed(client, run, upload, [(1, first)]).status_code == 400
    assert completed(client, run, upload, [(1, first), (2, second)], path="other.bin").status_code == 400
    assert kept(ws, run) == {}
    assert completed(client, run, upload, [(1, first), (2, second)]).json() == {}
    assert client.get(f"{FILES}/artifacts/0/{run}/artifacts/big.bin").content == b"one two"
    assert client.put(f"{PROXY}/part/{upload}/1", content=b"late").status_code == 404
    assert client.put(f"{PROXY}/part/{'0' * 32}/1", content=b"x").status_code == 404
    assert client.put(f"{PROXY}/part/..%2f..%2fnoria/1", content=b"x").status_code == 404


@pytest.mark.parametrize("named", ["none", [1], [{"part_number": "x"}], [{}], {"a": 1}, None])
def test_parts_that_are_none_complete_nothing(served: tuple[Workspace, str, Client], named: Any) -> None:
    ws, run, client = served
    upload = created(client, run)["upload_id"]
    said = {"path": "big.bin", "upload_id": upload, "parts": named}
    assert client.post(f"{PROXY}/complete/0/{run}/artifacts", json=said).status_code == 400
    assert client.post(f"{PROXY}/complete/0/{run}/artifacts", json={**said, "upload_id": 5}).status_code in (400, 404)
    assert kept(ws, run) == {}


def test_an_upload_that_is_given_up_leaves_nothing(served: tuple[Workspace, str, Client]) -> None:
    ws, run, client = served
    upload = created(client, run)["upload_id"]
    client.put(f"{PROXY}/part/{upload}/1", content=b"one")
    said = {"path": "big.bin", "upload_id": upload}
    for _ in range(2):
        assert client.post(f"{PROXY}/abort/0/{run}/artifacts", json=said).json() == {}
    assert not (ws.project.state / "uploads" / upload).exists()
    old = created(client, run)["upload_id"]
    folder = ws.project.state / "uploads" / old
    os.utime(folder, (time.time() - 8 * 86400,) * 2)
    created(client, run)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"num_parts": 1}, 400),
        ({"path": "a", "num_parts": 10_001}, 400),
        ({"path": "a", "num_parts": -1}, 400),
        ({"path": "folder/", "num_parts": 1}, 400),
        ({"path": "a\\b", "num_parts": 1}, 400),
        ([], 400),
    ],
)
def test_what_is_no_upload_is_refused(served: tuple[Workspace, str, Client], given: Any, status: int) -> None:
    ws, run, client = served
    assert client.post(f"{PROXY}/create/0/{run}/artifacts", json=given).status_code == status
    assert client.post(f"{PROXY}/create/0/{run}/artifacts/../../x", json={"path": "a"}).status_code in (400, 404)
    assert client.post(f"{PROXY}/create/0/run_none/artifacts", json={"path": "a"}).status_code == 404
    assert not list((ws.project.state / "uploads").glob("*")) or given == {}


def test_stretches_of_a_file_are_given_as_asked(served: tuple[Workspace, str, Client], tmp_path: Path) -> None:
    ws, run, client = served
    place = tmp_path / "large.bin"
    place.write_bytes(CONTENT * 8)
    filing.keep_artifact(ws, run, "large.bin", place)
    whole, size = CONTENT * 8, len(CONTENT) * 8
    path = f"{FILES}/artifacts/0/{run}/artifacts/large.bin"
    told = client.get(f"{FILES}/presigned/0/{run}/artifacts/large.bin", headers={"authorization": "Bearer me"}).json()
    assert told == {
        "url": f"http://localhost{path}",
        "headers": {"Authorization": "Bearer me"},
        "file_size": size,
    }
    for asked, first, end in [
        ("bytes=0-0", 0, 1),
        ("bytes=5-1000000", 5, 1_000_001),
        (f"bytes={size - 3}-", size - 3, size),
        ("bytes=-10", size - 10, size),
        (f"bytes=7-{size * 2}", 7, size),
    ]:
        answer = client.get(path, headers={"range": asked})
        assert answer.status_code == 206, asked
        assert answer.content == whole[first:end], asked
        assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
    full = client.get(path)
    assert (full.status_code, full.content) == (200, whole)
    for asked in (f"bytes={size}-", "bytes=9-3", "bytes=-0"):
        assert client.get(path, headers={"range": asked}).status_code == 416, asked
    for headers in ({"range": "lines=1-2"}, {"range": "bytes=0-1,4-5"}, {"range": "bytes=0-0", "if-range": '"x"'}):
        assert client.get(path, headers=headers).content == whole, headers


SYNCS = ("fsync", "fdatasync")


@pytest.mark.parametrize("size", [0, 300, (64 << 10) - 1])
def test_a_small_artifact_is_on_disk_by_one_sync_of_its_bytes_and_one_of_its_fact(
    served: tuple[Workspace, str, Client], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    ws, run, client = served
    path = f"{FILES}/artifacts/0/{run}/artifacts/folder"
    for number in range(2):  # the first makes the pack, and the second a session of the log
        assert client.put(f"{path}/before{number}.bin", content=b"%d" % number).status_code == 200
    synced: list[str] = []
    for name in SYNCS:
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda handle, name=name, real=real: (synced.append(name), real(handle))[1])
    content = os.urandom(size)
    assert client.put(f"{path}/small.bin", content=content).status_code == 200
    assert synced == ["fsync", "fdatasync"], "the bytes, and then what names them"
    assert ws.objects.get_bytes(kept(ws, run)["folder/small.bin"]) == content
    assert client.get(f"{path}/small.bin").content == content
    head = ws.ledger.head()
    synced.clear()
    assert client.put(f"{path}/small.bin", content=content).status_code == 200
    assert (ws.ledger.head(), synced) == (head, []), "what is there already is not written again"
    assert client.put(f"{path}/small.bin", content=content + b"!").status_code == 200
    assert ws.objects.get_bytes(kept(ws, run)["folder/small.bin"]) == content + b"!"


def test_an_artifact_that_was_damaged_is_put_right_by_the_same_bytes(served: tuple[Workspace, str, Client]) -> None:
    ws, run, client = served
    path, content = f"{FILES}/artifacts/0/{run}/artifacts/note.txt", b"a note that is kept " * 20
    assert client.put(path, content=content).status_code == 200
    pack = next((ws.project.state / "objects" / "packs").glob("*.pack"))
    held = pack.read_bytes()
    assert held.count(content) == 1
    pack.write_bytes(held.replace(content, content.replace(b"kept", b"lost")))
    with pytest.raises(Corrupt):
        ws.objects.get_bytes(kept(ws, run)["note.txt"])
    assert client.put(path, content=content).status_code == 200
    assert ws.objects.get_bytes(kept(ws, run)["note.txt"]) == content


def test_a_file_of_a_logged_model_that_is_there_already_makes_no_fact(served: tuple[Workspace, str, Client]) -> None:
    ws, _, client = served
    model = client.post("/api/2.0/mlflow/logged-models", json={"experiment_id": "0", "name": "m"}).json()
    name = model["model"]["info"]["model_id"]
    path = f"{FILES}/artifacts/0/models/{name}/artifacts/MLmodel"
    for content, count in ((b"a", 1), (b"a", 1), (b"b", 2), (b"a", 3)):
        assert client.put(path, content=content).status_code == 200
        assert len(ws.ledger.facts(kind="logged_model.file")) == count
        assert client.get(path).content == content


def test_a_small_body_that_is_cut_keeps_nothing(served: tuple[Workspace, str, Client]) -> None:
    ws, run, client = served
    path, head = f"{FILES}/artifacts/0/{run}/artifacts/cut.txt", ws.ledger.head()
    for refused in (f"{FILES}/artifacts/0/run_none/artifacts/a", f"{FILES}/artifacts/0/{run}/artifacts"):
        assert client.put(refused, content=b"some").status_code == 404
    sent = [{"type": "http.request", "body": b"some", "more_body": True}, {"type": "http.disconnect"}]
    scope = {"type": "http", "method": "PUT", "headers": [(b"content-length", b"8")], "path_params": {"path": path}}

    async def receive() -> Any:
        return sent.pop(0)

    with pytest.raises(Refused, match="ended before its length"):
        asyncio.run(artifacts.upload(lambda: Wire(ws), ws, Request(scope, receive)))
    assert (kept(ws, run), ws.ledger.head()) == ({}, head)
