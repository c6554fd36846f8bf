"""Steps, their identity, and the drive of a run.

`noria.pipeline` is this package and, as `@nr.pipeline`, the mark of the function that says how steps
make a model: users write the one word for both. So the module can be called, and then gives what
`define.pipeline` gives. Source: Python data model, "Customizing module attribute access".
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """This package, callable as a decorator."""

    def __call__(self, function: Callable[[], Any]) -> Any:
        return importlib.import_module("noria.pipeline.define").pipeline(function)


sys.modules[__name__].__class__ = _Package
