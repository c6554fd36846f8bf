"""`nr.start_run` and `nr.log`: recording a run from a script or a notebook.

The newest run that this process has begun and not ended is the active one, for all threads; a run that
begins meanwhile is nested in it. A run that nobody ends is ended when the process exits.
"""

from __future__ import annotations

import atexit
import getpass
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.bootstrap import WallClock, open_staging, open_workspace
from noria.config import find_project, load_project
from noria.experiments.recorder import Recording

__all__ = ["active_run", "log", "start_run"]


class _Runs:
    """The runs that are open in this process, the newest last. Thread safe."""

    def __init__(self) -> None:
        self._open: list[Recording] = []
        self._lock = threading.Lock()
        self._is_registered = False

    def add(self, run: Recording) -> None:
        with self._lock:
            self._open.append(run)
            if not self._is_registered:
                atexit.register(self.finish_all)
                self._is_registered = True

    def newest(self) -> Recording | None:
        with self._lock:
            self._open = [run for run in self._open if not run.is_ended]
            return self._open[-1] if self._open else None

    def finish_all(self) -> None:
        for run in reversed(list(self._open)):
            run.finish()


_RUNS = _Runs()


def start_run(
    name: str = "",
    *,
    experiment: str = "",
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    note: str = "",
    root: str | Path = "",
) -> Recording:
    """Begin a run that this script records; a context manager. Within another run it is nested in that one.

    Nothing of it waits for a server or a database, and nothing that is logged raises.

    Args:
        name: what people call it; the end of its id without one.
        experiment: the name that runs share; that of the enclosing run, else the project's.
        params, tags, note: logged at once.
        root: the project's folder, if it is not the current one or above it.
    Raises: NotAProject; ConfigError.
    Example:
        with nr.start_run("first try", experiment="churn", params={"lr": 0.1}) as run:
            for step in range(100):
                run.log(loss=0.3, step=step)
    """
    project = load_project(find_project(Path(root) if root else Path.cwd()))
    actor = os.environ.get("NORIA_ACTOR", "") or f"user:{getpass.getuser()}"
    outer = _RUNS.newest()
    made = Recording(
        project,
        clock=WallClock(),
        objects=lambda folder: open_staging(project, folder),
        open_workspace=lambda: open_workspace(project=project, actor=actor),
        name=name,
        experiment=experiment or (outer.experiment if outer is not None else project.name),
        parent=outer.run if outer is not None else "",
        actor=actor,
        entry=_entry(project.root),
        is_sampled=project.run.system_metrics,
    )
    _RUNS.add(made)
    if params or tags or note:
        made.log(params=params, tags=tags, note=note)
    return made


def active_run() -> Recording | None:
    """The run that `nr.log` logs to; None if there is none."""
    return _RUNS.newest()


def log(
    metrics: Mapping[str, Any] | None = None,
    /,
    *,
    step: int | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    note: str = "",
    **named: Any,
) -> None:
    """Log to the active run; without one, a run named after the script begins. See `start_run`.

    Args:
        metrics: values by name; `named` are more.
        step: where the points lie; without one each metric counts its own, from 0.
        params, tags, note: texts that go with the run.
    Example:
        nr.log(loss=0.31, step=7)
    """
    run = _RUNS.newest() or start_run(_script().name)
    run.log(metrics, step=step, params=params, tags=tags, note=note, **named)


def _script() -> Path:
    """The file that Python was started with; an empty path in a notebook or a shell."""
    found = Path(sys.argv[0]) if sys.argv else Path()
    return found.resolve() if found.suffix == ".py" and found.is_file() else Path()


def _entry(root: Path) -> str:
    """How the code of the run calls its script: by its path in the project, else by its name."""
    script = _script()
    inside = script.is_relative_to(root.resolve())
    return script.relative_to(root.resolve()).as_posix() if inside else script.name
