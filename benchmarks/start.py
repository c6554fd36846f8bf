"""How long the command line takes to start: its help, and a verb that opens the ledger.

Floors: Python itself, and Python with click. Each figure is the median of several processes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 11


def seconds(words: list[str], folder: Path) -> float:
    """The median wall time of a command, after one round to warm the disk's cache and write bytecode."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    taken = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def main() -> None:
    """Print each figure and its ratio to the floor."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "noria.toml").write_text('[project]\nname = "bench"\n', encoding="utf-8")
        floor = seconds([python, "-c", "pass"], folder)
        with_click = seconds([python, "-c", "import click"], folder)
        print(f"python                      {floor * 1000:7.0f} ms")
        print(f"python, click               {with_click * 1000:7.0f} ms   {with_click / floor:5.1f} x python")
        for name, words in (("import noria", ["-c", "import noria"]), ("noria --help", ["-m", "noria", "--help"])):
            found = seconds([python, *words], folder)
            print(f"{name:26}  {found * 1000:7.0f} ms   {found / with_click:5.1f} x click")
        for words in (["runs"], ["data", "list", "--json"], ["status"]):
            found = seconds([python, "-m", "noria", *words], folder)
            print(f"noria {' '.join(words):20}  {found * 1000:7.0f} ms   {found / with_click:5.1f} x click")


if __name__ == "__main__":
    main()
