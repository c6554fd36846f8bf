"""Any Python object with `predict`, as a pickle: for models that name the project's own code, by permission only.

Saved by cloudpickle, with the project's own modules by value, so that a server needs neither the project folder nor
its newest code to load an old release. Such a file is a program. What it names is written beside it and signed with
the bundle (`packaging/permits.py`); it is loaded in a process of its own, and only if each name is both in that list
and of a kind that models are made of: an allow-list, so that the ways to run a command which nobody has thought of
are not in it either.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from noria.core.errors import Denied
from noria.engines.flavors.codelist import may_be_named
from noria.packaging.rows import Columns, Field
from noria.store import pickles

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

__all__ = ["PythonFlavor"]

FILE, NAMES = "model.pkl", "names.json"


class PythonFlavor:
    """Objects with `predict_proba` (two columns) or `predict` (one value a row)."""

    name = "python"
    runs_code = True
    packages: tuple[str, ...] = ()

    def save(self, model: object, folder: Path) -> Sequence[str]:
        """Write model.pkl and names.json, the list of what it names. Raises: Denied for what may not be named."""
        content = _dumped(model)
        named = sorted(pickles.globals_of(content))
        foreign = [f"{module}.{name}" for module, name in named if not may_be_named(module, name)]
        if foreign:
            raise Denied(
                f"a model of type {type(model).__name__} cannot be stored: it refers to {foreign[0]}, "
                "which no model's file may name",
                hint="call it inside a method of the model instead of keeping it as an attribute",
            )
        (folder / FILE).write_bytes(content)
        (folder / NAMES).write_text(json.dumps(named, indent=1) + "\n", "utf-8")
        return [f"{module}.{name}" for module, name in named]

    def load(self, folder: Path) -> object:
        """The object of a folder. Raises: Denied if it names what names.json does not list, or no file may."""
        named = frozenset((module, name) for module, name in json.loads((folder / NAMES).read_text("utf-8")))
        content = (folder / FILE).read_bytes()
        return pickles.loads(content, lambda module, name: (module, name) in named and may_be_named(module, name))

    def predict(self, model: Any, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The second column of predict_proba, or predict."""
        if hasattr(model, "predict_proba"):
            return np.asarray(np.asarray(model.predict_proba(frame))[:, 1], dtype=np.float64)
        return np.asarray(model.predict(frame), dtype=np.float64)

    def direct(self, model: Any, fields: Sequence[Field]) -> Callable[[Columns], npt.NDArray[np.float64]] | None:
        """None: nothing is known of the object."""
        return None

    def levels(self, model: Any) -> Mapping[str, Sequence[Any]]:
        """Nothing: nothing is known of the object."""
        return {}


def _dumped(model: object) -> bytes:
    """The object with the project's own modules by value; each module is put back as it was."""
    marked = _project_modules()
    for module in marked:
        cloudpickle.register_pickle_by_value(module)
    try:
        sink = io.BytesIO()
        _Pickler(sink, protocol=pickle.DEFAULT_PROTOCOL).dump(model)
        return sink.getvalue()
    except (pickle.PicklingError, TypeError) as error:
        raise Denied(
            f"a model of type {type(model).__name__} cannot be stored: {str(error)[:200]}",
            hint="keep open files, locks and generators out of the model object",
        ) from error
    finally:
        for module in marked:
            cloudpickle.unregister_pickle_by_value(module)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Writes the same bytes for the same model, whatever folder its code lies in and whichever process writes.

    Code by value names the path of its file, and a class the random number by which cloudpickle knows it again in
    the process that made it; both would make equal models differ.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, CodeType):
            return self.dispatch_table[CodeType](obj.replace(co_filename=Path(obj.co_filename).name))
        found = super().reducer_override(obj)
        if not isinstance(found, tuple) or not isinstance(obj, type | FunctionType):
            return found
        make, arguments, *rest = found
        if isinstance(obj, FunctionType):
            given = arguments[1]  # the module's names that are kept; one mapping for all of its functions
            given |= {name: Path(given[name]).name for name in ("__file__",) if isinstance(given.get(name), str)}
        elif make.__name__ in ("_make_skeleton_class", "_make_skeleton_enum"):
            arguments = (*arguments[:-2], None, arguments[-1])
            rest[0][0].pop("__slotnames__", None)  # a note of copyreg's, there once an instance was pickled
        return (make, arguments, *rest)


def _project_modules() -> list[ModuleType]:
    """Loaded modules whose source is neither installed nor the standard library's."""
    roots = tuple({str(Path(p).resolve()) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)})
    own = str(Path(__file__).resolve().parents[2])
    found = []
    for name, module in sys.modules.copy().items():
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or name == "__main__" or name in cloudpickle.list_registry_pickle_by_value():
            continue
        path = str(Path(file).resolve())
        if not path.startswith((*roots, own)) and "site-packages" not in path:
            found.append(module)
    return found
