"""The one lazy loader: heavy libraries are paid for when they are used, not when a verb starts.

`pa = lazy("pyarrow")` gives a stand-in that imports the library at its first attribute. Only
libraries go through it, never Noria's own modules: a cycle cannot hide behind it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

__all__ = ["lazy"]


class _Lazy(ModuleType):
    """A module that is imported when it is first touched; safe between threads (import lock)."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        found = getattr(importlib.import_module(self.__name__), name)
        self.__dict__[name] = found  # asked for again it costs 0.1 instead of 20 microseconds
        return found


def lazy(name: str) -> Any:
    """A stand-in for a library module. `lazy("pyarrow.compute")` works like the module itself."""
    return _Lazy(name)
