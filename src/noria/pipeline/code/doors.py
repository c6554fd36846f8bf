"""What imports inside functions bind, and doors to any module by a text: `sys.modules`, `pydoc.locate`, `attrgetter`.

The doors are known by what they are, however they are called; also where a function imports them for itself, whose
imports of other packages are otherwise not looked into.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import operator
import sys
import types
from typing import Any

__all__ = [
    "PROCESS_ENVIRONMENT",
    "absolute_name",
    "bound_by",
    "imported_here",
    "is_any_attribute",
    "is_locate",
    "modules_on",
]

_DOORS = {
    "sys": ("modules",),
    "operator": ("attrgetter",),
    "pydoc": ("locate",),
    "posix": ("environ",),
    "nt": ("environ",),
}
PROCESS_ENVIRONMENT: Any = next(
    (vars(sys.modules[name])["environ"] for name in ("posix", "nt") if name in sys.modules), types.MappingProxyType({})
)
"""The environment that the process began with: a plain table, so nobody hears who looks into it."""


def imported_here(module: str, name: str) -> Any:
    """What a function's own import of another package binds, as far as there are doors in it; None without."""
    if module not in _DOORS or (name and name not in _DOORS[module]):
        return None
    try:
        made = vars(importlib.import_module(module))
    except ImportError:
        return None  # of another system
    if name:
        return made.get(name)
    bound = types.ModuleType(module)
    vars(bound).update({each: made[each] for each in _DOORS[module]})
    return bound


def bound_by(module: str, level: int, name: str, alias: str, package: str) -> Any:
    """What an import of the project's own modules binds; of `*`, the module."""
    full = importlib.util.resolve_name("." * level + module, package) if level else module
    made = importlib.import_module(full)
    if name == "*":
        return made
    if not name:
        return made if alias != module.partition(".")[0] else sys.modules[alias]
    return getattr(made, name) if hasattr(made, name) else importlib.import_module(f"{full}.{name}")


def absolute_name(name: str, package: str) -> str:
    """The full name of a module that `import_module` is asked for."""
    return importlib.util.resolve_name(name, package) if name.startswith(".") and package else name


def is_locate(thing: Any) -> bool:
    """Whether something is `pydoc.locate`, which is slow to load for nothing."""
    return "pydoc" in sys.modules and thing is getattr(sys.modules["pydoc"], "locate", None)


def is_any_attribute(thing: Any, literal: str) -> bool:
    """Whether something takes attributes of attributes by their names, and these lead through a module."""
    return thing is operator.attrgetter and (not literal or "." in literal)


def modules_on(path: str) -> types.ModuleType | None:
    """The first module on a dotted path, with those below it loaded; None if it cannot be imported."""
    first, *rest = path.split(".")
    try:
        found = importlib.import_module(first)
    except ImportError:
        return None
    with contextlib.suppress(ImportError):  # the rest are attributes
        for each in rest:
            first = f"{first}.{each}"
            importlib.import_module(first)
    return found
