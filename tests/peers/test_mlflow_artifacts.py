"""Artifacts through the server, with MLflow's own client and beside its own server."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow_servers import Server, client, mlflow_server, noria, noria_server

from noria.bootstrap import open_workspace

if TYPE_CHECKING:
    from s3_server import S3Server

pytestmark = pytest.mark.peers
SCRIPT = Path(__file__).with_name("mlflow_artifact_script.py")
PARTS_SCRIPT = Path(__file__).with_name("mlflow_parts_script.py")
LARGE = 1 << 30
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
GROWTH_MAX = 96 << 20
"""What answering may add to a server's memory while 150 MiB go through it, up and down."""


def peak_bytes(pid: int) -> int:
    """The most memory that a process had so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_a_script_keeps_lists_and_reads_files_and_large_ones_do_not_fill_memory(tmp_path: Path) -> None:
    project, files = tmp_path / "project", tmp_path / "files"
    project.mkdir()
    files.mkdir()
    with noria_server(project) as server:
        server.call("GET", "experiments/get?experiment_id=0")
        pid = json.loads((project / ".noria/up.json").read_text())["children"]["server"]
        before = peak_bytes(pid)
        said = client(SCRIPT, server.url, project, str(files))
        grown = peak_bytes(pid) - before
        shown = noria(project, "experiments", "show", said["run"])
    kept = {each["name"]: each["digest"] for each in shown["artifacts"]}
    assert kept["large.bin"].removeprefix("sha256:") == said["sha256"]
    assert kept["one.txt"] == kept["in/side/one.txt"] == kept["all/one.txt"]
    assert grown < GROWTH_MAX, f"{grown >> 20} MiB"
    facts = open_workspace(project).ledger.facts(kind="artifact.logged")
    assert {fact.subject for fact in facts} == {f"run/{said['run']}"}
    assert not list((project / ".noria/incoming").glob("*/uploads/*")), "an upload was left"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    theirs, ours = tmp_path_factory.mktemp("theirs"), tmp_path_factory.mktemp("ours")
    with mlflow_server(theirs) as their_server, noria_server(ours) as our_server:
        yield their_server, our_server


def test_paths_are_answered_as_by_mlflows_own_server(servers: tuple[Server, Server]) -> None:
    answers: list[list[Any]] = []
    for server in servers:
        made = server.call("POST", "runs/create", {"experiment_id": "0", "start_time": 1, "run_name": "r"})[1]
        run = made["run"]["info"]["run_id"]
        root = f"{PROXY}/0/{run}/artifacts"
        steps: list[tuple[str, str, bytes | None]] = [
            ("PUT", f"{root}/a.txt", b"first"),
            ("PUT", f"{root}/a.txt", b"second"),
            ("PUT", f"{root}/in/b%20c.txt", b"x" * 100),
            ("GET", f"{root}/a.txt", None),
            ("GET", f"{root}/in/b%20c.txt", None),
            ("GET", f"{root}/in", None),
            ("GET", f"{PROXY}?path=0/{run}/artifacts", None),
            ("GET", f"{PROXY}?path=0/{run}/artifacts/in", None),
            ("GET", f"{PROXY}?path=0/{run}/artifacts/a.txt", None),
            ("GET", f"{PROXY}?path=0/{run}/artifacts/nothing", None),
            ("GET", f"{PROXY}?path=../../etc", None),
            ("GET", f"{PROXY}?path=/etc", None),
            ("GET", f"{root}/..%2f..%2f..%2fstore.db", None),
            ("PUT", f"{root}/..%2f..%2fevil", b"x"),
            ("PUT", f"{root}/a%23b", b"x"),
            ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}", None),
            ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}&path=in", None),
            ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}&path=nothing", None),
            ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}&path=../..", None),
            ("GET", "/api/2.0/mlflow/artifacts/list?run_id=nobody", None),
            ("GET", "/api/2.0/mlflow/artifacts/list", None),
            ("DELETE", f"{root}/in", None),
            ("GET", f"{PROXY}?path=0/{run}/artifacts", None),
        ]
        found = []
        for method, path, body in steps:
            status, text = server.send(method, path, body)
            found.append([method, path.replace(run, "RUN"), status, text.replace(run, "RUN")])
        answers.append(found)
    for theirs, ours in zip(*answers, strict=True):
        assert ours[2] < 500, ours
        assert ours[:3] == theirs[:3], (ours, theirs)
        if theirs[3][:1] != "{":
            assert ours[3] == theirs[3]
        elif "detail" not in json.loads(theirs[3]):  # some of its refusals are its framework's: only the status counts
            assert json.loads(ours[3]) == json.loads(theirs[3]), ours[1]


BROKEN_UPLOADS = [
    ("create", {}),
    ("create", {"num_parts": 2}),
    ("create", {"path": 5, "num_parts": 2}),
    ("create", {"path": "", "num_parts": 2}),
    ("create", {"path": "a", "num_parts": "two"}),
    ("complete", {"path": "a", "upload_id": "b"}),
    ("complete", {"upload_id": "b", "parts": []}),
    ("complete", {"path": "a", "upload_id": 7, "parts": [{"part_number": 1}]}),
    ("abort", {"upload_id": "b"}),
    ("abort", {"path": ["a"], "upload_id": "b"}),
]


def test_broken_uploads_are_refused_as_by_mlflows_own_server(servers: tuple[Server, Server]) -> None:
    for verb, given in BROKEN_UPLOADS:
        answers = []
        for server in servers:
            path = f"/api/2.0/mlflow-artifacts/mpu/{verb}/0/run/artifacts"
            status, text = server.send("POST", path, json.dumps(given).encode())
            answers.append((status, json.loads(text)))
        assert answers[0][0] == 400, (verb, given, answers[0])
        assert answers[1] == answers[0], (verb, given)


def test_a_large_file_goes_in_parts_and_comes_in_stretches_and_does_not_fill_memory(tmp_path: Path) -> None:
    project, files = tmp_path / "project", tmp_path / "files"
    project.mkdir()
    files.mkdir()
    with noria_server(project) as server:
        server.call("GET", "experiments/get?experiment_id=0")
        pid = json.loads((project / ".noria/up.json").read_text())["children"]["server"]
        before = peak_bytes(pid)
        said = client(PARTS_SCRIPT, server.url, project, str(files), str(LARGE))
        grown = peak_bytes(pid) - before
        shown = noria(project, "experiments", "show", said["run"])
    kept = {each["name"]: each["digest"].removeprefix("sha256:") for each in shown["artifacts"]}
    assert kept == {"in/large.bin": said["sha256"]}
    assert grown < GROWTH_MAX, f"{grown >> 20} MiB"
    assert [each.name for each in (project / ".noria/uploads").glob("*/*")] == ["done"], "it went in parts"


def test_large_files_go_past_the_server_to_s3_and_come_from_there(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint)
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(100 << 20))
    project, files = tmp_path / "project", tmp_path / "files"
    project.mkdir()
    files.mkdir()
    settings = f'[server]\nartifacts = "direct"\n[store]\nobjects = "{s3_server.new_bucket()}"\n'
    (project / "noria.toml").write_text(f'[project]\nname = "past"\n{settings}')
    with noria_server(project) as server:
        server.call("GET", "experiments/get?experiment_id=0")
        pid = json.loads((project / ".noria/up.json").read_text())["children"]["server"]
        before = peak_bytes(pid)
        said = client(PARTS_SCRIPT, server.url, project, str(files), str(200 << 20))
        grown = peak_bytes(pid) - before
        shown = noria(project, "experiments", "show", said["run"])
        url = f"{PROXY}/0/{said['run']}/artifacts/in/large.bin".replace("/artifacts/0", "/presigned/0")
        address = json.loads(server.send("GET", url)[1])
    kept = {each["name"]: each["digest"].removeprefix("sha256:") for each in shown["artifacts"]}
    assert kept == {"in/large.bin": said["sha256"]}
    assert address["url"].startswith(s3_server.endpoint)
    assert grown < GROWTH_MAX, f"{grown >> 20} MiB"
    assert not (project / ".noria/uploads").exists(), "it went through the server"


def test_a_cut_upload_leaves_nothing(servers: tuple[Server, Server]) -> None:
    _, server = servers
    made = server.call("POST", "runs/create", {"experiment_id": "0", "start_time": 1, "run_name": "cut"})[1]
    run = made["run"]["info"]["run_id"]
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"PUT {PROXY}/0/{run}/artifacts/half HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 400_000)
    assert server.send("PUT", f"{PROXY}/0/{run}/artifacts/whole", b"y")[0] == 200
    listed = json.loads(server.send("GET", f"{PROXY}?path=0/{run}/artifacts")[1])
    assert [each["path"] for each in listed["files"]] == ["whole"]
