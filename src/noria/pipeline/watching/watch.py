"""What a step is seen to read while it runs: files, folders, modules, project code, variables.

Static analysis cannot see `open(name_from_a_file)`, a plugin found by `import_module`, or a function
that a library calls back. So a step that is not cached runs under watch: audit hooks for files and
imports, `sys.monitoring` (from 3.12; once per code object) or the interpreter's C profiler (before)
for the code of the project. What was seen becomes conditions of the cache entry (`reads.py`).

Measured 2026-11 on 3.11: 0.13 µs for each Python call, 0.2 µs for each audited event, nothing for
compiled code; on 3.12 nothing that can be measured. Processes that the step forks or spawns as workers
tell what they see (`elsewhere.py`), readers of compiled libraries what they are asked for (`compiled.py`).
Not seen: what other programs read; starting one is known (`starts.py`), and keeps the result from being shared.
"""

from __future__ import annotations

import _posixsubprocess
import contextlib
import functools
import importlib
import importlib.util
import os
import posixpath
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from noria.core.frozen import slotted
from noria.core.lazy import lazy
from noria.pipeline.sources import is_own_file
from noria.pipeline.watching.askers import is_asked_by_library, is_asked_for
from noria.pipeline.watching.callers import is_walker, names_of_modules
from noria.pipeline.watching.calls import calls
from noria.pipeline.watching.compiled import Readers
from noria.pipeline.watching.digests import Stamp, absolute, stamp_of
from noria.pipeline.watching.elsewhere import Reporter, Spool, end_loky_workers
from noria.pipeline.watching.lookups import Lookups
from noria.pipeline.watching.making import in_folder, is_clearing, of_descriptor, paths_in, stamped, was_changed
from noria.pipeline.watching.patterns import Pattern, pattern_of, shown
from noria.pipeline.watching.starts import STARTS, program_of, unseen
from noria.pipeline.watching.trace import EVERY, EVERY_SETTING, Trace, is_of_process, variable_digest
from noria.store.disk import devices

if TYPE_CHECKING:
    import multiprocessing.process as mp_process
    import sysconfig
else:
    mp_process = lazy("multiprocessing.process")
    sysconfig = lazy("sysconfig")

__all__ = ["Watch", "asked", "report", "watch"]

NOTES = 20
_SYSTEM = ("/proc/", "/sys/")
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
_WHETHER = (
    *("exists", "isfile", "isdir", "islink", "is_file", "is_dir", "is_symlink", "is_mount", "glob", "rglob"),
    *("_iglob", "walk", "mkdir", "makedirs", "copytree", "rmtree", "move"),
)
"""What asks no more of a file or folder than whether it is there and which of both it is."""
_PARTS = {**dict.fromkeys(_WHETHER, "there"), "getsize": "size", "getmtime": "time"}
"""Which part of a look at a file those use that look for somebody else."""


