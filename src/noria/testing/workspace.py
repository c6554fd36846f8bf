"""Workspaces for tests: no project on disk, a clock that stands still until it is moved."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.config import Project
from noria.store.workspace import Workspace

__all__ = ["TestClock", "open_memory"]


class TestClock:
    """A clock that moves only by `forward`, and by a microsecond at each look so that order shows."""

    __test__ = False

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """The moment that the test set, one microsecond later at each call."""
        self._now += timedelta(microseconds=1)
        return self._now

    def forward(self, **length: float) -> None:
        """Let time pass: `forward(hours=1)`."""
        self._now += timedelta(**length)


def open_memory(project: Project | None = None, *, actor: str = "user:test", root: Path | None = None) -> Workspace:
    """A throw-away workspace: everything in a new folder under the temporary directory (or in `root`).

    The database is a real SQLite file, so that threads and processes behave as in production; the
    clock is a `TestClock`. A test that cares about disk space removes `ws.project.root` itself.
    """
    folder = root or Path(tempfile.mkdtemp(prefix="noria-test-"))
    project = replace(project, root=folder) if project is not None else Project(name="test", root=folder)
    return open_workspace(project=project, actor=actor, clock=TestClock())
