"""Where the traceback of an unexpected failure goes: a file that the error line names."""

from __future__ import annotations

import os
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from noria.config import find_project
from noria.core.errors import NoriaError

__all__ = ["save"]


def save(error: BaseException) -> Path:
    """Write the traceback to `.noria/errors/` of the project, else to the temporary folder."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    text = "".join(traceback.format_exception(error))
    try:
        folder = find_project(Path.cwd()) / ".noria" / "errors"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(text, encoding="utf-8")
    except (NoriaError, OSError):
        path = Path(tempfile.gettempdir()) / f"noria-{name}"
        path.write_text(text, encoding="utf-8")
    return path
