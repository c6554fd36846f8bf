"""Files that a step makes: written anew, renamed into place, or named by what it returns.

A result says little of a file beside it, which a later step reads. So what a step made is kept with
its result as a condition (ADR 0025): where such a file was altered or taken away, the step makes it again.
Not seen: a file of compiled code that is not among `writers.py` and that the result does not name.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from noria.pipeline.watching.digests import Stamp, absolute, stamp_of
from noria.pipeline.watching.trace import temporary

__all__ = ["in_folder", "is_clearing", "is_lasting", "of_descriptor", "paths_in", "stamped", "was_changed"]

FILES = 10_000
"""Of a folder that was put into place as a whole, so many files are looked at."""
TEXTS = 1_000
DEPTH = 3
TICK_NS = 10_000_000
"""The clock of files goes in steps: one that was just written can be this much older than the time says."""


def stamped(made: Iterable[str]) -> Iterator[tuple[str, Stamp]]:
    """What is left of the files and folders that were made, with the stamps that they have now."""
    for name in made:
        for file in _files_of(name):
            stamp = stamp_of(file)
            if stamp is not None:
                yield file, stamp


def paths_in(result: Any, depth: int = DEPTH) -> Iterator[str]:
    """The paths that a result consists of or holds."""
    if isinstance(result, os.PathLike):
        result = os.fspath(result)
    if isinstance(result, str):
        if 0 < len(result) < 1024 and ("." in result or os.sep in result) and not set("\n\0") & set(result):
            yield absolute(result)
    elif depth and isinstance(result, dict | list | tuple | set | frozenset) and len(result) <= TEXTS:
        for item in result.values() if isinstance(result, dict) else result:
            yield from paths_in(item, depth - 1)


def was_changed(name: str, since_ns: int) -> bool:
    """Whether a file or folder is newer than a time, as far as the clock of files can tell."""
    try:
        return Path(name).stat().st_ctime_ns >= since_ns - TICK_NS
    except OSError:
        return False


def is_clearing() -> bool:
    """Whether who is just heard by the watch that asks takes a folder away, and lists it for nothing else."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.endswith("watching/watch.py"):
        frame = frame.f_back
    return frame.f_code.co_name.lstrip("_").startswith("rmtree") and frame.f_code.co_filename.endswith("shutil.py")


def in_folder(path: Any, descriptor: int) -> str:
    """The whole path of a name in a folder that a descriptor is open on; -1 stands for none."""
    name = os.fsdecode(path)
    return absolute(os.path.join(of_descriptor(descriptor), name) if descriptor >= 0 else name)  # noqa: PTH118  # of texts


def of_descriptor(number: int) -> str:
    """The folder that a descriptor is open on; "" where the system does not say."""
    try:
        return str(Path(f"/proc/self/fd/{number}").readlink())
    except OSError:
        return ""


def is_lasting(name: str, root: Path) -> bool:
    """Whether a file is there to stay: one of the project, or neither temporary nor in a hidden folder of the user."""
    if name.startswith(str(root) + os.sep):
        return "__pycache__" not in name
    return not name.startswith((*temporary(), *_hidden()))


@functools.cache
def _hidden() -> tuple[str, ...]:
    return (str(Path("~").expanduser()) + os.sep + ".",)


def _files_of(name: str) -> Iterator[str]:
    if not Path(name).is_dir():
        yield name
        return
    count = 0
    for folder, _, files in os.walk(name):
        for file in sorted(files):
            yield os.path.join(folder, file)  # noqa: PTH118  # of texts
            count += 1
            if count == FILES:
                return
