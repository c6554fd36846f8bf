"""What a step is seen to read while it runs: files, folders, modules, project code, variables.

Static analysis cannot see `open(name_from_a_file)`, a plugin found by `import_module`, or a function
that a library calls back. So a step that is not cached runs under watch: audit hooks for files and
imports, `sys.monitoring` (from 3.12; once per code object) or the interpreter's C profiler (before)
for the code of the project. What was seen becomes conditions of the cache entry (`reads.py`).

Measured 2026-11 on 3.11: 0.13 µs for each Python call, 0.2 µs for each audited event, nothing for
compiled code; on 3.12 nothing that can be measured. Not seen: files that compiled libraries open by
themselves, `os.stat`, and what other processes read; starting one is noted.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from noria.pipeline.digests import Stamp, absolute, stamp_of
from noria.pipeline.sources import is_own_file
from noria.store.disk import devices

__all__ = ["Trace", "Watch", "asked", "temporary", "trace_from", "variable_digest", "watch"]

NOTES = 20
_SYSTEM = ("/proc/", "/sys/")
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"})
_PATH_MODULES = (
    *(
        "genericpath.py",
        "posixpath.py",
        "pathlib.py",
        "pathlib/__init__.py",
        "pathlib/_local.py",
        "pathlib/_abc.py",
        "glob.py",
    ),
    *("shutil.py", "<frozen genericpath>", "<frozen posixpath>", "<frozen os>"),
)
_WHETHER = frozenset(
    {"exists", "isfile", "isdir", "islink", "is_file", "is_dir", "is_symlink", "is_mount", "glob", "walk"}
)
_NATIVE_READERS = (
    ("pyarrow/parquet/core.py", ("read_table", "ParquetFile.__init__", "ParquetDataset.__init__")),
    ("pyarrow/dataset.py", ("dataset", "parquet_dataset")),
    ("pyarrow/feather.py", ("read_table", "read_feather")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one step was seen to do; plain values, so that a worker can send it home.

    `files` has (path, stamp when it was opened, None if it was not there), `folders` those that were
    listed with their time then, `modules` what was imported by name, `code` (file, qualified name,
    first line) of project code that ran, `variables` (name, sha-256 of the value), `stats` (path,
    whether it was "there" or looked at as a "stat"), `asked` what of its surroundings it asked for,
    `notes` what cannot be checked later; `blind` says why code could not be watched.
    """

    files: tuple[tuple[str, Stamp | None], ...] = ()
    folders: tuple[tuple[str, int], ...] = ()
    modules: tuple[str, ...] = ()
    code: tuple[tuple[str, str, int], ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    asked: tuple[str, ...] = ()
    stats: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    blind: str = ""
    began_ns: int = 0

    def document(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def trace_from(document: Mapping[str, Any]) -> Trace:
    """The trace of `Trace.document` after a way through JSON."""
    lists = ("modules", "asked", "notes")
    return Trace(
        files=tuple((name, None if stamp is None else tuple(stamp)) for name, stamp in document["files"]),
        code=tuple((file, name, line) for file, name, line in document["code"]),
        folders=tuple((name, int(changed)) for name, changed in document["folders"]),
        variables=tuple((name, value) for name, value in document["variables"]),
        stats=tuple((name, what) for name, what in document["stats"]),
        blind=document["blind"],
        began_ns=document["began_ns"],
        **{name: tuple(document[name]) for name in lists},
    )


@dataclass(slots=True)
class Watch:
    """A watch that is going on: what was seen so far. Threads may add at once; each add is atomic."""

    own: Callable[[str], bool]
    ignored: tuple[str, ...]
    files: dict[str, Stamp | None] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    folders: dict[str, int] = field(default_factory=dict)
    modules: dict[str, None] = field(default_factory=dict)
    codes: set[CodeType] = field(default_factory=set)
    variables: dict[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    stats: dict[str, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    blind: str = ""
    began_ns: int = field(default_factory=time.time_ns)

    def trace(self) -> Trace:
        """What was seen, in a form that can be kept."""
        code = sorted(
            (item.co_filename, item.co_qualname, item.co_firstlineno)
            for item in self.codes
            if self.own(item.co_filename)
        )
        return Trace(
            files=tuple(self.files.items()),
            folders=tuple(self.folders.items()),
            modules=tuple(self.modules),
            code=tuple(code),
            variables=tuple(sorted(self.variables.items())),
            asked=tuple(sorted(self.asked)),
            stats=tuple(sorted(self.stats.items())),
            notes=tuple(self.notes)[:NOTES],
            blind=self.blind or self._unseen(),
            began_ns=self.began_ns,
        )

    def opened(self, path: Any, flags: int) -> None:
        """A file is about to be opened."""
        if isinstance(path, int) or path is None:
            return
        name = absolute(path)
        if name in self.files or name in self.written or name.startswith(self.ignored):
            return
        stamp = stamp_of(name)
        if stamp is None and Path(name).exists():
            return  # a folder, a pipe, a device
        mode = flags & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
        if mode == os.O_WRONLY or flags & os.O_TRUNC or (mode == os.O_RDWR and stamp is None):
            self.written.add(name)
        elif not _is_import(name):
            self.files[name] = stamp

    def listed(self, path: Any) -> None:
        """A folder is about to be listed."""
        if path is None:
            path = "."
        if not isinstance(path, int):
            name = absolute(path)
            if not (name + os.sep).startswith(self.ignored) and not _is_import(name):
                self.folders[name] = _changed_ns(name)

    def _unseen(self) -> str:
        """The name of a compiled reader that ran, whose files are opened out of sight."""
        names = {(code.co_filename, code.co_qualname) for code in self.codes}
        if any(file.endswith("pandas/io/parquet.py") for file, _ in names):
            return ""  # pandas opens the file itself, in sight
        for end, readers in _NATIVE_READERS:
            for file, name in names:
                if name in readers and file.endswith(end):
                    return f"native:{end.removesuffix('.py').replace('/', '.').removesuffix('.core')}.{name}"
        return ""


@functools.cache
def _owner(root: Path) -> Callable[[str], bool]:
    """Tells whether a file is the project's; remembers, since asking the disk is slow."""

    @functools.lru_cache(maxsize=10_000)
    def is_own(file: str) -> bool:
        return not file.startswith("<") and is_own_file(file, root)

    return is_own


def _is_import(name: str) -> bool:
    """Whether Python itself reads: a module that is imported, or the lines of a traceback."""
    frame = sys._getframe(3)
    file = frame.f_code.co_filename
    if file.startswith("<frozen importlib"):
        return name.endswith((".py", ".pyc", ".so")) or sys._getframe(3).f_code.co_name == "_fill_cache"
    if file.endswith("importlib/metadata/__init__.py"):
        return True  # it looks for packages in every folder of the path; in a notebook "" is one
    return name.endswith(".py") and file.endswith(("tokenize.py", "linecache.py"))


class _Hooks:
    """The hooks of this process: installed once, since an audit hook cannot be taken away."""

    def __init__(self) -> None:
        self.watches: list[Watch] = []
        self._lock = threading.Lock()
        self._bootstrap: Any = vars(importlib)["_bootstrap"]
        self._import: Callable[..., Any] = self._bootstrap._gcd_import
        self._stat = os.stat
        sys.addaudithook(self._audited)

    def begin(self, made: Watch) -> None:
        """The first watch puts the stand-ins for `import_module` and `os.environ` in place."""
        with self._lock:
            if not self.watches:
                self._bootstrap._gcd_import = self._imported
                os.stat = self._looked  # genericpath and pathlib look it up at each call
                os.environ.__class__ = _NotedEnviron
            self.watches.append(made)

    def end(self, made: Watch) -> None:
        """The last watch takes them away."""
        with self._lock:
            self.watches.remove(made)
            if not self.watches:
                self._bootstrap._gcd_import = self._import
                os.stat = self._stat
                os.environ.__class__ = _Plain

    def _looked(self, path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        """`os.stat` while a step runs: notes what the project's code asks about files."""
        if isinstance(path, str | bytes | os.PathLike):
            frame: FrameType | None = sys._getframe(1)
            asker = ""
            while frame is not None and frame.f_code.co_filename.endswith(_PATH_MODULES):
                asker, frame = frame.f_code.co_name, frame.f_back
            name = absolute(path)
            for each in self.watches:
                is_asked = frame is not None and each.own(frame.f_code.co_filename)
                is_known = each.stats.get(name) == "stat" or name in each.written or name.startswith(each.ignored)
                if is_asked and not is_known:
                    each.stats[name] = "there" if asker in _WHETHER else "stat"
        return self._stat(path, *args, **kwargs)

    def _imported(self, name: str, package: str | None = None, level: int = 0) -> Any:
        """What `importlib.import_module` calls, also for a module that is loaded already."""
        full = importlib.util.resolve_name("." * level + name, package) if level and package else name
        for each in self.watches:
            each.modules[full] = None
        return self._import(name, package, level)

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watches:
            return
        if event == "open":
            for watch in self.watches:
                watch.opened(arguments[0], arguments[2])
        elif event in ("os.listdir", "os.scandir"):
            for watch in self.watches:
                watch.listed(arguments[0])
        elif event == "sqlite3.connect":
            for watch in self.watches:
                if arguments[0] not in (":memory:", ""):
                    watch.opened(arguments[0], os.O_RDONLY)
        elif event in _STARTS:
            self._note(f"starts {_name_of(arguments)}")
        elif event == "socket.connect":
            self._note(f"connects to {arguments[1]}"[:200])

    def _note(self, text: str) -> None:
        for watch in self.watches:
            watch.notes[text] = None


@functools.cache
def _hooks() -> _Hooks:
    return _Hooks()


def asked(what: str) -> None:
    """The running step asks for something of its surroundings; kept with its trace."""
    if _hooks.cache_info().currsize:  # no watch was ever begun here: a test, a notebook
        for each in _hooks().watches:
            each.asked.add(what)


@contextlib.contextmanager
def watch(root: Path, state: Path) -> Iterator[Watch]:
    """Watch what this process reads, for the rest of the block.

    `root` is the project's folder, `state` Noria's own in it, which is not watched.
    """
    hooks = _hooks()
    made = Watch(_owner(root), _ignored(state))
    hooks.begin(made)
    try:
        with _calls(made):
            yield made
    finally:
        hooks.end(made)


@functools.cache
def _ignored(state: Path) -> tuple[str, ...]:
    """Folders whose files are known otherwise: Python, packages (by version), Noria itself and its state."""
    paths = sysconfig.get_paths()
    folders = {absolute(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {os.path.realpath(folder) for folder in folders}
    folders |= {absolute(state), os.path.realpath(state), str(Path(__file__).resolve().parents[1])}
    return (*_SYSTEM, *devices(), *(folder + os.sep for folder in sorted(folders)))


_Plain: Any = type(os.environ)
_THROUGH = ("<frozen os>", "<frozen _collections_abc>", os.__file__)


class _NotedEnviron(_Plain):  # type: ignore[misc]  # the class of os.environ has no public name
    """`os.environ` while a step runs: it tells which variables the project's code looks at."""

    def __getitem__(self, key: str) -> str:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename in _THROUGH:
            frame = frame.f_back
        if frame is not None and isinstance(key, str):
            file = frame.f_code.co_filename
            for each in _hooks().watches:
                if file.startswith("<ipython") or each.own(file):
                    each.variables[key] = variable_digest(key, self)
        return str(super().__getitem__(key))


def variable_digest(name: str, environ: Any = os.environ) -> str:
    """The sha-256 of a variable's value, or of its absence."""
    data = vars(environ)["_data"]
    found = data.get(os.fsencode(name))
    return hashlib.sha256(repr(None if found is None else os.fsdecode(found)).encode()).hexdigest()


if sys.version_info >= (3, 12):

    @contextlib.contextmanager
    def _calls(made: Watch) -> Iterator[None]:
        """Note each code object that runs, once."""
        monitoring = sys.monitoring
        tool = next((number for number in (4, 3, 2) if monitoring.get_tool(number) is None), None)
        if tool is None:
            made.blind = "every monitoring tool of Python is taken"
            yield
            return
        codes = made.codes

        def started(code: CodeType, _offset: int) -> object:
            codes.add(code)
            return monitoring.DISABLE

        monitoring.use_tool_id(tool, "noria")
        monitoring.register_callback(tool, monitoring.events.PY_START, started)
        monitoring.restart_events()
        monitoring.set_events(tool, monitoring.events.PY_START)
        try:
            yield
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, monitoring.events.PY_START, None)
            monitoring.free_tool_id(tool)

else:
    import _lsprof

    @contextlib.contextmanager
    def _calls(made: Watch) -> Iterator[None]:
        """Note each code object that runs, in this thread and those that it starts, by the C profiler."""
        if sys.getprofile() is not None:
            made.blind = "a profiler is on"
            yield
            return
        started: list[Any] = []

        def begin(*_: object) -> None:
            one = _lsprof.Profiler(subcalls=False, builtins=False)
            started.append(one)
            one.enable()

        begin()
        threading.setprofile(begin)
        try:
            yield
        finally:
            if sys.getprofile() is not started[0]:
                made.blind = "the step has a profiler of its own"
            started[0].disable()
            threading.setprofile(None)
            for one in started:
                made.codes.update(entry.code for entry in one.getstats() if isinstance(entry.code, CodeType))


def _changed_ns(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def _name_of(arguments: tuple[Any, ...]) -> str:
    first = arguments[0] if arguments else ""
    return Path(os.fsdecode(first)).name if isinstance(first, str | bytes | os.PathLike) else "a process"


def temporary() -> tuple[str, ...]:
    """Folders of temporary files."""
    return (absolute(tempfile.gettempdir()) + os.sep,)
