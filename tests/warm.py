"""Runs `noria` commands in processes that are forked from one that has loaded the libraries.

Loading pandas, scikit-learn and SQLAlchemy takes a command one to three seconds of a processor, the work of
most commands in tests a tenth. Each command is a process of its own, with its own folder, environment and
exit, as if typed; only what a process reads when Python starts is the loaded one's. So a command whose
environment differs in that is started anew. What some commands start in turn (the template of workers, a
smoke test, the process that ships a script's models) is a child of theirs that was forked before they began.
What a start costs and imports is tested elsewhere
(unit/faces/test_command_line.py, e2e).
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

__all__ = ["Begun", "begin", "noria"]

_atexit: Any = atexit  # what ends Python has no public name
_subprocess: Any = subprocess  # nor has what starts a process for a Popen
_threading: Any = threading
AT_START = ("PYTHON", "LD_", "MALLOC", "LC_", "LANG", "TZ", "OMP_", "OPENBLAS", "MKL_", "BLIS_", "NPY_", "NUM")
"""How variables begin that Python and libraries read when they are loaded."""
FEW = 3
"""So many commands of an environment are started anew before one is loaded for it."""
IN_SPARE = (
    *("noria", "noria.faces.step", "noria.faces.search_worker", "noria.faces.smoke", "noria.faces.ship"),
    "noria.faces.trial",
)
"""What a command starts by `python -m`, that may be done by a process forked before the command began."""
SPARES = {"run": 1, "deploy": 1, "promote": 1, "test": 4}
"""So many of those processes a command is given. Not those of `noria reproduce`: each has its own hash seed."""
SPARES_OF_A_SEARCH = 3
LOADED = (
    *("pandas", "pyarrow.parquet", "pyarrow.dataset", "sqlalchemy.dialects.sqlite", "sklearn.linear_model"),
    *("sklearn.ensemble", "sklearn.pipeline", "sklearn.compose", "sklearn.preprocessing", "sklearn.metrics"),
    *("noria.faces.cli.main", "noria.faces.verbs", "noria.loop.run", "noria.loop.scripts", "noria.store.replay"),
    *("noria.store.migrate", "noria.store.start", "noria.engines.objects.file", "noria.engines.executors.auto"),
    *("noria.engines.executors.pool", "noria.engines.executors.inline", "noria.pipeline.attempt.call", "pyarrow.csv"),
    *("noria.engines.flavors.sklearn", "noria.registry.kinds", "cryptography.hazmat.primitives.asymmetric.ed25519"),
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
    if threading.current_thread() is not threading.main_thread():
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


def begin(*words: str, cwd: Path, env: Mapping[str, str]) -> subprocess.Popen[str] | Begun:
    """`noria WORDS` in a folder, going on: to be read, sent signals, killed and waited for, as a Popen is.

    What it prints and complains of can be read together from its `stdout`.
    """
    loaded = _servers.get(key := json.dumps(_at_start(env)))
    if loaded is None:
        loaded = _servers[key] = _Loaded(env)
    if not loaded.is_worth_it():
        return subprocess.Popen(
            [sys.executable, "-m", "noria", *words],
            cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    return loaded.begin(words, cwd, env)


class Begun:
    """A command that goes on in a fork: what `subprocess.Popen` has of the same names."""

    def __init__(self, pid: int, stdout: TextIO, ended: Path) -> None:
        self.pid, self.stdout, self.returncode = pid, stdout, None
        self._ended = ended

    returncode: int | None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it goes on."""
        if self.returncode is None and self._ended.exists():
            self.returncode = os.waitstatus_to_exitcode(int(self._ended.read_text()))
            self._ended.unlink()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. Raises: subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(["noria"], timeout or 0.0)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """All that it prints, until it has ended and nobody can print there any more. Raises: TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pieces = bytearray()
        handle = self.stdout.fileno()
        waiting = select.poll()  # select() takes no descriptor beyond 1,023, and this process may have more
        waiting.register(handle, select.POLLIN | select.POLLHUP)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not waiting.poll(None if left is None else left * 1000):
                raise subprocess.TimeoutExpired(["noria"], timeout or 0.0, bytes(pieces))
            piece = os.read(handle, 1 << 16)
            if not piece:
                break
            pieces += piece
        self.wait(None if deadline is None else max(1.0, deadline - time.monotonic()))
        return pieces.decode("utf-8"), None

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Begun:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # the test has failed: nobody will let it end
            self.kill()
        self.stdout.close()
        self.wait()


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
        self._asked = self._begun = 0
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
        places = [self._folder / name for name in ("out", "err")]
        asked = {"words": list(words), "cwd": str(cwd), "environ": dict(environ), "timeout": timeout}
        status = self._answered({**asked, "places": list(map(str, places))})
        out, err = (place.read_text(encoding="utf-8") for place in places)
        command = [sys.executable, "-m", "noria", *words]
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(command, timeout, out, err)
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), out, err)

    def begin(self, words: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> Begun:
        """Fork a process for a command that goes on."""
        self._begun += 1
        pipe, ended = self._folder / f"pipe-{self._begun}", self._folder / f"ended-{self._begun}"
        os.mkfifo(pipe)
        handle = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # a writer comes before the answer does
        asked = {"words": list(words), "cwd": str(cwd), "environ": dict(environ), "ended": str(ended)}
        try:
            pid = self._answered({**asked, "places": [str(pipe)]})
        except BaseException:
            os.close(handle)
            raise
        pipe.unlink()
        os.set_blocking(handle, True)
        assert pid is not None
        return Begun(pid, os.fdopen(handle, encoding="utf-8"), ended)

    def _answered(self, asked: Mapping[str, object]) -> int | None:
        """What the process says to a line; it is started for the first."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).resolve())],
                env=self._environ, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that has loaded the libraries ended"
        said: int | None = json.loads(answer)
        return said

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
    """Fork for each line of standard input; print how the command ended, null if its time was over.

    Of a command that goes on its id is printed at once, and its end is a file.
    """
    for name in LOADED:
        importlib.import_module(name)
    for name in ("noria.faces.cli", "noria.registry.kinds"):
        package = importlib.import_module(name)
        for found in pkgutil.iter_modules(package.__path__, f"{name}."):
            importlib.import_module(found.name)
    _compile()
    gc.collect()
    gc.freeze()  # what is loaded is never looked through again: its pages stay shared
    woken, wake = os.pipe()
    for handle in (woken, wake):
        os.set_blocking(handle, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    going: dict[int, Path] = {}
    waiting = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 1 << 12)
            _tell_ends(going)
        if 0 not in ready:
            continue
        piece = os.read(0, 1 << 16)
        if not piece:
            return
        *lines, waiting = (waiting + piece).split(b"\n")
        for line in lines:
            asked = json.loads(line)
            opened = _opened(asked["places"])
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(woken)
                os.close(wake)
                spares = _Spares(asked["words"], opened)
                code = _become(asked, opened)
                spares.stop()
                _end(code)
            for handle in opened:
                os.close(handle)
            if "ended" in asked:
                going[child] = Path(asked["ended"])
                print(child, flush=True)
            else:
                print(json.dumps(_waited(child, asked["timeout"])), flush=True)


