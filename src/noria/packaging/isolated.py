"""A model whose files run code, in a process of its own: what goes in are rows, what comes out are numbers.

The process (`faces/model_worker.py`) has none of our variables, gives up network and programs before it loads
anything (`confine.py`), and is asked over its pipes. If it dies or does not answer in time, that request fails and
the next one starts another. It reads this user's files as any process of theirs can; it cannot send them anywhere.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.errors import Denied, ModelFailed, ModelSilent, NoriaError, UsageError
from noria.core.lazy import lazy
from noria.packaging.rows import Columns, Field, Rows
from noria.store.scratch import Scratch

if TYPE_CHECKING:
    import msgspec
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
else:
    msgspec, np = lazy("msgspec"), lazy("numpy")

__all__ = ["ANSWER_S", "HEAD", "PASSED_ON", "PROCESS", "Isolated", "IsolatedFlavor"]

PROCESS = "noria.faces.model_worker"
HEAD = struct.Struct("<I")
"""The length of a message, before it."""
PASSED_ON = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "SYSTEMROOT", "OMP_NUM_THREADS")
"""The variables that a process of somebody's code is given of ours."""
LOAD_S = 300.0
ANSWER_S = 60.0
"""How long one answer may take where nothing else is said."""
_ERRORS: Mapping[str, type[NoriaError]] = {kind.code: kind for kind in (Denied, ModelFailed, UsageError)}


class Isolated:
    """A model in a process of its own. Safe between threads, which are answered one after the other.

    Args:
        place: the folder that holds the bundle's files in `bundle/`; it is kept as long as this is, and goes with it.
        answer_s: how long one answer may take; a process that takes longer is killed.
    Raises: what loading it raises, as it was told; ModelFailed if the process dies, ModelSilent if it takes more
        than LOAD_S.
    """

    def __init__(self, place: Scratch, flavor: str, *, threads: int = 0, answer_s: float = ANSWER_S) -> None:
        self._place = place.path
        self._answer_s = answer_s
        self._running: list[subprocess.Popen[bytes]] = []
        self._finalizer = weakref.finalize(self, _clean, place, self._running)
        self._question = {"flavor": flavor, "threads": threads}
        self._lock = threading.Lock()
        self.confinement = ""
        self.inputs: dict[str, Any] = {}
        with self._lock:
            self._start()

    @property
    def pid(self) -> int:
        """The process that answers."""
        return self._running[0].pid

    def ask(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Scores of checked columns, shape (n_rows,). Raises: ModelFailed; ModelSilent after `answer_s`."""
        body = msgspec.msgpack.encode(columns)
        with self._lock:
            if not self._running or self._running[0].poll() is not None:
                self._start()
            told = self._exchange(body, self._answer_s)
        if told[:1] == b"\0":
            raise _error(msgspec.msgpack.decode(told[1:]))
        return np.frombuffer(told, dtype="<f8", offset=1).astype(np.float64)

    def close(self) -> None:
        """End the process; nothing can be asked any more."""
        with self._lock:
            self._finalizer()

    def _start(self) -> None:
        _end(self._running)
        folder = str(self._place)
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        own = {"HOME": folder, "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", PROCESS, str(Path(folder) / "bundle")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**environment, **own},
            bufsize=0,
        )
        self._running.append(process)
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        told = msgspec.msgpack.decode(self._exchange(msgspec.msgpack.encode(self._question), LOAD_S))
        if "error" in told:
            _end(self._running)
            raise _error(told)
        self.confinement, self.inputs = str(told["confinement"]), dict(told["inputs"])

    def _exchange(self, body: bytes, limit_s: float) -> bytes:
        """One message there and one back. Raises: ModelFailed, ModelSilent; the process is ended then."""
        process, until = self._running[0], time.monotonic() + limit_s
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _write(process.stdin.fileno(), HEAD.pack(len(body)) + body, until)
            (length,) = HEAD.unpack(_read(process.stdout.fileno(), HEAD.size, until))
            return _read(process.stdout.fileno(), length, until)
        except TimeoutError:
            _end(self._running)
            raise ModelSilent(
                f"the model's process did not answer within {limit_s:g} s and was ended",
                hint="the next request starts it anew; on a server [server] answer_timeout says how long it may take",
            ) from None
        except (EOFError, BrokenPipeError):
            process.wait()
            code = process.returncode
            _end(self._running)
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            raise ModelFailed(f"the model's process {how} instead of answering") from None


class IsolatedFlavor:
    """The seam to such a model: it is saved and loaded elsewhere, here it is only asked."""

    runs_code = True
    packages: tuple[str, ...] = ()

    def __init__(self, name: str, fields: Sequence[Field]) -> None:
        self.name = name
        self._rows = Rows(fields)

    def save(self, model: object, folder: Path) -> Sequence[str]:
        """Never: the process that trains saves."""
        raise Denied("a model in a process of its own is not saved from outside")

    def load(self, folder: Path) -> object:
        """Never: `Isolated` loads it."""
        raise Denied("a model that runs code is not loaded in this process")

    def predict(self, model: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """What its process answers for a frame."""
        rows = self._rows.plain(frame)
        found: npt.NDArray[np.float64] = model.ask({f.name: [row[f.name] for row in rows] for f in self._rows.fields})
        return found

    def direct(self, model: Any, fields: Sequence[Field]) -> Callable[[Columns], npt.NDArray[np.float64]] | None:
        """The columns go to its process as they are."""
        ask: Callable[[Columns], npt.NDArray[np.float64]] = model.ask
        return ask

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        """Nothing: they are in the bundle's signature by now."""
        return {}


def _clean(place: Scratch, running: list[subprocess.Popen[bytes]]) -> None:
    _end(running)
    place.remove()


def _end(running: list[subprocess.Popen[bytes]]) -> None:
    while running:
        process = running.pop()
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _error(told: Mapping[str, Any]) -> NoriaError:
    error = told["error"]
    kind = _ERRORS.get(str(error["code"]), ModelFailed)
    return kind(str(error["message"])[:2000], hint=str(error["hint"])[:500])


def _read(handle: int, length: int, until: float) -> bytes:
    parts, missing = [], length
    while missing:
        _wait(handle, select.POLLIN, until)
        part = os.read(handle, min(missing, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _write(handle: int, body: bytes, until: float) -> None:
    view = memoryview(body)
    while view:
        _wait(handle, select.POLLOUT, until)
        view = view[os.write(handle, view[: 1 << 16]) :]


def _wait(handle: int, event: int, until: float) -> None:
    poll = select.poll()
    poll.register(handle, event)
    left = until - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError
