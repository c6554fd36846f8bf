"""What a column of one file looks like: counts, quantiles, resolution, levels. Profile once, compare often.

A profile is small, plain and kept in the report of the check that made it, so the next version is
compared with the last accepted one without reading that one again. `accumulate` makes it, batch by
batch; the full profile of a reference also has a histogram of 512 quantile bins.
"""

from __future__ import annotations

from noria.checks.scanning.lattice import Lattice
from noria.core.frozen import frozen

__all__ = ["BINS", "QUANTILES", "ColumnProfile", "TableProfile"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 512


@frozen(kw_only=True)
class ColumnProfile:
    """One column of one file. What does not apply to its family, or was not asked for, is empty.

    `quantiles` are at 5, 25, 50, 75 and 95 % of the values, `body` those of the values that are not
    zero. `at_low` and `at_high` are the shares of values that equal the least and the greatest one,
    `zeros` the share of zeros. Infinite values are counted apart and enter nothing else. `levels`
    are the distinct texts by falling count, if they are few, `other` the rows with any other text.
    `moments` are mean, standard deviation, skewness and excess kurtosis. `edges` and `counts` are
    the histogram: upper edges (inclusive) and rows. `ends` bound a time column, in its own unit.
    `bars` are shares of values in 24 bins of one width from `bars_low` to `bars_high`, for the eye.
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
    other: int = 0
    moments: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    ends: tuple[float, ...] = ()
    bars: tuple[float, ...] = ()
    bars_low: float = 0.0
    bars_high: float = 0.0

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


@frozen(kw_only=True)
class TableProfile:
    """One file of a version. `time_min` and `time_max` are UTC texts, or empty."""

    file: str
    digest: str
    rows: int
    time_min: str
    time_max: str
    columns: dict[str, ColumnProfile]
