"""`nr.report(step, value)`: how a step tells a search how it is doing, and is told to stop.

The process of a trial names a file in NORIA_TRIAL; whatever process the step runs in reads it and
makes the judge from it. Outside a search nothing is kept and nothing is pruned.
"""

from __future__ import annotations

import functools
import json
import math
import os
from pathlib import Path
from typing import Any

from noria import plugins
from noria.core.errors import Pruned, UsageError
from noria.pipeline.ambient import made_in
from noria.pipeline.attempt.tried import Judge, read_tried

__all__ = ["VARIABLE", "report"]

VARIABLE = "NORIA_TRIAL"
"""Names the file of the trial that this process works on."""
MAX_REPORTS = 10_000


def report(step: int, value: float) -> None:
    """Tell the search how good the model is after so many steps: rounds, epochs, trees. Free outside a search.

    The value should be the metric that the search goes by, on rows that the step keeps aside from its
    own training rows. NaN ends the trial.

    Args:
        step: counts from 1 and grows with each report.
        value: the metric so far.
    Raises: Pruned if the trial is not worth going on with: let it pass. UsageError for a step that does not grow.
    """
    path = os.environ.get(VARIABLE, "")
    if path:
        _trial(path).report(step, float(value))


class _Trial:
    """The reports of one trial in this process, and its judge, if there is a pruner."""

    def __init__(self, path: Path) -> None:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self._lines = path.with_suffix(".reports")
        self._last = 0
        self._count = 0
        self._judge: Judge | None = None
        if found["pruner"]:
            history = [read_tried(each) for each in found["history"]]
            self._judge = plugins.load("pruner", found["pruner"])(history, better=found["better"])

    def report(self, step: int, value: float) -> None:
        if step <= self._last:
            before = f" after {self._last}" if self._last else ""
            raise UsageError(f"nr.report: step {step}{before}; steps count from 1 and grow")
        self._last = step
        self._count += 1
        if self._count <= MAX_REPORTS:
            reporter = made_in().partition("/")[2]  # whose result this goes with, when it comes from the cache
            point = [step, value if math.isfinite(value) else None, *([reporter] if reporter else [])]
            with self._lines.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(point) + "\n")
        if not math.isfinite(value):
            raise Pruned(f"pruned at step {step}: the value is {value}")
        if self._judge is not None and self._judge(step, value):
            raise Pruned(f"pruned at step {step} with {value:.6g}")


@functools.cache
def _trial(path: str) -> _Trial:
    """The trial that a file describes, one for each process: its reports come in their order."""
    return _Trial(Path(path))
