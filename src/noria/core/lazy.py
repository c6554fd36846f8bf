"""The one lazy loader: what is heavy is paid for when it is used, not when a verb starts.

`pa = lazy("pyarrow")` gives a stand-in that imports the library at its first attribute. A module of
Noria's own may go through it too, where a short command would else load a stage that it does not
come to (a run without a model loads nothing that judges models): then the same import stands under
`if TYPE_CHECKING:`, which import-linter reads, so that no cycle and no way upwards hides behind it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["is_one", "lazy"]

_OWN = "noria."


class _Lazy(ModuleType):
    """A module that is imported when it is first touched; safe between threads (import lock)."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        found = getattr(importlib.import_module(self.__name__), name)
        if not self.__name__.startswith(_OWN):
            self.__dict__[name] = found  # asked for again it costs 0.1 instead of 20 microseconds
        return found


def lazy(name: str) -> Any:
    """A stand-in for a module. `lazy("pyarrow.compute")` works like the module itself."""
    return _Lazy(name)


def is_one(value: object, *names: str) -> bool:
    """Whether a value is of one of the classes `module.Class`; a module that nobody has imported has no values."""
    for name in names:
        module, _, kind = name.rpartition(".")
        if module in sys.modules and isinstance(value, getattr(sys.modules[module], kind)):
            return True
    return False
