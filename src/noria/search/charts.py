"""Charts of a search as inline SVG: its history, parallel coordinates, and each parameter. Pure: values in, markup out.

Colours are CSS variables of the page. Nothing depends on time or chance: the same values give the same bytes.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.pipeline.space import Dimension

__all__ = ["Dot", "history", "parallel", "scatter", "shown"]

WIDTH = 960
LEFT, RIGHT = 76, 24
MAX_TICKS = 5
MAX_LINES = 400
"""So many trials are drawn in parallel coordinates: the best."""


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


def history(dots: Sequence[Dot], *, metric: str, better: str) -> str:
    """A dot for each trial in its order, the best so far as steps, and marks for pruned and failed ones."""
    height, top, bottom = 300, 30, 54
    known = [dot.value for dot in dots if dot.state == "done" and dot.value is not None]
    if not known:
        return ""
    low, high = _bounds(known)
    floor = height - bottom
    last = max(1, *(dot.number for dot in dots))

    def x(number: float) -> float:
        return LEFT + 12 + (WIDTH - LEFT - RIGHT - 24) * number / last

    def y(value: float) -> float:
        return floor - (value - low) / (high - low) * (floor - top)

    title = f'{escape(metric)} on the validation rows <tspan class="faint">({escape(better)} is better)</tspan>'
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="history of the search">']
    parts.append(f'<text class="axis" x="{LEFT}" y="14">{title}</text>')
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_n(y(tick))}" y2="{_n(y(tick))}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{_n(y(tick) + 4)}" text-anchor="end">{shown(tick)}</text>')
    parts.append(f'<path class="best" d="{_steps(dots, better, x, y)}"/>')
    for dot in dots:
        parts.append(_mark(dot, x(dot.number), y(dot.value) if dot.value is not None else None, floor))
    for number in sorted({round(last * part / 10) for part in range(11)}):
        parts.append(f'<text class="tick" x="{_n(x(number))}" y="{height - 6}" text-anchor="middle">{number}</text>')
    return "".join(parts) + "</svg>"


def parallel(dots: Sequence[Dot], space: Mapping[str, Dimension], *, metric: str) -> str:
    """An axis for each parameter and one for the metric; a line for each trial, the better the stronger."""
    drawn = sorted((dot for dot in dots if dot.rank is not None), key=lambda dot: dot.rank or 0.0)[:MAX_LINES]
    if not drawn or not space:
        return ""
    height, top, bottom = 380, 52, 36
    floor = height - bottom
    values = [dot.value for dot in drawn if dot.value is not None]
    low, high = _bounds(values)
    names = [*space, ""]
    gap = (WIDTH - 2 * LEFT) / max(1, len(names) - 1)
    places = {name: LEFT + gap * index for index, name in enumerate(names)}

    def y(share: float) -> float:
        return floor - share * (floor - top)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="parallel coordinates of the trials">']
    for dot in reversed(drawn):
        points = [(places[name], y(_share(space[name], dot.params.get(name)))) for name in space]
        points.append((places[""], y((dot.value - low) / (high - low) if dot.value is not None else 0.0)))
        curve = _curve(points)
        style = "trial best" if dot.is_best else "trial"
        parts.append(f'<path class="{style}" style="--rank:{_n(dot.rank or 0.0, 3)}" d="{curve}">{_title(dot)}</path>')
    for index, name in enumerate(names):
        parts.append(
            _axis(name, space.get(name), places[name], metric, (low, high), (top, floor), is_odd=index % 2 == 1)
        )
    return "".join(parts) + "</svg>"


def scatter(dots: Sequence[Dot], dimension: Dimension, *, metric: str) -> str:
    """The metric over one parameter."""
    drawn = [dot for dot in dots if dot.rank is not None and dot.value is not None]
    if not drawn:
        return ""
    width, height, left, top, floor = 300, 200, 52, 26, 168
    low, high = _bounds([dot.value for dot in drawn if dot.value is not None])

    def x(share: float) -> float:
        return left + 8 + share * (width - left - 20)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(metric)} by {escape(dimension.name)}">'
    ]
    parts.append(f'<text class="axis" x="0" y="12">{escape(dimension.name)}</text>')
    for tick in _ticks(low, high):
        level = _n(floor - (tick - low) / (high - low) * (floor - top))
        parts.append(f'<line class="grid" x1="{left}" x2="{width}" y1="{level}" y2="{level}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{level}" dy="4" text-anchor="end">{shown(tick)}</text>')
    for share, text in _labels(dimension):
        parts.append(
            f'<text class="tick" x="{_n(x(share))}" y="{height - 8}" text-anchor="middle">{escape(text)}</text>'
        )
    for dot in sorted(drawn, key=lambda dot: dot.is_best):
        place = floor - ((dot.value or 0.0) - low) / (high - low) * (floor - top)
        style = "dot best" if dot.is_best else f"dot {dot.state}"
        at = _n(x(_share(dimension, dot.params.get(dimension.name))))
        parts.append(f'<circle class="{style}" cx="{at}" cy="{_n(place)}" r="{5 if dot.is_best else 3.5}">')
        parts.append(f"{_title(dot)}</circle>")
    return "".join(parts) + "</svg>"


def shown(value: JSON) -> str:
    """A value for people: numbers to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _steps(dots: Sequence[Dot], better: str, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """The best value so far, as a line of steps to the last trial."""
    best: float | None = None
    path = ""
    for dot in dots:
        if dot.state != "done" or dot.value is None:
            continue
        if best is None:
            best, path = dot.value, f"M{_n(x(dot.number))} {_n(y(dot.value))}"
        elif (dot.value > best) == (better == "higher") and dot.value != best:
            best = dot.value
            path += f"H{_n(x(dot.number))}V{_n(y(best))}"
    return path + f"H{_n(x(max(dot.number for dot in dots)))}"


def _mark(dot: Dot, x: float, y: float | None, floor: float) -> str:
    """A trial: a dot, or a mark under the chart where it has no value of its own."""
    title = _title(dot)
    if dot.state == "done" and y is not None:
        style = "dot best" if dot.is_best else "dot done"
        return f'<circle class="{style}" cx="{_n(x)}" cy="{_n(y)}" r="{6 if dot.is_best else 4}">{title}</circle>'
    low = floor + 16
    if dot.state == "pruned":
        return f'<path class="mark pruned" d="M{_n(x - 4)} {low - 4}h8l-4 7z">{title}</path>'
    shape = f"M{_n(x - 4)} {low - 4}l8 8m0 -8l-8 8"
    return f'<path class="mark {escape(dot.state)}" d="{shape}">{title}</path>'


def _axis(
    name: str,
    dimension: Dimension | None,
    x: float,
    metric: str,
    bounds: tuple[float, float],
    ends: tuple[float, float],
    *,
    is_odd: bool,
) -> str:
    """An axis with its labels; the names stand on two levels, so that long ones do not meet."""
    top, floor = ends
    title = name.replace(".", " ", 1) if dimension is not None else metric
    parts = [f'<line class="axis-line" x1="{_n(x)}" x2="{_n(x)}" y1="{top}" y2="{floor}"/>']
    style = "axis" if dimension is not None else "axis strong"
    parts.append(
        f'<text class="{style}" x="{_n(x)}" y="{32 if is_odd else 14}" text-anchor="middle">{escape(title)}</text>'
    )
    if dimension is None:
        low, high = bounds
        labels = [((tick - low) / (high - low), shown(tick)) for tick in _ticks(low, high)]
    else:
        labels = _labels(dimension)
    for share, text in labels:
        y = floor - share * (floor - top)
        parts.append(f'<text class="tick halo" x="{_n(x + 6)}" y="{_n(y + 4)}">{escape(text)}</text>')
    return "".join(parts)


def _labels(dimension: Dimension) -> list[tuple[float, str]]:
    """Places on an axis, 0 to 1, with their texts."""
    if dimension.kind == "choice":
        many = dimension.choices
        stride = math.ceil(len(many) / 12)
        return [(_share(dimension, value), shown(value)) for value in many[::stride]]
    low, high = dimension.low, dimension.high
    values = [low, math.sqrt(low * high) if dimension.log else (low + high) / 2, high]
    if dimension.kind == "int":
        values = [float(round(value)) for value in values]
    return [(_share(dimension, value), f"{value:.3g}") for value in dict.fromkeys(values)]


def _share(dimension: Dimension, value: JSON) -> float:
    """Where a value lies on its axis, 0 to 1."""
    if dimension.kind == "choice":
        places = [index for index, each in enumerate(dimension.choices) if each == value and type(each) is type(value)]
        return (places[0] if places else 0) / max(1, len(dimension.choices) - 1)
    if not isinstance(value, int | float):
        return 0.0
    low, high, at = dimension.low, dimension.high, float(value)
    if dimension.log:
        low, high, at = math.log(low), math.log(high), math.log(max(at, 1e-300))
    return min(1.0, max(0.0, (at - low) / (high - low)))


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A smooth line through points of neighbouring axes."""
    path = f"M{_n(points[0][0])} {_n(points[0][1])}"
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        middle = (x0 + x1) / 2
        path += f"C{_n(middle)} {_n(y0)} {_n(middle)} {_n(y1)} {_n(x1)} {_n(y1)}"
    return path


def _title(dot: Dot) -> str:
    return f"<title>{escape(dot.note)}</title>"


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """The values' ends with some air; a single value stands in the middle."""
    low, high = min(values), max(values)
    air = (high - low) * 0.06 or max(abs(high) * 0.01, 1e-9)
    return low - air, high + air


def _ticks(low: float, high: float) -> list[float]:
    """Round values between two ends."""
    raw = (high - low) / MAX_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    stride = next(power * each for each in (1, 2, 5, 10) if power * each >= raw)
    first = math.ceil(low / stride)
    found = [round((first + index) * stride, 12) for index in range(MAX_TICKS + 2)]
    return [value for value in found if value <= high]


def _n(value: float, places: int = 1) -> str:
    return f"{value:.{places}f}".rstrip("0").rstrip(".")
