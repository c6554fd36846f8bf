"""How a report draws: one scale for charts from 0 to 1, a figure with its caption, numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["HEIGHT", "PAD", "WIDTH", "figure", "line", "number", "range_of", "unit_axes", "x_of", "y_of"]

WIDTH, HEIGHT, PAD = 320, 260, 40
EXACT = 1e15


def figure(title: str, note: str, body: str) -> str:
    """A chart of WIDTH by HEIGHT with its caption; title and note are escaped."""
    return (
        f"<figure><figcaption>{escape(title)} <span>{escape(note)}</span></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{body}</svg></figure>'
    )


def unit_axes(across: str, up: str) -> str:
    """Axes from 0 to 1 with their names."""
    parts = [f'<path class="axis" d="M{x_of(0)} {y_of(1)}V{y_of(0)}H{x_of(1)}"/>']
    for at in (0, 0.5, 1):
        parts.append(f'<text x="{x_of(at):.0f}" y="{HEIGHT - PAD + 15}" text-anchor="middle">{at:g}</text>')
        parts.append(f'<text x="{PAD - 6}" y="{y_of(at) + 4:.0f}" text-anchor="end">{at:g}</text>')
    middle = (PAD + WIDTH - 12) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    parts.append(
        f'<text transform="translate(11 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
    )
    return "".join(parts)


def line(points: Sequence[Sequence[float]], style: str) -> str:
    """A line through points whose coordinates are from 0 to 1."""
    path = " ".join(f"{x_of(point[0]):.1f},{y_of(point[1]):.1f}" for point in points)
    return f'<polyline class="{style}" fill="none" points="{path}"/>'


def x_of(share: float) -> float:
    """Where a share of the width is."""
    return PAD + share * (WIDTH - PAD - 12)


def y_of(share: float) -> float:
    """Where a share of the height is, from below."""
    return HEIGHT - PAD - share * (HEIGHT - PAD - 12)


def number(value: float | None) -> str:
    """A number with as many digits as are read; a dash for none."""
    if value is None:
        return "–"
    if abs(value) >= EXACT:
        return f"{value:.4g}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def range_of(item: Mapping[str, Any]) -> str:
    """The interval of a measure; "" for none."""
    return "" if item["low"] is None else f"[{number(item['low'])}, {number(item['high'])}]"
