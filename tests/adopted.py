"""Lets what the process of the tests starts be forked from one that has loaded the libraries, as its own child.

Each is a process of its own, with the id, signals, files, session, folder, environment and end of `python -m NAME`;
what `warm.py` does for the commands that tests type, this does for what the library starts in turn, and for the
programs of tests that say so (`forked`): theirs is what they do, not how Python starts.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import warm

__all__ = ["adopt", "anew", "forked"]

_subprocess: Any = subprocess  # what starts a process for a Popen has no public name
NAMES = {
    *("noria.faces.step", "noria.faces.search_worker", "noria.faces.smoke", "noria.faces.ship", "noria.faces.trial"),
    *("noria.faces.take", "noria.faces.controller"),
}
"""What is forked from a loaded process when this one starts it by `python -m`; and programs and files."""
LIMITS = ("RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_NPROC")


class _Adopter:
    def __init__(self) -> None:
        self._pid = os.getpid()
        self._limits = _limits()
        self.is_on = True
        adopter = self

        class Popen(_subprocess.Popen):  # type: ignore[misc]  # it has no type without its public name
            """Takes a process forked from a loaded one where one does what is asked."""

            def _execute_child(self, args: Any, *given: Any) -> None:
                if not adopter.take(self, args, given):
                    super()._execute_child(args, *given)

        _subprocess.Popen = Popen

    def take(self, process: Any, words: Any, given: Sequence[Any]) -> bool:
        """Let a fork be this process, if it can be what a new one would."""
        order = warm.Order(words, given)
        if not self.is_on or os.getpid() != self._pid or not order.is_for(NAMES) or _limits() != self._limits:
            return False
        found = warm.spare(order.environ)
        return found is not None and order.give(process, *found)


def _limits() -> list[object]:
    """What a process has from the one that starts it, and this one may have changed since."""
    limits = [resource.getrlimit(getattr(resource, name)) for name in LIMITS]
    return [*limits, os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)]


_adopters: list[_Adopter] = []


def adopt() -> None:
    """From now on, fork from a loaded process what this one starts of Noria's own. Linux only; idempotent."""
    if sys.platform == "linux" and not _adopters:
        _adopters.append(_Adopter())


def forked(program: str | Path) -> None:
    """Fork this program (as `python -c` has it) or file from a loaded process, too, from now on."""
    NAMES.add(os.fspath(program))


@contextlib.contextmanager
def anew() -> Iterator[None]:
    """Start everything anew meanwhile: for tests of what a new process has."""
    for each in _adopters:
        each.is_on = False
    try:
        yield
    finally:
        for each in _adopters:
            each.is_on = True
