"""Are two values the same, or as near as was declared; and if not, where they part.

Bit-identical is a matter of digests. This module is for the rest: numbers that differ by no more than
a tolerance, in tables, arrays, containers and fitted estimators; and a word on what kind of
difference it is (other numbers, another order, another structure), which tells about its cause.

Two numbers are the same within a tolerance t if |a - b| <= t * max(1, |a|, |b|): relative for
large numbers, absolute near zero. NaN is the same as NaN; an infinity only as itself; whole numbers
are the same or not.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from noria.core.frozen import frozen
from noria.core.lazy import lazy

__all__ = ["NEAR", "Sameness", "compared"]

np = lazy("numpy")

NEAR = 1e-6
"""Numbers no further apart than this are called near: what another order of additions makes of doubles."""
DEPTH = 40


@frozen(kw_only=True)
class Sameness:
    """What came of a comparison. `largest` is the largest distance of two numbers, by the measure above.

    `where` is the first place that differs by more than the tolerance, `text` how. `is_reordered` says
    that the same items are there in another order, `is_near` that only numbers differ, and by little.
    """

    is_same: bool
    largest: float = 0.0
    where: str = ""
    text: str = ""
    is_reordered: bool = False
    is_near: bool = False


def compared(a: Any, b: Any, tolerance: float = 0.0) -> Sameness:
    """Compare two values. Differences of type or shape are never within a tolerance."""
    walk = _Walk(tolerance)
    walk.compare(a, b, "", 0)
    is_near = bool(walk.where) and walk.is_numeric and walk.largest <= NEAR
    return Sameness(
        is_same=not walk.where,
        largest=walk.largest,
        where=walk.where,
        text=walk.text,
        is_reordered=bool(walk.where) and not is_near and _is_reordered(a, b),
        is_near=is_near,
    )


class _Walk:
    """One comparison under way: the first difference, the largest distance, whether all were of numbers."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.largest = 0.0
        self.where = self.text = ""
        self.is_numeric = True
        # With the values: an id means nothing once its object is gone, and what is looked at is often made to be.
        self._seen: dict[tuple[int, int], tuple[Any, Any]] = {}

    def compare(self, a: Any, b: Any, place: str, depth: int) -> None:
        if a is b or (id(a), id(b)) in self._seen:
            return
        if isinstance(a, bool) != isinstance(b, bool) or not _same_kind(a, b):
            self._differ(place, f"{_kind(a)} -> {_kind(b)}")
        elif isinstance(a, bool | str | bytes | type(None)):
            if a != b:
                self._differ(place, f"{_shown(a)} -> {_shown(b)}")
        elif isinstance(a, int | float | complex):
            self._number(a, b, place)
        elif depth > DEPTH:
            self._differ(place, "too deep to compare")
        else:
            self._seen[id(a), id(b)] = a, b
            self._composite(a, b, place, depth + 1)

    def _composite(self, a: Any, b: Any, place: str, depth: int) -> None:
        plain = _as_columns(a), _as_columns(b)
        if plain[0] is not None and plain[1] is not None:
            self._mapping(plain[0], plain[1], place, depth, is_table=True)
        elif _is_array(a):
            self._array(a, b, place, depth)
        elif isinstance(a, Mapping):
            self._mapping(a, b, place, depth)
        elif isinstance(a, Set):
            if a != b:
                self._differ(place, f"{len(a - b)} of {len(a)} items are others")
        elif isinstance(a, Sequence):
            self._sequence(a, b, place, depth)
        else:
            state = _state(a), _state(b)
            if state[0] is None or state[1] is None:
                if a != b:
                    self._differ(place, f"{_shown(a)} -> {_shown(b)}")
            else:
                self.compare(state[0], state[1], place, depth)

    def _number(self, a: Any, b: Any, place: str) -> None:
        if a == b or (a != a and b != b):
            return
        is_real = not isinstance(a, int) and _is_finite(a) and _is_finite(b)
        far = abs(a - b) / max(1.0, abs(a), abs(b)) if is_real else math.inf
        self.largest = max(self.largest, far)
        if far > self.tolerance:
            self._differ(place, f"{_shown(a)} -> {_shown(b)}", is_numeric=True)

    def _array(self, a: Any, b: Any, place: str, depth: int) -> None:
        if a.dtype != b.dtype or a.shape != b.shape:
            self._differ(place, f"{a.dtype}{list(a.shape)} -> {b.dtype}{list(b.shape)}")
        elif a.dtype.hasobject:
            self._sequence(list(a.ravel()), list(b.ravel()), place, depth)
        elif a.dtype.names:
            self._mapping({n: a[n] for n in a.dtype.names}, {n: b[n] for n in b.dtype.names}, place, depth)
        elif a.dtype.kind not in "fc":
            self._differing(a != b, a, b, place, is_numeric=a.dtype.kind in "iu")
        else:
            self._floats(a, b, place)

    def _floats(self, a: Any, b: Any, place: str) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            away = np.abs(a - b) / np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))
        away = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, away)
        away = np.where(np.isnan(away), np.inf, away)
        if away.size:
            self.largest = max(self.largest, float(away.max()))
        self._differing(away > self.tolerance, a, b, place, is_numeric=True)

    def _differing(self, mask: Any, a: Any, b: Any, place: str, *, is_numeric: bool) -> None:
        count = int(mask.sum())
        if count:
            first = tuple(int(i) for i in np.argwhere(mask)[0])
            if is_numeric and a.dtype.kind in "iu":
                self.largest = math.inf
            index = ",".join(map(str, first))
            text = f"{_shown(a[first])} -> {_shown(b[first])}, {count} of {a.size} values differ"
            self._differ(f"{place}[{index}]" if index else place, text, is_numeric=is_numeric)

    def _mapping(
        self, a: Mapping[Any, Any], b: Mapping[Any, Any], place: str, depth: int, *, is_table: bool = False
    ) -> None:
        if list(a) != list(b):
            what = "columns" if is_table else "keys"
            same = set(map(repr, a)) == set(map(repr, b))
            self._differ(place, f"the {what} are {'in another order' if same else 'others'}")
            if not same:
                return
        for key in a:
            name = f"{place}.{key}" if isinstance(key, str) and place else str(key)
            self.compare(a[key], b[key], name, depth)

    def _sequence(self, a: Sequence[Any], b: Sequence[Any], place: str, depth: int) -> None:
        if len(a) != len(b):
            self._differ(place, f"{len(a)} -> {len(b)} items")
            return
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            self.compare(one, other, f"{place}[{index}]", depth)

    def _differ(self, place: str, text: str, *, is_numeric: bool = False) -> None:
        if not self.where:
            self.where, self.text = place or "the value", text
        self.is_numeric = self.is_numeric and is_numeric


