"""The standard library as it was before any of the project's code ran, to tell which parts of it that has replaced.

A project may set `json.dumps = f` for its own ends, and what Noria does in the same process then runs `f`. An error
that comes of it is told as what it is, and told at all: what tells it uses the standard library too, so it is put
back first. Only what is called is looked at; what a library keeps in its modules changes by itself.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from types import CodeType, FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

from noria.core.frozen import frozen

__all__ = ["Replaced", "blamed", "frames_of", "hold", "put_back"]

_MODULES = (
    *("builtins", "types", "typing", "functools", "itertools", "collections", "contextlib", "dataclasses", "operator"),
    *("os", "posixpath", "io", "pathlib", "time", "datetime", "re", "ast", "inspect", "json", "json.encoder"),
    *("json.decoder", "hashlib", "textwrap", "threading", "signal", "subprocess", "tempfile", "shutil", "random"),
    *("uuid", "secrets", "copy", "pickle", "socket", "stat", "importlib", "tokenize", "linecache", "traceback"),
    *("difflib", "base64", "math", "struct", "contextvars", "queue", "logging", "selectors", "errno", "fnmatch"),
)
_CLASSES = (("pathlib", "Path"), ("pathlib", "PurePath"), ("threading", "Thread"), ("datetime", "datetime"))


@functools.cache
def hold() -> tuple[tuple[str, Any, dict[str, Any]], ...]:
    """Remember, once in a process, what is called in each place, the built-in functions first."""
    places: list[tuple[str, Any]] = [(name, sys.modules[name]) for name in _MODULES if name in sys.modules]
    places += [
        (f"{module}.{name}", vars(sys.modules[module])[name]) for module, name in _CLASSES if module in sys.modules
    ]
    kept = []
    for name, place in places:
        called = {key: value for key, value in vars(place).items() if key[:1] != "_" and callable(value)}
        kept.append(({"builtins": "", "posixpath": "os.path."}.get(name, f"{name}."), place, called))
    return tuple(kept)


@frozen
class Replaced:
    """A part of the standard library (`json.dumps`), and what stands in its place."""

    name: str
    by: Any

    @property
    def by_name(self) -> str:
        """What stands there, for people."""
        name = getattr(self.by, "__name__", "")
        return name if isinstance(name, str) and name else f"a {type(self.by).__name__}"


def put_back() -> tuple[Replaced, ...]:
    """Make the standard library what it was, and give what was replaced in it. For a command that is at its end."""
    changed = []
    for before, place, called in hold():  # until the built-in functions are back, without a call of any
        now = place.__dict__
        for name in called:
            if name not in now or now[name] is not called[name]:
                changed += [(before, name, now[name] if name in now else None)]  # noqa: SIM401  # without a call
                if before == "":
                    now[name] = called[name]
                else:
                    setattr(place, name, called[name])
    return tuple(Replaced(f"{before}{name}", by) for before, name, by in changed if not _is_own(by))


def _is_own(by: Any) -> bool:
    """Whether Noria itself has put something there, to see what a step does."""
    return str(getattr(by, "__module__", "")).partition(".")[0] == "noria"


def blamed(replaced: tuple[Replaced, ...], error: BaseException) -> Replaced | None:
    """Which of them an error came of: it was raised in what was put there, or where that had just been called."""
    frames = list(frames_of(error.__traceback__))
    codes = {frame.f_code for frame in frames}
    for each in (*replaced, *_late(codes)):
        if isinstance(each.by, FunctionType) and each.by.__code__ in codes:
            return each
    last = set(frames[-1].f_code.co_names) if frames else set()
    return next((each for each in replaced if each.name.rpartition(".")[2] in last), None)


def _late(codes: set[CodeType]) -> Iterator[Replaced]:
    """Functions that stand in modules which were not loaded yet when the others were held, and came from elsewhere."""
    held = {place for _, place, _ in hold() if isinstance(place, ModuleType)}
    for name in _MODULES:
        module = sys.modules.get(name)
        for key, value in vars(module).items() if module is not None and module not in held else ():
            is_foreign = isinstance(value, FunctionType) and value.__module__ != name and value.__code__ in codes
            if key[:1] != "_" and is_foreign and not _is_own(value):
                yield Replaced(f"{name}.{key}", value)


def frames_of(trace: TracebackType | None) -> Iterator[FrameType]:
    """The frames that an error went through, the deepest last."""
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next
