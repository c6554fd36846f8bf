"""What the project's code asks of the import system: whether a module could be found, which packages are installed.

`importlib.util.find_spec` and `importlib.metadata` read folders that are not watched, those of packages, and
what they find decides for plugins and optional libraries. So a step's questions are noted while it runs, and
their answers are conditions of its cache entry.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["KINDS", "Lookups", "answer"]

KINDS = ("spec", "installed")
"""`spec NAME`: whether a module can be found; `installed NAME` or `installed *`: a package, or all, with versions."""
_ALL = "*"
_THROUGH = ("importlib/util.py", "importlib/metadata/__init__.py", "<frozen importlib.util>")


class Lookups:
    """Stand-ins for the two doors that every such question goes through, for as long as a watch goes on."""

    def __init__(self, asked: Callable[[str, str], None]) -> None:
        self._asked = asked
        self._util: Any = vars(importlib.util)
        self._find_spec = self._util["_find_spec"]
        self._discover = vars(importlib.metadata.Distribution)["discover"]

    def install(self) -> None:
        """Note questions from now on."""
        self._util["_find_spec"] = self._found
        discovered: Any = self._discovered
        importlib.metadata.Distribution.discover = classmethod(discovered)  # type: ignore[method-assign, assignment]

    def remove(self) -> None:
        """Put back what stood there."""
        self._util["_find_spec"] = self._find_spec
        importlib.metadata.Distribution.discover = self._discover  # type: ignore[method-assign]

    def _found(self, name: str, *args: Any) -> Any:
        self._note(f"spec {name}")
        return self._find_spec(name, *args)

    def _discovered(self, owner: Any, **named: Any) -> Any:
        context = named.get("context")
        name = named.get("name", getattr(context, "name", None))
        self._note(f"installed {name or _ALL}")
        return self._discover.__func__(owner, **named)

    def _note(self, what: str) -> None:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename.endswith(_THROUGH):
            frame = frame.f_back
        if frame is not None:
            self._asked(what, frame.f_code.co_filename)


def answer(kind: str, name: str) -> str:
    """What the import system says now, as a text that is the same for equal answers."""
    if kind == "spec":
        try:
            return "missing" if importlib.util.find_spec(name) is None else "there"
        except (ImportError, ValueError, AttributeError):  # of a module within one that is not there, or is no package
            return "missing"
    if name != _ALL:
        try:
            return importlib.metadata.version(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            return "missing"
    found = sorted({f"{each.name}=={each.version}" for each in importlib.metadata.distributions()})
    return hashlib.sha256("\n".join(found).encode()).hexdigest()
