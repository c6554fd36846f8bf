"""Latency of one-row requests over HTTP, with the prediction log on, alone and 64 at once.

Floor: the same server's health check, the least that a request can cost here. The model is a
HistGradientBoosting pipeline on a made-up table; the client is a process of its own with threads.
"""

from __future__ import annotations

import csv
import http.client
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROWS = 4000
ROUNDS = 1500
TOGETHER = 64
READY_S = 120.0
NORIA = [sys.executable, "-m", "noria"]


def project(folder: Path) -> Path:
    """A deployed project on a made-up table."""
    chance = random.Random(1)
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["at", "a", "b", "place", "label"])
        for number in range(ROWS):
            a, b = chance.gauss(0, 1), chance.gauss(0, 1)
            day = f"2025-{1 + number * 11 // ROWS:02d}-{1 + number % 28:02d}"
            writer.writerow([day, a, b, chance.choice("xyz"), int(a + b + chance.gauss(0, 1) > 0)])
    words = ["init", "bench", "--csv", "rows.csv", "--label", "label", "--time", "at"]
    for line, place in ((words, folder), (["run"], folder / "bench"), (["deploy", "bench"], folder / "bench")):
        subprocess.run([*NORIA, *line], cwd=place, check=True, stdout=subprocess.DEVNULL)
    return folder / "bench"


def until_up(folder: Path) -> tuple[str, int]:
    """Host and port of the project's server, once it is well."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            url = json.loads((folder / ".noria" / "up.json").read_text(encoding="utf-8"))["url"]
            host, _, port = url.removeprefix("http://").rpartition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=2)
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == 200:
                return host, int(port)
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError("the server did not come up")


def ask(address: tuple[str, int], rounds: int, path: str, body: bool, taken: list[float]) -> None:
    """Requests on one connection, one after the other; adds the milliseconds of each."""
    connection = http.client.HTTPConnection(*address)
    for number in range(rounds):
        row = {"a": number % 7 / 3, "b": -0.5, "place": "x"}
        content = json.dumps({"id": f"{threading.get_ident()}-{number}", "row": row}) if body else None
        start = time.perf_counter()
        connection.request("POST" if body else "GET", path, content, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        taken.append((time.perf_counter() - start) * 1000)
        assert answer.status == 200, answer.status
    connection.close()


def measure(address: tuple[str, int], path: str, *, body: bool, together: int) -> tuple[float, float, float]:
    """(p50 ms, p99 ms, requests a second) of so many connections at once."""
    taken: list[float] = []
    rounds = max(ROUNDS // together, 50)
    threads = [threading.Thread(target=ask, args=(address, rounds, path, body, taken)) for _ in range(together)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - start
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98], len(taken) / spent


def main() -> None:
    """Print each figure and its ratio to the floor."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = project(Path(scratch))
        server = subprocess.Popen([*NORIA, "up", "--port", "0"], cwd=folder, stdout=subprocess.DEVNULL)
        try:
            address = until_up(folder)
            measure(address, "/predict/bench", body=True, together=1)
            for together in (1, TOGETHER):
                floor, _, _ = measure(address, "/v2/health/live", body=False, together=together)
                half, most, rate = measure(address, "/predict/bench", body=True, together=together)
                print(
                    f"c={together:<3} p50 {half:6.2f} ms   p99 {most:6.2f} ms   {rate:6,.0f}/s   "
                    f"{half / floor:5.1f} x a health check"
                )
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


if __name__ == "__main__":
    main()
