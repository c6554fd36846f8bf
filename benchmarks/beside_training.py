"""Latency of one-row requests while a training of the same `noria up` takes every core, beside none.

A schedule's run trains gradient boosting in as many workers as there are cores, each with as many
threads; it rests while the other half of each round is measured, so that both halves see the same machine. The
client asks one row after the other: at once when it has its answer, and, apart from that, 50 times
a second, where the server sleeps between requests and must first be let back to a core. Those are due at fixed
moments, whether or not the answer before is there: what waits behind a slow one counts from when it was due. That
the client itself is let back late to its core counts for nobody.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from latency import NORIA, project, until_up

WAYS, TIMES, ROUNDS = ("off", "auto"), 2, 2
PACES = {"at once": (2000, 0.0), "50 a second": (500, 0.02)}
"""Requests of a round, and seconds between them."""
BEGUN_S = 120.0
PIPELINE = '''"""Trains on every core while the file `burn` is there, until the file `stop` is."""

import time
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

import noria as nr


@nr.step(cache=False)
def burn(number: int, folder: str) -> int:
    place = Path(folder)
    chance = np.random.default_rng(number)
    x = chance.normal(size=(20_000, 20))
    y = (x[:, 0] + chance.normal(size=len(x)) > 0).astype(int)
    done = 0
    while not (place / "stop").exists():
        if (place / "burn").exists():
            HistGradientBoostingClassifier(max_iter=10).fit(x, y)
            done += 1
            (place / f"done-{number}").write_text(str(done))
        else:
            time.sleep(0.02)
    return done


@nr.pipeline
def burning():
    burn.map(CORES, folder=FOLDER)
'''


@dataclass
class Seen:
    """Milliseconds of each request by round, alone and beside the training, and what was trained meanwhile."""

    alone: list[list[float]] = field(default_factory=list)
    beside: list[list[float]] = field(default_factory=list)
    trained: int = 0
    spent_s: float = 0.0


def ask(address: tuple[str, int], count: int, pace_s: float) -> list[float]:
    """Milliseconds of each of so many requests on one connection; with a pace from when each was due."""
    connection = http.client.HTTPConnection(*address)
    connection.connect()
    taken = []
    due = time.perf_counter()
    for number in range(count):
        content = json.dumps(
            {"id": f"{time.time_ns()}-{number}", "row": {"a": number % 7 / 3, "b": -0.5, "place": "x"}}
        )
        early_s = due - time.perf_counter() if pace_s else 0.0
        if early_s > 0:
            time.sleep(early_s)
        start = due if early_s < 0 else time.perf_counter()
        due += pace_s
        connection.request("POST", "/predict/bench", content, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        taken.append((time.perf_counter() - start) * 1000)
        assert answer.status == 200, answer.status
    connection.close()
    return taken


def fits(place: Path) -> int:
    """How many models the workers have trained."""
    return sum(int(each.read_text() or 0) for each in place.glob("done-*"))


def until_all_train(place: Path, cores: int) -> None:
    """Wait until every worker has trained once more."""
    before = {each.name: each.read_text() for each in place.glob("done-*")}
    deadline = time.monotonic() + BEGUN_S
    while time.monotonic() < deadline:
        now = {each.name: each.read_text() for each in place.glob("done-*")}
        if len(now) == cores and all(now[name] and now[name] != before.get(name) for name in now):
            return
        time.sleep(0.05)
    raise RuntimeError("the training did not begin")


def main() -> None:
    """Print p50 and p99 of both halves and their ratios for each setting, and how much was trained meanwhile."""
    cores = len(os.sched_getaffinity(0))
    paces = {name: {way: Seen() for way in WAYS} for name in PACES}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "seen"
        place.mkdir()
        folder = project(Path(scratch))
        text = PIPELINE.replace("CORES", repr(list(range(cores)))).replace("FOLDER", repr(str(place)))
        (folder / "pipeline.py").write_text(text, encoding="utf-8")
        settings = (folder / "noria.toml").read_text(encoding="utf-8")
        settings += '\n[schedule.burning]\nevery = "52w"\ndo = "run"\n[server]\nrealtime = '
        for way in WAYS * TIMES:
            (folder / "noria.toml").write_text(f'{settings}"{way}"\n', encoding="utf-8")
            with up(folder, place, cores) as address:
                for name, (count, pace_s) in PACES.items():
                    measured(address, place, cores, paces[name][way], count, pace_s)
                print(f"realtime = {way!r}: answers at {scheduling(address)}", flush=True)
    for name, ways in paces.items():
        for way, seen in ways.items():
            told(name, way, seen)


@contextmanager
def up(folder: Path, place: Path, cores: int) -> Iterator[tuple[str, int]]:
    """`noria up` of the project, with the training begun."""
    (place / "stop").unlink(missing_ok=True)
    server = subprocess.Popen([*NORIA, "up", "--port", "0"], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        address = until_up(folder)
        subprocess.run([*NORIA, "schedule", "trigger", "burning"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (place / "burn").touch()
        until_all_train(place, cores)
        yield address
        (place / "stop").touch()
        until_over(folder)
    finally:
        (place / "stop").touch()
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def until_over(folder: Path) -> None:
    """Wait until no run is under way: one that was cut off would be taken up again beside the next."""
    deadline = time.monotonic() + BEGUN_S
    while time.monotonic() < deadline:
        said = subprocess.run([*NORIA, "status", "--json"], cwd=folder, check=True, capture_output=True).stdout
        if all(run["status"] != "running" for run in json.loads(said)["runs"]):
            return
        time.sleep(0.2)
    raise RuntimeError("the training did not end")


def scheduling(address: tuple[str, int]) -> str:
    """How the server says that it is scheduled."""
    connection = http.client.HTTPConnection(*address)
    connection.request("GET", "/healthz")
    found = json.loads(connection.getresponse().read())["scheduling"]
    connection.close()
    return str(found)


def measured(address: tuple[str, int], place: Path, cores: int, seen: Seen, count: int, pace_s: float) -> None:
    """The rounds of one pace, alternating with and without training."""
    for _ in range(ROUNDS):
        (place / "burn").unlink()
        time.sleep(1.5)
        seen.alone.append(ask(address, count, pace_s))
        (place / "burn").touch()
        until_all_train(place, cores)
        before, began = fits(place), time.perf_counter()
        seen.beside.append(ask(address, count, pace_s))
        seen.trained += fits(place) - before
        seen.spent_s += time.perf_counter() - began


def told(name: str, way: str, seen: Seen) -> None:
    """Print what one pace and setting came to."""
    p99 = {}
    for half, rounds in (("alone", seen.alone), ("beside", seen.beside)):
        each = [statistics.quantiles(one, n=100)[98] for one in rounds]
        p99[half] = statistics.median(each)
        p50 = statistics.median(itertools.chain(*rounds))
        listed = " ".join(f"{value:.2f}" for value in each)
        print(f"{name:<12} {way:<5} {half:<7} p50 {p50:6.2f} ms   p99 {p99[half]:6.2f} ms   of each round {listed}")
    rate = seen.trained / seen.spent_s
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{name:<12} {way:<5} p99 x {p99['beside'] / p99['alone']:.2f}   {rate:.2f} models a second   load {load}")


if __name__ == "__main__":
    main()
