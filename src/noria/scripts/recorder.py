"""What a captured process tells of itself: one line an event, written at once, so that a kill loses nothing.

This runs inside the user's own process, before the script. It imports nothing that Python has not loaded
by then (the whole start costs about a millisecond), writes each event with one `write` to a file of its
process, and must never change what the script does: a failure in here becomes an event. Lines are Python
literals: `repr` needs no import.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from _thread import _local, get_ident

from noria.scripts.seen import Files

TYPE_CHECKING = False  # what type checkers take for true: `typing` costs 5 ms at each start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["CONFIG", "MAIN", "Recorder", "start"]

CONFIG, MAIN = "config", "main"
TEXT_LIMIT = 2000
EVENTS_LIMIT = 200_000
"""Events of one process; what is beyond is counted. A loop over a million steps must not fill the disk."""


class _Depth(_local):
    """How deep this thread is in calls that are recorded as one."""

    calls = 0
    busy = False


class Recorder:
    """The events of one process. Safe between threads; a fork goes on in a file of its own."""

    def __init__(self, folder: str, config: Mapping[str, Any], *, is_main: bool) -> None:
        self.folder = folder
        self.config = config
        self.is_main = is_main
        self.depth = _Depth()
        self.at_end: list[Callable[[], None]] = []
        self.memory: dict[str, Any] = {}
        self._thread = get_ident()
        self._pid = 0
        self._handle = -1
        self._told = 0

    def tell(self, kind: str, **data: Any) -> None:
        """Write one event: its kind, when, in which thread, and plain values."""
        self._told += 1
        if self._told > EVENTS_LIMIT:
            return
        line = repr((kind, time.time(), get_ident() == self._thread, {key: plain(data[key]) for key in data}))
        content = (line + "\n").encode("utf-8", "backslashreplace")
        try:
            os.write(self._open(), content)
        except OSError:  # the script closed every file that it did not know: open ours again
            self._handle = -1
            try:
                os.write(self._open(), content)
            except OSError:
                self._told -= 1  # the disk is full or the folder is gone: the script goes on

    def guarded(self, act: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Do something for the record; whatever goes wrong becomes an event. None then."""
        if self.depth.busy:
            return None
        self.depth.busy = True
        try:
            return act(*given, **named)
        except Exception as error:  # noqa: BLE001  # the boundary to the user's process: a record must not break it
            self.tell("problem", text=f"{getattr(act, '__qualname__', act)}: {type(error).__name__}: {error}")
            return None
        finally:
            self.depth.busy = False

    def place(self, name: str) -> str:
        """The path of a file in the folder of the capture, unique to this process."""
        return f"{self.folder}/{os.getpid()}-{name}"

    def finish(self) -> None:
        """At the end of the main process, after the script's own exit handlers."""
        if os.getpid() != self._first():
            return
        for act in self.at_end:
            self.guarded(act)
        more = max(0, self._told - EVENTS_LIMIT)
        self._told = 0
        roots = {name.partition(".")[0] for name in sys.modules.copy()} - sys.stdlib_module_names
        self.tell("end", more=more, roots=sorted(roots))

    def last(self) -> None:
        """Let `finish` run before every exit handler that was registered until now."""
        if self.is_main:
            atexit.unregister(self.finish)
            atexit.register(self.finish)

    def begin(self) -> None:
        """The first event."""
        self._pid = os.getpid()
        self.memory["pid"] = self._pid
        self.tell("begin", pid=self._pid, parent=os.getppid(), is_main=self.is_main, argv=list(sys.orig_argv))

    def _first(self) -> int:
        return int(self.memory.get("pid", 0))

    def _open(self) -> int:
        pid = os.getpid()
        if self._handle < 0 or pid != self._pid:
            self._pid = pid
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._handle = os.open(f"{self.folder}/{pid}.events", flags, 0o600)
        return self._handle


def plain(value: Any, depth: int = 0) -> Any:
    """A value as a literal that `ast.literal_eval` reads; what is none as its text."""
    if value is None or value is True or value is False:
        return value
    if type(value) is int:
        return value if abs(value) < 1 << 62 else str(value)
    if type(value) is float:
        return value if value - value == 0 else str(value)
    if type(value) is str:
        return value[:TEXT_LIMIT]
    if depth < 6 and type(value) in (list, tuple):
        return [plain(item, depth + 1) for item in value[:1000]]
    if depth < 6 and type(value) is dict:
        return {str(key)[:200]: plain(item, depth + 1) for key, item in list(value.items())[:1000]}
    item = getattr(value, "item", None)  # a number of numpy or torch
    if item is not None and getattr(value, "ndim", 1) == 0:
        return plain(item(), depth + 1)
    if isinstance(value, (str, int, float)):
        return plain((str if isinstance(value, str) else float)(value), depth + 1)
    return repr(value)[:TEXT_LIMIT]


class _Finder:
    """Lets the hooks of a library know when it is imported; a library that never is costs nothing."""

    def __init__(self, recorder: Recorder, wanted: Mapping[str, str]) -> None:
        self._recorder = recorder
        self._wanted = dict(wanted)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec that the other finders give, with our look at the module behind its execution."""
        told = self._wanted.pop(name, None)
        if told is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                self._follow(spec, told)
                return spec
        self._wanted[name] = told
        return None

    def _follow(self, spec: Any, told: str) -> None:
        loader, recorder = spec.loader, self._recorder
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def executed(module: Any) -> None:
            del loader.exec_module
            execute(module)
            attach(module, recorder, told)

        loader.exec_module = executed


def attach(module: Any, recorder: Recorder, told: str) -> None:
    """Call the hook `package.module:function` with a module that has just been imported."""
    place, _, name = told.partition(":")
    try:
        __import__(place)
        getattr(sys.modules[place], name)(module, recorder)
    except Exception as error:  # noqa: BLE001  # the boundary to the user's process: a record must not break it
        recorder.tell("problem", text=f"the hook of {module.__name__}: {type(error).__name__}: {error}")


def start(folder: str) -> None:
    """Begin to record this process. The first process of a capture is the main one."""
    try:
        with open(f"{folder}/{CONFIG}", "rb") as file:  # noqa: PTH123  # pathlib costs 10 ms at each start
            config: dict[str, Any] = eval(file.read(), {"__builtins__": {}})  # noqa: S307  # a literal that launch.py wrote into a folder of this user alone
    except OSError:
        return  # the run that this process belonged to is over
    try:
        os.close(os.open(f"{folder}/{MAIN}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        is_main = True
    except FileExistsError:
        is_main = False
    recorder = Recorder(folder, config, is_main=is_main)
    recorder.begin()
    if is_main and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # the log is live also where the output is no terminal
    files = Files(recorder.tell, config, recorder.place)
    sys.addaudithook(files.audited)
    recorder.memory["files"] = files
    loaded = [(name, told) for name, told in config["hooks"].items() if name in sys.modules]
    for name, told in loaded:
        attach(sys.modules[name], recorder, told)
    sys.meta_path.insert(0, _Finder(recorder, config["hooks"]))
    recorder.last()
