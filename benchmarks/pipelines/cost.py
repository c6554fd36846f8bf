"""What a command costs: the seconds and the memory of a whole process and of all it starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 900.0
FAST_S = 2.0
"""CPU seconds, which other work on the machine changes little."""
TIMES = 3
_LAUNCHER = Path(__file__).parent / "launcher.py"


class Failure(Exception):
    """A command that did not do its work, and what it said."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall seconds of the command, CPU seconds and peak resident MB of its tree, and what it left running."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    left: int = 0


def measured(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[Cost, str]:
    """The cost of a command, and what it said. Raises: Failure if it ended badly or took over `LIMIT_S`."""
    with tempfile.TemporaryDirectory() as scratch:
        log, cost = Path(scratch) / "log", Path(scratch) / "cost"
        with log.open("wb") as sink:
            subprocess.run(
                [sys.executable, "-I", "-S", str(_LAUNCHER), str(cost), str(LIMIT_S), *words],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                check=True,
            )
        code, *used = json.loads(cost.read_text())
        said = log.read_text(errors="replace")
    if code != 0:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
        reason = " | ".join(named[-1:] or lines[-3:])[-400:]
        took = f" after {used[0]:.0f} s" if used[0] > LIMIT_S else ""
        raise Failure(f"ended with {code}{took}: {reason}")
    return Cost(*used), said


def best(work: Callable[[], Cost]) -> Cost:
    """The least seconds and the most memory of three runs; of one where that is slow."""
    runs = [work()]
    while len(runs) < TIMES and runs[0].cpu_s < FAST_S:
        runs.append(work())
    return Cost(
        min(run.wall_s for run in runs),
        min(run.cpu_s for run in runs),
        max(run.peak_mb for run in runs),
        max(run.left for run in runs),
    )
