"""What a column of one file looks like: counts, quantiles, resolution, levels. Profile once, compare often.

A profile is small, plain and kept in the report of the check that made it, so the next version is
compared with the last accepted one without reading that one again. One sort per numeric column
gives everything: 24 columns of 300,000 rows take about half a second on two cores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from noria.checks.lattice import Lattice, find_lattice
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    np = lazy("numpy")
    pa = lazy("pyarrow")
    Floats = Any
pc = lazy("pyarrow.compute")

__all__ = [
    "QUANTILES",
    "ColumnProfile",
    "TableProfile",
    "family",
    "floats",
    "profile_column",
    "profile_numbers",
    "profile_table",
]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MAX_LEVELS = 200
_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """One column of one file. What does not apply to its family is empty.

    `quantiles` are at 5, 25, 50, 75 and 95 % of the values, `body` those of the values that are not
    zero. `at_low` and `at_high` are the shares of values that equal the least and the greatest one,
    `zeros` the share of zeros. Infinite values are counted apart and enter nothing else. `levels`
    are the distinct texts by falling count, if they are few.
    """

    family: str
    type: str
    rows: int
    nulls: int
    distinct: int = 0
    low: float = 0.0
    high: float = 0.0
    at_low: float = 0.0
    at_high: float = 0.0
    zeros: float = 0.0
    infinite: int = 0
    quantiles: tuple[float, ...] = ()
    body: tuple[float, ...] = ()
    lattice: Lattice | None = None
    levels: tuple[tuple[str, int], ...] = ()

    @property
    def values(self) -> int:
        """How many rows have a value."""
        return self.rows - self.nulls

    @property
    def null_share(self) -> float:
        """The share of rows without a value."""
        return self.nulls / self.rows if self.rows else 0.0

    @property
    def is_sparse(self) -> bool:
        """Whether at least half of the values are zero, so that only the others say something."""
        return self.zeros >= 0.5 and bool(self.body)

    @property
    def spread(self) -> float:
        """From the 5 % to the 95 % quantile; the whole range when these are equal; 0 for a constant."""
        told = self.body if self.is_sparse else self.quantiles
        if not told:
            return 0.0
        middle = told[-1] - told[0]
        return middle if middle > 0 else self.high - self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProfile:
    """One file of a version. `time_min` and `time_max` are UTC texts, or empty."""

    file: str
    digest: str
    rows: int
    time_min: str
    time_max: str
    columns: dict[str, ColumnProfile]


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


def floats(values: pa.ChunkedArray[Any]) -> Floats:
    """A number column as float64, null as NaN, shape (n_rows,). Infinite values stay infinite."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
    found: Floats = values.cast(pa.float64(), safe=False).to_numpy()
    return found


def profile_column(values: pa.ChunkedArray[Any]) -> ColumnProfile:
    """The profile of one column. NaN counts as null: it is a value that is not there."""
    of = family(values.type)
    rows = len(values)
    if of == "number":
        return profile_numbers(floats(values), str(values.type))
    if of == "text":
        return _levels(values, of)
    return ColumnProfile(family=of, type=str(values.type), rows=rows, nulls=values.null_count)


def profile_table(table: pa.Table) -> dict[str, ColumnProfile]:
    """The profile of every column of a table."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(profile_column, table.columns))
    return dict(zip(table.column_names, found, strict=True))


def profile_numbers(values: Floats, kind: str) -> ColumnProfile:
    """The profile of numbers, shape (n_rows,); NaN is null."""
    rows = len(values)
    nulls = int(np.isnan(values).sum())
    present = np.sort(values[np.isfinite(values)])
    count = len(present)
    infinite = rows - nulls - count
    if not count:
        return ColumnProfile(family="number", type=kind, rows=rows, nulls=nulls, infinite=infinite)
    distinct = present[np.concatenate(([True], present[1:] != present[:-1]))]
    low, high = float(present[0]), float(present[-1])
    body = present[present != 0.0]
    return ColumnProfile(
        family="number",
        type=kind,
        rows=rows,
        nulls=nulls,
        distinct=len(distinct),
        low=low,
        high=high,
        at_low=float(np.searchsorted(present, low, "right")) / count,
        at_high=float(count - np.searchsorted(present, high, "left")) / count,
        zeros=(count - len(body)) / count,
        infinite=infinite,
        quantiles=_ranks(present),
        body=_ranks(body) if len(body) else (),
        lattice=find_lattice(distinct),
    )


def _ranks(ordered: Floats) -> tuple[float, ...]:
    """Quantiles of a sorted array, each an observed value: the nearest rank."""
    at = np.ceil(np.array(QUANTILES) * len(ordered)).astype(np.int64) - 1
    return tuple(float(value) for value in ordered[np.clip(at, 0, len(ordered) - 1)])


def _levels(values: pa.ChunkedArray[Any], of: str) -> ColumnProfile:
    kind = values.type
    texts = values.cast(kind.value_type) if pa.types.is_dictionary(kind) else values
    counts = pc.value_counts(texts.combine_chunks().drop_null())
    distinct = len(counts)
    levels: tuple[tuple[str, int], ...] = ()
    if distinct <= _MAX_LEVELS:
        found = [(str(row["values"]), int(row["counts"])) for row in counts.to_pylist()]
        levels = tuple(sorted(found, key=lambda level: (-level[1], level[0])))
    return ColumnProfile(
        family=of, type=str(kind), rows=len(values), nulls=values.null_count, distinct=distinct, levels=levels
    )
