"""Who asks for a variable of the environment: the project by a function of Python, or a library for the project."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING

from noria.core.lazy import lazy
from noria.pipeline.watching.digests import absolute

if TYPE_CHECKING:
    import sysconfig
else:
    sysconfig = lazy("sysconfig")

__all__ = ["is_asked_by_library", "is_asked_for"]

_OF_WORKERS = ("joblib", "loky", "ray", "multiprocess", "threadpoolctl", "torch", "noria")
"""Packages that hand the environment on to processes, or ask for what they themselves set in it."""
_FOLDERS = (("purelib", "platlib"), ("stdlib", "platstdlib"))
_ASKERS = ("/shutil.py get_terminal_size", "/getpass.py getuser", "/locale.py getdefaultlocale", "/gettext.py find")


def is_asked_for(code: CodeType) -> bool:
    """Whether a function of Python looks at a variable to tell its caller what that says."""
    return f"{code.co_filename} {code.co_name}".endswith(_ASKERS)


@functools.cache
def _is_library(file: str) -> bool:
    """Whether a file is of an installed package that a project may let read its settings, not of Python or Noria."""
    if file.startswith(("<", str(Path(__file__).resolve().parents[2]) + os.sep)):
        return False
    paths = sysconfig.get_paths()
    installed, python = ([absolute(paths[name]) + os.sep for name in names] for names in _FOLDERS)
    if file.startswith(tuple(installed)):
        return not file.startswith(tuple(folder + name for folder in installed for name in _OF_WORKERS))
    return not file.startswith(tuple(python))


def is_asked_by_library(frame: FrameType | None) -> bool:
    """Whether a library asks for what the project wants to know: not while it is imported, nor to start workers."""
    if frame is None or not _is_library(frame.f_code.co_filename):
        return False
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return False
        frame = frame.f_back
    return True
