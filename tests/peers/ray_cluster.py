"""Ray clusters on this machine for tests: bounded, without a dashboard, and gone at the end."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-peers/ray/bin/python"
LIMIT_S = 240.0
OBJECT_STORE_BYTES = 200 << 20


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would steer Noria or Ray; the source of Noria runs in Ray's environment."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NORIA_", "RAY_"))}
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
    return {**kept, **quiet, "PYTHONPATH": str(ROOT / "src"), **more}


def until(is_true: Callable[[], object], what: str = "") -> None:
    """Wait for it, with a limit."""
    give_up = time.monotonic() + LIMIT_S
    while not is_true():
        assert time.monotonic() < give_up, f"it did not come true within {LIMIT_S:.0f} s: {what}"
        time.sleep(0.05)


class Cluster:
    """Nodes of one cluster: each a `ray start --block`, and all that it started."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nr-", dir="/tmp"))  # Ray's sockets need a short path
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    def add(self, *, cpus: int = 2, gpus: int = 0) -> subprocess.Popen[bytes]:
        """Start a node; the first is the head. It is there when the cluster says so."""
        port = self.address.rpartition(":")[2]
        if self.nodes:
            place = ["--address", self.address]
        else:
            place = ["--head", "--port", port, "--include-dashboard", "false", "--temp-dir", str(self.folder)]
        size = ["--num-cpus", str(cpus), "--object-store-memory", str(OBJECT_STORE_BYTES), "--memory", str(4 << 30),
                "--num-gpus", str(gpus)]  # fmt: skip
        with (self.folder / f"node{len(self.nodes)}.log").open("wb") as log:
            node = subprocess.Popen(
                [str(PYTHON), "-m", "ray.scripts.scripts", "start", *place, *size, "--block"],
                env=environment(**self.variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(node)
        until(lambda: self._alive() >= len(self.nodes) or node.poll() is not None, "a node joins")
        assert node.poll() is None, (self.folder / f"node{len(self.nodes) - 1}.log").read_text()
        return node

    def _alive(self) -> int:
        """How many nodes have a place for work."""
        asked = subprocess.run(
            [str(PYTHON), "-c",
             "import ray, sys\n"
             "ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)\n"
             "print(sum(n['Alive'] for n in ray.nodes()))", self.address],
            env=environment(**self.variables), capture_output=True, text=True, check=False,
        )  # fmt: skip
        return int(asked.stdout.split()[-1]) if asked.returncode == 0 and asked.stdout.split() else 0

    def close(self) -> None:
        """Kill every process of it."""
        for node in reversed(self.nodes):
            end(node.pid)
            node.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def end(pid: int, *, name: str = "") -> list[int]:
    """kill -9 of a process and all that it started (with a name: only of those called so); the pids."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    found = []
    for each in family:
        try:
            if not name or name in " ".join(each.cmdline()):
                os.kill(each.pid, signal.SIGKILL)
                found.append(each.pid)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue  # gone by itself
    return found


@contextmanager
def cluster(*, nodes: int = 1, cpus: int = 2, gpus: int = 0) -> Iterator[Cluster]:
    """A cluster with so many nodes."""
    made = Cluster()
    try:
        for _ in range(nodes):
            made.add(cpus=cpus, gpus=gpus)
        yield made
    finally:
        made.close()
