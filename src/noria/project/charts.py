"""Charts as inline SVG: quality over windows, and drift as a heat strip. Pure: values in, markup out.

Colours are CSS variables of the page, so that a chart is right in light and in dark. Numbers are
rounded to a tenth of a pixel and nothing depends on time or chance: the same values give the same bytes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from html import escape

from noria.core.frozen import frozen
from noria.experiments.coordinates import along

__all__ = ["Cell", "Line", "Mark", "Point", "heat", "mark_alone", "quality"]

WIDTH = 960
LEFT, RIGHT = 112, 104
MAX_CELL = 84
LARGEST = sys.float_info.max
LONGEST = 1e9
"""A number beside an axis is written with an exponent from here on."""


@frozen
class Point:
    """A value at a window, with its interval; None where it is not known."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@frozen
class Line:
    """One line of a chart: its name at the end, its CSS class, a point a window."""

    name: str
    style: str
    points: tuple[Point, ...]


@frozen
class Mark:
    """Something that happened in a window: `kind` is promoted, refused, stopped, rolled or wait."""

    window: int
    kind: str
    text: str
    note: str


@frozen
class Cell:
    """One column in one window: effect over its floor (1 is where drift begins), and whether it counted."""

    ratio: float | None
    drifted: bool
    note: str


def quality(windows: Sequence[str], lines: Sequence[Line], marks: Sequence[Mark], *, better: str, label: str) -> str:
    """Lines with 95 % bands over windows, and a lane of what was decided below them."""
    height, top, bottom = 300, 26, 56
    low, high = _bounds([p for line in lines for p in line.points])
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    floor = height - bottom

    def x(index: int) -> float:
        return _x(index, len(windows))

    def y(value: float) -> float:
        return floor - along(value, low, high) * (floor - top)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">']
    parts.append(
        f'<text class="axis" x="{LEFT}" y="14">{escape(label)} <tspan class="faint">({escape(better)})</tspan></text>'
    )
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_n(y(tick))}" y2="{_n(y(tick))}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 8}" y="{_n(y(tick) + 4)}" text-anchor="end">{_tick(tick, ticks)}</text>'
        )
    for mark in marks:
        if mark.kind == "promoted":
            middle = _n(x(mark.window))
            parts.append(f'<line class="promotion" x1="{middle}" x2="{middle}" y1="{top}" y2="{floor + 26}"/>')
    for line in lines:
        parts.append(_band(line, x, y))
    for line in lines:
        parts.append(_path(line, x, y))
    parts.extend(_names(lines, x, y))
    for index, name in enumerate(windows):
        if len(windows) <= 24 or index % math.ceil(len(windows) / 24) == 0:
            parts.append(
                f'<text class="tick" x="{_n(x(index))}" y="{height - 4}" text-anchor="middle">{escape(name)}</text>'
            )
    parts.extend(_mark(mark, x(mark.window), floor + 26, marks) for mark in marks)
    parts.append("</svg>")
    return "".join(parts)


RATIO_WIDTH = 30
"""A cell that is narrower has no room for its figure, which its title tells too."""


