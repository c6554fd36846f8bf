"""A step that ends its process, or comes back twice: what else would end a run without a word, or run it twice.

`os._exit` in a step that runs in the driver's own process would end the driver, with an exit code
that may say that all is well. There it is the failure of the step instead: `kept`. A child that a
step forks and that comes back out of the step's function would go on as a second driver of the same
run: it is ended there, by `called`. What ends a process below Python (a signal, the C library's
exit) is not caught; its exit code tells.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from noria.pipeline.step import split

__all__ = ["Left", "called", "kept", "require_open"]

STDERR = 2
FAILED = 4
"""The exit code of a process that one of the project's threads ends: the project's own code failed."""


class Left(BaseException):
    """The step called `os._exit(status)`. No failure that project code could handle: nothing was to run after it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@contextlib.contextmanager
def kept(name: str, own: dict[str, Any]) -> Iterator[None]:
    """For the block `os._exit` in this thread raises Left, in this process only: children end as they would.

    Args:
        name: of the step.
        own: the global names of the step's module, which may have `_exit` by another name.
    """
    exits = _exits(os.getpid())
    exits.enter(name)
    swapped = [key for key, value in own.items() if value is exits.real]
    try:
        own.update(dict.fromkeys(swapped, os._exit))
        yield
    finally:
        for key in swapped:
            own[key] = exits.real
        exits.leave()


class _Exits:
    """The `os._exit` of one process, while steps run in it; several may, each in its thread."""

    def __init__(self, pid: int) -> None:
        self.real = os._exit
        self._pid = pid
        self._steps: dict[int, str] = {}
        self._lock = threading.Lock()

    def enter(self, name: str) -> None:
        with self._lock:
            if not self._steps:
                self.real = os._exit
                os._exit = self._asked
            self._steps[threading.get_ident()] = name

    def leave(self) -> None:
        with self._lock:
            self._steps.pop(threading.get_ident(), None)
            if not self._steps:
                os._exit = self.real

    def _asked(self, status: int) -> NoReturn:
        caller = sys._getframe().f_back
        is_ours = caller is not None and str(caller.f_globals.get("__name__")).startswith("noria.")
        if os.getpid() != self._pid or not self._steps or is_ours:
            self.real(status)
        if threading.get_ident() in self._steps:
            raise Left(status)
        # A thread that the step started: nothing can be raised where the step is, so the process does end.
        names = ", ".join(self._steps.values())
        _die(f"a thread of step {names} ended the process with os._exit({status})", "noria run --resume", status)


@functools.cache
def _exits(pid: int) -> _Exits:
    """That of this process."""
    return _Exits(pid)


def require_open(name: str, handle: int, before: os.stat_result) -> None:
    """End the process if the step closed a descriptor that it was not given, as it was `before`: the ledger's too.

    Nothing could be read or written any more; what has come so far is on record, for whoever resumes the run.
    """
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(handle), before):
            return
    _die(
        f"step {name} closed descriptors that are not its own (os.closerange?), also those of the ledger",
        "noria run --resume --executor pool   (a step has another process there than the ledger)",
    )


def called(name: str, log: Path, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a step's function. A child that it forked, and that comes back out of it, is ended: one process goes on.

    The child writes a word to the log, and neither flushes what it has of its parent nor runs exit handlers.
    """
    pid = os.getpid()
    how = "returned from the step"
    try:
        by_place, by_name = split(function, arguments)
        return function(*by_place, **by_name)
    except SystemExit as error:
        if os.getpid() != pid:
            _end(error.code if isinstance(error.code, int) else int(error.code is not None))
        raise
    except BaseException as error:
        if os.getpid() != pid:
            traces = traceback.format_exception(error)
            how = f"raised {type(error).__name__} out of the step\n{''.join(traces)}"
        raise
    finally:
        if os.getpid() != pid:
            _tell(log, f"process {os.getpid()}, which step {name} forked, {how.strip()}\n")
            _tell(log, "it was ended there: a child of a step has to end by itself, with os._exit(0)\n")
            _end(1)


def _tell(log: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.write(handle, text.encode("utf-8", "replace"))


def _die(message: str, hint: str, status: int = 0) -> NoReturn:
    """End this process, which cannot go on, with a word on standard error; never with the code that all is well."""
    with contextlib.suppress(OSError):
        os.write(STDERR, f"error: {message}\nnext:  {hint}\n".encode())
    _end(status or FAILED)


def _end(status: int) -> NoReturn:
    """End a child at once. Its `os._exit` may be the one that its parent put there, which lets children go."""
    os._exit(status)
