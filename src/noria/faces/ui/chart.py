"""Points of a small line chart, computed here so that the template only draws them. Pure.

Two lines over the same windows: what was served, with its interval as a band, and what the first
release would have scored. The lines are told apart by dash and label, not by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.frozen import frozen

__all__ = ["Chart", "Mark", "chart"]

WIDTH, HEIGHT = 720.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 74.0, 16.0, 26.0
SPAN_MIN = 0.02
GRID_LINES = 4
LABELS_MAX = 12
LABEL_GAP = 14.0


@frozen
class Mark:
    """A place in the drawing and the word that belongs there."""

    x: float
    y: float
    text: str


@frozen
class Chart:
    """A drawing in its own units: paths of the lines and the band, dots, grid lines and labels."""

    width: float
    height: float
    live: str
    frozen: str
    band: str
    dots: tuple[Mark, ...]
    grid: tuple[Mark, ...]
    labels: tuple[Mark, ...]
    ends: tuple[Mark, ...]


def chart(
    *,
    labels: Sequence[str],
    live: Sequence[Mapping[str, Any]],
    frozen: Sequence[float | None],
    marks: Sequence[str],
) -> Chart:
    """The drawing of at least two windows. `live` are estimates with a value; `frozen` may miss some.

    A dot is marked where `marks` says that the loop did something ("promoted", "stopped", …).
    """
    known = [each["value"] for each in live] + [value for value in frozen if value is not None]
    known += [each[side] for each in live for side in ("low", "high") if each[side] is not None]
    low, high = float(min(known)), float(max(known))
    pad = max((high - low) * 0.08, (SPAN_MIN - (high - low)) / 2)
    low, high = low - pad, high + pad

    def x_of(place: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * place / max(1, len(labels) - 1), 1)

    def y_of(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    points = [(x_of(place), y_of(each["value"])) for place, each in enumerate(live)]
    still = [(x_of(place), y_of(value)) for place, value in enumerate(frozen) if value is not None]
    grid = [low + (high - low) * step / GRID_LINES for step in range(GRID_LINES + 1)]
    every = max(1, -(-len(labels) // LABELS_MAX))
    return Chart(
        width=WIDTH,
        height=HEIGHT,
        live=_path(points),
        frozen=_path(still),
        band=_band([(x_of(place), each, y_of) for place, each in enumerate(live)]),
        dots=tuple(Mark(x, y, mark) for (x, y), mark in zip(points, marks, strict=True)),
        grid=tuple(Mark(LEFT, y_of(value), f"{value:.3f}") for value in grid),
        labels=tuple(Mark(x_of(place), HEIGHT - 8, text) for place, text in enumerate(labels) if place % every == 0),
        ends=_ends(points[-1], still[-1] if still else None),
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{'M' if place == 0 else 'L'}{x} {y}" for place, (x, y) in enumerate(points))


def _band(items: Sequence[tuple[float, Mapping[str, Any], Any]]) -> str:
    """The area between the bounds of the intervals, over the windows that have one."""
    known = [(x, y_of(each["low"]), y_of(each["high"])) for x, each, y_of in items if each["low"] is not None]
    if len(known) < 2:
        return ""
    upper = [(x, top) for x, _, top in known]
    lower = [(x, bottom) for x, bottom, _ in reversed(known)]
    return _path([*upper, *lower]) + " Z"


def _ends(live: tuple[float, float], frozen: tuple[float, float] | None) -> tuple[Mark, ...]:
    """The names of the lines at their ends, kept apart."""
    if frozen is None:
        return (Mark(live[0] + 8, live[1] + 4, "live"),)
    gap = live[1] - frozen[1]
    shift = max(0.0, (LABEL_GAP - abs(gap)) / 2) * (1 if gap >= 0 else -1)
    return (Mark(live[0] + 8, live[1] + 4 + shift, "live"), Mark(frozen[0] + 8, frozen[1] + 4 - shift, "first"))
