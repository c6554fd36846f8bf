"""Starts a script as `python script.py` starts it, with the record beside it, and waits for its end.

The child is Python itself, run on the script; the watch comes in by `sitecustomize` (see `hook/`), as two
variables of its environment. What it prints goes where it would go, at once, and into the run's log. On a
terminal the child has a terminal too, so that progress bars look as they do. If this process dies, the
child gets SIGTERM.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pty
import signal
import subprocess
import sys
import sysconfig
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from noria import plugins
from noria.core.frozen import frozen
from noria.scripts.hook.sitecustomize import VARIABLE
from noria.scripts.recorder import CONFIG
from noria.store.disk import devices

__all__ = ["KERNEL_FOLDER", "Ended", "follow", "prepared", "started_with", "watched_environment"]

DRAIN_S = 5.0
"""How long output is still read after the script's end, while something that it started holds it open."""
TAIL_BYTES = 1 << 16
"""So much of the end of what a child wrote is kept at hand."""
_SYSTEM = ("/proc/", "/sys/", "/etc/", "/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/run/", "/var/lib/")
_HOME = (".cache", ".config", ".local", ".ipython", ".jupyter", ".nv", ".triton")
_PR_SET_PDEATHSIG = 1
KERNEL_FOLDER = "noria-kernel-"
"""How the temporary folder of a kernel's sockets begins; what is in there is no file of the notebook."""


@frozen(kw_only=True)
class Ended:
    """How a child ended: its exit code, or minus the signal that ended it; whether we were interrupted.

    `complaints` is the end of what it wrote to its standard error alone: in the log, what it printed may
    stand in the midst of a traceback, since both come by pipes of their own. `lost` says why the log ends
    before the output does; "" if it is whole.
    """

    code: int
    seconds: float
    was_interrupted: bool
    complaints: str
    lost: str = ""


def prepared(folder: Path, root: Path, state: Path) -> None:
    """Write the settings of a capture into a new folder of this user alone."""
    folder.mkdir(parents=True, mode=0o700)
    paths = sysconfig.get_paths()
    ignored = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    ignored |= {sys.prefix} if sys.prefix != sys.base_prefix else set()
    ignored |= {os.path.realpath(path) for path in ignored}
    ignored |= {str(state.resolve()), str(Path(__file__).resolve().parents[1])}
    kernels = str(Path(tempfile.gettempdir()) / KERNEL_FOLDER)
    home = Path.home()
    config = {
        "root": f"{root.resolve()}{os.sep}",
        "noria": str(Path(__file__).resolve().parents[1]) + os.sep,
        "python": paths["stdlib"] + os.sep,
        "ignored": sorted([*(f"{path}{os.sep}" for path in ignored), kernels]),
        "system": sorted([*_SYSTEM, *devices(), *(f"{home / name}{os.sep}" for name in _HOME)]),
        "hooks": {name: _target(name) for name in plugins.names("autolog")},
    }
    (folder / CONFIG).write_text(repr(config), encoding="utf-8")


def _target(name: str) -> str:
    return plugins.target("autolog", name)