@slotted
class Watch:
    """A watch that is going on: what was seen so far. Threads may add at once; each add is atomic.

    `is_elsewhere`: this is another process of the step, which tells what it sees to the `spool`;
    `has_workers`: the step has forked or started such processes.
    """

    root: Path
    state: Path
    files: dict[str, Stamp | None] = field(default_factory=dict)
    written: dict[str, None] = field(default_factory=dict)
    made: dict[str, None] = field(default_factory=dict)
    removed: dict[str, None] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    searched: dict[str, int] = field(default_factory=dict)
    patterns: dict[str, Pattern] = field(default_factory=dict)
    modules: dict[str, None] = field(default_factory=dict)
    codes: set[CodeType] = field(default_factory=set)
    code: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    asked: dict[str, None] = field(default_factory=dict)
    lookups: dict[str, None] = field(default_factory=dict)
    stats: dict[str, None] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    unseen: dict[str, None] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    libraries: dict[str, None] = field(default_factory=dict)
    blind: str = ""
    began_ns: int = field(default_factory=time.time_ns)
    spool: Spool | None = None
    is_elsewhere: bool = False
    has_workers: bool = False
    own: Callable[[str], bool] = field(init=False)
    ignored: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.own, self.ignored = _owner(self.root), _ignored(self.state)

    def add(self, kind: str, name: str, value: Any = None) -> None:
        """Something was seen: the first time, it is kept, and told if this is another process of the step."""
        kept = getattr(self, kind)
        if name not in kept:
            kept[name] = value
            if self.is_elsewhere and self.spool is not None:
                self.spool.tell(kind, name, value)

    def ran(self, code: CodeType) -> None:
        """A code object ran."""
        self.codes.add(code)
        if self.is_elsewhere and is_walker(code, self.own):
            self.add("names", EVERY)
        if self.is_elsewhere and self.own(code.co_filename):
            place = (code.co_filename, code.co_qualname, code.co_firstlineno)
            self.add("code", repr(place), place)

    def spooled(self) -> Spool:
        """Where other processes of the step tell what they see."""
        self.has_workers = True
        if self.spool is None:
            self.spool = Spool()
        return self.spool

    def gather(self) -> None:
        """Take over what other processes of the step have told."""
        if self.spool is None or self.is_elsewhere:
            return
        for kind, name, value in self.spool.take():
            if kind != "files" or name not in self.written:
                self.add(kind, name, tuple(value) if isinstance(value, list) else value)
        self.spool = None

    def trace(self) -> Trace:
        """What was seen, in a form that can be kept."""
        code = {
            (item.co_filename, item.co_qualname, item.co_firstlineno)
            for item in self.codes
            if self.own(item.co_filename)
        }
        is_walked = any(is_walker(item, self.own) for item in self.codes)
        is_walked |= _hooks().readers.looks_anywhere(self.codes, self.libraries)
        walked = {EVERY: None} if is_walked else {}
        looks = [(name, what) for what, _, name in (item.partition(" ") for item in self.stats)]
        return Trace(
            files=tuple(self.files.items()),
            folders=tuple(self.folders.items()),
            searched=tuple(self.searched.items()),
            patterns=tuple(sorted(self.patterns.values())),
            modules=tuple(self.modules),
            code=tuple(sorted(code | {*self.code.values()})),
            variables=tuple(sorted(self.variables.items())),
            asked=tuple(sorted(self.asked)),
            lookups=tuple(sorted(self.lookups)),
            names=tuple(sorted({**self.names, **walked})),
            stats=tuple(sorted(item for item in looks if item[1] != "there" or (item[0], "stat") not in looks)),
            made=tuple(stamped(self.made)),
            removed=tuple(self.removed),
            notes=tuple(self.notes)[:NOTES],
            unseen=tuple(self.unseen)[:NOTES],
            blind=self.blind or self._unseen(),
            began_ns=self.began_ns,
        )

    def opened(self, path: Any, flags: int) -> None:
        """A file is about to be opened; a folder, to be listed."""
        if isinstance(path, int) or path is None:
            return
        name = absolute(path)
        if name in self.files or name in self.made or name.startswith(self.ignored):
            return
        stamp, mode = stamp_of(name), flags & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
        if stamp is None and Path(name).exists():
            if Path(name).is_dir() and mode == os.O_RDONLY:
                self.listed(name)  # `tempfile` opens one to write, for a name in it: nothing of the folder is seen
            return  # a folder, a pipe, a device
        if mode == os.O_WRONLY or flags & os.O_TRUNC or (mode == os.O_RDWR and stamp is None):
            self.add("written", name)
            if not flags & os.O_APPEND:  # a file that grows is a log, whose content is of many runs
                self.add("made", name)
        elif name not in self.written and not _is_import(name):
            self.add("files", name, stamp)

    def placed(self, path: Any) -> None:
        """A file or folder is about to be put into its place as a whole."""
        name = absolute(path)
        if name not in self.files and not name.startswith(self.ignored):
            self.add("written", name)
            self.add("made", name)

    def gave(self, result: Any) -> None:
        """The step is over and gave this: files that it names were made by it, if they are new."""
        for name in paths_in(result):
            if was_changed(name, self.began_ns):
                self.placed(name)

    def listed(self, path: Any) -> None:
        """A folder is about to be listed."""
        if is_clearing():
            return
        name = of_descriptor(path) if isinstance(path, int) else absolute("." if path is None else path)
        if name and not (name + os.sep).startswith(self.ignored) and not _is_import(name):
            if (pattern := pattern_of(_path_frames())) is not None:
                self.add("patterns", shown(*pattern), pattern)
                self.add("searched", name, _changed_ns(name))
            else:
                self.add("folders", name, _changed_ns(name))

    def looked(self, path: Any, what: str) -> None:
        """Something about a file is asked for, beside its content."""
        name = absolute(path)
        if name not in self.written and not name.startswith(self.ignored):
            self.add("stats", f"{what} {name}")

    def _unseen(self) -> str:
        """The name of a compiled reader that ran, whose files are opened out of sight."""
        name = _hooks().readers.unseen(self.codes, self.libraries)
        return f"native:{name}" if name else ""


