"""The installed command: what it says, how it serves, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from live import Environment, ask, noria, serving, until_up

from noria.testing.processes import is_running


@pytest.fixture
def project(noria_env: Environment, tmp_path: Path) -> Path:
    """A project without a model."""
    assert noria(noria_env, tmp_path, "init", "shop").returncode == 0
    return tmp_path / "shop"


def test_the_package_is_whole_and_starts_without_this_checkout(noria_env: Environment, tmp_path: Path) -> None:
    assert noria(noria_env, tmp_path, "--version").stdout.startswith("noria ")
    code = "import noria, pathlib, sys; print(pathlib.Path(noria.__file__).is_relative_to(sys.prefix))"
    done = subprocess.run(["python", "-c", code], env=dict(noria_env), check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True"


def test_a_server_starts_answers_and_stops(noria_env: Environment, project: Path) -> None:
    with serving(noria_env, project) as (url, server):
        with urllib.request.urlopen(f"{url}/", timeout=30) as answer:
            assert "shop" in answer.read().decode()
        assert len(ask(url, "/api/v1")["verbs"]) > 30  # type: ignore[arg-type]  # a list
        again = noria(noria_env, project, "up", "--port", "0")
        assert again.returncode == 2
        assert "is up already" in again.stderr
        far = noria({**noria_env, "NORIA_SERVER": url}, project, "data", "list", "--json")
        assert json.loads(far.stdout) == []
        wrong = noria({**noria_env, "NORIA_SERVER": url}, project, "data", "log", "nothing")
        assert (wrong.returncode, "nothing" in wrong.stderr) == (2, True)
    assert server.returncode == 0
    assert not (project / ".noria" / "up.json").exists()


def test_a_port_in_use_is_one_clear_error(noria_env: Environment, project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = noria(noria_env, project, "up", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert len(done.stderr.splitlines()) <= 6


def test_other_machines_need_a_token(noria_env: Environment, project: Path) -> None:
    done = noria(noria_env, project, "up", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "token" in done.stderr


def test_an_interrupt_stops_a_server_cleanly(noria_env: Environment, project: Path) -> None:
    with serving(noria_env, project) as (_, server):
        told = json.loads((project / ".noria" / "up.json").read_text(encoding="utf-8"))
        server.send_signal(signal.SIGINT)
        server.wait(30)
    assert server.returncode in (0, 130)
    assert [pid for pid in told["children"].values() if is_running(pid)] == []


def test_an_interrupt_ends_a_command_with_130_and_no_traceback(noria_env: Environment, tmp_path: Path) -> None:
    demo = tmp_path / "noria-demo"
    assert noria(noria_env, tmp_path, "init", "noria-demo").returncode == 0
    (demo / "year.py").write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    log = tmp_path / "log"
    with log.open("wb") as output:
        playing = subprocess.Popen(
            ["noria", "up", "--demo", "--port", "0"], cwd=tmp_path, env=dict(noria_env), stdout=output, stderr=output
        )
    until_up(demo, playing)
    playing.send_signal(signal.SIGINT)
    assert playing.wait(30) == 130
    assert "interrupted" in log.read_text(encoding="utf-8")
    assert "noria/faces" not in log.read_text(encoding="utf-8"), "no traceback of ours"


def test_a_demo_whose_folder_is_another_project_is_refused(noria_env: Environment, tmp_path: Path) -> None:
    assert noria(noria_env, tmp_path, "init", "noria-demo").returncode == 0
    done = noria(noria_env, tmp_path, "up", "--demo", "--exit", "--port", "0")
    assert done.returncode == 2
    assert "year.py" in done.stderr


def test_no_process_is_left_when_the_demo_is_killed(noria_env: Environment, tmp_path: Path) -> None:
    demo = tmp_path / "noria-demo"
    assert noria(noria_env, tmp_path, "init", "noria-demo").returncode == 0
    (demo / "year.py").write_text("import time\ntime.sleep(10)\n", encoding="utf-8")
    playing = subprocess.Popen(
        ["noria", "up", "--demo", "--port", "0"], cwd=tmp_path, env=dict(noria_env), stdout=subprocess.DEVNULL
    )
    until_up(demo, playing)
    told = json.loads((demo / ".noria" / "up.json").read_text(encoding="utf-8"))
    pids = [told["pid"], *told["children"].values()]
    playing.kill()
    playing.wait(30)
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in pids if is_running(pid)] == []
