"""Many packed objects into files by two processes: this one, and one that does nothing else.

Writing small files is a matter of system calls. Two threads of one process take turns at the
interpreter and are no faster than one, two processes are. The other one is never needed: what it does
not answer for, because it could not be started, was killed or met a full disk, is done here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING

from noria.core.identity import Digest
from noria.core.lazy import lazy
from noria.store import unpack
from noria.store.unpack import Packed

if TYPE_CHECKING:
    import subprocess
    from concurrent import futures
else:
    futures = lazy("concurrent.futures")
    subprocess = lazy("subprocess")

__all__ = ["AT_ONCE", "MANY", "packed_work", "unpack_many"]

MANY = 2000
"""Fewer files are written before another process has started."""
AT_ONCE = 256
"""So many are done by a process before it takes more."""

_LOOKED_UP = 4096

Part = Sequence[Packed]
Parts = SimpleQueue["Part | None"]
"""What waits to be done. None is its end, and stays in it for whoever comes next."""


def packed_work(
    places: Callable[[Sequence[Digest]], Iterable[tuple[Digest, Path, int, int]]],
    wanted: dict[Digest, list[str | Path]],
) -> Iterator[Packed]:
    """What of `wanted` lies packed here; that is taken out of it. Some thousands are looked up at a time.

    Args:
        places: a store's own, which gives name, pack file, place and size of what it has packed.
        wanted: digest -> where its bytes go.
    """
    names = list(wanted)
    files: dict[Path, bytes] = {}
    for start in range(0, len(names), _LOOKED_UP):
        for name, file, at, size in places(names[start : start + _LOOKED_UP]):
            where = files.get(file) or files.setdefault(file, os.fsencode(file))
            key = bytes.fromhex(name[7:])
            for target in wanted.pop(name):
                yield Packed(where, at, size, key, os.fsencode(target))


def unpack_many(work: Iterable[Packed], progress: Callable[[int], None], *, count: int) -> list[Packed]:
    """Write packed objects to their targets, in the order of the disk; each is verified before its name is there.

    What `work` gives is begun with while it still gives more. Gives those that were not written, because
    their bytes are not where they should be or are not theirs.

    Args:
        count: about how many they are.
    Raises: OSError if a target cannot be written; what was written by then stays.
    """
    waiting: Parts = SimpleQueue()
    process = _started() if count >= MANY else None
    if process is None:
        _fill(waiting, work)
        return _done_here(waiting, progress)
    try:
        with futures.ThreadPoolExecutor(1, thread_name_prefix="noria-unpack") as pool:
            theirs = pool.submit(_done_there, process, waiting, progress)
            try:
                _fill(waiting, work)
                return [*_done_here(waiting, progress), *theirs.result()]
            finally:
                _clear(waiting)
                process.kill()  # it has nothing to do, or nobody will ask what it did
    finally:
        _end(process)


def _fill(waiting: Parts, work: Iterable[Packed]) -> None:
    rest = iter(work)
    while part := list(islice(rest, AT_ONCE)):
        waiting.put(part)
    waiting.put(None)


def _clear(waiting: Parts) -> None:
    """Nothing more is begun."""
    with suppress(Empty):
        while True:
            waiting.get_nowait()
    waiting.put(None)


def _done_here(waiting: Parts, progress: Callable[[int], None]) -> list[Packed]:
    left: list[Packed] = []
    while (part := _next(waiting)) is not None:
        done, places = unpack.unpack(part)
        left += [part[place] for place in places]
        progress(done)
    return left


def _done_there(process: subprocess.Popen[bytes], waiting: Parts, progress: Callable[[int], None]) -> list[Packed]:
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


def _next(waiting: Parts) -> Part | None:
    """What is to be done next; waits for it while more may come."""
    part = waiting.get()
    if part is None:
        waiting.put(None)
    return part


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
