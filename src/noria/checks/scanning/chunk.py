"""One column of one batch of rows, with every view that rules and profiles ask for made at most once.

A rule that looks at distinct values (of numbers: sorted; of texts: the dictionary) costs next to
nothing on a column that obeys it; only a broken one pays for a mask over its rows. NaN is a value
that is not there: it counts as null everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noria.checks.scanning.arrays import Floats, Mask, Whole, is_null, view
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")

__all__ = ["Chunk", "distinct", "family", "floats"]


def family(kind: pa.DataType) -> str:
    """`number`, `text`, `bool`, `time`, `null` or `other`: what rules can be about."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_temporal(kind):
        return "time"
    return "null" if pa.types.is_null(kind) else "other"


def floats(values: pa.ChunkedArray[Any] | pa.Array[Any]) -> Floats:
    """A number column as float64, null as NaN, shape (n_rows,). Infinite values stay infinite."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    found = [_flat(chunk) for chunk in chunks]
    return found[0] if len(found) == 1 else np.concatenate(found) if found else np.zeros(0)


def _flat(values: pa.Array[Any]) -> Floats:
    found: Floats
    if pa.types.is_int64(values.type) and not values.null_count:
        found = view(values, np.int64).astype(np.float64)
        return found
    values = values if values.type == pa.float64() else values.cast(pa.float64(), safe=False)
    found = view(values, np.float64)
    if values.null_count:
        found = found.copy()
        found[is_null(values)] = np.nan
    return found


def distinct(values: Floats) -> tuple[Floats, Whole]:
    """The distinct finite values, ascending, and how often each is there. NaN and infinite ones are left out."""
    ordered = np.sort(values)
    ordered = ordered[np.searchsorted(ordered, -np.inf, "right") : np.searchsorted(ordered, np.inf, "left")]
    if not len(ordered):
        return ordered, np.zeros(0, np.int64)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return ordered[starts], np.diff(starts, append=len(ordered))


class Chunk:
    """One column of one batch. Not shared between threads."""

    __slots__ = (
        "_codes", "_ends", "_floats", "_levels", "_missing", "_nulls", "_points", "_texts", "_total",
        "array", "family", "rows",
    )  # fmt: skip

    def __init__(self, array: pa.Array[Any] | pa.ChunkedArray[Any]) -> None:
        self.array: pa.Array[Any] = _one(array)
        self.family = family(array.type)
        self.rows = len(array)
        self._floats: Floats | None = None
        self._points: tuple[Floats, Whole] | None = None
        self._levels: tuple[pa.Array[Any], Whole] | None = None
        self._codes: Whole | None = None
        self._missing: Mask | None = None
        self._texts: pa.Array[Any] | None = None
        self._nulls: int | None = None
        self._total: float | None = None
        self._ends: tuple[float, float] | None = None

    @property
    def total(self) -> float:
        """The sum of the numbers. If it is finite, every row has a finite number: one look instead of three."""
        if self._total is None:
            with np.errstate(over="ignore", invalid="ignore"):
                self._total = float(self.floats.sum())
        return self._total

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest number; infinity and minus infinity if there is none."""
        if self._ends is None:
            values = self.floats
            if self.nulls == self.rows:
                self._ends = np.inf, -np.inf
            elif self.nulls:
                self._ends = float(np.fmin.reduce(values)), float(np.fmax.reduce(values))
            else:
                self._ends = float(values.min()), float(values.max())
        return self._ends

    @property
    def floats(self) -> Floats:
        """The numbers as float64, null as NaN."""
        if self._floats is None:
            self._floats = floats(self.array)
        return self._floats

    @property
    def points(self) -> tuple[Floats, Whole]:
        """The distinct finite numbers and their counts. One sort."""
        if self._points is None:
            self._points = distinct(self.floats)
        return self._points

    @property
    def nulls(self) -> int:
        """How many rows have no value."""
        if self._nulls is None:
            self._nulls = self._count_nulls()
        return self._nulls

    def _count_nulls(self) -> int:
        if self.family == "number" and pa.types.is_floating(self._value_type()):
            return 0 if np.isfinite(self.total) else int(np.count_nonzero(np.isnan(self.floats)))
        if isinstance(self.array, pa.DictionaryArray) and self.array.dictionary.null_count:
            return int(np.count_nonzero(self.missing))
        return int(self.array.null_count)

    @property
    def missing(self) -> Mask:
        """Which rows have no value, shape (n_rows,)."""
        if self._missing is None:
            if self.family == "number":
                self._missing = np.isnan(self.floats)
            elif not self.array.null_count and not pa.types.is_dictionary(self.array.type):
                self._missing = np.zeros(self.rows, bool)
            else:
                self._missing = is_null(self.texts if self.family == "text" else self.array)
        return self._missing

    @property
    def texts(self) -> pa.Array[Any]:
        """A text column as plain strings."""
        if self._texts is None:
            kind = self._value_type()
            plain = self.array if kind == self.array.type else self.array.cast(kind)
            self._texts = plain if pa.types.is_string(plain.type) else plain.cast(pa.string())
        return self._texts

    @property
    def levels(self) -> tuple[pa.Array[Any], Whole]:
        """The distinct texts of this batch and their counts; null is none of them."""
        if self._levels is None:
            is_encoded = pa.types.is_dictionary(self.array.type)
            encoded: Any = self.array if is_encoded else self.array.dictionary_encode()
            codes = _codes(encoded.indices)
            if encoded.null_count:
                codes = np.where(is_null(encoded.indices), -1, codes)
            words = (
                encoded.dictionary
                if pa.types.is_string(encoded.dictionary.type)
                else encoded.dictionary.cast(pa.string())
            )
            if words.null_count:
                gone = np.flatnonzero(is_null(words))
                codes = np.where(np.isin(codes, gone), -1, codes)
            self._codes = codes
            if encoded.null_count or words.null_count:
                counts = np.bincount(codes + 1, minlength=len(words) + 1)[1:]
            else:
                counts = np.bincount(codes, minlength=len(words))
            self._levels = words, counts.astype(np.int64, copy=False)
        return self._levels

    @property
    def has_levels(self) -> bool:
        """Whether the distinct texts cost nothing: the file keeps them, or somebody asked already."""
        return self._levels is not None or pa.types.is_dictionary(self.array.type)

    @property
    def codes(self) -> Whole:
        """For each row the place of its text among `levels`; -1 for null."""
        assert self.levels is not None
        assert self._codes is not None
        return self._codes

    def rows_of(self, wanted: Mask) -> Mask:
        """Which rows hold one of the levels that are wanted, shape (n_rows,)."""
        codes = self.codes
        if not len(wanted):
            return np.zeros(self.rows, bool)
        found: Mask = wanted[np.maximum(codes, 0)] & (codes >= 0)
        return found

    def _value_type(self) -> pa.DataType:
        kind: Any = self.array.type
        found: pa.DataType = kind.value_type if pa.types.is_dictionary(kind) else kind
        return found


def _codes(indices: pa.Array[Any]) -> Whole:
    """The places in a dictionary, as they lie in memory where they are signed; where they are null, anything."""
    if pa.types.is_int32(indices.type) or pa.types.is_int64(indices.type):
        found: Whole = view(indices, np.int32 if pa.types.is_int32(indices.type) else np.int64)
        return found
    plain: Whole = view(indices.cast(pa.int64()), np.int64)
    return plain


def _one(array: pa.Array[Any] | pa.ChunkedArray[Any]) -> Any:
    if isinstance(array, pa.ChunkedArray):
        return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
    return array
