"""Ledger rates: facts appended, verified and folded a second, and the ratio to a bare SQLite insert.

    python benchmarks/ledger.py [SECONDS]

The floor is one row in one durable transaction of the sqlite3 module, on the same disk.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.governance.audit import verify
from noria.governance.facts import ApprovalGiven
from noria.store.replay import rebuild
from noria.store.workspace import Workspace

WRITERS = (1, 4, 8)
BATCH = 2000


def opened(root: Path) -> Workspace:
    return open_workspace(project=Project(name="benchmark", root=root), actor="user:benchmark")


def append(ws: Workspace, count: int = 1) -> None:
    with ws.ledger.transaction() as tx:
        for number in range(count):
            given = ApprovalGiven(about="model/m", digest="sha256:" + "0" * 64, role=str(number))
            tx.append(given, inputs=[("thing", "model/m:1")])


def rate(work: Callable[[], object], seconds: float) -> tuple[float, list[float]]:
    """Calls a second, and how long each took, sorted."""
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return len(times) / (time.perf_counter() - begun), sorted(times)


def floor(root: Path, seconds: float) -> float:
    connection = sqlite3.connect(root / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body TEXT)")
    found, _ = rate(lambda: connection.execute("INSERT INTO row (body) VALUES (?)", ("x" * 400,)), seconds)
    connection.close()
    return found


def write(
    root: str, seconds: float, start: Barrier, results: multiprocessing.Queue[tuple[float, float, float]]
) -> None:
    ws = opened(Path(root))
    append(ws)
    start.wait()
    found, times = rate(lambda: append(ws), seconds)
    results.put((found, times[len(times) // 2], times[int(len(times) * 0.99)]))


def contended(root: Path, writers: int, seconds: float) -> tuple[float, float, float, float]:
    """Facts a second of all, the worst p50 and p99 in seconds, and the share of the least served."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(writers), context.Queue()
    processes = [context.Process(target=write, args=(str(root), seconds, start, results)) for _ in range(writers)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    total = sum(each[0] for each in found)
    return total, max(f[1] for f in found), max(f[2] for f in found), min(f[0] for f in found) * writers / total


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="noria-benchmark-") as folder:
        root = Path(folder)
        bare = floor(root, seconds)
        print(f"{'floor: bare sqlite3, durable':44} {bare:10.0f} /s")
        for writers in WRITERS:
            total, p50, p99, least = contended(root / f"w{writers}", writers, seconds)
            print(
                f"{f'one fact a commit, {writers} processes':44} {total:10.0f} /s   {bare / total:5.1f}x the floor   "
                f"p50 {p50 * 1000:.1f} ms  p99 {p99 * 1000:.1f} ms  least served {least:.0%} of the mean"
            )
        ws = opened(root / "batch")
        batches, _ = rate(lambda: append(ws, BATCH), seconds)
        print(
            f"{f'facts in commits of {BATCH}':44} {batches * BATCH:10.0f} /s   "
            f"{bare / (batches * BATCH):5.2f}x the floor"
        )
        size = ws.ledger.head()
        begun = time.perf_counter()
        rebuild(ws.ledger)
        print(f"{'facts folded again':44} {size / (time.perf_counter() - begun):10.0f} /s")
        begun = time.perf_counter()
        assert verify(ws).ok
        print(f"{'facts audited (leaves, tree, records)':44} {size / (time.perf_counter() - begun):10.0f} /s")
        ws.ledger.database.close()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0)
