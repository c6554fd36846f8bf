"""Curves of runs as SVG: a chart for each metric, one line for each run. Pure: values in, markup out.

Colours are CSS variables, so that a chart is right in light and in dark; lines beyond the eighth are dashed. Nothing
depends on time or chance: the same values give the same bytes. A value that is not finite breaks its line, and how
many there are is told.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from html import escape

from noria.core.frozen import frozen
from noria.core.words import counted
from noria.experiments.coordinates import bounds, short, shown, ticks

__all__ = ["COLOURS", "STYLE", "Line", "chart", "colour", "number", "sheet"]

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 34
COLOURS = 8
LARGEST = 1e300
"""Beyond it a value is drawn as little as an infinite one: differences of such overflow."""
NAME_MAX = 56
LEGEND_STEP = 18
MARGIN = 12
_LIGHT = ("#1f5fbf", "#b0662a", "#1d7a4d", "#8e3b9c", "#b3261e", "#0f7c8a", "#6b6a12", "#5b4bd1")
_DARK = ("#7fb0ff", "#e39a5c", "#5cc48f", "#d18ae0", "#ff8a80", "#5cc7d6", "#cfcb5a", "#a99dff")


def _variables(colours: Sequence[str]) -> str:
    return "".join(f"--c{place}:{each};" for place, each in enumerate(colours))


STYLE = (
    f":root{{color-scheme:light dark;--ink:#1b2420;--quiet:#5d6a63;--line:#dfe4e0;--ground:#fff;{_variables(_LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{--ink:#e5ebe7;--quiet:#9aa8a0;--line:#2b3531;--ground:#19201d;"
    f"{_variables(_DARK)}}}}}"
    ".chart text{font:12px system-ui,sans-serif;fill:var(--ink)}.chart .tick{fill:var(--quiet);font-size:11px}"
    ".chart .axis{font-weight:600}.chart .faint{fill:var(--quiet);font-weight:400}.chart .grid{stroke:var(--line)}"
    ".chart .axis-line{stroke:var(--quiet);stroke-width:1.2}.chart .strong{fill:var(--c0)}"
    ".chart .halo{paint-order:stroke;stroke:var(--ground);stroke-width:3px}"
    ".chart path.curve{fill:none;stroke-width:1.7;stroke-linejoin:round}"
    ".chart path.trial{fill:none;stroke:var(--c0);stroke-width:1.6;stroke-opacity:calc(1 - .75*var(--rank))}"
)
"""What a chart needs of the page's style; of a file that is one chart it is all."""


@frozen
class Line:
    """One line: its name, its number, and its points, of which neither need be finite; both of shape (n_points,)."""

    name: str
    number: int
    xs: Sequence[float]
    ys: Sequence[float]


def colour(number: int) -> str:
    """The style of a line by its number."""
    dash = ";stroke-dasharray:6 4" if number // COLOURS % 2 else ""
    return f"stroke:var(--c{number % COLOURS}){dash}"


