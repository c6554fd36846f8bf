"""Functions of other libraries, looked at as they are called: same result, same exception, same traceback.

An observed function is a stand-in that leaves no trace of itself: tracebacks do not show it, a class that
has one as a method gives the function itself when it is asked, and what is pickled is the function that it
stands for, so that a model, a scorer or a class that travels to another process does not carry us along.
"""

from __future__ import annotations

import copy
import functools
import inspect
import time
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noria.scripts.recorder import Recorder

__all__ = ["After", "Observed", "arguments", "caller_name", "replace"]

After = Callable[[Any, tuple[Any, ...], dict[str, Any], float], None]
"""Told of a call that has returned: result, positional and named arguments, when it began."""
Before = Callable[[tuple[Any, ...], dict[str, Any]], None]
"""Told of a call that is about to be made."""


class Observed:
    """A function, method, or descriptor that gives one, with a look at its calls.

    Args:
        after: told of each call that has returned; of those inside another observed call only if `deep`.
        before: told of each call that is about to be made.
    """

    def __init__(
        self,
        recorder: Recorder,
        inner: Any,
        *,
        after: After | None = None,
        before: Before | None = None,
        deep: bool = False,
    ) -> None:
        functools.update_wrapper(self, inner, updated=())
        self._inner = inner
        self._recorder = recorder
        self._after = after
        self._before = before
        self._deep = deep
        self._is_plain = callable(inner)

    def __get__(self, made: Any, owner: type | None = None) -> Any:
        """As a method: of an instance the stand-in, of the class the function itself."""
        found = self._inner.__get__(made, owner) if hasattr(self._inner, "__get__") else self._inner
        return found if made is None else MethodType(self, made)

    def __call__(self, *given: Any, **named: Any) -> Any:
        depth, recorder = self._recorder.depth, self._recorder
        is_seen = not depth.busy and (self._deep or not depth.calls)
        if is_seen and self._before is not None:
            recorder.guarded(self._before, given, named)
        began = time.time()
        depth.calls += not self._deep
        try:
            if self._is_plain:
                result = self._inner(*given, **named)
            else:
                result = self._inner.__get__(given[0], type(given[0]))(*given[1:], **named)
        except BaseException as error:
            trace = error.__traceback__
            if trace is not None and trace.tb_next is not None:
                error.__traceback__ = trace.tb_next  # raised bare, our own frame does not come back
            raise
        finally:
            depth.calls -= not self._deep
        if is_seen and self._after is not None:
            recorder.guarded(self._after, result, given, named, began)
        return result

    def __reduce__(self) -> Any:
        return copy.copy, (self._inner,)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and not name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._inner, name)


def replace(module: Any, names: tuple[str, ...], wrap: Callable[[Any], Any]) -> None:
    """Put a stand-in in the place of each name that the module has; `Class.method` names a method."""
    for name in names:
        owner, _, attribute = name.rpartition(".")
        place = getattr(module, owner, None) if owner else module
        found = vars(place).get(attribute) if place is not None else None
        if found is not None and not isinstance(found, Observed):
            setattr(place, attribute, wrap(found))


def arguments(function: Any, given: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, as far as the signature tells."""
    try:
        return dict(inspect.signature(function).bind_partial(*given, **named).arguments)
    except (TypeError, ValueError):
        return dict(named)


def _is_own(file: str, root: str) -> bool:
    """Whether a file is of the project's folder, and installed nowhere in it, or a cell of a notebook."""
    is_cell = file.startswith("<ipython") or "/ipykernel_" in file
    return is_cell or (file.startswith(root) and "site-packages" not in file)


def caller_name(value: Any, root: str) -> tuple[str, int]:
    """What the project's own code that calls us calls a value ("" if nothing), and the line of the call."""
    frame = inspect.currentframe()
    while frame is not None and not _is_own(frame.f_code.co_filename, root):
        frame = frame.f_back
    if frame is None:
        return "", 0
    known = {**frame.f_globals, **frame.f_locals}
    names = [name for name, held in known.items() if held is value and not name.startswith("_")]
    return (names[0] if names else ""), frame.f_lineno
