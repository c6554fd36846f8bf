"""The servers that are compared, each with a store of its own, and one plain client for all of them.

MLflow's own server with one worker, the same as it starts by default (several workers, whose sockets do not set
TCP_NODELAY: each answer on a kept connection waits some 40 ms for the client's delayed acknowledgement), and
`noria up`. The client is the standard library's, on one connection that is kept.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NORIA = Path(sys.executable).parent / "noria"
MLFLOW = ROOT / ".venv-peers/mlflow/bin"
NAMES = ("noria", "mlflow, 1 worker", "mlflow, default")
START_S = 600.0
STOP_S = 60.0
IDLE_S = 2.0
"""After that long without a request a client connects anew: the servers close what idles, the first after 5 s."""


class Client:
    """Requests to a server, one after the other, on one connection that is kept while it is used."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        self._used = time.monotonic()

    def send(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """The body of an answer. Raises: RuntimeError for any status but 200."""
        if time.monotonic() - self._used > IDLE_S:
            self._connection.close()  # the next request opens it
        self._connection.request(method, path, body, {"content-type": kind} if body is not None else {})
        answer = self._connection.getresponse()
        content = answer.read()
        self._used = time.monotonic()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return content

    def call(self, method: str, endpoint: str, given: Any = None) -> dict[str, Any]:
        """The JSON of an answer of MLflow's REST interface."""
        body = None if given is None else json.dumps(given).encode()
        found: dict[str, Any] = json.loads(self.send(method, f"/api/2.0/mlflow/{endpoint}", body) or b"{}")
        return found

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass(frozen=True)
class Server:
    """A server that answers: its port, the pid of its first process, and how long the first answer took."""

    name: str
    port: int
    pid: int
    start_s: float

    def client(self) -> Client:
        """A new client."""
        return Client(self.port)

    def memory_mb(self) -> tuple[float, float, int]:
        """(MB of all processes, of the largest, how many), each by its proportional share (PSS)."""
        shares = [_pss(pid) for pid in (self.pid, *_children(self.pid))]
        return sum(shares) / 1e6, max(shares) / 1e6, len(shares)


@contextmanager
def running(name: str, folder: Path) -> Iterator[Server]:
    """One of the servers by its name, on a new store below `folder`."""
    folder.mkdir(parents=True)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    words, environ = _command(name, folder, port)
    with (folder / "server.log").open("wb") as log:
        begun = time.perf_counter()
        process = subprocess.Popen(words, cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(process, port, folder / "server.log")
        yield Server(name, port, process.pid, time.perf_counter() - begun)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _command(name: str, folder: Path, port: int) -> tuple[list[str], Mapping[str, str]]:
    if name == "noria":
        (folder / "noria.toml").write_text('[project]\nname = "bench"\n', encoding="utf-8")
        return [str(NORIA), "up", "--port", str(port)], os.environ
    words = [str(MLFLOW / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", f"sqlite:///{folder / 'store.db'}"]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    words += ["--workers", "1"] if name.endswith("1 worker") else []
    return words, {**os.environ, "PATH": f"{MLFLOW}:{os.environ['PATH']}"}


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    limit = time.monotonic() + START_S
    while time.monotonic() < limit:
        if process.poll() is not None:
            break
        client = Client(port)
        try:
            client.send("GET", "/health")
            return
        except (OSError, http.client.HTTPException, RuntimeError):
            time.sleep(0.02)
        finally:
            client.close()
    raise SystemExit(f"{log} says why there is no answer:\n{log.read_text()[-2000:]}")


def _children(pid: int) -> list[int]:
    """The processes below one, at any depth."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *_children(child)]
    return found


def _pss(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.split("Pss:")[1].split()[0]) * 1024
