"""Eight processes that write at once: acknowledged writes a second, how long each waits, and who is served least.

Through the server as MLflow's client sends (`log-batch` of 100 points, acknowledged when they survive the server's
death); straight into the ledger on SQLite (20 facts a transaction, made ready before it, acknowledged when they are on
disk); and as `nr.log` does (3 metrics a line of a recording's log, acknowledged when they survive the process).

    python benchmarks/tracking/writers.py [--seconds 10]
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import multiprocessing.synchronize
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from servers import Client, running

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.core.errors import NoriaError
from noria.data.facts import DatasetCommitted
from noria.faces.recording import start_run

PROCESSES = 8
POINTS, FACTS, METRICS = 100, 20, 3
Write = Callable[[int], None]
"""Sends batch number n and returns when it is acknowledged."""
Told = tuple[int, list[float], list[str]]
"""How many batches were acknowledged, the seconds of each, and the errors."""


def to_server(port: int, place: int) -> Write:
    """Batches of points to a run of the process's own."""
    client = Client(port)
    given = {"experiment_id": "0", "start_time": int(time.time() * 1e3), "run_name": f"writer {place}"}
    run = client.call("POST", "runs/create", given)["run"]["info"]["run_id"]

    def write(number: int) -> None:
        steps = range(number * POINTS, (number + 1) * POINTS)
        points = [{"key": "loss", "value": 0.5, "timestamp": 1_700_000_000_000 + step, "step": step} for step in steps]
        client.call("POST", "runs/log-batch", {"run_id": run, "metrics": points})

    return write


def to_ledger(root: Path, place: int) -> Write:
    """Facts, some in each transaction, which are made ready before it."""
    ws = open_workspace(project=Project(name="bench", root=root))

    def write(number: int) -> None:
        versions = range(number * FACTS, (number + 1) * FACTS)
        facts = [DatasetCommitted(name=f"set{place}", version=v, tree=f"sha256:{v:064x}", rows=1) for v in versions]
        ready = [ws.ledger.ready(each) for each in facts]
        with ws.ledger.transaction() as tx:
            for each in ready:
                tx.place(each)

    return write


def to_recording(root: Path, place: int) -> Write:
    """Lines of a recording."""
    os.chdir(root)
    recorder = start_run(name=f"writer {place}")

    def write(number: int) -> None:
        recorder.log({"loss": 0.5, "auc": 0.8, "rate": 0.1}, step=number)

    return write


def work(
    make: Callable[[int], Write], place: int, seconds: float, begin: multiprocessing.synchronize.Barrier, told: Path
) -> None:
    """One process: write until the time is over, and leave what was seen in a file."""
    write, taken, errors = make(place), list[float](), list[str]()
    write(0)
    begin.wait()
    end = time.monotonic() + seconds
    for number in itertools.count(1):
        started = time.perf_counter()
        try:
            write(number)
            taken.append(time.perf_counter() - started)
        except (OSError, RuntimeError, HTTPException, NoriaError) as error:  # counted and shown
            errors.append(repr(error))
        if time.monotonic() >= end:
            break
    lines = [*(f"{each:.7f}" for each in taken), "errors", *errors]
    (told / str(place)).write_text("\n".join(lines), encoding="utf-8")
    os._exit(0)


def measure(name: str, each: int, make: Callable[[int], Write], seconds: float, folder: Path) -> None:
    """Let all processes write, and print what came of it. `each` writes are acknowledged with a batch."""
    told = folder / "told"
    told.mkdir()
    begin = multiprocessing.Barrier(PROCESSES)
    made = [
        multiprocessing.Process(target=work, args=(make, place, seconds, begin, told)) for place in range(PROCESSES)
    ]
    for process in made:
        process.start()
    for process in made:
        process.join()
    counts, taken, errors = [], list[float](), list[str]()
    for place in range(PROCESSES):
        times, _, wrong = (told / str(place)).read_text(encoding="utf-8").partition("errors")
        counts.append(len(times.split()))
        taken += map(float, times.split())
        errors += wrong.split("\n")[1:]
    taken.sort()
    total, mean = each * sum(counts) / seconds, sum(counts) / PROCESSES
    p50, p99 = (1e3 * taken[int(share * (len(taken) - 1))] for share in (0.5, 0.99))
    print(
        f"{name:34} {total:12,.0f} writes/s  p50 {p50:8.2f} ms  p99 {p99:8.2f} ms  max {1e3 * taken[-1]:8.1f} ms  "
        f"least/mean {min(counts) / mean:.2f}  errors {len(errors)}{': ' + errors[0] if errors else ''}"
    )
    shutil.rmtree(told)


def main() -> None:
    """Print a line for each of the three ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    print(f"{PROCESSES} processes for {seconds:g} s each, on {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}")
    folder = Path(tempfile.mkdtemp(prefix="noria-writers-"))
    try:
        for name in ("ledger", "recording"):
            (folder / name).mkdir()
            (folder / name / "noria.toml").write_text('[project]\nname = "bench"\n', encoding="utf-8")
            open_workspace(folder / name).ledger.database.close()
        with running("noria", folder / "server") as server:
            port = server.port
            measure("server, log-batch of 100 points", POINTS, lambda place: to_server(port, place), seconds, folder)
        ledger, recording = folder / "ledger", folder / "recording"
        measure("SQLite, 20 facts a transaction", FACTS, lambda place: to_ledger(ledger, place), seconds, folder)
        measure("nr.log, 3 metrics a call", METRICS, lambda place: to_recording(recording, place), seconds, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
