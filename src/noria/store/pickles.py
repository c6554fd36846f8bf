"""Pickle under an allow-list: what a stream may name is decided before a byte of it runs.

A pickle is a program. Only the names that a flavor allows are ever imported; a scan of the
opcodes comes first, so that a stream that names anything else, or that cannot be parsed to its
end, is refused before its first instruction. There is no block-list here, and no way round.
Source: docs.python.org, library/pickle, "Restricting Globals".
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from noria.core.errors import Denied
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import pickle
    import pickletools
else:
    pickle = lazy("pickle")
    pickletools = lazy("pickletools")

__all__ = ["Allowed", "globals_of", "loads"]

Allowed = Callable[[str, str], bool]
"""Whether a pickle may name (module, qualified name). Must not import anything."""

_REFUSED = frozenset({"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST"})


def globals_of(content: bytes) -> frozenset[tuple[str, str]]:
    """Every (module, name) that a pickle stream can import, without running it.

    Raises: Denied if the stream cannot be parsed to its end, holds something after it, or uses
    an instruction whose names cannot be known (persistent ids, extension codes, computed names).
    """
    found: set[tuple[str, str]] = set()
    strings: list[str | None] = []
    memo: dict[int, str | None] = {}
    end = 0
    try:
        for opcode, argument, position in pickletools.genops(content):
            end = position or 0
            name = opcode.name
            if name in _REFUSED:
                raise Denied(f"the model file uses the pickle instruction {name}, which is never allowed")
            if name == "GLOBAL":
                module, _, attribute = str(argument).partition(" ")
                found.add((module, attribute))
            elif name == "STACK_GLOBAL":
                found.add(_pair(strings))
            _track(name, argument, strings, memo)
    except (ValueError, EOFError, UnicodeDecodeError, IndexError, KeyError) as error:
        raise Denied("the model file is not a whole pickle; it was not loaded") from error
    if end != len(content) - 1:
        raise Denied("the model file holds something after its pickle; it was not loaded")
    return frozenset(found)


def _pair(strings: list[str | None]) -> tuple[str, str]:
    if len(strings) < 2 or strings[-1] is None or strings[-2] is None:
        raise Denied("the model file names a module in a way that cannot be checked; it was not loaded")
    return strings[-2], strings[-1]


def _track(name: str, argument: Any, strings: list[str | None], memo: dict[int, str | None]) -> None:
    """Follow the last texts on the stack, through the memo: enough for every pickler's STACK_GLOBAL.

    Anything else that is pushed counts as None, so a name that was computed is refused.
    """
    if name in ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"):
        strings.append(str(argument))
    elif name == "MEMOIZE":
        memo[len(memo)] = strings[-1] if strings else None
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[int(argument)] = strings[-1] if strings else None
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        strings.append(memo[int(argument)])
    elif name not in ("FRAME", "PROTO"):
        strings.append(None)
    del strings[:-2]


def loads(content: bytes, allowed: Allowed) -> Any:
    """The object of a pickle, if every name in it is allowed. Raises: Denied before anything runs."""
    for module, name in sorted(globals_of(content)):
        if not allowed(module, name):
            raise Denied(
                f"the model file names {module}.{name}, which its flavor does not allow; it was not loaded",
                hint="only models that this project trained are loaded",
            )
    return _unpickler(content, allowed).load()


def _unpickler(content: bytes, allowed: Allowed) -> pickle.Unpickler:
    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            """Import a name only if it is allowed: the second lock, should the scan have missed it."""
            if not allowed(module, name):
                raise Denied(f"the model file names {module}.{name}, which its flavor does not allow")
            return super().find_class(module, name)

    # the names of Python 2 stay what they are: `commands` would become subprocess after it was looked at
    return Unpickler(io.BytesIO(content), fix_imports=False)
