"""The installed command: what it says, how fast it starts, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

READY_S = 60.0
Environment = Mapping[str, str]


def noria(environment: Environment, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return subprocess.run(
        ["noria", *words], cwd=folder, env=dict(environment), check=False, capture_output=True, text=True
    )


def until_up(folder: Path, process: subprocess.Popen[str]) -> str:
    """The address of the server of a project, once it answers."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        told = folder / ".noria" / "up.json"
        if told.exists():
            url = str(json.loads(told.read_text(encoding="utf-8"))["url"])
            try:
                with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:
                    if answer.status == 200:
                        return url
            except OSError:
                pass
        time.sleep(0.05)
    raise AssertionError(f"no answer within {READY_S} s")


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
    server = subprocess.Popen(
        ["noria", "up", "--port", "0"], cwd=project, env=dict(noria_env), stdout=subprocess.PIPE, text=True
    )
    try:
        url = until_up(project, server)
        with urllib.request.urlopen(f"{url}/", timeout=10) as answer:
            assert "shop" in answer.read().decode()
        again = noria(noria_env, project, "up", "--port", "0")
        assert again.returncode == 2
        assert "is up already" in again.stderr
        far = noria({**noria_env, "NORIA_SERVER": url}, project, "data", "list", "--json")
        assert json.loads(far.stdout) == []
        wrong = noria({**noria_env, "NORIA_SERVER": url}, project, "data", "log", "nothing")
        assert (wrong.returncode, "nothing" in wrong.stderr) == (2, True)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    assert server.returncode == 0
    assert not (project / ".noria" / "up.json").exists()


def test_a_port_in_use_is_one_clear_error(noria_env: Environment, project: Path) -> None:
    import socket

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


def test_an_interrupt_ends_a_command_cleanly_with_130(noria_env: Environment, project: Path) -> None:
    watching = subprocess.Popen(
        ["noria", "watch", "--every", "3600", "--json"],
        cwd=project,
        env=dict(noria_env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # without a model watch ends at once with a usage error; the verb that waits is the server's
    assert watching.wait(30) == 2
    server = subprocess.Popen(
        ["noria", "up", "--port", "0"], cwd=project, env=dict(noria_env), stdout=subprocess.PIPE, text=True
    )
    until_up(project, server)
    server.send_signal(signal.SIGINT)
    assert server.wait(30) in (0, 130)


def test_a_demo_whose_folder_is_another_project_is_refused(noria_env: Environment, tmp_path: Path) -> None:
    assert noria(noria_env, tmp_path, "init", "noria-demo", "--template", "tabular").returncode == 0
    done = noria(noria_env, tmp_path, "up", "--demo", "--exit", "--port", "0")
    assert done.returncode == 2
    assert "year.py" in done.stderr


def test_no_process_is_left_when_the_demo_is_killed(noria_env: Environment, tmp_path: Path) -> None:
    """The server that the demo starts ends with it, however it ends."""
    demo = tmp_path / "noria-demo"
    assert noria(noria_env, tmp_path, "init", "noria-demo", "--template", "tabular").returncode == 0
    (demo / "year.py").write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    playing = subprocess.Popen(
        ["noria", "up", "--demo", "--port", "0"], cwd=tmp_path, env=dict(noria_env), stdout=subprocess.PIPE, text=True
    )
    until_up(demo, playing)
    told = json.loads((demo / ".noria" / "up.json").read_text(encoding="utf-8"))
    pids = [told["pid"], *told["children"].values()]
    playing.kill()
    playing.wait()
    deadline = time.monotonic() + 30
    while any(_is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in pids if _is_alive(pid)] == []


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3] if Path("/proc").is_dir() else True
