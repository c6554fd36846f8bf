"""The real MLflow server and Noria's, each with a store of its own, and requests to both."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-peers"
BIN = ENVIRONMENTS / "mlflow/bin"
NORIA = ROOT / ".venv/bin/noria"
START_S = 400.0
"""A loaded machine needs long for a server of that size."""
CLIENT_S = 900.0
IDLE_S = 1.0
"""A connection that rested so long is opened again: a server may be closing it just now."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """A server's address, and plain requests to it on one connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._used = time.monotonic()

    def close(self) -> None:
        """Close the connection; the next request opens one."""
        self._connection.close()

    def kill(self) -> None:
        """Kill the server where it stands."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str = "application/json",
        more: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """The status and text of an answer; `more` are further headers."""
        if time.monotonic() - self._used > IDLE_S:
            self.close()
        headers = {**({"content-type": kind} if body is not None else {}), **(more or {})}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read().decode()
        except (http.client.HTTPException, OSError):
            self.close()
            raise
        finally:
            self._used = time.monotonic()

    def call(self, method: str, endpoint: str, given: Any = None, version: str = "2.0") -> tuple[int, Any]:
        """The status and JSON of an answer; `given` is the JSON of the request."""
        body = None if given is None else json.dumps(given).encode()
        status, text = self.send(method, f"/api/{version}/mlflow/{endpoint}", body)
        return status, json.loads(text)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """MLflow's own server on a new SQLite store."""
    port = free_port()
    words = [str(BIN / "mlflow"), "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", f"sqlite:///{folder / 'store.db'}"]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PATH": f"{BIN}:{os.environ['PATH']}"}
    with _running(words, folder, environ, port) as server:
        yield server


@contextmanager
def noria_server(folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`noria up` in a project; a new one if there is none."""
    if not (folder / "noria.toml").is_file():
        (folder / "noria.toml").write_text('[project]\nname = "wired"\n', encoding="utf-8")
    port = free_port()
    given = {**os.environ, **(environ or {})}
    with _running([str(NORIA), "up", "--port", str(port)], folder, given, port) as server:
        yield server


def client(script: str | Path, url: str, folder: Path, *words: str, environment: str = "mlflow") -> dict[str, Any]:
    """What a script of one of the environments with MLflow printed on its last line."""
    environ = {**os.environ, "MLFLOW_TRACKING_URI": url, "GIT_PYTHON_REFRESH": "quiet"}
    given = [str(script)] if isinstance(script, Path) else ["-c", script]
    done = subprocess.run(
        [str(ENVIRONMENTS / environment / "bin/python"), *given, *words],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=CLIENT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def noria(folder: Path, *words: str) -> Any:
    """What a `noria` command says as JSON."""
    done = subprocess.run(
        [str(NORIA), *words, "--json"], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@contextmanager
def _running(words: list[str], folder: Path, environ: Mapping[str, str], port: int) -> Iterator[Server]:
    log = folder / "server.out"
    with log.open("wb") as output:
        process = subprocess.Popen(words, cwd=folder, env=environ, stdout=output, stderr=output)
    try:
        server = Server(port)
        server.process = process
        _wait(process, server, log)
        yield server
    finally:
        server.close()
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], server: Server, log: Path) -> None:
    limit = time.monotonic() + START_S
    while time.monotonic() < limit:
        assert process.poll() is None, log.read_text()
        try:
            if server.send("GET", "/health")[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
    raise AssertionError(f"no answer within {START_S} s: {log.read_text()}")
