"""Other programs that a step starts: what they read is seen by nobody, unless they only tell of the machine.

Numeric libraries ask `lscpu` for cores and start helpers of their own, which read nothing of the
project's. Who started a program, and which, tells them apart: whatever the project's code starts counts,
and so does what a package starts for it (a converter, a renderer), except programs and starters named here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import shlex
else:
    shlex = lazy("shlex")

__all__ = ["STARTS", "program_of", "unseen"]

STARTS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"})
_THROUGH = (
    *("/subprocess.py", "/os.py", "<frozen os>", "/pty.py"),
    *("/multiprocessing/util.py", "/loky/backend/fork_exec.py"),
)
_FIXED = ("/platform.py", "/ctypes/util.py", "/uuid.py", "resource_tracker.py")
"""Files that start a program of their own choice; of Python, and the tracker of semaphores that loky brings."""
_OF_THE_MACHINE = frozenset({"lscpu", "uname", "ldconfig", "nproc", "getconf", "sysctl", "nvidia-smi", "rocm-smi"})
_SHELLS = frozenset({"sh", "bash", "dash", "zsh"})


def unseen(event: str, arguments: tuple[Any, ...], is_own: Callable[[str], bool]) -> str:
    """The reason why what a started program reads is not known; "" if it reads nothing of the project's.

    `event` and `arguments` are those of the audit event, which is being handled in this thread.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.endswith((*_THROUGH, "noria/pipeline/watching/watch.py")):
        frame = frame.f_back
    name = program_of(event, arguments)
    if frame is not None:
        file = frame.f_code.co_filename
        by_project = is_own(file) or file.startswith("<")
        if not by_project and (file.endswith(_FIXED) or name in _OF_THE_MACHINE):
            return ""
    return f"it starts {name}, and what another program reads is not seen"


def program_of(event: str, arguments: tuple[Any, ...]) -> str:
    """The name of the program, for people: that which a shell is told to run, where it is a shell."""
    given = [item for item in arguments if item is not None]
    if event == "subprocess.Popen" and len(arguments) > 1 and isinstance(arguments[1], list | tuple):
        words = [_text(item) for item in arguments[1]]
        if len(words) > 2 and Path(words[0]).name in _SHELLS and words[1] == "-c":
            return _first_word(words[2])
    if event == "os.system" and given:
        return _first_word(_text(given[0]))
    if event == "os.spawn" and len(given) > 1:
        given = given[1:]
    if event == "pty.spawn" and given and isinstance(given[0], list | tuple):
        given = list(given[0])
    first = _text(given[0]) if given else ""
    return Path(first).name or "a process"


def _first_word(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # quotes that do not match: the shell will say so
        words = command.split()
    return Path(words[0]).name if words else "a shell"


def _text(item: Any) -> str:
    return os.fsdecode(item) if isinstance(item, str | bytes | os.PathLike) else ""
