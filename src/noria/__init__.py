"""Noria's Python face: what a project's pipeline, a script or a notebook imports as `nr`.

A pipeline is made of `nr.dataset`, `nr.step`, `nr.metric`, `nr.model` and `nr.pipeline`. A script asks
`nr.open()`, which has every verb of the command line: `nr.open().status()`, `nr.open().data.log("churn")`.
Everything is imported when it is first used, so `import noria` costs nothing.
"""

from __future__ import annotations

import importlib
import sys

TYPE_CHECKING = False  # what type checkers take for true: `typing` itself would cost each captured process 5 ms
if TYPE_CHECKING:
    from typing import Any

    from noria.checks.functions import check
    from noria.faces.frames import add_data, append_data, read_data, upsert_data
    from noria.faces.python import diff, export, open, run
    from noria.faces.recording import active_run, log, start_run
    from noria.pipeline.ambient import seed, split_by_time, xy
    from noria.pipeline.attempt.checkpoint import checkpointed
    from noria.pipeline.attempt.reporting import report
    from noria.pipeline.branch import branch, partition
    from noria.pipeline.define import dataset, metric, model, pipeline
    from noria.pipeline.ranges import Choice, Log, Range
    from noria.pipeline.step import step

__all__ = [
    "Choice",
    "Log",
    "Range",
    "active_run",
    "add_data",
    "append_data",
    "branch",
    "check",
    "checkpointed",
    "dataset",
    "diff",
    "export",
    "log",
    "metric",
    "model",
    "open",
    "partition",
    "pipeline",
    "read_data",
    "report",
    "run",
    "seed",
    "split_by_time",
    "start_run",
    "step",
    "upsert_data",
    "xy",
]

_PLACES = {
    "Choice": "noria.pipeline.ranges",
    "Log": "noria.pipeline.ranges",
    "Range": "noria.pipeline.ranges",
    "active_run": "noria.faces.recording",
    "add_data": "noria.faces.frames",
    "append_data": "noria.faces.frames",
    "branch": "noria.pipeline.branch",
    "check": "noria.checks.functions",
    "checkpointed": "noria.pipeline.attempt.checkpoint",
    "dataset": "noria.pipeline.define",
    "diff": "noria.faces.python",
    "export": "noria.faces.python",
    "log": "noria.faces.recording",
    "metric": "noria.pipeline.define",
    "model": "noria.pipeline.define",
    "open": "noria.faces.python",
    "partition": "noria.pipeline.branch",
    "read_data": "noria.faces.frames",
    "report": "noria.pipeline.attempt.reporting",
    "run": "noria.faces.python",
    "seed": "noria.pipeline.ambient",
    "split_by_time": "noria.pipeline.ambient",
    "start_run": "noria.faces.recording",
    "step": "noria.pipeline.step",
    "upsert_data": "noria.faces.frames",
    "xy": "noria.pipeline.ambient",
}


def __getattr__(name: str) -> Any:
    if name == "pipeline":
        return importlib.import_module("noria.pipeline")
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"noria has no {name!r}", name=name, obj=sys.modules[__name__])
    found = getattr(importlib.import_module(place), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
