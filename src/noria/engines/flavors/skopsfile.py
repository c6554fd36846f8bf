"""Estimators as skops files: JSON that names types, and arrays beside it. No type is made that is not listed.

skops says which types of a file it does not trust by itself; each of those has to be in our own list. The bytes are
settled: a file of skops has the addresses of objects, the time and what was in memory beside the numbers of a tree in
it, and equal models would differ by them.
skops writes the state of an object that is used twice two times, so a number of our own stands for each.
"""

from __future__ import annotations

import importlib.util
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.core.errors import Denied, UsageError
from noria.core.lazy import lazy
from noria.engines.flavors.listed import unlisted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = lazy("numpy")

skops_io = lazy("skops.io")

__all__ = ["dumped", "loaded", "named"]

SCHEMA = "schema.json"
SHOWN = 3
_EPOCH = (1980, 1, 1, 0, 0, 0)
_SETS = frozenset({"SetNode", "FrozenSetNode"})


def dumped(model: object) -> bytes:
    """The skops file of a model, the same for equal models: once through, so that shared objects settle.

    Raises: UsageError where skops is not installed; Denied for a type that is not listed or that skops cannot keep.
    """
    require()
    try:
        once = skops_io.dumps(model)
        types = named(once)
        _require_listed(types)
        return _settled(skops_io.dumps(skops_io.loads(once, trusted=types)))
    except Denied:
        raise
    except Exception as error:  # whatever a class of somebody's answers to being taken apart
        raise Denied(f"{type(model).__name__} cannot be kept as skops: {str(error)[:200]}") from error


def named(content: Path | bytes) -> list[str]:
    """The types in a file that skops itself does not trust, sorted. Nothing of it is made.

    Raises: UsageError where skops is not installed.
    """
    require()
    found = (
        skops_io.get_untrusted_types(data=content)
        if isinstance(content, bytes)
        else skops_io.get_untrusted_types(file=content)
    )
    return sorted(found)


def loaded(path: Path, types: list[str]) -> object:
    """The model of a file, made of no other type than these and those that skops trusts by itself.

    Raises: Denied for one of these that is not listed; what skops raises for a type of the file that is not among
        them.
    """
    _require_listed(types)
    return skops_io.load(path, trusted=types)


def require() -> None:
    """skops is installed. Raises: UsageError."""
    if importlib.util.find_spec("skops") is None:
        raise UsageError(
            "models of scikit-learn are kept as skops, which is not installed here", hint="pip install 'noria[sklearn]'"
        )


def _require_listed(types: list[str]) -> None:
    foreign = unlisted(types)
    if foreign:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise Denied(f"the estimator holds {', '.join(foreign[:SHOWN])}{more}, which no list of known types has")


def _settled(content: bytes) -> bytes:
    """The same file with numbers in order in place of addresses, and without times."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    schema = json.loads(parts.pop(SCHEMA))
    _sort_sets(schema)
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}
    for node in _nodes(schema):
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers))
        if node.get("file") in parts:
            node["file"] = names.setdefault(node["file"], f"{len(names)}{Path(node['file']).suffix}")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for old, new in names.items():
            target.writestr(zipfile.ZipInfo(new, _EPOCH), _without_gaps(parts[old]))
        target.writestr(zipfile.ZipInfo(SCHEMA, _EPOCH), json.dumps(schema, separators=(",", ":")))
    return made.getvalue()


def _without_gaps(content: bytes) -> bytes:
    """A stored array whose bytes between the fields of its records are zero.

    Nobody writes those (a tree's nodes have seven each), so they hold what was in memory before.
    """
    if not content.startswith(np.lib.format.MAGIC_PREFIX):
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if not _has_gaps(array.dtype):
        return content
    # not zeros_like: it sets the fields of records only, and leaves what was in memory between them
    clean = np.zeros(array.shape, array.dtype, order="F" if array.flags.fnc else "C")
    _copy(array, clean)
    made = io.BytesIO()
    np.save(made, clean, allow_pickle=False)
    return made.getvalue()


def _has_gaps(kind: np.dtype[Any]) -> bool:
    if kind.fields is None:
        return kind.subdtype is not None and _has_gaps(kind.subdtype[0])
    fields = [found[0] for found in kind.fields.values()]
    return sum(each.itemsize for each in fields) < kind.itemsize or any(map(_has_gaps, fields))


def _copy(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> None:
    """Field by field: a record as a whole is copied with its gaps."""
    if source.dtype.names is None:
        target[...] = source
        return
    for name in source.dtype.names:
        _copy(source[name], target[name])


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a schema, parents first."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting.extend(reversed(each.values()))
        elif isinstance(each, list):
            waiting.extend(reversed(each))


def _sort_sets(schema: Any) -> None:
    """The members of sets in an order that no hash seed has a say in."""
    for node in list(_nodes(schema))[::-1]:
        if node.get("__loader__") in _SETS and isinstance(node.get("content"), list):
            node["content"].sort(key=_plainly)


def _plainly(node: Any) -> str:
    found = [{key: value for key, value in each.items() if not isinstance(value, dict | list)} for each in _nodes(node)]
    return json.dumps([{k: v for k, v in each.items() if k not in ("__id__", "file")} for each in found])
