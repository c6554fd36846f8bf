"""Versions of folders, large files and tables, beside DVC and git-lfs in one run on one machine.

What is measured, always as whole processes: add, status, re-add after one change, checkout, push and
pull (SeaweedFS on loopback) for 20,000 files of 10 KB and for 1 GiB; the growth of a table in six
edits; the status of 1,000,000 files; a sparse file of 10 GiB. Beside them stands the machine's floor:
the same bytes read, hashed, written and synced by a bare loop (`floor.py`), and the start of Python with
the library that the ledger is written with. Figures are of this machine at this moment: read the ratios.
`--quick` does a tenth of the work, `--only` some of it, `--json` keeps all.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import edits
from tools import BIN, ROOT, Cost, Dvc, Floor, GitLfs, Noria, Tool, measured, tools, versions

sys.path.append(str(ROOT / "tests"))
s3_server = importlib.import_module("s3_server")

PARTS = ("folder", "large", "table", "million", "sparse")
SETTLE_S = 2.5
"""Files younger than two seconds are read again by every tool that takes care; nobody is measured on that."""
TIMES = 3
FEW = 1000
TARGETS = {
    "20,000 files: add": 1.5,
    "20,000 files: status, nothing changed": 0.25,
    "20,000 files: re-add after 1 changed": 0.3,
    "20,000 files: checkout": 1.5,
    "1 GiB: add": 3.0,
    "1,000,000 files: status": 10.0,
}
"""Seconds that Noria means to need (peers, measured)."""

Row = dict[str, Cost | None]


class Bench:
    """The figures so far, by work and tool."""

    def __init__(self, kinds: list[type[Tool]], folder: Path, server: Any, scale: float) -> None:
        self.kinds = kinds
        self.folder = folder
        self.server = server
        self.scale = scale
        self.rows: dict[str, Row] = {}
        self.notes: list[str] = []

    def note(self, work: str, tool: Tool, cost: Cost | None) -> None:
        """Keep one figure, and print it as it comes."""
        self.rows.setdefault(work, {})[tool.name] = cost
        if cost is not None:
            told = f"{cost.wall_s:8.2f} s {cost.cpu_s:8.2f} cpu {cost.peak_mb:7.0f} MB"
            print(f"  {work:48} {tool.name:8} {told}", file=sys.stderr, flush=True)

    @contextmanager
    def project(self, kind: type[Tool], name: str) -> Iterator[Tool]:
        """A new project of a tool, with a bucket of its own; gone at the end."""
        folder = self.folder / f"{name}-{kind.name}"
        folder.mkdir()
        tool = kind(folder, self.server.environment)
        tool.start(self.server.new_bucket(), self.server.endpoint)
        try:
            yield tool
        finally:
            self.put_aside(folder)

    def put_aside(self, place: Path) -> None:
        """Take something away whose time is over. It is deleted with everything at the end if it is many files.

        ext4 passes over every inode that was deleted in the last minutes, one by one, for each file it makes:
        who came after a deletion of 20,000 files paid several times what its own work costs.
        """
        if place.is_file() or sum(1 for _ in place.rglob("*")) < FEW:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            return
        aside = self.folder / "aside"
        aside.mkdir(exist_ok=True)
        place.rename(aside / uuid.uuid4().hex)

    def other(self, tool: Tool) -> Tool:
        """Another clone of a tool's project, with the same remote and nothing stored."""
        folder = tool.folder.parent / f"{tool.folder.name}-clone"
        folder.mkdir()
        if isinstance(tool, Noria):
            shutil.copy(tool.folder / "noria.toml", folder)
        else:
            subprocess.run(["git", "init", "-q", str(folder)], check=True)
            shutil.copytree(tool.folder / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
        return type(tool)(folder, self.server.environment)


def settle() -> None:
    """Let files grow old enough to be trusted, and what was written reach the disk."""
    subprocess.run(["sync"], check=True)
    time.sleep(SETTLE_S)


def median(work: Callable[[], Cost], times: int = TIMES) -> Cost:
    """The middle one of some runs, by the wall."""
    found = sorted((work() for _ in range(times)), key=lambda cost: cost.wall_s)
    return found[len(found) // 2]


def a_folder(bench: Bench) -> None:
    """Many small files."""
    count = int(20_000 * bench.scale)
    for kind in bench.kinds:
        with bench.project(kind, "folder") as tool:
            place = tool.folder / "data"
            for number in range(count):
                file = place / f"{number // 1000:03d}" / f"{number:05d}.bin"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(os.urandom(10_000))
            _life(bench, tool, f"{count:,} files", "data", place / "000/00007.bin")


def a_large_file(bench: Bench) -> None:
    """One file of text, a gibibyte."""
    size = int(1024 * bench.scale)
    told = "1 GiB" if bench.scale == 1 else f"{size} MiB"
    for kind in bench.kinds:
        with bench.project(kind, "large") as tool:
            place = tool.folder / "large.bin"
            with place.open("wb") as sink:
                for number in range(size):
                    lines = range(number << 15, (number + 1) << 15)
                    sink.write(b"".join(b"%015d,%015d\n" % (line, line * 2654435761 % 10**15) for line in lines))
            _life(bench, tool, told, place.name, place)
            bench.notes.append(f"{told} and its change of 10 bytes are {tool.stored() / 1e6:,.0f} MB in {tool.name}")


def _life(bench: Bench, tool: Any, told: str, path: str, file: Path) -> None:
    """Add, status, change, re-add, checkout, push, pull."""
    settle()
    bench.note(f"{told}: add", tool, tool.add(path))
    settle()
    tool.status()
    bench.note(f"{told}: status, nothing changed", tool, median(tool.status))
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        stream.write(b"a change !")
    bench.note(f"{told}: re-add after 1 changed", tool, tool.add(path))
    place = tool.folder / path
    bench.put_aside(place)
    settle()
    bench.note(f"{told}: checkout", tool, tool.checkout(path))
    if isinstance(tool, GitLfs | Floor):
        bench.note(f"{told}: push", tool, None)
        bench.note(f"{told}: pull into a clone", tool, None)
        return
    bench.note(f"{told}: push", tool, tool.push())
    other: Any = bench.other(tool)
    bench.note(f"{told}: pull into a clone", tool, tool.pull(other, path))
    words = ["diff", "-rq", str(place), str(other.folder / path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{tool.name} gave back something else: {done.stdout[:300]}"
    bench.put_aside(other.folder)


def a_start(bench: Bench) -> None:
    """What a command that writes to the ledger cannot do without: Python, and SQLAlchemy."""
    tool = Floor(bench.folder, {})
    for work, words in (("Python starts", "pass"), ("Python imports SQLAlchemy", "import sqlalchemy")):
        command = [str(BIN / "python"), "-c", words]
        bench.note(work, tool, median(partial(measured, command, bench.folder, tool.environment), 9))


def many_files(bench: Bench) -> None:
    """A million files: the status alone, and its memory."""
    count = int(1_000_000 * bench.scale)
    with bench.project(Noria, "million") as tool:
        assert isinstance(tool, Noria)
        for folder in range(count // 1000):
            place = tool.folder / f"data/{folder:04d}"
            place.mkdir(parents=True)
            for number in range(1000):
                (place / f"{number:03d}").write_bytes(b"%d %d" % (folder, number))
        settle()
        bench.note(f"{count:,} files: add", tool, tool.add("data"))
        settle()
        bench.note(f"{count:,} files: status, first", tool, tool.status())
        bench.note(f"{count:,} files: status", tool, median(tool.status))


def a_sparse_file(bench: Bench) -> None:
    """Ten gibibytes of which nearly nothing is there."""
    size = int(10 * bench.scale * (1 << 30))
    told = f"{size / (1 << 30):g} GiB sparse"
    for kind in [kind for kind in bench.kinds if kind not in (GitLfs, Floor)]:
        if kind is not Noria and shutil.disk_usage(bench.folder).free < 4 * size:
            bench.notes.append(f"{told}: {kind.name} would need room for it; not measured")
            continue
        with bench.project(kind, "sparse") as tool:
            place = tool.folder / "sparse.bin"
            with place.open("wb") as sink:
                sink.seek(size - 4)
                sink.write(b"end\n")
            settle()
            each: Any = tool
            bench.note(f"{told}: add", tool, each.add(place.name))
            used = sum(path.stat().st_blocks * 512 for path in (tool.folder / tool.store).rglob("*") if path.is_file())
            bench.notes.append(f"{told}: {used / 1e6:,.1f} MB on disk in {tool.name}")


def show(bench: Bench, grown: Mapping[str, Mapping[str, float]]) -> str:
    """Everything as a table, with the ratio of each peer to Noria."""
    names = [kind.name for kind in bench.kinds]
    peers = [name for name in names if name not in ("noria", "floor")]
    head = ["work", *(f"{name} s (cpu)" for name in names), *(f"{name}/noria" for name in peers)]
    head += ["noria/floor", "target s"]
    rows = [head]
    for work, row in bench.rows.items():
        mine = row.get("noria")
        cells = [f"{c.wall_s:.2f} ({c.cpu_s:.2f})" if (c := row.get(name)) else "–" for name in names]
        ratios = [f"{c.wall_s / mine.wall_s:.1f}x" if mine and (c := row.get(name)) else "–" for name in peers]
        ratios.append(f"{mine.wall_s / c.wall_s:.1f}x" if mine and (c := row.get("floor")) else "–")
        rows.append([work, *cells, *ratios, f"{TARGETS[work]:g}" if work in TARGETS else ""])
    text = _aligned(rows)
    million = next((row["noria"] for work, row in bench.rows.items() if work.endswith("files: status")), None)
    if million is not None:
        text += f"\nstatus of the most files: {million.peak_mb:.0f} MB of memory"
    if grown:
        columns = list(next(iter(grown.values())))
        table = [["growth of the store, % of the file", *columns]]
        table += [[name, *(f"{100 * row[column]:.1f}" for column in columns)] for name, row in grown.items()]
        text += "\n\n" + _aligned(table)
    return "\n".join([text, *bench.notes])


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def main() -> None:
    """Measure what was asked for; print a table, and keep it as JSON where that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="some of the work")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--rows", type=int, default=6_000_000, help="rows of the table (a tenth with --quick)")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    asked = parser.parse_args()
    scale = 0.1 if asked.quick else 1.0
    kinds, missing = tools()
    for line in missing:
        print(line, file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="noria-bench-"))
    grown: dict[str, dict[str, float]] = {}
    try:
        with s3_server.started(folder / "weed") as server:
            bench = Bench(kinds, folder, server, scale)
            bench.notes += missing
            a_start(bench)
            works = {"folder": a_folder, "large": a_large_file, "million": many_files, "sparse": a_sparse_file}
            for name, work in works.items():
                if name in asked.only:
                    work(bench)
                    keep(bench, grown, asked.json)
            if "table" in asked.only:
                (folder / "table").mkdir()
                grown = edits.growth(folder / "table", int(asked.rows * scale), with_dvc=Dvc in kinds)
                keep(bench, grown, asked.json)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(show(bench, grown))
    ratios = [
        theirs.wall_s / mine.wall_s
        for row in bench.rows.values()
        if (theirs := row.get("dvc")) is not None and (mine := row.get("noria")) is not None
    ]
    if ratios:
        print(f"median ratio to dvc over {len(ratios)} works: {statistics.median(ratios):.1f}x")


def keep(bench: Bench, grown: Mapping[str, Mapping[str, float]], path: Path | None) -> None:
    """Write what is known so far: a long run that is broken off has told something."""
    if path is None:
        return
    document = {
        "versions": versions(bench.kinds),
        "scale": bench.scale,
        "load": os.getloadavg(),
        "seconds": {work: {name: vars_of(cost) for name, cost in row.items()} for work, row in bench.rows.items()},
        "growth": grown,
        "notes": bench.notes,
    }
    path.write_text(json.dumps(document, indent=1))


def vars_of(cost: Cost | None) -> dict[str, float] | None:
    """A cost as JSON has it."""
    return None if cost is None else {"wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "peak_mb": cost.peak_mb}


if __name__ == "__main__":
    main()