@functools.cache
def _owner(root: Path) -> Callable[[str], bool]:
    """Tells whether a file is the project's; remembers, since asking the disk is slow."""

    @functools.lru_cache(maxsize=10_000)
    def is_own(file: str) -> bool:
        return bool(file) and not file.startswith("<") and is_own_file(file, root)

    return is_own


def _path_frames() -> list[FrameType]:
    """The frames of Python's modules for paths that are at work, innermost first."""
    found: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.endswith((*_PATH_MODULES, __file__)):
        found.append(frame)
        frame = frame.f_back
    return found


def _is_import(name: str) -> bool:
    """Whether Python itself reads: a module that is imported, or the lines of a traceback."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    if frame is None:
        return False
    file = frame.f_code.co_filename
    if file.startswith("<frozen importlib"):
        return name.endswith((".py", ".pyc", ".so")) or frame.f_code.co_name == "_fill_cache"
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
        self._stat, self._access, self._readlink, self._open = os.stat, os.access, os.readlink, os.open
        self._lstat = os.lstat
        self._attributes = {name: getattr(os, name) for name in ("getxattr", "listxattr") if hasattr(os, name)}
        self._start: Callable[[Any], None] = mp_process.BaseProcess.start
        self._local = threading.local()
        self._fork_exec: Callable[..., Any] = _posixsubprocess.fork_exec
        self.readers, self._lookups = Readers(self._read, self._named, self._placed), Lookups(self._looked_up)
        sys.addaudithook(self._audited)
        os.register_at_fork(before=self._forks, after_in_child=self._forked)

    def begin(self, made: Watch) -> None:
        """The first watch puts the stand-ins for `import_module`, `os.environ` and others in place."""
        with self._lock:
            if not self.watches:
                self._start = mp_process.BaseProcess.start
                end_loky_workers()
                stands: Any = {"stat": self._looked, "access": self._asked, "readlink": self._linked}
                stands |= {"open": self._opened_in, "lstat": self._looked_itself}
                stands |= {name: self._attribute_of(inner) for name, inner in self._attributes.items()}
                self._bootstrap._gcd_import = self._imported
                for name, stand_in in stands.items():  # genericpath and pathlib look them up at each call
                    setattr(os, name, stand_in)
                os.environ.__class__ = os.environb.__class__ = _NotedEnviron
                mp_process.BaseProcess.start = _start_process  # type: ignore[method-assign, assignment]
                _posixsubprocess.fork_exec = self._executed
                self.readers.install()
                self._lookups.install()
            self.watches.append(made)

    def end(self, made: Watch) -> None:
        """The last watch takes them away."""
        with self._lock:
            self.watches.remove(made)
            if not self.watches:
                self._bootstrap._gcd_import = self._import
                os.stat, os.access, os.readlink, os.open = self._stat, self._access, self._readlink, self._open
                os.lstat = self._lstat
                vars(os).update(self._attributes)
                os.environ.__class__ = os.environb.__class__ = _Plain
                mp_process.BaseProcess.start = self._start  # type: ignore[method-assign, assignment]
                _posixsubprocess.fork_exec = self._fork_exec
                self.readers.remove()
                self._lookups.remove()

    # other processes

    def _forks(self) -> None:
        for each in self.watches:
            each.spooled()

    def _forked(self) -> None:
        """This is a forked process now: what it sees, it tells."""
        self._lock = threading.Lock()
        for each in self.watches:
            each.is_elsewhere = True

    def _started(self, process: Any) -> None:
        """`Process.start` of multiprocessing and loky: the new process watches too, and tells."""
        kept = dict(vars(process))
        vars(process).clear()
        for place, each in enumerate(self.watches):
            vars(process)[f"_noria_{place}"] = Reporter(report, each.spooled().path, each.root, each.state)
        vars(process).update(kept)
        self._local.is_worker = True
        try:
            self._start(process)
        finally:
            self._local.is_worker = False

    def _executed(self, *args: Any) -> Any:
        """What starts a Python process below multiprocessing and loky, without an audit event."""
        if not getattr(self._local, "is_worker", False):
            self._started_program("subprocess.Popen", (args[0][0] if args[0] else "", args[0]))
        for each in self.watches:
            each.add("variables", "PYTHONHASHSEED", variable_digest("PYTHONHASHSEED"))  # its sets have that order
        return self._fork_exec(*args)

    def _started_program(self, event: str, arguments: tuple[Any, ...]) -> None:
        self._note(f"starts {program_of(event, arguments)}")
        for each in self.watches:
            if reason := unseen(event, arguments, each.own):
                each.add("unseen", reason)

    # files

    def _read(self, library: str, file: str) -> None:
        """A compiled library is about to read a file; "" is one without a name."""
        for each in self.watches:
            each.add("libraries", library)
            if file:
                each.opened(file, os.O_RDONLY)

    def _placed(self, file: Any) -> None:
        """A file or folder is about to be written by a compiled library, or renamed into its place."""
        for each in self.watches:
            each.placed(file)

    def _named(self, names: Iterable[str], frame: FrameType | None, counts: Callable[[Any], bool]) -> None:
        """Names are about to be looked up in the frames of callers: those of modules are told by it and the name."""
        for each in self.watches:
            for name in names_of_modules(names, frame, each.own, counts):
                each.add("names", name)

    def _looked_up(self, what: str, file: str) -> None:
        for each in self.watches:
            if each.own(file):
                each.add("lookups", what)

    def _looked(self, path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        """`os.stat` while a step runs: notes what the project's code asks about files."""
        if isinstance(path, str | bytes | os.PathLike):
            self._look(path, "stat", kwargs.get("dir_fd"))
        return self._stat(path, *args, **kwargs)

    def _asked(self, path: Any, *args: Any, **kwargs: Any) -> bool:
        """`os.access` while a step runs."""
        if isinstance(path, str | bytes | os.PathLike):
            self._look(path, "access", kwargs.get("dir_fd"))
        return self._access(path, *args, **kwargs)

    def _linked(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """`os.readlink` while a step runs."""
        if isinstance(path, str | bytes | os.PathLike):
            self._look(path, "link", kwargs.get("dir_fd"))
        return self._readlink(path, *args, **kwargs)

    def _attribute_of(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """`os.getxattr` or `os.listxattr` while a step runs."""

        def asked(path: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, str | bytes | os.PathLike):
                self._look(path, "xattr", None)
            return inner(path, *args, **kwargs)

        return asked

    def _looked_itself(self, path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        """`os.lstat` while a step runs: whether a file is a link."""
        if isinstance(path, str | bytes | os.PathLike):
            self._look(path, "lstat", kwargs.get("dir_fd"))
        return self._lstat(path, *args, **kwargs)

    def _opened_in(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """`os.open` while a step runs: the audit event does not say in which folder."""
        if dir_fd is None:
            return self._open(path, flags, mode)
        for each in self.watches:
            each.opened(os.path.join(of_descriptor(dir_fd), os.fsdecode(path)), flags)  # noqa: PTH118  # of texts
        self._local.is_known = True
        try:
            return self._open(path, flags, mode, dir_fd=dir_fd)
        finally:
            self._local.is_known = False

    def _look(self, path: Any, what: str, folder: int | None) -> None:
        frame: FrameType | None = sys._getframe(2)
        asker = ""
        while frame is not None and frame.f_code.co_filename.endswith(_PATH_MODULES):
            asker, frame = frame.f_code.co_name, frame.f_back
        if folder is not None:
            path = os.path.join(of_descriptor(folder), os.fsdecode(path))  # noqa: PTH118  # of texts
        if what == "lstat":
            if asker not in ("islink", "is_symlink", "lexists", ""):
                return  # a path is taken apart: what is a link in it is read as one
            what = "there" if asker == "lexists" else "link"
        for each in self.watches:
            if frame is not None and each.own(frame.f_code.co_filename):
                each.looked(path, _PARTS.get(asker, what) if what == "stat" else what)

    def _imported(self, name: str, package: str | None = None, level: int = 0) -> Any:
        """What `importlib.import_module` calls, also for a module that is loaded already."""
        full = importlib.util.resolve_name("." * level + name, package) if level and package else name
        for each in self.watches:
            each.add("modules", full)
        return self._import(name, package, level)

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watches:
            return
        if event == "open" and not getattr(self._local, "is_known", False):
            for watch in self.watches:
                watch.opened(arguments[0], arguments[2])
        elif event in ("os.listdir", "os.scandir"):
            for watch in self.watches:
                watch.listed(arguments[0])
        elif event == "os.remove":
            for watch in self.watches:
                watch.add("removed", in_folder(arguments[0], arguments[1]))
        elif event == "os.rename":
            self._placed(arguments[1])
        elif event == "sqlite3.connect":
            for watch in self.watches:
                if path := _of_database(arguments[0]):
                    watch.opened(path, os.O_RDWR)  # it is read, unless there is none yet
        elif event in STARTS:
            self._started_program(event, arguments)
        elif event in ("os.fork", "os.forkpty"):
            self._note("starts a process")
        elif event == "socket.connect":
            self._note(f"connects to {arguments[1]}"[:200])

    def _note(self, text: str) -> None:
        for watch in self.watches:
            watch.add("notes", text)


@functools.cache
def _hooks() -> _Hooks:
    return _Hooks()


def _start_process(process: Any) -> None:
    _hooks()._started(process)


def asked(what: str) -> None:
    """The running step asks for something of its surroundings; kept with its trace."""
    if _hooks.cache_info().currsize:  # no watch was ever begun here: a test, a notebook
        for each in _hooks().watches:
            each.add("asked", what)


@contextlib.contextmanager
def watch(root: Path, state: Path) -> Iterator[Watch]:
    """Watch what this process reads, for the rest of the block.

    `root` is the project's folder, `state` Noria's own in it, which is not watched.
    """
    hooks = _hooks()
    made = Watch(root, state)
    hooks.begin(made)
    try:
        with calls(made):
            yield made
    finally:
        hooks.end(made)
        made.gather()


def report(path: str, root: str, state: str) -> None:
    """Watch for the rest of this process, another one of a step, and tell what is seen to the file of its watch."""
    made = Watch(Path(root), Path(state), spool=Spool(path), is_elsewhere=True)
    _hooks().begin(made)
    if sys.version_info >= (3, 12):
        calls(made).__enter__()  # until the process ends


@functools.cache
def _ignored(state: Path) -> tuple[str, ...]:
    """Folders whose files are known otherwise: Python, packages (by version), Noria itself and its state."""
    paths = sysconfig.get_paths()
    folders = {absolute(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {os.path.realpath(folder) for folder in folders}
    folders |= {absolute(state), os.path.realpath(state), str(Path(__file__).resolve().parents[2])}
    return (*_SYSTEM, *devices(), *(folder + os.sep for folder in sorted(folders)))


_Plain: Any = type(os.environ)
_THROUGH = ("<frozen os>", "<frozen _collections_abc>", "<frozen posixpath>", os.__file__, posixpath.__file__)


class _NotedEnviron(_Plain):  # type: ignore[misc]  # the class of os.environ has no public name
    """`os.environ` while a step runs: it tells which variables the project's code looks at.

    At the step's end it is the plain one again, perhaps while a thread is in here: nothing may ask for a method
    by `self` or `super()`.
    """

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str | bytes):
            _noted(self, os.fsdecode(key))
        return _Plain.__getitem__(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        for each in _hooks().watches:
            each.given.add(os.fsdecode(key))
        _Plain.__setitem__(self, key, value)

    def __iter__(self) -> Iterator[Any]:
        _noted(self, EVERY)
        return iter(_Plain.__iter__(self))


def _noted(environ: Any, name: str) -> None:
    """That variable was asked for, two calls from here; EVERY stands for all of them."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (frame.f_code.co_filename in _THROUGH or is_asked_for(frame.f_code)):
        frame = frame.f_back
    if frame is not None:
        file = frame.f_code.co_filename
        is_for_project = not is_of_process(name) and is_asked_by_library(frame)
        for each in _hooks().watches:
            is_own = file.startswith("<ipython") or each.own(file)
            if is_own:
                each.add("variables", name, variable_digest(name, environ))
            elif is_for_project and name not in each.given:
                what = EVERY_SETTING if name == EVERY else name
                each.add("variables", what, variable_digest(what, environ))


def _changed_ns(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def _of_database(name: Any) -> Any:
    """The file of an SQLite database, also of one that is named by a URI; "" for one in memory."""
    text = os.fsdecode(name)
    if text.startswith("file:"):
        parts = urllib.parse.urlsplit(text)
        text = "" if "mode=memory" in parts.query else urllib.parse.unquote(parts.path)
    return "" if text in (":memory:", "") else text