def watched_environment(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is recorded, with all Python processes that it starts."""
    hook = str(Path(__file__).parent / "hook")
    before = environment.get("PYTHONPATH", "")
    return {
        **environment,
        VARIABLE: str(folder.resolve()),
        "PYTHONPATH": f"{hook}{os.pathsep}{before}" if before else hook,
    }


def started_with() -> dict[str, str]:
    """The environment that this process was started with, without what it has set for itself since."""
    try:
        pairs = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:  # not Linux
        return dict(os.environ)
    return {
        os.fsdecode(name): os.fsdecode(value) for name, _, value in (pair.partition(b"=") for pair in pairs) if name
    }


def follow(
    words: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    out: BinaryIO | None = None,
    err: BinaryIO | None = None,
    cwd: Path | None = None,
    unblocks: bool = False,
) -> Ended:
    """Run a command to its end; what it prints goes to `out` and `err` (None: nowhere else) and to `log`.

    SIGINT and SIGTERM that reach this process reach the child; they do not end this one. With `unblocks` SIGINT is
    kept from the child until it lets it through (pthread_sigmask): Python's own start would end with a traceback.
    """
    began = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as kept, _streams(out, err) as streams, _forwarding() as signals:
        child = subprocess.Popen(
            list(words),
            env=dict(environment),
            cwd=cwd,
            stdout=streams[0].theirs,
            stderr=streams[1].theirs,
            preexec_fn=_before(unblocks=unblocks),  # noqa: PLW1509  # a library call that is loaded before the fork
        )
        signals.go_to(child)
        readers = [threading.Thread(target=stream.copy, args=(kept,), daemon=True) for stream in dict.fromkeys(streams)]
        for stream in dict.fromkeys(streams):
            stream.started()
        for reader in readers:
            reader.start()
        code = child.wait()
        for reader in readers:
            reader.join(DRAIN_S)
    return Ended(
        code=code,
        seconds=time.monotonic() - began,
        was_interrupted=signal.SIGINT in signals.caught,
        complaints=streams[1].tail.decode("utf-8", "replace"),
        lost=streams[0].lost or streams[1].lost,
    )


class _Stream:
    """One way out of the child: a pipe, or a terminal where ours is one."""

    def __init__(self, sink: BinaryIO | None) -> None:
        self._sink = sink
        self.tail = b""
        self.lost = ""
        is_terminal = sink is not None and sink.isatty()
        self._ours, self.theirs = pty.openpty() if is_terminal else os.pipe()
        if is_terminal and sink is not None:
            _as_terminal(sink, self.theirs)

    def started(self) -> None:
        """The child has its end."""
        os.close(self.theirs)

    def copy(self, kept: BinaryIO) -> None:
        """Pass on everything until the child, and all that it started, have closed it."""
        while True:
            try:
                chunk = os.read(self._ours, 1 << 16)
            except OSError:  # a terminal whose other side is closed
                return
            if not chunk:
                return
            if not self.lost:
                try:
                    kept.write(chunk)
                except OSError as error:  # the disk is full: the child must not wait for us, nor its output be lost
                    self.lost = error.strerror or type(error).__name__
            self.tail = (self.tail + chunk)[-TAIL_BYTES:]
            if self._sink is not None:
                try:
                    self._sink.write(chunk)
                    self._sink.flush()
                except (BrokenPipeError, ValueError):
                    self._sink = None  # our reader is gone; the log goes on


def _as_terminal(sink: BinaryIO, theirs: int) -> None:
    """Give a terminal our size, and no new lines of its own: ours makes them. Source: termios(3), OPOST."""
    with contextlib.suppress(OSError, termios.error):
        size = os.get_terminal_size(sink.fileno())
        termios.tcsetwinsize(theirs, (size.lines, size.columns))
        found = termios.tcgetattr(theirs)
        found[1] &= ~termios.OPOST
        termios.tcsetattr(theirs, termios.TCSANOW, found)


@contextlib.contextmanager
def _streams(out: BinaryIO | None, err: BinaryIO | None) -> Iterator[tuple[_Stream, _Stream]]:
    """One stream for both where both are the same terminal, so that their order is kept."""
    first = _Stream(out)
    is_one = out is not None and err is not None and out.isatty() and err.isatty()
    yield first, (first if is_one else _Stream(err))


class _Signals:
    """Those that reached us, and where they go on to."""

    def __init__(self) -> None:
        self.caught: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None

    def handle(self, number: int, frame: object) -> None:
        """Hand a signal on. Ctrl-C on our terminal has reached the child by itself."""
        self.caught.append(number)
        if self._child is not None and not (number == signal.SIGINT and _is_foreground()):
            self._send(self._child, number)

    def go_to(self, child: subprocess.Popen[bytes]) -> None:
        """The child is there. One that came while it was made, which may not have heard it, is sent again."""
        self._child = child
        for number in dict.fromkeys(self.caught):
            self._send(child, number)

    def _send(self, child: subprocess.Popen[bytes], number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)


@contextlib.contextmanager
def _forwarding() -> Iterator[_Signals]:
    """Take signals for the block, from before the child is made: an interrupt in a fork's own hooks would be lost."""
    found = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = {number: signal.signal(number, found.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield found
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _is_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _before(*, unblocks: bool) -> Callable[[], None]:
    """Ask the kernel for SIGTERM when this process ends. Source: prctl(2), PR_SET_PDEATHSIG; Linux only."""
    library = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None

    def prepare() -> None:
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if unblocks:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])

    return prepare
