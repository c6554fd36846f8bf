"""Pipelines of steps that do nothing, beside the tools that people use for them, in one run on one machine.

    python benchmarks/pipelines --quick

What is measured is the cost of a step, not of its work, always as whole processes: the imports, the
first run ever (with what a tool sets up once), 1 step, a chain of 100, a fan-out of 100 and the chain
again with nothing changed. Each peer stands in an environment of its own, made here from its lock.
What takes under two CPU seconds is done three times and the least is taken. Figures are of this machine at
this moment: read the ratios, and on a busy machine the CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path

import watch
from cost import Cost, Failure, best
from environments import ROOT, python_of
from table import Figures, show
from tools import NONE, TOOLS, Tool

QUICK = 20
"""Steps for a tool of which a hundred take minutes."""


class Bench:
    """Measures one tool after the other and keeps what came of it."""

    def __init__(self, folder: Path, environments: Path, size: int, quick: bool) -> None:
        self.folder = folder
        self.environments = environments
        self.size = size
        self.quick = quick
        self.chain, self.fan, self.again = f"chain of {size}", f"fan-out of {size}", f"{size} cached"
        self.figures = Figures(("import", "first ever", "1 step", self.chain, self.fan, self.again))

    def measure(self, kind: type[Tool]) -> None:
        """All works with one tool; what fails is kept with its reason, and the other works are tried."""
        self.figures.cells[kind.name] = {}
        try:
            python = python_of(kind.name, self.environments, kind.locked) if kind.peer else Path(sys.executable)
            tool = kind(self.folder / kind.name, python)
            version = tool.version()
        except Failure as failure:
            self._fail(kind.name, self.figures.works, failure)
            return
        try:
            self._works(tool, kind, version)
        finally:
            tool.close()
        shutil.rmtree(tool.folder, ignore_errors=True)

    def _works(self, tool: Tool, kind: type[Tool], version: str) -> None:
        self.figures.notes.append(f"{kind.name} {version}: {kind.manner}")
        size = min(self.size, QUICK) if kind.slow and self.quick else self.size
        fresh = (1000 * number for number in count(1))
        chain = 0

        def first_chain() -> Cost:
            nonlocal chain
            chain = next(fresh)
            return tool.run("chain", size, chain)

        for work, what in (
            ("import", lambda: best(tool.start)),
            ("first ever", lambda: tool.run("chain", 1, next(fresh))),
            ("1 step", lambda: best(lambda: tool.run("chain", 1, next(fresh)))),
            (self.fan, lambda: best(lambda: tool.run("fan", size, next(fresh)))),
            (self.chain, lambda: best(first_chain)),
            (self.again, lambda: best(lambda: tool.run("chain", size, chain, cached=True))),
        ):
            if work == self.again and not kind.caches:
                self.figures.cells[kind.name][work] = NONE
                continue
            if size != self.size and work in (self.chain, self.fan, self.again):
                self.figures.fewer[kind.name, work] = size
            self._one(kind.name, work, what)

    def _one(self, name: str, work: str, what: Callable[[], Cost]) -> None:
        try:
            cost = what()
        except Failure as failure:
            self._fail(name, (work,), failure)
            return
        self.figures.cells[name][work] = cost
        if cost.left:
            self.figures.notes.append(f"{name}, {work}: {cost.left} processes outlived the command")
        told = f"{cost.wall_s:8.2f} s {cost.cpu_s:8.2f} cpu {cost.peak_mb:7.0f} MB"
        print(f"  {name:9} {work:14} {told}", file=sys.stderr, flush=True)

    def _fail(self, name: str, works: tuple[str, ...], failure: Failure) -> None:
        self.figures.cells[name].update(dict.fromkeys(works, "failed"))
        self.figures.notes.append(f"{name}, {', '.join(works)}: failed: {failure}")
        print(f"  {name:9} {', '.join(works):14} failed: {failure}", file=sys.stderr, flush=True)

    def failed(self, names: tuple[str, ...]) -> bool:
        """Whether something of these failed."""
        return any("failed" in self.figures.cells.get(name, {}).values() for name in names)

    def document(self) -> dict[str, object]:
        """Everything for a file."""

        def cells() -> Iterator[tuple[str, dict[str, object]]]:
            for name, row in self.figures.cells.items():
                yield name, {work: cell if isinstance(cell, str) else asdict(cell) for work, cell in row.items()}

        fewer = [[name, work, size] for (name, work), size in self.figures.fewer.items()]
        return {"load": os.getloadavg(), "cells": dict(cells()), "fewer": fewer, "notes": self.figures.notes}


def main() -> int:
    """Measure what was asked for and print it; 1 if Noria or the loop did not do its work."""
    names = [kind.name for kind in TOOLS]
    parser = argparse.ArgumentParser(prog="benchmarks/pipelines", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="TOOL", help=", ".join(names))
    parser.add_argument("--steps", type=int, default=100, help="how many are many")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} steps where a hundred take minutes")
    parser.add_argument(
        "--environments", type=Path, default=ROOT / ".bench/environments", help="where those of the peers are kept"
    )
    parser.add_argument("--json", type=Path, help="a file for all figures")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="noria-bench-"))
    bench = Bench(folder, asked.environments, asked.steps, asked.quick)
    try:
        for kind in TOOLS:
            if kind.name in asked.only:
                bench.measure(kind)
                if asked.json:
                    asked.json.write_text(json.dumps(bench.document(), indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if "noria" in asked.only:
        bench.figures.notes.append(watch.watch())
    bench.figures.notes.append(f"load of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(show(bench.figures, "noria"))
    return int(bench.failed(("noria", "loop")))


if __name__ == "__main__":
    sys.exit(main())
