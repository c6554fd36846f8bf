"""What MLflow's clients were answered survives the server's death, and comes into the ledger once."""

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from noria.bootstrap import open_workspace
from noria.experiments.search import whole_curve

LIMIT_S = 120.0


class Client:
    """Plain requests on one connection, which is opened again when it breaks."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def post(self, endpoint: str, given: dict[str, Any]) -> tuple[int, Any]:
        """The status and JSON of an answer. Raises: OSError, HTTPException if there is none."""
        try:
            headers = {"content-type": "application/json"}
            self._connection.request("POST", f"/api/2.0/mlflow/{endpoint}", json.dumps(given), headers)
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise


@contextmanager
def up(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    """`noria up` in a new project."""
    (folder / "noria.toml").write_text('[project]\nname = "wired"\n', encoding="utf-8")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    with (folder / "up.out").open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("noria")), "up", "--port", str(port)],
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    client = Client(port)
    try:
        yield process, client
    finally:
        client.close()
        process.terminate()
        process.wait(60)


def until_answered(client: Client, endpoint: str, given: dict[str, Any]) -> Any:
    """The answer, however often the server has to be asked."""
    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit:
        try:
            status, answer = client.post(endpoint, given)
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
            continue
        assert status == 200, answer
        return answer
    raise AssertionError(f"no answer within {LIMIT_S} s")


def begin(client: Client) -> str:
    """A new run in a new experiment."""
    experiment = until_answered(client, "experiments/create", {"name": "killed"})["experiment_id"]
    answer = until_answered(client, "runs/create", {"experiment_id": experiment, "start_time": 1, "run_name": "r"})
    return str(answer["run"]["info"]["run_id"])


def log(client: Client, run: str, steps: range) -> list[int]:
    """Log a point a step; those that were answered."""
    answered = []
    for step in steps:
        point = {"run_id": run, "key": "loss", "value": step / 7, "timestamp": 1000 + step, "step": step}
        try:
            status, _ = client.post("runs/log-metric", point)
        except (OSError, http.client.HTTPException):
            continue
        assert status == 200
        answered.append(step)
    return answered


def test_a_server_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with up(tmp_path) as (_, client):
        run = begin(client)
        answered = log(client, run, range(200))
        for round_ in range(1, 4):
            server = json.loads((tmp_path / ".noria/up.json").read_text())["children"]["server"]
            os.kill(server, signal.SIGKILL)
            until_answered(client, "runs/set-tag", {"run_id": run, "key": f"t{round_}", "value": "v"})
            answered += log(client, run, range(round_ * 200, round_ * 200 + 200))
        until_answered(client, "runs/update", {"run_id": run, "status": "FINISHED", "end_time": 5000})
    whole = whole_curve(open_workspace(tmp_path), run, "loss")
    steps = whole.steps.tolist()
    assert len(steps) == len(set(steps)), "a point is there twice"
    assert set(answered) <= set(steps)
    assert len(answered) >= 800 - 3 * 5, "only the requests that a kill met were not answered"


def test_what_waits_when_everything_is_killed_comes_in_with_the_next_command(tmp_path: Path) -> None:
    with up(tmp_path) as (process, client):
        run = begin(client)
        answered = log(client, run, range(50))
        note = json.loads((tmp_path / ".noria/up.json").read_text())
        process.kill()
        for pid in note["children"].values():
            os.kill(pid, signal.SIGKILL)
    noria = Path(sys.executable).with_name("noria")
    limit = time.monotonic() + LIMIT_S
    found: dict[str, Any] = {}
    while time.monotonic() < limit and found.get("total") != 50:
        done = subprocess.run(
            [str(noria), "experiments", "history", run, "loss", "--json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        found = json.loads(done.stdout) if done.returncode == 0 else {}
    assert found["total"] == len(answered) == 50
    assert open_workspace(tmp_path).ledger.facts(kind="run.finished") == [], "a client's run may go on"
