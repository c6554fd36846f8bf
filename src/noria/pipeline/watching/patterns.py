"""Files by a pattern: `Path.glob`, `Path.rglob` and `glob.glob` see the folders, and give what fits alone.

A folder that is gone through for a pattern counts by what the pattern gives, so a file beside it changes nothing.
Told by the frames that list the folder; where they do not say (an iterator of Python 3.13), the folder counts.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.pipeline.watching.digests import absolute

if TYPE_CHECKING:
    import glob
else:
    glob = lazy("glob")

__all__ = ["Pattern", "matches", "pattern_of", "shown"]

Pattern = tuple[str, str, str]
"""How it is asked for, the pattern, and the folder that it begins in."""
_OF_PATHS = ("glob", "rglob")
_OF_TEXTS = ("glob", "_iglob")
_RECURSIVE, _HIDDEN = "recursive", "hidden"


def pattern_of(frames: list[FrameType]) -> Pattern | None:
    """The pattern that a folder is listed for, by the frames of Python's own modules that do it, innermost first."""
    for frame in reversed(frames):
        file, name = Path(frame.f_code.co_filename).name, frame.f_code.co_name
        if file == "glob.py" and name in _OF_TEXTS:
            return _of_text(frame.f_locals)
        if file != "glob.py" and name in _OF_PATHS:
            known = frame.f_locals
            if known.get("case_sensitive") is not None or known.get("recurse_symlinks"):
                return None
            return name, str(known["pattern"]), absolute(known["self"])
    return None


def _of_text(known: dict[str, Any]) -> Pattern | None:
    text = known["pathname"]
    if known.get("dir_fd") is not None or not isinstance(text, str):
        return None
    parts = Path(known.get("root_dir") or ".", text).parts
    plain = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if plain == len(parts):
        return None
    how = [word for word, name in ((_RECURSIVE, "recursive"), (_HIDDEN, "include_hidden")) if known.get(name)]
    end = os.sep if text.endswith(os.sep) else ""  # folders alone
    return "+".join(["files", *how]), f"{Path(*parts[plain:])}{end}", absolute(Path(*parts[:plain]))


def shown(how: str, pattern: str, folder: str) -> str:
    """A pattern as one text."""
    return f"{json.dumps(pattern)} in {folder} by {how}"


def matches(text: str, root: Path) -> list[str]:
    """What a pattern gives now, in order."""
    pattern, end = json.JSONDecoder().raw_decode(text)
    place, _, how = text[end:].removeprefix(" in ").rpartition(" by ")
    folder = root / place
    if how in _OF_PATHS:
        found = folder.glob(pattern) if how == "glob" else folder.rglob(pattern)
        return sorted(os.path.relpath(each, folder) for each in found)
    ways = how.split("+")
    names = glob.glob(pattern, root_dir=folder, recursive=_RECURSIVE in ways, include_hidden=_HIDDEN in ways)
    return sorted(names)