def _compile() -> None:
    """Let SQLAlchemy compile what nearly every command asks a ledger: the commands find it compiled."""
    ws = importlib.import_module("noria.testing.workspace").open_memory()
    importlib.import_module("noria.governance.audit").verify(ws)
    importlib.import_module("noria.store.replay").difference(ws.ledger)
    importlib.import_module("noria.project.status").status(ws)
    ws.ledger.database.close()
    shutil.rmtree(ws.project.root)


def _opened(places: Sequence[str]) -> list[int]:
    """What a command prints to, opened: a file each for what it prints and complains of, or one pipe for both."""
    return [os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for place in places]


def _tell_ends(going: dict[int, Path]) -> None:
    """Write down how commands that went on have ended."""
    for child, place in list(going.items()):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            del going[child]
            part = place.with_suffix(".part")
            part.write_text(str(status))
            part.replace(place)


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


def _become(asked: Mapping[str, object], opened: Sequence[int]) -> int:
    """Be the command: gives its exit code."""
    words, environ = asked["words"], asked["environ"]
    assert isinstance(words, list)
    assert isinstance(environ, dict)
    empty = os.open("/dev/null", os.O_RDONLY)
    for number, handle in enumerate((empty, opened[0], opened[-1])):
        os.dup2(handle, number)
    for handle in {empty, *opened}:
        os.close(handle)
    sys.argv = [importlib.import_module("noria.__main__").__file__ or "", *words]
    _settle(str(asked["cwd"]), environ)
    # /proc/self/environ is that of the loaded process: scripts are given what a process of their own would read there
    importlib.import_module("noria.loop.scripts").started_with = lambda: dict(environ)
    return _done(importlib.import_module("noria.__main__").main)