def _same_kind(a: Any, b: Any) -> bool:
    """Whether two values are of one type; after an import anew two classes of one name are one."""
    one, other = type(a), type(b)
    return one is other or (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__qualname__


def _shown(value: Any) -> str:
    text = repr(value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value)
    return text if len(text) <= 60 else text[:59] + "…"


def _is_finite(value: Any) -> bool:
    return math.isfinite(abs(value))


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def _as_columns(value: Any) -> dict[str, Any] | None:
    """A table as its index and its columns as arrays; None for anything else."""
    pandas, arrow, polars = (sys.modules.get(name) for name in ("pandas", "pyarrow", "polars"))
    if pandas is not None and isinstance(value, pandas.DataFrame):
        columns = {f"column {name}": _values(value.iloc[:, i]) for i, name in enumerate(value.columns)}
        return {"index": _values(value.index), **columns}
    if pandas is not None and isinstance(value, pandas.Series):
        return {"index": _values(value.index), f"values {value.name}": _values(value)}
    if pandas is not None and isinstance(value, pandas.Index):
        return {"values": _values(value)}
    if polars is not None and isinstance(value, polars.DataFrame):
        return {f"column {each.name}": _arrow_values(each.to_arrow()) for each in value.get_columns()}
    if polars is not None and isinstance(value, polars.Series):
        return {f"values {value.name}": _arrow_values(value.to_arrow())}
    if arrow is not None and isinstance(value, arrow.Table):
        pairs = zip(value.column_names, value.columns, strict=True)
        return {f"column {name}": _arrow_values(column) for name, column in pairs}
    return None


def _values(column: Any) -> list[Any]:
    """The type of a column and its values: an array of numbers where it is one, else a list."""
    kind = str(column.dtype)
    if hasattr(column.dtype, "kind") and isinstance(column.dtype.kind, str) and kind in _NUMPY_KINDS:
        return [kind, column.to_numpy()]
    return [kind, [None if _is_missing(item) else item for item in column.tolist()]]


_NUMPY_KINDS = frozenset(
    {"bool", "float16", "float32", "float64"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


def _arrow_values(column: Any) -> list[Any]:
    kind = str(column.type)
    if kind in ("float", "double", "halffloat") and not column.null_count:
        return [kind, column.to_numpy()]
    return [kind, column.to_pylist()]


def _is_missing(item: Any) -> bool:
    pandas = sys.modules["pandas"]
    return item is None or item is pandas.NA or item is pandas.NaT


def _state(value: Any) -> Any:
    """What an object is made of: what it would be pickled from. None for one that does not say."""
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
        return None
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001  # an object of anybody's: one that cannot say is compared by ==
        return None
    if isinstance(reduced, str):
        return None
    made = {"args": list(reduced[1])[1:] if reduced[1] else []}
    for name, part in zip(("state", "items", "pairs"), reduced[2:5], strict=False):
        if part is not None:
            made[name] = list(part) if isinstance(part, Iterable) and not isinstance(part, Sequence | Mapping) else part
    return made


def _is_reordered(a: Any, b: Any) -> bool:
    """Whether two values hold the same items in another order: of a list, of keys, of a table's rows."""
    one, other = _items(a), _items(b)
    return one is not None and other is not None and one != other and sorted(one) == sorted(other)


def _items(value: Any) -> list[str] | None:
    columns = _as_columns(value)
    if columns is not None:
        parts = [_listed(item[1]) for name, item in columns.items() if name != "index"]
        return [repr(row) for row in zip(*parts, strict=True)] if parts else None
    if _is_array(value) and value.ndim > 0:
        return [repr(item) for item in value.tolist()]
    if isinstance(value, Mapping):
        return [f"{key!r}: {value[key]!r}" for key in value]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if len(value) == 1:
            return _items(value[0])
        return [repr(item) for item in value]
    return list(value) if isinstance(value, str) and len(value) > 1 else None


def _listed(values: Any) -> list[Any]:
    found: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    return found
