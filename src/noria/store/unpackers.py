"""Many packed objects into files by two processes: this one, and one that does nothing else.

Writing small files is a matter of system calls. Two threads of one process take turns at the
interpreter and are no faster than one, two processes are. The other one is never needed: what it does
not answer for, because it could not be started, was killed or met a full disk, is done here.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO

from noria.store import unpack
from noria.store.unpack import Packed

__all__ = ["AT_ONCE", "MANY", "unpack_many"]

MANY = 2000
"""Fewer files are written before another process has started."""
AT_ONCE = 256
"""So many are done by a process before it takes more."""

Part = Sequence[Packed]


def unpack_many(work: Sequence[Packed], progress: Callable[[int], None]) -> list[Packed]:
    """Write packed objects to their targets, in the order of the disk; each is verified before its name is there.

    Gives those that were not written, because their bytes are not where they should be or are not theirs.
    Raises: OSError if a target cannot be written; what was written by then stays.
    """
    waiting = deque(work[start : start + AT_ONCE] for start in range(0, len(work), AT_ONCE))
    process = _started() if len(work) >= MANY else None
    if process is None:
        return _done_here(waiting, progress)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="noria-unpack") as pool:
            theirs = pool.submit(_done_there, process, waiting, progress)
            try:
                return [*_done_here(waiting, progress), *theirs.result()]
            finally:
                waiting.clear()
                process.kill()  # it has nothing to do, or nobody will ask what it did
    finally:
        _end(process)


def _done_here(waiting: deque[Part], progress: Callable[[int], None]) -> list[Packed]:
    left: list[Packed] = []
    while (part := _next(waiting)) is not None:
        done, places = unpack.unpack(part)
        left += [part[place] for place in places]
        progress(done)
    return left


def _done_there(
    process: subprocess.Popen[bytes], waiting: deque[Part], progress: Callable[[int], None]
) -> list[Packed]:
    """Ask the process for one part after the other; a part without an answer counts as not written."""
    assert process.stdin is not None
    assert process.stdout is not None
    left: list[Packed] = []
    while (part := _next(waiting)) is not None:
        answer = _asked(process.stdin, process.stdout, part)
        if not answer:
            return [*left, *part]
        done, *places = answer
        left += [part[place] for place in places]
        progress(done)
    return left


def _asked(sink: IO[bytes], source: IO[bytes], part: Part) -> list[int]:
    """The numbers of an answer; none if the process is gone."""
    try:
        sink.write(unpack.framed(part))
        sink.flush()
        line = source.readline()
    except BrokenPipeError:
        return []
    return [int(word) for word in line.split()] if line.endswith(b"\n") else []


def _next(waiting: deque[Part]) -> Part | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let go of a process that was killed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.wait()
    process.stdout.close()
    with suppress(BrokenPipeError):  # a part that it did not read any more
        process.stdin.close()


def _started() -> subprocess.Popen[bytes] | None:
    """The other process: in a group of its own, so that an interrupt is told to us alone; we end it."""
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", unpack.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what it could not do is done here, where the error is told
            process_group=0,
        )
    except OSError:
        return None  # no more processes may be started, or there is no interpreter to start
