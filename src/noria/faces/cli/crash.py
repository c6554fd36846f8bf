"""What is told of an unexpected failure: the file its traceback goes to, and what the project replaced."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from noria.config import find_project
from noria.core.errors import NoriaError
from noria.core.standard import Replaced, frames_of

__all__ = ["save", "set_by"]


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


def set_by(each: Replaced, error: BaseException) -> str:
    """Which line of the project has replaced something: `/p/pipeline.py:4: json.dumps = f`; "" if none shows."""
    folder = _folder()
    name = each.name.rpartition(".")[2]
    shown = re.compile(rf"(?<!\w){name}\s*=(?!=)|setattr\(.*['\"]{name}['\"]|patch\(.*{name}['\"]")
    files = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    files |= {frame.f_code.co_filename for frame in frames_of(error.__traceback__)}  # one whose import has failed
    for file in sorted(Path(file) for file in files if file.startswith(f"{folder}/")):
        if file.suffix == ".py" and "site-packages" not in file.parts and file.is_file():
            for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), 1):
                if shown.search(line) and not line.lstrip().startswith("#"):
                    return f"{file}:{number}: {line.strip()[:120]}"
    code = getattr(each.by, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def _folder() -> str:
    """The folder of the project that a command was typed in, else the one it was typed in itself."""
    try:
        return str(find_project(Path.cwd()))
    except (NoriaError, OSError):
        return str(Path.cwd())
