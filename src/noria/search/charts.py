"""Charts of a search as inline SVG: its history and each parameter. Pure: values in, markup out.

Colours are CSS variables of the page. Nothing depends on time or chance: the same values give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from noria.experiments.coordinates import (
    LEFT,
    RIGHT,
    WIDTH,
    Dot,
    along,
    bounds,
    labels,
    share_of,
    short,
    shown,
    ticks,
    told,
)
from noria.pipeline.space import Dimension

__all__ = ["history", "scatter"]


def history(dots: Sequence[Dot], *, metric: str, better: str) -> str:
    """A dot for each trial in its order, the best so far as steps, and marks for pruned and failed ones."""
    height, top, bottom = 300, 30, 54
    known = [dot.value for dot in dots if dot.state == "done" and dot.value is not None]
    if not known:
        return ""
    low, high = bounds(known)
    floor = height - bottom
    last = max(1, *(dot.number for dot in dots))

    def x(number: float) -> float:
        return LEFT + 12 + (WIDTH - LEFT - RIGHT - 24) * number / last

    def y(value: float) -> float:
        return floor - along(value, low, high) * (floor - top)

    head = f'{escape(metric)} on the validation rows <tspan class="faint">({escape(better)} is better)</tspan>'
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="history of the search">']
    parts.append(f'<text class="axis" x="{LEFT}" y="14">{head}</text>')
    for tick in ticks(low, high):
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{short(y(tick))}" y2="{short(y(tick))}"/>'
        )
        parts.append(
            f'<text class="tick" x="{LEFT - 8}" y="{short(y(tick) + 4)}" text-anchor="end">{shown(tick)}</text>'
        )
    parts.append(f'<path class="best" d="{_steps(dots, better, x, y)}"/>')
    for dot in dots:
        parts.append(_mark(dot, x(dot.number), y(dot.value) if dot.value is not None else None, floor))
    for number in sorted({round(last * part / 10) for part in range(11)}):
        parts.append(f'<text class="tick" x="{short(x(number))}" y="{height - 6}" text-anchor="middle">{number}</text>')
    return "".join(parts) + "</svg>"


def scatter(dots: Sequence[Dot], dimension: Dimension, *, metric: str) -> str:
    """The metric over one parameter."""
    drawn = [dot for dot in dots if dot.rank is not None and dot.value is not None]
    if not drawn:
        return ""
    width, height, left, top, floor = 300, 200, 52, 26, 168
    low, high = bounds([dot.value for dot in drawn if dot.value is not None])

    def x(share: float) -> float:
        return left + 8 + share * (width - left - 20)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(metric)} by {escape(dimension.name)}">'
    ]
    parts.append(f'<text class="axis" x="0" y="12">{escape(dimension.name)}</text>')
    for tick in ticks(low, high):
        level = short(floor - along(tick, low, high) * (floor - top))
        parts.append(f'<line class="grid" x1="{left}" x2="{width}" y1="{level}" y2="{level}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{level}" dy="4" text-anchor="end">{shown(tick)}</text>')
    for share, text in labels(dimension):
        parts.append(
            f'<text class="tick" x="{short(x(share))}" y="{height - 8}" text-anchor="middle">{escape(text)}</text>'
        )
    for dot in sorted(drawn, key=lambda dot: dot.is_best):
        place = floor - along(dot.value or 0.0, low, high) * (floor - top)
        style = "dot best" if dot.is_best else f"dot {dot.state}"
        at = short(x(share_of(dimension, dot.params.get(dimension.name))))
        parts.append(f'<circle class="{style}" cx="{at}" cy="{short(place)}" r="{5 if dot.is_best else 3.5}">')
        parts.append(f"{told(dot)}</circle>")
    return "".join(parts) + "</svg>"


def _steps(dots: Sequence[Dot], better: str, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """The best value so far, as a line of steps to the last trial."""
    best: float | None = None
    path = ""
    for dot in dots:
        if dot.state != "done" or dot.value is None:
            continue
        if best is None:
            best, path = dot.value, f"M{short(x(dot.number))} {short(y(dot.value))}"
        elif (dot.value > best) == (better == "higher") and dot.value != best:
            best = dot.value
            path += f"H{short(x(dot.number))}V{short(y(best))}"
    return path + f"H{short(x(max(dot.number for dot in dots)))}"


def _mark(dot: Dot, x: float, y: float | None, floor: float) -> str:
    """A trial: a dot, or a mark under the chart where it has no value of its own."""
    note = told(dot)
    if dot.state == "done" and y is not None:
        style = "dot best" if dot.is_best else "dot done"
        return f'<circle class="{style}" cx="{short(x)}" cy="{short(y)}" r="{6 if dot.is_best else 4}">{note}</circle>'
    low = floor + 16
    if dot.state == "pruned":
        return f'<path class="mark pruned" d="M{short(x - 4)} {low - 4}h8l-4 7z">{note}</path>'
    shape = f"M{short(x - 4)} {low - 4}l8 8m0 -8l-8 8"
    return f'<path class="mark {escape(dot.state)}" d="{shape}">{note}</path>'
