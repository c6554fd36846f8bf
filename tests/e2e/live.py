"""Commands and servers of the installed package, as these tests use them."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

READY_S = 60.0
Environment = Mapping[str, str]


def noria(environment: Environment, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command and keep what it prints."""
    return subprocess.run(
        ["noria", *words], cwd=folder, env=dict(environment), check=False, capture_output=True, text=True
    )


def until_up(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the server of a project, once it answers."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"it ended with {process.returncode}"
        told = folder / ".noria" / "up.json"
        if told.exists():
            url = str(json.loads(told.read_text(encoding="utf-8"))["url"])
            if is_answering(url):
                return url
        time.sleep(0.05)
    raise AssertionError(f"no answer within {READY_S} s")


def is_answering(url: str) -> bool:
    """Whether a server says that it is well."""
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def serving(environment: Environment, folder: Path, *words: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`noria up` on a free port: its address and its process. Stopped at the end, if it still runs."""
    server = subprocess.Popen(
        ["noria", "up", "--port", "0", *words], cwd=folder, env=dict(environment), stdout=subprocess.DEVNULL
    )
    try:
        yield until_up(folder, server), server
    finally:
        if server.poll() is None:
            server.terminate()
        server.wait(30)


def ask(url: str, path: str, body: object = None) -> dict[str, object]:
    """The JSON answer of a path, also of a refusal; a body makes it a POST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            content = refusal.read()
    found: dict[str, object] = json.loads(content)
    return found
