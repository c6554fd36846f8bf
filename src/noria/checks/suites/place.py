"""Where the suites of a project are, and what is kept beside them."""

from __future__ import annotations

from pathlib import Path

from noria.store.workspace import Workspace

__all__ = ["base_path", "profile_path", "shown", "suite_path"]

KEPT = ".inferred"
"""The folder beside a suite with what was inferred last: the text for the next comparison, and the profile."""


def suite_path(ws: Workspace, name: str) -> Path:
    """Where the suite of a data set is: `[data.NAME] checks`, by default `checks/NAME.toml`."""
    config = ws.project.data.get(name)
    return ws.project.root / (config.checks if config and config.checks else f"checks/{name}.toml")


def base_path(suite: Path) -> Path:
    """The text that was inferred last for a suite."""
    return suite.parent / KEPT / suite.name


def profile_path(suite: Path) -> Path:
    """The profile of the reference that a suite was inferred from."""
    return suite.parent / KEPT / f"{suite.stem}.profile.json"


def shown(ws: Workspace, path: Path) -> str:
    """A path as people see it: from the project's folder."""
    return path.relative_to(ws.project.root).as_posix() if path.is_relative_to(ws.project.root) else path.name
