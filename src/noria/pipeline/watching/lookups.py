"""What the project's code asks of the import system and of its process: modules to be found, packages, the umask.

`importlib.util.find_spec` and `importlib.metadata` read folders that are not watched, those of packages, and
what they find decides for plugins and optional libraries. So a step's questions are noted while it runs, and
their answers are conditions of its cache entry.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from noria.core.lazy import lazy
from noria.pipeline import generators

if TYPE_CHECKING:
    from importlib import metadata
else:
    metadata = lazy("importlib.metadata")

__all__ = ["KINDS", "Lookups", "answer"]

KINDS = ("spec", "installed", "umask", "generator")
"""`spec NAME`: whether a module can be found; `installed NAME` or `installed *`: a package, or all, with versions;
`umask *`: which rights new files do not get; `generator NAME`: what the project's import seeded it with."""
_ALL = "*"
_THROUGH = ("importlib/util.py", "importlib/metadata/__init__.py", "<frozen importlib.util>")


class Lookups:
    """Stand-ins for the doors that every such question goes through, for as long as a watch goes on."""

    def __init__(self, asked: Callable[[str, str], None]) -> None:
        self._asked = asked
        self._util: Any = vars(importlib.util)
        self._find_spec = self._util["_find_spec"]
        self._discover = vars(metadata.Distribution)["discover"]
        self._umask = os.umask

    def install(self) -> None:
        """Note questions from now on."""
        self._util["_find_spec"] = self._found
        os.umask = self._masked
        discovered: Any = self._discovered
        metadata.Distribution.discover = classmethod(discovered)  # type: ignore[method-assign, assignment]

    def remove(self) -> None:
        """Put back what stood there."""
        self._util["_find_spec"] = self._find_spec
        os.umask = self._umask
        metadata.Distribution.discover = self._discover  # type: ignore[method-assign]

    def _found(self, name: str, *args: Any) -> Any:
        self._note(f"spec {name}")
        return self._find_spec(name, *args)

    def _discovered(self, owner: Any, **named: Any) -> Any:
        context = named.get("context")
        name = named.get("name", getattr(context, "name", None))
        self._note(f"installed {name or _ALL}")
        return self._discover.__func__(owner, **named)

    def _masked(self, mask: int) -> int:
        self._note(f"umask {_ALL}")
        return self._umask(mask)

    def _note(self, what: str) -> None:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename.endswith(_THROUGH):
            frame = frame.f_back
        if frame is not None:
            self._asked(what, frame.f_code.co_filename)


def answer(kind: str, name: str) -> str:
    """What is answered now, as a text that is the same for equal answers."""
    if kind == "umask":
        return _umask_now()
    if kind == "generator":
        return generators.left(name)
    if kind == "spec":
        try:
            return "missing" if importlib.util.find_spec(name) is None else "there"
        except (ImportError, ValueError, AttributeError):  # of a module within one that is not there, or is no package
            return "missing"
    if name != _ALL:
        try:
            return metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError):
            return "missing"
    found = sorted({f"{each.name}=={each.version}" for each in metadata.distributions()})
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def _umask_now() -> str:
    """Of this process. Linux tells it; elsewhere it can only be set, and is put back."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("Umask:"):
                return line.partition(":")[2].strip()
    mask = os.umask(0o077)
    os.umask(mask)
    return f"{mask:04o}"
