"""The figures as tables: one row for each tool, one column for each work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cost import Cost
from tools import NONE

Cell = Cost | str
"""A cost, or a word for why there is none."""


@dataclass
class Figures:
    """What is known so far, by tool and work; `fewer` are the cells of a run with fewer steps."""

    works: tuple[str, ...]
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    fewer: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width, the first to the left."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def show(figures: Figures, to: str) -> str:
    """Seconds, memory, and the ratios to a tool and to the loop."""
    seconds = [
        ("wall seconds", lambda cost: f"{cost.wall_s:.2f}"),
        ("CPU seconds, of all processes", lambda cost: f"{cost.cpu_s:.2f}"),
        ("peak memory of all processes together, MB", lambda cost: f"{cost.peak_mb:.0f}"),
    ]
    parts = [_table(figures, title, one) for title, one in seconds]
    for other in (to, "loop"):
        if other in figures.cells:
            parts += [
                _ratios(figures, f"wall, times that of {other}", other, lambda cost: cost.wall_s),
                _ratios(figures, f"CPU, times that of {other}", other, lambda cost: cost.cpu_s),
            ]
    return "\n\n".join([*parts, "\n".join(_notes(figures))])


def _table(figures: Figures, title: str, one: Callable[[Cost], str]) -> str:
    rows = [[title, *figures.works]]
    for name, cells in figures.cells.items():
        rows.append([name, *(_cell(figures, name, work, cells.get(work, "–"), one) for work in figures.works)])
    return aligned(rows)


def _cell(figures: Figures, name: str, work: str, cell: Cell, one: Callable[[Cost], str]) -> str:
    mark = "*" if (name, work) in figures.fewer else ""
    return cell if isinstance(cell, str) else one(cell) + mark


def _ratios(figures: Figures, title: str, to: str, one: Callable[[Cost], float]) -> str:
    rows = [[title, *figures.works]]
    for name in figures.cells:
        if name != to:
            rows.append([name, *(_ratio(figures, name, work, figures.cells[to], one) for work in figures.works)])
    return aligned(rows)


def _ratio(figures: Figures, name: str, work: str, to: Mapping[str, Cell], one: Callable[[Cost], float]) -> str:
    """A ratio; where a tool did fewer steps than the other it is at least that."""
    mine, other = figures.cells[name].get(work, "–"), to.get(work, "–")
    if isinstance(mine, str):
        return mine
    if isinstance(other, str) or one(other) <= 0:
        return "–"
    ratio = one(mine) / one(other)
    return f"{'≥' if (name, work) in figures.fewer else ''}{ratio:.3g}x"


def _notes(figures: Figures) -> list[str]:
    lines = [f"* {name}, {work}: {size} steps only" for (name, work), size in figures.fewer.items()]
    if any(cell == NONE for cells in figures.cells.values() for cell in cells.values()):
        lines.append(f"{NONE}: the tool does not find results of an earlier run by itself")
    return [*lines, *figures.notes]
