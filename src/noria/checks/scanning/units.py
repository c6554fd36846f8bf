"""Has the unit changed? Known conversions, and how far two profiles are apart.

The distance of two columns is the mean difference of five quantiles in units of the reference's
5-95 % spread; for positive columns with a long tail (amounts, rain) both are taken of logarithms,
so that a wet month is not far from a dry one. Seasons move columns too, so distance alone proves
little. What gives a conversion away is that undoing it brings the data home: the batch is further
from every baseline than the reference's own weeks are from each other, and the batch with the
conversion undone is several times nearer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noria.checks.scanning.lattice import Lattice, off_lattice
from noria.checks.scanning.summary import ColumnProfile
from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    np = lazy("numpy")
    Floats = Any

__all__ = ["CONVERSIONS", "FAR", "Conversion", "Yardstick", "explains", "yardstick"]

FAR = (0.1, 0.5)
"""Nothing is suspected below a distance, which the reference's own weeks set between these limits."""
_LONG_TAIL = 3.0
NEARER = 4.0
"""Undoing a suspected conversion must bring the batch this many times nearer."""
_ON_LATTICE = 0.95


@frozen
class Conversion:
    """new = scale * old + shift, and how people call it."""

    name: str
    scale: float
    shift: float = 0.0

    def undo(self, values: Floats) -> Floats:
        """The values before the conversion."""
        return (values - self.shift) / self.scale


def _factors() -> list[Conversion]:
    pairs = [
        ("miles", "km", 1.609344),
        ("mph", "m/s", 0.44704),
        ("mph", "knots", 0.868976),
        ("km/h", "m/s", 1 / 3.6),
        ("knots", "m/s", 0.514444),
        ("knots", "km/h", 1.852),
        ("feet", "metres", 0.3048),
        ("inches", "cm", 2.54),
        ("inches", "mm", 25.4),
        ("pounds", "kg", 0.45359237),
        ("ounces", "grams", 28.349523),
        ("gallons", "litres", 3.785412),
        ("inHg", "hPa", 33.86389),
        ("mmHg", "hPa", 1.333224),
        ("psi", "kPa", 6.894757),
        ("kcal", "kJ", 4.184),
        ("radians", "degrees", 57.29577951308232),
        ("hours", "minutes", 60.0),
        ("minutes", "seconds", 60.0),
        ("hours", "seconds", 3600.0),
        ("days", "hours", 24.0),
        ("weeks", "days", 7.0),
        ("years", "months", 12.0),
        ("days", "minutes", 1440.0),
        ("days", "seconds", 86400.0),
        ("", "", 10.0),
        ("fraction", "percent", 100.0),
        ("", "", 1000.0),
        ("KiB", "bytes", 1024.0),
        ("", "", 1e6),
    ]
    found = []
    for old, new, factor in pairs:
        named = (
            (f"{old} became {new}", f"{new} became {old}") if old else (f"times {factor:g}", f"divided by {factor:g}")
        )
        found += [Conversion(named[0], factor), Conversion(named[1], 1 / factor)]
    return found


CONVERSIONS: tuple[Conversion, ...] = (
    Conversion("degrees Fahrenheit became Celsius", 5 / 9, -160 / 9),
    Conversion("degrees Celsius became Fahrenheit", 9 / 5, 32.0),
    Conversion("degrees Celsius became kelvin", 1.0, 273.15),
    Conversion("kelvin became degrees Celsius", 1.0, -273.15),
    Conversion("degrees Fahrenheit became kelvin", 5 / 9, 273.15 - 160 / 9),
    Conversion("kelvin became degrees Fahrenheit", 9 / 5, 32.0 - 273.15 * 9 / 5),
    *_factors(),
)


@frozen
class Yardstick:
    """How distances to some baselines are measured: their quantiles (at the five ranks), the scale, its unit.

    `spread` is 0 when the reference is a constant but for a few rows: then nothing can be told.
    """

    homes: tuple[tuple[float, ...], ...]
    spread: float
    is_log: bool
    is_sparse: bool

    def told(self, profile: ColumnProfile) -> tuple[float, ...]:
        """The quantiles of a column that are compared: of its non-zero values if the reference is mostly zero."""
        return profile.body if self.is_sparse else profile.quantiles

    def distance(self, quantiles: Sequence[float]) -> float:
        """From these quantiles to the nearest baseline, in spreads; infinite where no logarithm exists."""
        if self.is_log and min(quantiles) <= 0:
            return math.inf
        here = [math.log(value) for value in quantiles] if self.is_log else quantiles
        return min(sum(abs(a - b) for a, b in zip(here, home, strict=True)) / 5 for home in self.homes) / self.spread

    def conversions(self, quantiles: Sequence[float], within: float) -> list[Conversion]:
        """The known conversions whose undoing brings the quantiles within a distance; the nearest first."""
        values = np.array(quantiles)
        near = [(self.distance([float(v) for v in known.undo(values)]), known) for known in CONVERSIONS]
        return [known for far, known in sorted(near, key=lambda pair: pair[0]) if far < within]


def yardstick(baselines: Sequence[ColumnProfile]) -> Yardstick:
    """How to measure the distance to these baselines; the first is the reference."""
    is_sparse = baselines[0].is_sparse
    homes = [base.body if is_sparse else base.quantiles for base in baselines]
    homes = [home for home in homes if home]
    is_log = all(_has_long_tail(home) for home in homes[:1]) and all(min(home) > 0 for home in homes)
    if is_log:
        homes = [tuple(math.log(value) for value in home) for home in homes]
    widths = [home[-1] - home[0] for home in homes]
    spread = max(widths) if widths and widths[0] > 0 else 0.0
    return Yardstick(tuple(homes), spread, is_log, is_sparse)


def _has_long_tail(quantiles: Sequence[float]) -> bool:
    low, _, middle, _, high = quantiles
    return low > 0 and high - middle > _LONG_TAIL * (middle - low)


def explains(conversion: Conversion, points: Floats, weights: Floats, lattice: Lattice | None) -> bool:
    """Whether undoing a conversion puts values back on the lattice, as far as rounding lets one see.

    Converted values are often rounded to the step that they had before, which costs half a step.

    Args:
        points: distinct values, shape (n,); weights: how many rows have each, shape (n,).
    """
    if lattice is None or not len(points):
        return True
    rounding = 1.01 * lattice.step / 2 / conversion.scale
    if rounding >= lattice.step / 2:
        return True
    off = off_lattice(conversion.undo(points), lattice, slack=rounding)
    return float(weights[off].sum()) <= (1 - _ON_LATTICE) * float(weights.sum())
