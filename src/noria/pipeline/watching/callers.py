"""The frame of a caller, for what looks into it: some libraries find names of Python in their texts by that.

DuckDB takes the tables of a query from the local and global names of the innermost frame, numexpr its operands.
A stand-in for their functions is a frame in between; so it calls them in one that has the names of its caller.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

__all__ = ["call_from", "is_scanned", "is_walker", "names_of_modules", "words"]

_HELD = ".call"
"""The name of what is called: none that a program can write."""
_CALL = compile("call()", "<call>", "eval").replace(co_names=(_HELD,))
_WORD = re.compile(r"[^\W\d]\w*")
_WALKERS = ("patsy/eval.py", "formulaic/utils/context.py", "numpy/matrixlib/defmatrix.py")
"""Libraries that evaluate texts with the names of their callers, whichever: formulas, `numpy.bmat`."""
_NO_TABLES = (
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
    PurePath,
    type,
    FunctionType,
    BuiltinFunctionType,
    ModuleType,
)


def call_from(caller: FrameType, call: Callable[[], Any]) -> Any:
    """Call something as if the caller did it by itself: the frame above it has the caller's names, file and line."""
    code = caller.f_code
    made = _call_at(code.co_filename, code.co_name, code.co_qualname, caller.f_lineno or code.co_firstlineno)
    return eval(made, caller.f_globals, _Names(caller.f_locals, call))  # noqa: S307  # of the code above alone


@functools.lru_cache(maxsize=256)
def _call_at(file: str, name: str, qualname: str, line: int) -> CodeType:
    return _CALL.replace(co_filename=file, co_name=name, co_qualname=qualname, co_firstlineno=line)


class _Names(dict[str, Any]):
    """The local names of a caller; what is called is found in them, and seen by nobody."""

    __slots__ = ("_call",)

    def __init__(self, names: Any, call: Callable[[], Any]) -> None:
        super().__init__(names)
        self._call = call

    def clear(self) -> None:
        """Keep the names: numexpr clears what it takes for a copy, and a function's are copied anew at each look."""

    def __missing__(self, name: str) -> Any:
        if name == _HELD:
            return self._call
        raise KeyError(name)


def is_walker(code: CodeType, is_own: Callable[[str], bool]) -> bool:
    """Whether code looks up names in the modules of its callers, by names that cannot be told."""
    if "f_globals" not in code.co_names:
        return False
    return is_own(code.co_filename) or code.co_filename.startswith("<ipython") or code.co_filename.endswith(_WALKERS)


def names_of_modules(
    names: Iterable[str], frame: FrameType | None, is_own: Callable[[str], bool], counts: Callable[[Any], bool]
) -> Iterator[str]:
    """Which of some names the project's modules have whose frames are there from one on, as `module:name`."""
    while frame is not None:
        code, known = frame.f_code, frame.f_globals
        if code.co_filename.startswith("<ipython") or is_own(code.co_filename):
            local = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
            for name in names:
                if name in known and name not in local and counts(known[name]):
                    yield f"{known.get('__name__')}:{name}"
        frame = frame.f_back


def words(texts: Iterable[str]) -> frozenset[str]:
    """What may be a name in some texts."""
    return frozenset(word for text in texts for word in _WORD.findall(text))


def is_scanned(value: Any) -> bool:
    """Whether a value can be a table of a query: anything but what surely is none."""
    return not isinstance(value, _NO_TABLES)