def _settle(cwd: str, environ: Mapping[str, str]) -> None:
    """Have the folder and the variables that a process started by `python -m` has."""
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # the process's own
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:0] = [os.getcwd()]  # noqa: PTH109  # as `python -m` has it
    importlib.reload(importlib.import_module("noria.store.failpoint"))  # it reads its variable when it is loaded


def _done(work: Callable[[], object]) -> int:
    """Do it to its end; gives the exit code that Python would."""
    try:
        work()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:  # noqa: BLE001  # as Python ends what nobody caught
        traceback.print_exc()
        return 1
    return 0


class _Spares:
    """Processes that a command may need, forked from it before it begins, while nothing has happened in it yet.

    One that is used is the command's child like any that it starts: with the id, signals, files, session and end
    of a process of its own. It is `python -m NAME` in a process that has loaded the libraries.
    """

    def __init__(self, words: Sequence[str], opened: Sequence[int]) -> None:
        self._idle: list[tuple[int, socket.socket]] = []
        self._start = _at_start(os.environ)
        count = SPARES_OF_A_SEARCH if "--search" in words else SPARES.get(words[0] if words else "", 0)
        for _ in range(count):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                for handle in (ours.fileno(), *opened, *(channel.fileno() for _, channel in self._idle)):
                    os.close(handle)
                _be_spare(theirs)
            theirs.close()
            self._idle.append((pid, ours))
        spares = self

        class Popen(_subprocess.Popen):  # type: ignore[misc]  # it has no type without its public name
            """Takes a spare process where one does what is asked."""

            def _execute_child(self, args: Any, *given: Any) -> None:
                if not spares.take(self, args, given):
                    super()._execute_child(args, *given)

        _subprocess.Popen = Popen

    def take(self, process: Any, words: Any, given: Sequence[Any]) -> bool:
        """Let a spare be this process, if there is one and it can be."""
        _, _, _, passed, cwd, env, _, _, is_shell, *pipes = given[:15]
        environ = dict(os.environ if env is None else env)
        streams = (pipes[0], pipes[3], pipes[5])
        is_known = not is_shell and words[:2] == [sys.executable, "-m"] and words[2] in IN_SPARE
        if not is_known or -1 in streams or _at_start(environ) != self._start or not self._idle:
            return False
        pid, channel = self._idle.pop()
        sent = [(pipe, number) for number, pipe in enumerate(streams)]
        sent += [(handle, handle) for handle in sorted(passed)]
        asked = {"words": words[2:], "cwd": os.fspath(cwd or Path.cwd()), "environ": environ}
        asked |= {"numbers": [number for _, number in sent], "is_session": bool(given[20])}
        try:
            socket.send_fds(channel, [b"f"], [handle for handle, _ in sent])
            channel.sendall(json.dumps(asked).encode() + b"\n")
        except OSError:  # somebody has killed it
            return False
        finally:
            channel.close()
        process.pid, process._child_created = pid, True
        process._close_pipe_fds(*pipes)
        return True

    def stop(self) -> None:
        """End those that nobody needed."""
        for pid, _ in self._idle:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _be_spare(channel: socket.socket) -> NoReturn:
    """Wait for what to be, and be it. Who waits ends with the command."""
    content, handles, _, _ = socket.recv_fds(channel, 1, 16)
    if not content:
        os._exit(0)
    with channel.makefile("rb") as lines:
        asked = json.loads(lines.readline())
    channel.close()
    high = [fcntl.fcntl(handle, fcntl.F_DUPFD, 200) for handle in handles]
    for handle in handles:
        os.close(handle)
    for handle, number in zip(high, asked["numbers"], strict=True):
        os.dup2(handle, number)
        os.close(handle)
    if asked["is_session"]:
        os.setsid()
    module, *sys.argv[1:] = asked["words"]
    _settle(asked["cwd"], asked["environ"])
    _end(_done(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True)))


if __name__ == "__main__":
    _serve()
