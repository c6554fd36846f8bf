"""`nr.run(pipeline)` and `nr.open()`: the verbs for a script or a notebook."""

from __future__ import annotations

from pathlib import Path

from noria.bootstrap import open_workspace
from noria.core.identity import JSON
from noria.loop.run import Challenge, RunReport, perform
from noria.pipeline.define import Pipeline, define

__all__ = ["run"]


def run(pipeline: Pipeline | None = None, *, root: str = "", **params: JSON) -> RunReport:
    """Run a pipeline as `noria run` does, in the project of the current folder; gives the same report.

    Args:
        pipeline: one that was defined here, in a script or a notebook cell; the project's by default.
        root: the project's folder, if it is not the current one or above it.
        params: values for parameters, with `__` for the dot: `train__learning_rate=0.05`.
    """
    ws = open_workspace(Path(root) if root else None)
    given = {name.replace("__", "."): value for name, value in params.items()}
    made = None if pipeline is None else define(pipeline, root=ws.project.root)
    return perform(ws, Challenge(cause="user"), params=given, definition=made)
