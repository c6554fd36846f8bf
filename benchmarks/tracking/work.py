"""The work: what a training job, a page of runs and a registry ask of a tracking server, timed from the client.

Every figure is of requests that were answered with 200. Seconds are the median of several rounds unless they are of
one long piece of work; rates are of all of it.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from servers import Client, Server

FIGURES: dict[str, tuple[str, bool]] = {
    "start": ("from the command to the first answer, s", False),
    "log_metric": ("log-metric, one client, per s", True),
    "log_metric_4": ("log-metric, 4 client processes, per s", True),
    "batch": ("log-batch of 1,000 metrics, ms", False),
    "run": ("10-step run: 10 params, 3 metrics a step, a tag, ms", False),
    "write": ("write 100,000 points of a metric, s", False),
    "history": ("read them back, s", False),
    "seed": ("seed runs (10 params, 10 metrics), 4 clients, per s", True),
    "filter": ("search: 3 clauses, 2 orders, top 100, ms", False),
    "order": ("search: by a metric, top 1,000, ms", False),
    "newest": ("search: newest 100, ms", False),
    "page": ("page through all runs, s", False),
    "register": ("create a model version, ms", False),
    "alias": ("set an alias and read it, ms", False),
    "up": ("artifact up, MB/s", True),
    "down": ("artifact down, MB/s", True),
    "small": ("small artifacts up, per s", True),
    "memory": ("memory after all that, MB (PSS)", False),
    "largest": ("of it the largest process, MB", False),
}
"""What is measured, how it is told, and whether more is better."""
POINTS = 100_000
SEARCHED = "metrics.m1 > 0.5 and params.p1 = '3' and tags.kind = 'seed'"
ARTIFACT = 256 << 20
BLOCK = 1 << 20


def measure(server: Server, runs: int, rounds: int) -> dict[str, float]:
    """Every figure of a server. `runs` are searched over; `rounds` are how often short work is done."""
    client = server.client()
    experiment = client.call("POST", "experiments/create", {"name": "bench"})["experiment_id"]
    found = {"start": server.start_s}
    run = _run(client, experiment)
    count = 20 * rounds
    found["log_metric"] = count / _taken(lambda: _log(client, run, count))
    found["log_metric_4"] = _from_four(server, experiment, count)
    found["batch"] = 1e3 * _median(lambda: _batch(client, run, "batched", 0, 1000), rounds)
    found["run"] = 1e3 * _median(lambda: _ten_steps(client, experiment), rounds)
    _history(client, experiment, found)
    found["seed"] = runs / _taken(lambda: _seed(server, experiment, runs))
    _searches(client, experiment, found, rounds)
    _registry(client, run, found, rounds)
    _artifacts(client, experiment, run, found)
    found["memory"], found["largest"], _ = server.memory_mb()
    client.close()
    return found


def _run(client: Client, experiment: str) -> str:
    given = {"experiment_id": experiment, "start_time": int(time.time() * 1e3), "run_name": "bench"}
    return str(client.call("POST", "runs/create", given)["run"]["info"]["run_id"])


def _log(client: Client, run: str, count: int) -> None:
    for step in range(count):
        point = {"run_id": run, "key": "loss", "value": 1 / (step + 1), "timestamp": 1_700_000_000_000 + step}
        client.call("POST", "runs/log-metric", {**point, "step": step})


def _client_process(port: int, run: str, count: int, begin: multiprocessing.synchronize.Barrier) -> None:
    client = Client(port)
    client.call("GET", f"runs/get?run_id={run}")
    begin.wait()
    _log(client, run, count)
    begin.wait()
    os._exit(0)


def _from_four(server: Server, experiment: str, count: int) -> float:
    """Points a second of four processes together, each with a run of its own."""
    client = server.client()
    begin = multiprocessing.Barrier(5)
    made = [
        multiprocessing.Process(target=_client_process, args=(server.port, _run(client, experiment), count, begin))
        for _ in range(4)
    ]
    for process in made:
        process.start()
    begin.wait()
    taken = _taken(begin.wait)
    for process in made:
        process.join()
    client.close()
    return 4 * count / taken


def _batch(client: Client, run: str, key: str, first: int, count: int) -> None:
    points = [
        {"key": key, "value": float(step), "timestamp": 1_700_000_000_000 + step, "step": step}
        for step in range(first, first + count)
    ]
    client.call("POST", "runs/log-batch", {"run_id": run, "metrics": points})


def _ten_steps(client: Client, experiment: str) -> None:
    """What a small training does: one request each, as a client without batches sends them; no two measure the same."""
    draw = random.Random()
    run = _run(client, experiment)
    params = [{"key": f"p{number}", "value": str(number)} for number in range(10)]
    client.call("POST", "runs/log-batch", {"run_id": run, "params": params})
    for step in range(10):
        metrics = [
            {"key": f"m{number}", "value": draw.random(), "timestamp": 1_700_000_000_000 + step, "step": step}
            for number in range(3)
        ]
        client.call("POST", "runs/log-batch", {"run_id": run, "metrics": metrics})
    client.call("POST", "runs/set-tag", {"run_id": run, "key": "kind", "value": "bench"})
    client.call("POST", "runs/update", {"run_id": run, "status": "FINISHED", "end_time": 1_700_000_100_000})


def _history(client: Client, experiment: str, found: dict[str, float]) -> None:
    run = _run(client, experiment)

    def write() -> None:
        for first in range(0, POINTS, 1000):
            _batch(client, run, "long", first, 1000)

    def read() -> None:
        token, seen = "", 0
        while True:
            path = f"metrics/get-history?run_id={run}&metric_key=long&max_results=25000&page_token={token}"
            answer = client.call("GET", path)
            seen += len(answer.get("metrics", ()))
            token = answer.get("next_page_token", "")
            if not token:
                break
        if seen != POINTS:
            raise RuntimeError(f"{seen} of {POINTS} points came back")

    found["write"] = _taken(write)
    found["history"] = _taken(read)


def _seed(server: Server, experiment: str, runs: int) -> None:
    def some(first: int) -> None:
        client, draw = server.client(), random.Random(first)
        for number in range(first, runs, 4):
            run = _run(client, experiment)
            params = [{"key": f"p{place}", "value": str((number + place) % 7)} for place in range(10)]
            metrics = [
                {"key": f"m{place}", "value": draw.random(), "timestamp": 1_700_000_000_000, "step": 0}
                for place in range(10)
            ]
            tags = [{"key": "kind", "value": "seed"}]
            client.call("POST", "runs/log-batch", {"run_id": run, "params": params, "metrics": metrics, "tags": tags})
            client.call("POST", "runs/update", {"run_id": run, "status": "FINISHED", "end_time": 1_700_000_100_000})
        client.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(some, range(4)))


def _searches(client: Client, experiment: str, found: dict[str, float], rounds: int) -> None:
    def search(filter_: str, order: list[str], most: int) -> int:
        given = {"experiment_ids": [experiment], "filter": filter_, "order_by": order, "max_results": most}
        return len(client.call("POST", "runs/search", given).get("runs", ()))

    def every() -> None:
        token = ""
        while True:
            given = {"experiment_ids": [experiment], "max_results": 1000, "page_token": token}
            token = client.call("POST", "runs/search", given).get("next_page_token", "")
            if not token:
                return

    orders = ["metrics.m2 DESC", "attributes.start_time ASC"]
    if not search(SEARCHED, orders, 100):
        raise RuntimeError("the search found nothing")
    few = max(3, rounds // 4)
    found["filter"] = 1e3 * _median(lambda: search(SEARCHED, orders, 100), few)
    found["order"] = 1e3 * _median(lambda: search("", ["metrics.m1 DESC"], 1000), few)
    found["newest"] = 1e3 * _median(lambda: search("", [], 100), few)
    found["page"] = _taken(every)


def _registry(client: Client, run: str, found: dict[str, float], rounds: int) -> None:
    client.call("POST", "registered-models/create", {"name": "bench"})
    numbers = iter(range(1, 1_000_000))

    def create() -> None:
        given = {"name": "bench", "source": f"s3://bucket/models/{next(numbers)}", "run_id": run}
        client.call("POST", "model-versions/create", given)

    def alias() -> None:
        client.call("POST", "registered-models/alias", {"name": "bench", "alias": "champion", "version": "1"})
        client.call("GET", "registered-models/alias?name=bench&alias=champion")

    found["register"] = 1e3 * _median(create, rounds)
    found["alias"] = 1e3 * _median(alias, rounds)


def _artifacts(client: Client, experiment: str, run: str, found: dict[str, float]) -> None:
    root = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts"
    content = os.urandom(BLOCK) * (ARTIFACT // BLOCK)
    size_mb = len(content) / 1e6
    found["up"] = size_mb / _taken(lambda: client.send("PUT", f"{root}/large.bin", content, "application/octet-stream"))
    begun = time.perf_counter()
    if client.send("GET", f"{root}/large.bin") != content:
        raise RuntimeError("other bytes came back")
    found["down"] = size_mb / (time.perf_counter() - begun)

    def small() -> None:
        for number in range(200):
            client.send("PUT", f"{root}/small/{number}.txt", str(number).encode() * 100, "application/octet-stream")

    found["small"] = 200 / _taken(small)


def _taken(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _median(act: Callable[[], object], rounds: int) -> float:
    act()  # what is made once is not what is measured
    return statistics.median(_taken(act) for _ in range(rounds))
