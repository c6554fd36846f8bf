"""Where the stat caches of a project are, and whether one of them knows a place: asked without loading what they need.

The answer is a hint for work that is done ahead: the files are neither made nor changed nor waited for, and may be
read as they were a moment ago.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import sqlite3
else:
    sqlite3 = lazy("sqlite3")

__all__ = ["cache_path", "is_known"]


def cache_path(state: Path, name: str) -> Path:
    """Where the stat cache of a data set is."""
    return state / "cache" / "stat" / f"{name}.db"


def is_known(state: Path, place: Path) -> bool:
    """Whether a place was added or checked out as some data set; also if that cannot be told."""
    path = str(place).encode("utf-8", "surrogatepass")
    for file in cache_path(state, "").parent.glob("*.db"):
        try:
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
                if connection.execute("select 1 from root where path = cast(? as text)", (path,)).fetchone():
                    return True
        except sqlite3.Error:
            return True
    return False
