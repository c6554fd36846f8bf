"""A Ray cluster of one node on this machine, started before anything is measured and gone afterwards.

Whoever works on a cluster finds it there: to start it takes longer than what is measured. So its own
processes are not in the figures, neither their seconds nor their memory.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from cost import Failure

START_S = 240.0
OBJECT_STORE_BYTES = 200 << 20


class Node:
    """The head of a cluster with as many places as this machine has cores; it lives until `close`."""

    def __init__(self, python: Path, environment: Mapping[str, str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="nr-", dir="/tmp"))  # Ray's sockets need a short path
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.settings = {
            "RAY_ADDRESS": f"127.0.0.1:{port}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        begin = [str(python), "-m", "ray.scripts.scripts", "start", "--head", "--block", "--include-dashboard", "false"]
        size = ["--num-cpus", str(os.cpu_count() or 1), "--object-store-memory", str(OBJECT_STORE_BYTES)]
        self._told = {**environment, **self.settings}
        del self._told["RAY_ADDRESS"]  # else it would join
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*begin, *size, "--port", str(port), "--temp-dir", str(self._folder)],
                env=self._told,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait(python)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it, with all that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, number)
                try:
                    self._process.wait(20)
                except subprocess.TimeoutExpired:
                    continue
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, python: Path) -> None:
        """Until a task has run on it: then its workers are there too."""
        code = "import ray; ray.init('auto', log_to_driver=False); ray.get(ray.remote(lambda: 1).remote())"
        until = time.monotonic() + START_S
        while True:
            asked = subprocess.run(
                [str(python), "-c", code],
                env={**self._told, **self.settings},
                check=False,
                capture_output=True,
                text=True,
                timeout=START_S,
            )
            if asked.returncode == 0:
                return
            if self._process.poll() is not None or time.monotonic() > until:
                said = (self._folder / "log").read_text(errors="replace")
                raise Failure(f"its cluster did not start: {(said or asked.stderr).strip()[-300:]}")
            time.sleep(0.5)
