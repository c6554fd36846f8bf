"""Parallel coordinates as inline SVG, of the trials of a search or of runs, and what charts share. Pure.

An axis for each parameter, one for a metric, a line for each that is drawn. Colours are CSS variables of the page,
and nothing depends on time or chance: the same values give the same bytes.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from html import escape

from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.pipeline.space import Dimension

__all__ = [
    "HEIGHT",
    "LEFT",
    "RIGHT",
    "WIDTH",
    "Dot",
    "along",
    "bounds",
    "labels",
    "parallel",
    "share_of",
    "short",
    "shown",
    "ticks",
    "told",
]

WIDTH, HEIGHT = 960, 380
LEFT, RIGHT = 76, 24
MAX_TICKS = 5
NARROWEST = 1e-290
"""Air of an axis below which its ends are no longer told apart."""
MAX_LINES = 400
"""So many lines are drawn in parallel coordinates: the best."""


@frozen
class Dot:
    """A trial as it is drawn. `rank` is 0 for the best and 1 for the worst of those with a value, else None."""

    number: int
    state: str
    value: float | None
    params: Mapping[str, JSON]
    rank: float | None
    is_best: bool
    note: str


def parallel(dots: Sequence[Dot], space: Mapping[str, Dimension], *, metric: str) -> str:
    """An axis for each parameter and one for the metric; a line for each trial, the better the stronger."""
    drawn = sorted((dot for dot in dots if dot.rank is not None), key=lambda dot: dot.rank or 0.0)[:MAX_LINES]
    if not drawn or not space:
        return ""
    height, top, bottom = HEIGHT, 52, 36
    floor = height - bottom
    values = [dot.value for dot in drawn if dot.value is not None]
    low, high = bounds(values)
    names = [*space, ""]
    gap = (WIDTH - 2 * LEFT) / max(1, len(names) - 1)
    places = {name: LEFT + gap * index for index, name in enumerate(names)}

    def y(share: float) -> float:
        return floor - share * (floor - top)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="parallel coordinates">']
    for dot in reversed(drawn):
        points = [(places[name], y(share_of(space[name], dot.params.get(name)))) for name in space]
        points.append((places[""], y(along(dot.value, low, high) if dot.value is not None else 0.0)))
        curve = _curve(points)
        style = "trial best" if dot.is_best else "trial"
        parts.append(f'<path class="{style}" style="--rank:{short(dot.rank or 0.0, 3)}" d="{curve}">{told(dot)}</path>')
    for index, name in enumerate(names):
        parts.append(
            _axis(name, space.get(name), places[name], metric, (low, high), (top, floor), is_odd=index % 2 == 1)
        )
    return "".join(parts) + "</svg>"


def shown(value: JSON) -> str:
    """A value for people: numbers to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _axis(
    name: str,
    dimension: Dimension | None,
    x: float,
    metric: str,
    span: tuple[float, float],
    ends: tuple[float, float],
    *,
    is_odd: bool,
) -> str:
    """An axis with its labels; the names stand on two levels, so that long ones do not meet."""
    top, floor = ends
    title = name.replace(".", " ", 1) if dimension is not None else metric
    parts = [f'<line class="axis-line" x1="{short(x)}" x2="{short(x)}" y1="{top}" y2="{floor}"/>']
    style = "axis" if dimension is not None else "axis strong"
    parts.append(
        f'<text class="{style}" x="{short(x)}" y="{32 if is_odd else 14}" text-anchor="middle">{escape(title)}</text>'
    )
    if dimension is None:
        low, high = span
        places = [(along(tick, low, high), shown(tick)) for tick in ticks(low, high)]
    else:
        places = labels(dimension)
    for share, text in places:
        y = floor - share * (floor - top)
        parts.append(f'<text class="tick halo" x="{short(x + 6)}" y="{short(y + 4)}">{escape(text)}</text>')
    return "".join(parts)


def labels(dimension: Dimension) -> list[tuple[float, str]]:
    """Places on an axis, 0 to 1, with their texts."""
    if dimension.kind == "choice":
        many = dimension.choices
        stride = math.ceil(len(many) / 12)
        return [(share_of(dimension, value), shown(value)) for value in many[::stride]]
    low, high = dimension.low, dimension.high
    values = [low, math.sqrt(low) * math.sqrt(high) if dimension.log else low / 2 + high / 2, high]
    if dimension.kind == "int":
        values = [float(round(value)) for value in values]
    return [(share_of(dimension, value), f"{value:.3g}") for value in dict.fromkeys(values)]


def share_of(dimension: Dimension, value: JSON) -> float:
    """Where a value lies on its axis, 0 to 1."""
    if dimension.kind == "choice":
        places = [index for index, each in enumerate(dimension.choices) if each == value and type(each) is type(value)]
        return (places[0] if places else 0) / max(1, len(dimension.choices) - 1)
    if not isinstance(value, int | float):
        return 0.0
    low, high, at = dimension.low, dimension.high, float(value)
    if dimension.log:
        low, high, at = math.log(low), math.log(high), math.log(max(at, 1e-300))
    return min(1.0, max(0.0, along(at, low, high)))


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A smooth line through points of neighbouring axes."""
    path = f"M{short(points[0][0])} {short(points[0][1])}"
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        middle = (x0 + x1) / 2
        path += f"C{short(middle)} {short(y0)} {short(middle)} {short(y1)} {short(x1)} {short(y1)}"
    return path


def told(dot: Dot) -> str:
    """What is said of it to whoever points at it."""
    return f"<title>{escape(dot.note)}</title>"


def along(value: float, low: float, high: float) -> float:
    """How far from `low` to `high` a value lies, also where the difference is more than a double holds."""
    span = high - low
    return (value - low) / span if math.isfinite(span) else (value / 2 - low / 2) / (high / 2 - low / 2)


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """The values' ends with some air; a single value stands in the middle. The values are finite."""
    low, high = min(values), max(values)
    air = (high / 2 - low / 2) * 0.12
    if air < NARROWEST:
        air = max(abs(high) * 0.01, 1e-9)
    return max(low - air, -sys.float_info.max), min(high + air, sys.float_info.max)


def ticks(low: float, high: float) -> list[float]:
    """Round values between two ends."""
    raw = (high / 2 - low / 2) / (MAX_TICKS / 2)
    exponent = math.floor(math.log10(raw))
    power = 10.0**exponent
    stride = next(power * each for each in (1, 2, 5, 10) if power * each >= raw)
    first = math.ceil(low / stride)
    found = [round((first + index) * stride, max(0, 2 - exponent)) for index in range(MAX_TICKS + 2)]
    return [value for value in found if value <= high]


def short(value: float, places: int = 1) -> str:
    """A number as short as a drawing needs it."""
    return f"{value:.{places}f}".rstrip("0").rstrip(".")
