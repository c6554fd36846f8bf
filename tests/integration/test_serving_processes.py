"""`noria up`: the processes, their restarts, and the refusals before anything starts."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from serving_client import wait_for
from serving_project import MODEL, make_project, make_release, rows

from noria.config import ServerConfig, load_project
from noria.core.errors import Conflict, Denied, NoriaError
from noria.faces.http.supervisor import up
from noria.serving.deployment import deploy
from noria.testing.processes import is_running

CODE = """
import sys
from pathlib import Path
from noria.config import load_project
from noria.faces.http.supervisor import up
sys.exit(up(load_project(Path(sys.argv[1])), port=0))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("up")
    ws = make_project(place)
    make_release(ws)
    deploy(ws, MODEL)
    return place


@pytest.fixture
def running(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", CODE, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert b"noria is up" in process.stdout.readline()
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def told(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / ".noria" / "up.json").read_text())
    return found


def ask(root: Path) -> int:
    host, _, port = told(root)["url"].removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request("POST", "/predict", json.dumps({"row": rows(1)[0]}))
        return connection.getresponse().status
    finally:
        connection.close()


def another(root: Path, name: str, before: int) -> int:
    """The pid of a child once it is another living process; else 0."""
    pid = int(told(root)["children"][name])
    return pid if pid != before and is_running(pid) else 0


def test_each_process_that_is_killed_comes_back(root: Path, running: subprocess.Popen[bytes]) -> None:
    assert ask(root) == 200
    for name in ("server", "controller", "trainer", "server"):
        before = wait_for(lambda name=name: told(root)["children"].get(name), what=f"the first {name}")
        os.kill(before, signal.SIGKILL)
        after = wait_for(partial(another, root, name, before), what=f"a new {name}")
        assert after != before
        assert ask(root) == 200, "a connection made while no server ran waits for the next one"


def test_it_says_that_it_is_up_when_the_server_answers(root: Path, running: subprocess.Popen[bytes]) -> None:
    log = (root / ".noria" / "logs" / "server.log").read_text(encoding="utf-8")
    begun = [line for line in log.splitlines() if "ready on" in line]
    port = told(root)["url"].rpartition(":")[2]
    assert begun, "the server has not loaded what is deployed"
    assert f":{port} after" in begun[-1]
    assert ask(root) == 200


def test_a_server_alone_answers_and_leaves_jobs_to_another(root: Path) -> None:
    words = [sys.executable, "-m", "noria", "up", "--server", "--port", "0"]
    process = subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert b"noria is up" in process.stdout.readline()
        assert ask(root) == 200
        wait_for(lambda: "controller" in told(root)["children"], what="the controller")
        assert set(told(root)["children"]) == {"server", "controller"}
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
        process.stdout.close()
    done = subprocess.run(
        [sys.executable, "-m", "noria", "up", "--demo", "--server"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--server does not go with --demo" in done.stderr


def test_nobody_is_left_when_the_supervisor_is_killed(root: Path, running: subprocess.Popen[bytes]) -> None:
    assert ask(root) == 200
    wait_for(lambda: "trainer" in told(root)["children"], what="the trainer")
    children = list(told(root)["children"].values())
    running.kill()
    running.wait()
    wait_for(lambda: not any(is_running(pid) for pid in children), what="the end of the children")


def test_an_up_right_after_a_kill_waits_for_the_port(root: Path, running: subprocess.Popen[bytes]) -> None:
    url = told(root)["url"]
    running.kill()
    running.wait()
    again = CODE.replace("port=0", f"port={url.rpartition(':')[2]}")
    second = subprocess.Popen([sys.executable, "-c", again, str(root)], stdout=subprocess.PIPE)
    assert second.stdout is not None
    try:
        assert b"noria is up" in second.stdout.readline()
        assert told(root)["url"] == url
        assert ask(root) == 200
    finally:
        second.terminate()
        second.wait(timeout=30)
        second.stdout.close()


def test_a_second_up_of_the_same_project_is_refused(root: Path, running: subprocess.Popen[bytes]) -> None:
    with pytest.raises(Conflict, match="up already"):
        up(load_project(root), port=0)


def test_a_port_in_use_is_refused_before_anything_starts(root: Path) -> None:
    (root / ".noria" / "up.json").unlink(missing_ok=True)  # another test may have killed its supervisor
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Conflict, match="in use"):
            up(load_project(root), port=taken.getsockname()[1])
    assert not (root / ".noria" / "up.json").exists()


def test_an_address_beyond_this_machine_needs_a_token(root: Path) -> None:
    with pytest.raises(Denied, match="no token"):
        up(load_project(root), host="0.0.0.0", port=0)
    with pytest.raises(Denied):
        up(replace(load_project(root), server=ServerConfig(host="0.0.0.0")), port=0)


def started_in(place: Path) -> list[int]:
    """The processes of a folder's `noria up`, by what they were started with."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal() and is_running(int(each.name)):
            with suppress(FileNotFoundError, ProcessLookupError):
                words = (each / "cmdline").read_bytes().split(b"\0")
                found += [int(each.name)] if os.fsencode(place) in words else []
    return found


def test_a_ledger_that_cannot_be_opened_leaves_nobody_behind(tmp_path: Path) -> None:
    make_project(tmp_path)
    for each in (tmp_path / ".noria").glob("ledger.db*"):
        each.unlink()
    (tmp_path / ".noria" / "ledger.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(NoriaError):
        up(load_project(tmp_path), port=0)
    assert not (tmp_path / ".noria" / "up.json").exists()
    assert started_in(tmp_path) == []


@contextmanager
def held(place: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A held server of a new project: its process, its port, and where it says that it answers."""
    (place / "noria.toml").write_text('[project]\nname = "held"\n')
    hear, ready = os.pipe()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        words = [sys.executable, "-m", "noria.faces.server", "--root", str(place), "--fd", str(listening.fileno())]
        process = subprocess.Popen(
            [*words, "--held", "--ready", str(ready)], pass_fds=(listening.fileno(), ready), stdin=subprocess.PIPE
        )
        os.close(ready)
        try:
            yield process, listening.getsockname()[1], hear
        finally:
            os.close(hear)
            process.kill()
            process.communicate()


def test_a_held_server_opens_nothing_before_it_is_let_go(tmp_path: Path) -> None:
    with held(tmp_path) as (process, _, hear):
        process.communicate(timeout=60)  # its standard input ends: who held it is gone
        assert process.returncode == 0
        assert os.read(hear, 1) == b"", "it never answered"
    assert [path.name for path in tmp_path.iterdir()] == ["noria.toml"]


def test_a_held_server_that_is_let_go_says_when_it_answers(tmp_path: Path) -> None:
    with held(tmp_path) as (process, port, hear):
        assert process.stdin is not None
        process.stdin.write(b"g")
        process.stdin.flush()
        assert os.read(hear, 1) == b"r"
        for path, body in (("/healthz", b'"ok":true'), ("/health", b"OK")):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, body in answer.read()) == (200, True)
            connection.close()


def test_what_holds_the_socket_starts_the_server_before_it_loads_the_ledger() -> None:
    code = "import sys, noria.faces.cli.up; sys.exit(any(name in sys.modules for name in ('sqlalchemy', 'asyncio')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_deployed_and_cannot_be_loaded_is_said_by_up(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "copy"
    shutil.copytree(root, place)
    for path in (place / ".noria" / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-c", CODE, str(place)], stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        wait_for(lambda: "cannot be loaded" in errors.read_text(), what="the warning")
    finally:
        process.terminate()
        process.wait(timeout=30)
    assert f"noria rollback {MODEL}" in errors.read_text()
