"""Profiles of whole tables and columns that are in memory already. For files see `scan`.

One sort for each numeric column gives everything: 24 columns of 300,000 rows take about half a
second on two cores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from noria.checks.scanning.accumulate import NumberState, state_of
from noria.checks.scanning.chunk import Chunk, family, floats
from noria.checks.scanning.summary import BINS, QUANTILES, ColumnProfile, TableProfile
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    pa = lazy("pyarrow")
    Floats = Any

__all__ = [
    "BINS",
    "QUANTILES",
    "ColumnProfile",
    "TableProfile",
    "family",
    "floats",
    "profile_column",
    "profile_numbers",
    "profile_table",
]

_THREADS = 4


def profile_column(values: pa.ChunkedArray[Any]) -> ColumnProfile:
    """The profile of one column. NaN counts as null: it is a value that is not there."""
    state = state_of(values.type, family(values.type))
    state.add(Chunk(values))
    return state.profile()


def profile_table(table: pa.Table) -> dict[str, ColumnProfile]:
    """The profile of every column of a table."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(profile_column, table.columns))
    return dict(zip(table.column_names, found, strict=True))


def profile_numbers(values: Floats, kind: str) -> ColumnProfile:
    """The profile of numbers, shape (n_rows,); NaN is null."""
    state = NumberState(kind)
    state.add(Chunk(pa.array(values)))
    return state.profile()
