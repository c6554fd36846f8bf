"""`noria up` in a project, ended or killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["free_port", "started"]

START_S = 120.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def started(folder: Path, *, kill: bool = False) -> Iterator[int]:
    """`noria up` in the project of a folder, on the port that this gives; `kill` kills all of it at the end."""
    port = free_port()
    with (folder / "up.out").open("ab") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("noria")), "up", "--port", str(port)],
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    try:
        _wait(process, port, folder / "up.out")
        yield port
    finally:
        if kill:
            children = json.loads((folder / ".noria/up.json").read_text(encoding="utf-8"))["children"]
            process.kill()
            for child in children.values():
                with suppress(ProcessLookupError):  # it may have seen its parent's end
                    os.kill(child, signal.SIGKILL)
        else:
            process.terminate()
        process.wait(60)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    limit = time.monotonic() + START_S
    while time.monotonic() < limit:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
        finally:
            connection.close()
    raise AssertionError(f"no answer within {START_S} s: {log.read_text(encoding='utf-8')}")