def heat(windows: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]]) -> str:
    """A strip for each column: the darker the further beyond its own floor; framed where it counted as drift."""
    size = 22
    height = 8 + size * len(rows) + 24
    left = LEFT
    step = (WIDTH - LEFT - RIGHT) / max(1, len(windows))
    cell_width = min(MAX_CELL, step - 2)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="drift by column and window">']
    for row, (name, cells) in enumerate(rows):
        y = 4 + row * size
        style = "name strong" if name == "prediction" else "name"
        parts.append(f'<text class="{style}" x="{left - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        for index, cell in enumerate(cells):
            x = _x(index, len(windows)) - cell_width / 2
            box = f'x="{_n(x)}" y="{y + 1}" width="{_n(cell_width)}" height="{size - 2}" rx="3"'
            if cell.ratio is None:
                parts.append(f'<rect class="none" {box}><title>{escape(cell.note)}</title></rect>')
                continue
            # Half of the scale lies below the floor, where differences are ordinary.
            shade = min(1.0, cell.ratio / 2)
            frame = " drifted" if cell.drifted else ""
            parts.append(
                f'<rect class="heat{frame}" {box} style="--heat:{shade:.2f}"><title>{escape(cell.note)}</title></rect>'
            )
            if cell.drifted and cell_width >= RATIO_WIDTH:
                text = f"{cell.ratio:.1f}×"
                parts.append(
                    f'<text class="ratio{" far" if shade > 0.6 else ""}" x="{_n(x + cell_width / 2)}" y="{y + 15}" '
                    f'text-anchor="middle">{text}</text>'
                )
    for index, name in enumerate(windows):
        if step >= 44 or index % math.ceil(44 / step) == 0:
            x = _x(index, len(windows))
            parts.append(f'<text class="tick" x="{_n(x)}" y="{height - 6}" text-anchor="middle">{escape(name)}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _band(line: Line, x: object, y: object) -> str:
    assert callable(x)
    assert callable(y)
    parts = []
    for run in _runs(line.points, lambda p: p.low is not None and p.high is not None):
        upper = [f"{_n(x(i))},{_n(y(line.points[i].high))}" for i in run]
        lower = [f"{_n(x(i))},{_n(y(line.points[i].low))}" for i in reversed(run)]
        parts.append(f'<polygon class="band {line.style}" points="{" ".join(upper + lower)}"/>')
    return "".join(parts)


def _path(line: Line, x: object, y: object) -> str:
    assert callable(x)
    assert callable(y)
    parts = []
    for run in _runs(line.points, lambda p: p.value is not None):
        points = " ".join(f"{_n(x(i))},{_n(y(line.points[i].value))}" for i in run)
        parts.append(f'<polyline class="line {line.style}" points="{points}"/>')
        for i in run:
            point = line.points[i]
            parts.append(
                f'<circle class="dot {line.style}" cx="{_n(x(i))}" cy="{_n(y(point.value))}" r="3.5">'
                f"<title>{escape(point.note)}</title></circle>"
            )
    return "".join(parts)


def _names(lines: Sequence[Line], x: object, y: object) -> list[str]:
    """The lines' names at their ends, pushed apart where they would touch."""
    assert callable(x)
    assert callable(y)
    ends = []
    for line in lines:
        known = [i for i, point in enumerate(line.points) if point.value is not None]
        if known:
            ends.append([y(line.points[known[-1]].value), x(known[-1]) + 12, line])
    ends.sort(key=lambda end: float(end[0]))
    parts = []
    last = -math.inf
    for height, left, line in ends:
        place = max(float(height), last + 16)
        last = place
        parts.append(f'<text class="end {line.style}" x="{_n(left)}" y="{_n(place + 4)}">{escape(line.name)}</text>')
    return parts


def _mark(mark: Mark, x: float, y: float, marks: Sequence[Mark]) -> str:
    """A sign in the lane below a chart; two of one window stand side by side."""
    same = [item for item in marks if item.window == mark.window]
    if mark in same:
        x += (same.index(mark) - (len(same) - 1) / 2) * 24
    title = f"<title>{escape(mark.note)}</title>"
    if mark.kind == "promoted":
        return (
            f'<g class="mark promoted">{title}<rect x="{_n(x - 14)}" y="{_n(y - 10)}" width="28" height="19" rx="9.5"/>'
            f'<text x="{_n(x)}" y="{_n(y + 4)}" text-anchor="middle">{escape(mark.text)}</text></g>'
        )
    if mark.kind == "stopped":
        corners = [
            (x + 10 * math.cos(a), y - 0.5 + 10 * math.sin(a))
            for a in (math.pi / 8 + k * math.pi / 4 for k in range(8))
        ]
        points = " ".join(f"{_n(a)},{_n(b)}" for a, b in corners)
        return (
            f'<g class="mark stopped">{title}<polygon points="{points}"/>'
            f'<text x="{_n(x)}" y="{_n(y + 4)}" text-anchor="middle">!</text></g>'
        )
    if mark.kind == "refused":
        points = f"{_n(x)},{_n(y - 8)} {_n(x + 8)},{_n(y)} {_n(x)},{_n(y + 8)} {_n(x - 8)},{_n(y)}"
        return f'<g class="mark refused">{title}<polygon points="{points}"/></g>'
    if mark.kind == "rolled":
        points = f"{_n(x)},{_n(y + 8)} {_n(x + 9)},{_n(y - 7)} {_n(x - 9)},{_n(y - 7)}"
        return f'<g class="mark rolled">{title}<polygon points="{points}"/></g>'
    return f'<g class="mark wait">{title}<circle cx="{_n(x)}" cy="{_n(y)}" r="3"/></g>'


def _runs(points: Sequence[Point], is_known: object) -> list[list[int]]:
    """Stretches of neighbouring windows whose points are known."""
    assert callable(is_known)
    found: list[list[int]] = []
    for index, point in enumerate(points):
        if is_known(point):
            if found and found[-1][-1] == index - 1:
                found[-1].append(index)
            else:
                found.append([index])
    return found


def _bounds(points: Sequence[Point]) -> tuple[float, float]:
    values = [value for point in points for value in (point.value, point.low, point.high) if value is not None]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = max((high / 2 - low / 2) * 0.12, max(abs(low), abs(high)) * 1e-6, 1e-3)
    return max(low - room, -LARGEST), min(high + room, LARGEST)


def _ticks(low: float, high: float) -> list[float]:
    """About five round values from below `low` to above `high`. Halves, since the difference may be no double."""
    raw = (high / 2 - low / 2) / 2
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
    first = math.floor(low / step)
    found = [round(k * step, 10) for k in range(first, math.ceil(high / step) + 1)]
    return [max(-LARGEST, min(LARGEST, value)) for value in found]


def _tick(value: float, ticks: Sequence[float]) -> str:
    if max(map(abs, ticks)) >= LONGEST:
        return f"{value:.4g}"
    digits = next((d for d in range(5) if all(abs(t * 10**d - round(t * 10**d)) < 1e-6 for t in ticks)), 4)
    return f"{value:.{digits}f}"


def _x(index: int, count: int) -> float:
    width = WIDTH - LEFT - RIGHT
    return LEFT + width * (index + 0.5) / max(1, count)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def mark_alone(kind: str) -> str:
    """One sign for a legend, in a box of 32 by 24."""
    return _mark(Mark(0, kind, "r2", ""), 16, 12, ())
