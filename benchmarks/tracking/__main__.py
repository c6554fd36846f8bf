"""A tracking server's work: Noria beside MLflow's own server, with one worker and as it starts by default.

    python benchmarks/tracking [--runs 5000] [--rounds 20] [--only noria "mlflow, 1 worker"]

One server after the other does the same work for the same plain client, each on a new store on this disk. The default
server answers a kept connection some 40 ms late for a reason that is not MLflow's code (its sockets do not set
TCP_NODELAY), so the honest baseline is one worker; both are named. Ratios are to it: above 1 Noria is better.
`import` is a new interpreter that imports the client and looks up what logs. `make peers` installs MLflow.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from servers import MLFLOW, NAMES, running
from work import FIGURES, measure

IMPORTS = {"noria": "import noria; noria.start_run; noria.log", NAMES[1]: "import mlflow", NAMES[2]: "import mlflow"}


def import_s(name: str) -> float:
    """The median time of an interpreter that imports a client, less that of one which imports nothing."""
    python = sys.executable if name == "noria" else str(MLFLOW / "python")

    def taken(code: str) -> float:
        begun = time.perf_counter()
        subprocess.run([python, "-c", code], check=True)
        return time.perf_counter() - begun

    taken(IMPORTS[name])
    return statistics.median(taken(IMPORTS[name]) for _ in range(5)) - statistics.median(taken("") for _ in range(5))


def main() -> None:
    """Print each figure of each server, and the ratio to the one with one worker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000, help="how many runs are searched over")
    parser.add_argument("--rounds", type=int, default=20, help="how often short work is done")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="noria-tracking-") as scratch:
        for place, name in enumerate(given.only):
            print(f"{name} …", file=sys.stderr, flush=True)
            with running(name, Path(scratch) / str(place)) as server:
                found[name] = measure(server, given.runs, given.rounds)
            found[name]["import"] = import_s(name)
    figures = {**FIGURES, "import": ("import of the client, s", False)}
    base = found.get(NAMES[1])
    print(f"{'':56}" + "".join(f"{name:>18}" for name in found) + ("   ratio" if base and "noria" in found else ""))
    for key, (text, is_rate) in figures.items():
        line = f"{text:56}" + "".join(f"{figure[key]:18,.3g}" for figure in found.values())
        if base and "noria" in found:
            ours, theirs = found["noria"][key], base[key]
            line += f"{ours / theirs if is_rate else theirs / ours:7.1f}x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
