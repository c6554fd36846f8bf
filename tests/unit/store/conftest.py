"""Workspaces for the store's tests, and a payload that every slice set has."""

from __future__ import annotations

from collections.abc import Iterator
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
