"""A pipeline of 1 step and of 100 steps, first and cached, against a plain loop over the same functions.

Each step adds one to a number, so what is measured is the cost of a step, not of its work.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from noria.pipeline import trace

SIZES = (1, 100)
CALLS = 300_000
PIPELINE = '''"""Steps in a row."""

import noria as nr

{steps}

@nr.pipeline
def chain():
    value = step_0(0)
{calls}
'''


def write(folder: Path, size: int) -> None:
    """A project whose pipeline is `size` steps in a row."""
    steps = "\n\n".join(f"@nr.step\ndef step_{n}(value: int) -> int:\n    return value + 1\n" for n in range(size))
    calls = "\n".join(f"    value = step_{n}(value)" for n in range(1, size))
    (folder / "noria.toml").write_text('[project]\nname = "bench"\n', encoding="utf-8")
    (folder / "pipeline.py").write_text(PIPELINE.format(steps=steps, calls=calls), encoding="utf-8")


def cpu() -> float:
    """The processor time of the processes that ended, in seconds: what a busy machine does not change much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of one `noria run`, the process included. Raises: RuntimeError with what it said."""
    start, used = time.perf_counter(), cpu()
    done = subprocess.run(
        [sys.executable, "-m", "noria", "run", "--json"], cwd=folder, check=False, capture_output=True, text=True
    )
    taken = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(json.loads(done.stdout)["error"]["message"] if done.stdout else done.stderr)
    return taken, cpu() - used


def watch() -> None:
    """What it costs to watch a step: the watch itself, and each Python call under it."""

    def called(x: int) -> int:
        return x + 1

    def calls() -> float:
        start = time.perf_counter()
        for number in range(CALLS):
            called(number)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bare = min(calls() for _ in range(3))
        with trace.watch(folder, folder / ".noria"):
            seen = min(calls() for _ in range(3))
        start = time.perf_counter()
        for _ in range(1000):
            with trace.watch(folder, folder / ".noria") as made:
                pass
            made.trace()
        each = time.perf_counter() - start
    print(f"watch: {each:.3f} ms a step; {(seen - bare) / CALLS * 1e6:.2f} µs for each Python call")


def loop(size: int) -> float:
    """The seconds of a process that calls the same functions in a loop."""
    code = f"value = 0\nfor _ in range({size}):\n    value = (lambda x: x + 1)(value)"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print each figure, what one step costs, and the ratio to the loop."""
    for size in SIZES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write(folder, size)
            floor = loop(size)
            for name in ("first", "cached"):
                taken, used = run(folder)
                each = taken / size * 1000
                times = f"{taken:7.2f} s  cpu {used:5.2f} s"
                print(f"{size:4} steps, {name:6} {times}  {each:8.1f} ms a step  {taken / floor:7.0f} x a loop")
    watch()


if __name__ == "__main__":
    main()
