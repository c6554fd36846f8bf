"""Latency of one-row requests while clients record to the same server over MLflow's wire, beside none.

Two processes log one point after the other, each to a run of its own, as fast as they are answered; then the same
with batches of 1,000 points. They rest while the other half of each round is measured. The client that predicts
asks 50 times a second, at fixed moments, whether or not the answer before is there (`beside_training.py`).
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import multiprocessing.synchronize
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from beside_training import ask
from latency import NORIA, project, until_up

ROUNDS, CLIENTS = 3, 2
COUNT, PACE_S = 500, 0.02
SIZES = {"one point a request": 1, "1,000 points a request": 1000}


def call(connection: http.client.HTTPConnection, endpoint: str, given: dict[str, Any]) -> dict[str, Any]:
    """One request of MLflow's wire."""
    connection.request("POST", f"/api/2.0/mlflow/{endpoint}", json.dumps(given), {"content-type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, (answer.status, content[:300])
    found: dict[str, Any] = json.loads(content or b"{}")
    return found


def record(address: tuple[str, int], size: int, go: multiprocessing.synchronize.Event, done: Any) -> None:
    """Log batches of `size` points while `go` is set, for ever; `done` counts the requests."""
    connection = http.client.HTTPConnection(*address)
    connection.connect()
    given = {"experiment_id": "0", "start_time": int(time.time() * 1e3)}
    run = call(connection, "runs/create", given)["run"]["info"]["run_id"]
    step = 0
    while go.wait():
        points = [
            {"key": "loss", "value": 1 / (step + each + 1), "timestamp": 1_700_000_000_000 + step, "step": step + each}
            for each in range(size)
        ]
        if size == 1:
            call(connection, "runs/log-metric", {"run_id": run, **points[0]})
        else:
            call(connection, "runs/log-batch", {"run_id": run, "metrics": points})
        step += size
        with done.get_lock():
            done.value += 1


def measured(address: tuple[str, int], name: str, size: int) -> None:
    """Print p50 and p99 of both halves, their ratio, and what was recorded meanwhile."""
    go, done = multiprocessing.Event(), multiprocessing.Value("q", 0)
    clients = [
        multiprocessing.Process(target=record, args=(address, size, go, done), daemon=True) for _ in range(CLIENTS)
    ]
    for each in clients:
        each.start()
    halves: dict[str, list[list[float]]] = {"alone": [], "beside": []}
    recorded, spent_s = 0, 0.0
    try:
        for _ in range(ROUNDS):
            go.clear()
            time.sleep(1.0)
            halves["alone"].append(ask(address, COUNT, PACE_S))
            go.set()
            time.sleep(1.0)
            before, began = done.value, time.perf_counter()
            halves["beside"].append(ask(address, COUNT, PACE_S))
            recorded, spent_s = recorded + done.value - before, spent_s + time.perf_counter() - began
        assert all(each.is_alive() for each in clients), "a client that records has failed"
    finally:
        for each in clients:
            each.kill()
            each.join()
    p99 = {}
    for half, rounds in halves.items():
        p99[half] = statistics.median(statistics.quantiles(one, n=100)[98] for one in rounds)
        p50 = statistics.median(value for one in rounds for value in one)
        print(f"{name:<24} {half:<7} p50 {p50:6.2f} ms   p99 {p99[half]:6.2f} ms")
    ratio = p99["beside"] / p99["alone"]
    print(f"{name:<24} p99 x {ratio:.2f} beside {recorded * size / spent_s:,.0f} points a second", flush=True)


def main() -> None:
    """Serve a model, predict, and record beside it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = project(Path(scratch))
        server = subprocess.Popen([*NORIA, "up", "--port", "0"], cwd=folder, stdout=subprocess.DEVNULL)
        try:
            address = until_up(folder)
            for name, size in SIZES.items():
                measured(address, name, size)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


if __name__ == "__main__":
    main()
