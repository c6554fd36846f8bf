"""The resolution of a measured column: the step that its values are whole multiples of.

An instrument or a form has a resolution: whole miles, tenths of a degree Celsius, one knot. Seasons,
growth and fashion move values along that lattice; a change of unit puts them on another one. That is
what tells a hot month from a month in degrees Celsius, and it needs no knowledge of the unit.

A lattice is (step, offset): every value is offset + k * step for a whole k. The step is the greatest
common divisor of the differences of the distinct values. Columns of real numbers without a
resolution (computed ratios, random floats) have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noria.core.frozen import frozen
from noria.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    np = lazy("numpy")
    Floats = Any

__all__ = ["Lattice", "find_lattice", "off_lattice"]

_MIN_DISTINCT = 3
_MAX_DISTINCT = 20_000
_NOISE = 1e-9
"""Relative error of float64 arithmetic that a value may carry and still be on the lattice."""
_CLEAR = 1_000
"""A step must be this many times the noise, or random floats would have one too."""
_NEAR = 0.004
"""A value is on the lattice within this part of a step, and within `_RELATIVE` of itself."""
_RELATIVE = 1e-5


@frozen
class Lattice:
    """Values are offset + k * step, k whole."""

    step: float
    offset: float


def find_lattice(distinct: Floats) -> Lattice | None:
    """The coarsest lattice that holds every distinct value, or None if there is none.

    Args:
        distinct: sorted distinct finite values, shape (n,). Fewer than three say nothing, save
            whole numbers, whose step is 1. More than 20,000 are thinned evenly, which can only
            make the step coarser by chance, never finer.
    Source: Euclid's algorithm on differences, with a tolerance for rounding.
    """
    if len(distinct) > _MAX_DISTINCT:
        distinct = distinct[np.linspace(0, len(distinct) - 1, _MAX_DISTINCT).astype(np.int64)]
    if not len(distinct):
        return None
    if len(distinct) < _MIN_DISTINCT:
        return Lattice(1.0, 0.0) if bool(np.all(distinct == np.round(distinct))) else None
    origin = float(distinct[np.argmin(np.abs(distinct))])
    noise = _NOISE * max(float(np.max(np.abs(distinct))), 1e-300)
    found = _lattice(distinct, origin, _common_divisor(np.abs(distinct - origin), noise), noise)
    if found is not None and not off_lattice(distinct, found).any():
        return found
    return Lattice(1.0, 0.0) if bool(np.all(distinct == np.round(distinct))) else None


def _lattice(distinct: Floats, origin: float, step: float, noise: float) -> Lattice | None:
    """The lattice of a step, sharpened over the whole span, in few digits."""
    if step < _CLEAR * noise:
        return None
    span = float(distinct[-1] - distinct[0])
    step = span / round(span / step)
    offset = origin - step * np.floor(origin / step + _NEAR)
    nice = float(np.round(offset, 9))
    return Lattice(float(f"{step:.9g}"), 0.0 if abs(nice) < _NEAR * step else nice)


def off_lattice(values: Floats, lattice: Lattice, slack: float = 0.0) -> NDArray[np.bool_]:
    """Which values are not on the lattice, shape (n,). NaN is not off, nor what is too large to count its steps.

    Args:
        slack: a further distance from the lattice that is allowed, in the values' unit.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        at = (values - lattice.offset) / lattice.step
        allowed = np.minimum(_NEAR, _RELATIVE * np.abs(values) / lattice.step + 1e-9) + slack / lattice.step
        off: NDArray[np.bool_] = np.abs(at - np.round(at)) > allowed
    return off


def _common_divisor(gaps: Floats, noise: float) -> float:
    """Euclid over all gaps at once: each round replaces the gaps by their remainders of the least."""
    tolerance = 4 * noise
    left = gaps[gaps > tolerance]
    while True:
        least = float(left.min())
        rest = np.abs(left - least * np.round(left / least))
        rest = rest[rest > tolerance]
        if not len(rest):
            return least
        left = np.append(rest, least)
        if float(left.min()) < _CLEAR * noise:
            return 0.0
