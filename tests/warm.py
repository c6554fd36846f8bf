"""Runs `noria` commands in processes that are forked from one that has loaded the libraries.

Loading pandas, scikit-learn and SQLAlchemy takes a command one to three seconds of a processor, the work of
most commands in tests a tenth. Each command is a process of its own, with its own folder, environment and
exit, as if typed; only what a process reads when Python starts is the loaded one's. So a command whose
environment differs in that, or that runs a script with the environment that it was started with, is started
anew. What a start costs and imports is tested elsewhere (unit/faces/test_command_line.py, e2e).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["noria"]

_atexit: Any = atexit  # what ends Python has no public name
_threading: Any = threading
AT_START = ("PYTHON", "LD_", "MALLOC", "LC_", "LANG", "TZ", "OMP_", "OPENBLAS", "MKL_", "BLIS_", "NPY_", "NUM")
"""How variables begin that Python and libraries read when they are loaded."""
FEW = 3
"""So many commands of an environment are started anew before one is loaded for it."""
LOADED = (
    *("pandas", "pyarrow.parquet", "pyarrow.dataset", "sqlalchemy.dialects.sqlite", "sklearn.linear_model"),
    *("sklearn.ensemble", "sklearn.pipeline", "sklearn.compose", "sklearn.preprocessing", "sklearn.metrics"),
    *("noria.faces.cli.main", "noria.faces.verbs", "noria.loop.run", "noria.store.slices"),
)


def noria(
    *words: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """What `noria WORDS` does in a folder: its exit code and what it printed.

    Args:
        env: the whole environment; that of this process if it is not given.
        timeout: seconds after which the command is killed. Raises then: subprocess.TimeoutExpired.
    """
    environ = dict(os.environ if env is None else env)
    is_script = words[:1] == ("run",) and any(word.endswith((".py", ".ipynb")) for word in words[1:3])
    if is_script or threading.current_thread() is not threading.main_thread():
        return _anew(words, cwd, environ, timeout)
    loaded = _servers.get(key := json.dumps(_at_start(environ)))
    if loaded is None:
        loaded = _servers[key] = _Loaded(environ)
    if not loaded.is_worth_it():
        return _anew(words, cwd, environ, timeout)
    try:
        return loaded.run(words, cwd, environ, timeout)
    except BaseException:
        loaded.stop()  # who was interrupted has left an answer unread
        del _servers[key]
        raise


def _anew(
    words: Sequence[str], cwd: Path, environ: Mapping[str, str], timeout: float | None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "noria", *words],
        cwd=cwd, env=dict(environ), capture_output=True, text=True, check=False, timeout=timeout,
    )  # fmt: skip


def _at_start(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in environ.items() if name.startswith(AT_START))


class _Loaded:
    """A process that has loaded the libraries, and forks one for each command. It ends with this process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._asked = 0
        self._folder = Path(tempfile.mkdtemp(prefix="noria-warm-"))
        self._process: subprocess.Popen[str] | None = None

    def is_worth_it(self) -> bool:
        """Whether it is asked for often: most environments that are special are asked for once or twice."""
        self._asked += 1
        return self._asked > FEW

    def run(
        self, words: Sequence[str], cwd: Path, environ: Mapping[str, str], timeout: float | None
    ) -> subprocess.CompletedProcess[str]:
        """Fork a process for a command, and wait for its end."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).resolve())],
                env=self._environ, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        places = [self._folder / name for name in ("out", "err")]
        asked = {"words": list(words), "cwd": str(cwd), "environ": dict(environ), "timeout": timeout}
        self._process.stdin.write(json.dumps({**asked, "places": list(map(str, places))}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that has loaded the libraries ended"
        status = json.loads(answer)
        out, err = (place.read_text(encoding="utf-8") for place in places)
        command = [sys.executable, "-m", "noria", *words]
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(command, timeout, out, err)
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), out, err)

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                stream.close()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)


_servers: dict[str, _Loaded] = {}


@atexit.register
def _stop() -> None:
    for each in _servers.values():
        each.stop()


def _serve() -> None:
    """Fork for each line of standard input; print how the command ended, null if its time was over."""
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is loaded is never looked through again: its pages stay shared
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _end(_become(asked))
        print(json.dumps(_waited(child, asked["timeout"])), flush=True)


def _waited(child: int, timeout: float | None) -> int | None:
    if timeout is None:
        return os.waitpid(child, 0)[1]
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


def _end(code: int) -> NoReturn:
    """Do what Python does at its end, but for taking apart every module: that would touch each page."""
    _threading._shutdown()
    _atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _become(asked: Mapping[str, object]) -> int:
    """Be the command: gives its exit code."""
    words, places, environ = asked["words"], asked["places"], asked["environ"]
    assert isinstance(words, list)
    assert isinstance(places, list)
    assert isinstance(environ, dict)
    modes = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, (place, mode) in enumerate(zip(("/dev/null", *places), modes, strict=True)):
        opened = os.open(place, mode, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # the process's own
    os.chdir(str(asked["cwd"]))
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [importlib.import_module("noria.__main__").__file__ or "", *words]
    sys.path[:0] = [os.getcwd()]  # noqa: PTH109  # as `python -m` has it
    importlib.reload(importlib.import_module("noria.store.failpoint"))  # it reads its variable when it is loaded
    try:
        importlib.import_module("noria.__main__").main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:  # noqa: BLE001  # as Python ends what nobody caught
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve()
