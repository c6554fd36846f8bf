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
    cast = values if values.type == pa.float64() else values.cast(pa.float64(), safe=False)
    chunks = cast.chunks if isinstance(cast, pa.ChunkedArray) else [cast]
    found = [_flat(chunk) for chunk in chunks]
    return found[0] if len(found) == 1 else np.concatenate(found) if found else np.zeros(0)


def _flat(values: pa.Array[Any]) -> Floats:
    found: Floats = view(values, np.float64)
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

    __slots__ = ("_codes", "_floats", "_levels", "_missing", "_points", "_texts", "array", "family", "rows")

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
        if self.family == "number" and pa.types.is_floating(self._value_type()):
            return int(np.count_nonzero(np.isnan(self.floats)))
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
            codes = view(encoded.indices.cast(pa.int64()), np.int64)
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
            self._levels = words, np.bincount(codes + 1, minlength=len(words) + 1)[1:].astype(np.int64)
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


def _one(array: pa.Array[Any] | pa.ChunkedArray[Any]) -> Any:
    if isinstance(array, pa.ChunkedArray):
        return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
    return array
