"""Workspaces for the store's tests, and a payload that every slice set has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria.store.workspace import Workspace
from noria.testing import open_memory


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace in the test's own folder."""
    made = open_memory(root=tmp_path / "project")
    yield made
    made.ledger.database.close()


@pytest.fixture
def make_read_only() -> Iterator[Callable[[Path], None]]:
    """Makes a folder and all in it unwritable, also for root (by the immutable mark), until the test ends."""
    done: list[Path] = []

    def make(folder: Path) -> None:
        done.append(folder)
        subprocess.run(["chattr", "-R", "+i", str(folder)], check=True, capture_output=True)

    yield make
    for folder in done:
        subprocess.run(["chattr", "-R", "-i", str(folder)], check=True)
