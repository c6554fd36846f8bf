"""Which number the version of a pin has in this clone: two clones may give one number to different data.

A pin says the number that its version had where it was written; a person who types it here must not
get something else. SQLite's ledger is read as it lies there, without opening the workspace, so that
`noria data status` stays quick. Nothing is written, and what cannot be read so is left to the ledger.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from noria.config import Project

__all__ = ["numbers_in_file"]

_SQLITE = "sqlite:///"
_QUERY = "select name, tree, max(version) from dataset_version where dropped_at = '' group by name, tree"


def numbers_in_file(project: Project) -> Mapping[tuple[str, str], int] | None:
    """The number of every version that is kept here, by name and tree; None if only the ledger itself can tell."""
    file = _ledger_file(project)
    if file is None:
        return None
    if not file.exists():
        return {}  # a clone in which nothing was done yet
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return {(name, tree): number for name, tree, number in connection.execute(_QUERY)}
    except sqlite3.Error:
        return None  # an older ledger, or a damaged one: opening it mends the one and names the other


def _ledger_file(project: Project) -> Path | None:
    """Where the ledger's file is; None for a database that is none, or that is opened with options."""
    text = project.store.database
    if not text:
        return project.state / "ledger.db"
    return Path(text.removeprefix(_SQLITE)) if text.startswith(_SQLITE) and "?" not in text else None