def chart(
    title: str, lines: Sequence[Line], *, across: str = "step", note: str = "", at: tuple[int, int] = (0, 0)
) -> str:
    """A chart of WIDTH by HEIGHT with the metric's name over it, as an SVG of its own at a place in another's units."""
    parts = [
        f'<svg class="chart" x="{at[0]}" y="{at[1]}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_cut(title))} by {escape(across)}">',
        f'<text class="axis" x="4" y="14">{escape(_cut(title))} <tspan class="faint">{escape(note)}</tspan></text>',
    ]
    known = [(line, _finite(line)) for line in lines]
    every = [point for _, points in known for point in points if point is not None]
    missing = sum(point is None for _, points in known for point in points)
    floor = HEIGHT - BOTTOM
    if not every:
        parts.append(
            f'<text class="tick" x="{WIDTH / 2:g}" y="{HEIGHT / 2:g}" text-anchor="middle">no finite value</text>'
        )
        return "".join(parts) + "</svg>"
    low, high = _span([y for _, y in every])
    first, last = min(x for x, _ in every), max(x for x, _ in every)

    def x_of(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((x - first) / (last - first) if last > first else 0.5)

    def y_of(y: float) -> float:
        return floor - (y - low) / (high - low) * (floor - TOP)

    for tick in ticks(low, high):
        y = short(y_of(tick))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{number(tick)}</text>')
    for x in dict.fromkeys((first, (first + last) / 2, last)):
        anchor = "end" if x == last > first else "middle"
        parts.append(
            f'<text class="tick" x="{short(x_of(x))}" y="{floor + 16}" text-anchor="{anchor}">{_place(x)}</text>'
        )
    told = across + (f"; not finite: {counted(missing, 'value')}" if missing else "")
    parts.append(f'<text class="tick" x="{LEFT}" y="{HEIGHT - 3}">{escape(told)}</text>')
    for line, points in known:
        runs = [[(x_of(x), y_of(y)) for x, y in group] for group in _unbroken(points)]
        parts.append(_drawn(line, runs))
    return "".join(parts) + "</svg>"


def sheet(
    title: str, charts: Sequence[tuple[str, Sequence[Line], str]], *, more: str = "", more_height: int = 0
) -> str:
    """A file of its own: charts (title, lines, across) two abreast under a legend, and below them another SVG."""
    names = sorted({line.number: line.name for _, lines, _ in charts for line in lines}.items())
    head = 34 + (LEGEND_STEP * len(names) if len(names) > 1 else 0)
    rows = math.ceil(len(charts) / 2)
    width = 2 * (WIDTH + MARGIN) + MARGIN if len(charts) > 1 or more else WIDTH + 2 * MARGIN
    height = head + rows * (HEIGHT + MARGIN) + more_height + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="var(--ground)"/>',
        f'<g class="chart"><text class="axis" x="{MARGIN}" y="24">{escape(_cut(title))}</text>',
    ]
    for place, (line, name) in enumerate(names if len(names) > 1 else ()):
        y = 42 + LEGEND_STEP * place
        parts.append(f'<path class="curve" style="{colour(line)}" d="M{MARGIN} {y - 4}h22"/>')
        parts.append(f'<text x="{MARGIN + 30}" y="{y}">{escape(_cut(name))}</text>')
    parts.append("</g>")
    for place, (name, lines, across) in enumerate(charts):
        at = (MARGIN + place % 2 * (WIDTH + MARGIN), head + place // 2 * (HEIGHT + MARGIN))
        parts.append(chart(name, lines, across=across, at=at))
    if more:
        below = head + rows * (HEIGHT + MARGIN)
        parts.append(f'<g class="chart" transform="translate({MARGIN} {below})">{more}</g>')
    return "".join(parts) + "</svg>\n"


def _finite(line: Line) -> list[tuple[float, float] | None]:
    """The points, None where one cannot be drawn."""
    return [(x, y) if abs(y) <= LARGEST else None for x, y in zip(line.xs, line.ys, strict=True)]


def _unbroken(points: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    groups = itertools.groupby(points, key=lambda point: point is not None)
    return [[point for point in group if point is not None] for is_there, group in groups if is_there]


def _drawn(line: Line, runs: Sequence[Sequence[tuple[float, float]]]) -> str:
    """The line with its name for whoever points at it; a point that stands alone is a dot."""
    path = "".join("M" + "L".join(f"{short(x)} {short(y)}" for x, y in run) for run in runs if len(run) > 1)
    dots = "".join(
        f'<circle cx="{short(run[0][0])}" cy="{short(run[0][1])}" r="3" fill="var(--c{line.number % COLOURS})"/>'
        for run in runs
        if len(run) == 1
    )
    name = f"<title>{escape(line.name)}</title>"
    drawn = f'<path class="curve" style="{colour(line.number)}" d="{path}">{name}</path>' if path else ""
    return drawn + (f"<g>{name}{dots}</g>" if dots else "")


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The ends of the axis: with some air, and so wide that a value that never changes lies in a quiet middle."""
    low, high = bounds(values)
    middle = max(values)
    return (low, high) if min(values) < middle else (middle - (abs(middle) / 10 or 1), middle + (abs(middle) / 10 or 1))


def number(value: float) -> str:
    """A number beside its line or name: larger ones in full as long as there is room."""
    return f"{value:,.6g}" if 1e4 <= abs(value) < 1e6 else shown(value)


def _place(x: float) -> str:
    """A step or a time under its axis."""
    return f"{x:,.0f}" if abs(x) >= 10 or x == int(x) else f"{x:.1f}"


def _cut(text: str) -> str:
    return text if len(text) <= NAME_MAX else text[: NAME_MAX - 1] + "…"
