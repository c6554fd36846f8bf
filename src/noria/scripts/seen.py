"""Files that a captured process reads, writes, renames and removes, seen by an audit hook.

Runs in the user's process: no imports but what Python has loaded at its start. A file that the script
reads and later writes over is set aside before it is lost, so that the record has what was read. Files
that compiled libraries open by themselves are told by the hooks of those libraries.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from _thread import get_ident

TYPE_CHECKING = False  # what type checkers take for true: `typing` costs 5 ms at each start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import Any

__all__ = ["Files", "Mark"]

Mark = tuple[int, int, int]
"""Size, modification time in nanoseconds, inode: what tells that a file is as it was."""

ASIDE_LIMIT_BYTES = 1 << 30
"""A larger file that is about to be overwritten is not set aside; the record says so."""
_STARTS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"})
LISTED_LIMIT = 10_000
"""Of a folder with more in it, what it holds is not kept; the record says so."""
_PART = 500
_CODE = (".py", ".pyc", ".so", ".pyd")


class Files:
    """The audit hook of one process, and what it has seen so far."""

    def __init__(self, tell: Callable[..., None], config: Mapping[str, Any], place: Callable[[str], str]) -> None:
        self._tell = tell
        self._ignored = tuple(config["ignored"])
        self._system = tuple(config["system"])
        self._root = str(config["root"])
        self._place = place
        self._noria = str(config["noria"])
        self._watch = self._noria + "engines/autolog/"
        self._libraries = ("<frozen", str(config["python"]), *self._ignored)
        self.read: dict[str, Mark] = {}
        self.written: set[str] = set()
        self._code: set[str] = set()
        self._listed: set[str] = set()
        self._aside = 0
        self._busy: set[int] = set()
        self._began_ns = time.time_ns()

    def audited(self, event: str, given: tuple[Any, ...]) -> None:
        """One audited event. Never raises: it would become the script's."""
        if event == "open":
            self._guard(self.opened, given[0], given[2])
        elif event == "os.rename":
            self._guard(self._renamed, given[0], given[1])
        elif event in ("os.remove", "os.truncate"):
            self._guard(self.about_to_change, given[0])
        elif event in ("os.listdir", "os.scandir"):
            self._guard(self._lists, given[0])
        elif event == "os.mkdir":
            self._guard(self._made, given[0])
        elif event == "sqlite3.connect":
            if given[0] not in (":memory:", ""):
                self._guard(self.opened, given[0], os.O_RDWR)
        elif event in _STARTS:
            self._guard(self._started, given)
        elif event == "socket.connect" and type(given[1]) is tuple:
            self._guard(self._connected, given[1])

    def _guard(self, act: Callable[..., None], *given: Any) -> None:
        me = get_ident()
        if me in self._busy:
            return
        self._busy.add(me)
        try:
            act(*given)
        except Exception as error:  # noqa: BLE001  # in an audit hook: what is raised here would stop the script
            self._tell("problem", text=f"{getattr(act, '__name__', '')}: {type(error).__name__}: {error}")
        finally:
            self._busy.discard(me)

    def opened(self, path: Any, flags: int) -> None:
        """A file is about to be opened; the flags say for what."""
        if isinstance(path, int) or path is None:
            return
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # pathlib costs 10 ms at each start
        if name.startswith(self._ignored) or (name.startswith(self._system) and not name.startswith(self._root)):
            return
        if name.endswith(_CODE):
            if name not in self._code:
                self._code.add(name)
                self._tell("code", path=name)
            return
        if "/__pycache__/" in name or self._is_ours():
            return
        mode = flags & os.O_ACCMODE
        if mode == os.O_RDONLY:
            self.reads(name)
        else:
            self.writes(name, is_update=(mode == os.O_RDWR and not flags & os.O_TRUNC) or bool(flags & os.O_APPEND))

    def _is_ours(self) -> bool:
        """Whether Noria itself opens the file, be it by a library, in a script that uses it."""
        if "noria.bootstrap" not in sys.modules:
            return False
        frame: FrameType | None = sys._getframe(4)  # below this one, `opened`, `_guard` and `audited`
        while frame is not None:
            name = frame.f_code.co_filename
            if not name.startswith(self._watch):
                if name.startswith(self._noria):
                    return True
                if not name.startswith(self._libraries):
                    return False  # the script's own
            frame = frame.f_back
        return False

    def reads(self, name: str) -> None:
        """A file is read; what was there now is what counts."""
        if name in self.read or name in self.written or "/.noria/" in name or "/.git/" in name:
            return
        mark = mark_of(name)
        if mark is not None:
            self.read[name] = mark
            self._tell("read", path=name, mark=mark)

    def writes(self, name: str, *, is_update: bool = False) -> None:
        """A file is written; an update reads what is there as well, if it was there before the script was.

        A compiled library writes unseen: LightGBM saves a model so, and appends to it by `open`.
        """
        if "/.noria/" in name or "/.git/" in name:
            return
        mark = mark_of(name) if is_update else None
        if mark is not None and mark[1] < self._began_ns:
            self.reads(name)
        self._keep(name)
        if name not in self.written:
            self.written.add(name)
            self._tell("write", path=name, existed=mark_of(name) is not None)

    def about_to_change(self, path: Any) -> None:
        """A file is about to be removed or cut."""
        if not isinstance(path, int):
            self._keep(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100  # pathlib costs 10 ms at each start

    def _made(self, path: Any) -> None:
        """A folder is about to be made, or is there already."""
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # pathlib costs 10 ms at each start
        if name.startswith(self._ignored) or (name.startswith(self._system) and not name.startswith(self._root)):
            return
        if not os.path.lexists(name) and "__pycache__" not in name:
            self._tell("made", path=name)

    def _lists(self, path: Any) -> None:
        """What is in a folder is asked for: its names, with the size and time of each, in their order there.

        A folder that is named by its whole path, outside of the project, is the same one when the run is repeated.
        """
        if isinstance(path, int):
            return
        text = os.fsdecode(path or ".")
        name = os.path.abspath(text)  # noqa: PTH100  # pathlib costs 10 ms at each start
        if name in self._listed or name.startswith(self._ignored) or "/.noria" in name or "/.git" in name:
            return
        if text.startswith("/") and not f"{name}/".startswith(self._root):
            return
        if _is_import(sys._getframe(3)) or self._is_ours():
            return
        self._listed.add(name)
        found: list[tuple[str, bool, int, int]] = []
        with os.scandir(name) as entries:
            for entry in entries:
                if len(found) == LISTED_LIMIT:
                    self._tell("problem", text=f"what is in {name}: it holds more than {LISTED_LIMIT} names")
                    return
                told = os.stat(entry.path) if os.path.exists(entry.path) else entry.stat(follow_symlinks=False)  # noqa: PTH110, PTH116  # as above
                found.append((entry.name, entry.is_dir(), told.st_size, told.st_mtime_ns))
        for begin in range(0, max(1, len(found)), _PART):
            self._tell("listed", path=name, entries=found[begin : begin + _PART])

    def _renamed(self, source: Any, target: Any) -> None:
        old, new = (os.path.abspath(os.fsdecode(path)) for path in (source, target))  # noqa: PTH100  # as above
        self._keep(new)
        if old in self.written:
            self.written.add(new)
            self._tell("write", path=new, existed=False)
        elif old in self.read:
            self._keep(old)

    def _keep(self, name: str) -> None:
        """Set a file aside that was read and is about to change."""
        mark = self.read.pop(name, None)
        if mark is None:
            return
        if mark_of(name) != mark:
            self._tell("lost", path=name, why="it was changed by somebody else after it was read")
        elif mark[0] > ASIDE_LIMIT_BYTES:
            self._tell("lost", path=name, why=f"it was written over, and is larger than {ASIDE_LIMIT_BYTES >> 30} GiB")
        else:
            self._aside += 1
            kept = self._place(f"aside-{self._aside}")
            _copy(name, kept)
            self._tell("aside", path=name, kept=kept)

    def _started(self, given: tuple[Any, ...]) -> None:
        words = given[1] if len(given) > 1 and isinstance(given[1], (list, tuple)) else given[:1]
        text = " ".join(os.fsdecode(word) if isinstance(word, (str, bytes)) else str(word) for word in words)
        self._tell("started", text=text[:300])

    def _connected(self, address: tuple[Any, ...]) -> None:
        self._tell("connected", text=":".join(str(part) for part in address[:2])[:200])


def mark_of(name: str) -> Mark | None:
    """The mark of a regular file; None if there is none."""
    try:
        found = os.stat(name)  # noqa: PTH116  # pathlib costs 10 ms at each start
    except (OSError, ValueError):
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _is_import(frame: FrameType | None) -> bool:
    """Whether it is Python's own import system that asks."""
    return frame is not None and frame.f_code.co_filename.startswith("<frozen importlib")


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as old, open(target, "wb") as new:  # noqa: PTH123  # pathlib costs 10 ms at each start
        while chunk := old.read(1 << 20):
            new.write(chunk)
