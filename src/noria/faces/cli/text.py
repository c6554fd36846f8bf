"""Words, numbers and columns for people: the one place where output gets its form.

Colour is put in with `click.style` and taken out by `click.echo` when the output is no terminal, so
what a pipe receives is plain text. Widths are counted without colour.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from noria.core.lazy import lazy

if TYPE_CHECKING:
    import shutil
else:
    shutil = lazy("shutil")

__all__ = [
    "Number",
    "attempts",
    "columns",
    "count",
    "day",
    "decimal",
    "fields",
    "first",
    "interval",
    "lasting",
    "mark",
    "name_of",
    "share",
    "short",
    "signed",
    "size",
]

Number = int | float | None
GAP = "  "
WIDE = 160
"""So many characters a line may have where no terminal says how many."""
CELL_MAX = 60
_STYLED = re.compile(r"((?:\x1b\[[\d;]*m)*)([^\x1b]*)((?:\x1b\[[\d;]*m)*)", re.DOTALL)
EXACT = 1e15
"""From here on digits say nothing that was measured."""
_GOOD = frozenset(
    {"done", "finished", "validated", "production", "passed", "ok", "promote", "promoted", "live", "true"}
)
_BAD = frozenset(
    {
        "cancelled",
        "error",
        "failed",
        "false",
        "killed",
        "lost",
        "refuse",
        "refused",
        "rejected",
        "rolled back",
        "stopped",
    }
)


def count(value: Number) -> str:
    """A whole number with thousands apart; "–" for none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}"


def decimal(value: Number, places: int = 3) -> str:
    """A number with a fixed number of places, fewer when it is large; "–" for none."""
    if value is None:
        return "–"
    if abs(value) >= EXACT:
        return f"{value:.{places}g}"
    return f"{value:,.{places}f}" if abs(value) < 1000 else f"{value:,.0f}"


def signed(value: Number, places: int = 3) -> str:
    """A change with its sign."""
    if value is None:
        return "–"
    return f"{value:+,.{places}f}" if abs(value) < 1000 else f"{value:+,.0f}"


def share(value: Number) -> str:
    """A ratio 0..1 in percent."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(low: Number, high: Number) -> str:
    """A 95 % interval as `[low, high]`; empty if there is none."""
    return "" if low is None or high is None else f"[{decimal(low)}, {decimal(high)}]"


def size(size_bytes: Number) -> str:
    """Bytes in a unit that fits (1 kB is 1000 bytes)."""
    if size_bytes is None:
        return "–"
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def lasting(seconds: Number) -> str:
    """A length of time in a unit or two that fit: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min; "–" for none."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(seconds / 60)
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def day(text: Any) -> str:
    """A UTC text to the minute; its day alone when it is midnight."""
    moment = str(text or "").replace("T", " ")[:16]
    return moment.removesuffix(" 00:00")


def name_of(digest: Any, length: int = 8) -> str:
    """The first digits of a digest; anything else unchanged."""
    text = str(digest or "")
    return text[7 : 7 + length] if text.startswith("sha256:") else text


def short(text: Any, most: int) -> str:
    """The first line of a text, of at most so many characters; `…` stands for what is left out of it."""
    line = str(text).partition("\n")[0]
    return line if len(line) <= most else f"{line[: most - 1]}…"


def first(parts: Iterable[str], most: int, between: str = GAP) -> str:
    """The first of some parts in a line; `…` stands for the others."""
    shown = list(itertools.islice(parts, most + 1))
    return between.join([*shown[:most], "…"] if len(shown) > most else shown)


def mark(status: Any) -> str:
    """A status word in its colour."""
    word = str(status).lower() if isinstance(status, bool) else str(status)
    if word in _GOOD:
        return click.style(word, fg="green")
    if word in _BAD:
        return click.style(word, fg="red")
    return word


def attempts(step: Mapping[str, Any]) -> str:
    """What stands behind the reason of a step that was begun more than once."""
    return f"  ({step['attempts']} attempts)" if step.get("attempts", 1) > 1 else ""


def columns(
    rows: Sequence[Sequence[str]], header: Sequence[str] = (), *, indent: str = "  ", right: str = "", most: int = 0
) -> str:
    """Rows as aligned columns. `right` has an `r` at each column that is aligned to the right.

    A cell wider than `most` makes its own line longer, not every line; 0 for no such limit: then, where a line
    would be wider than the terminal (or `WIDE`), long cells before the last lose their middle. Further lines of a
    last cell stand below its first; in any other cell a line end is shown as `\\n`, so that no value makes a row.
    """
    table = [[click.style(cell, dim=True) for cell in header]] if header else []
    table += [[*(cell.replace("\n", "\\n") for cell in row[:-1]), *row[-1:]] for row in rows]
    if not table:
        return ""
    sizes = _sizes(table)
    if not most and _widest(sizes) + len(indent) > _terminal():
        table = [[*(_cut(cell) for cell in row[:-1]), *row[-1:]] for row in table]
        sizes = _sizes(table)
    widths = [max(min(row[place], most or row[place]) for row in sizes) for place in range(len(table[0]))]
    lines = []
    for row in table:
        cells: list[str] = []
        for place, cell in enumerate(row):
            if "\n" in cell:
                taken = [len(click.unstyle(each)) + len(GAP) for each in cells]
                cells.append(cell.replace("\n", "\n" + indent + " " * sum(taken)))
                continue
            gap = " " * (widths[place] - len(click.unstyle(cell)))
            cells.append(gap + cell if right[place : place + 1] == "r" else cell + gap)
        lines.append((indent + GAP.join(cells)).rstrip())
    return "\n".join(lines)


def _sizes(table: Sequence[Sequence[str]]) -> list[list[int]]:
    return [[max(map(len, click.unstyle(cell).split("\n"))) for cell in row] for row in table]


def _widest(sizes: Sequence[Sequence[int]]) -> int:
    """How wide the columns before the last are together: the last one is not padded."""
    return sum(max(column) + len(GAP) for column in list(zip(*sizes, strict=True))[:-1])


def _terminal() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE


def _cut(cell: str) -> str:
    """A cell of at most `CELL_MAX` characters, with its colours; what is left out is its middle."""
    found = _STYLED.fullmatch(cell)
    if found is None or len(found[2]) <= CELL_MAX:
        return cell
    behind = CELL_MAX // 3
    return f"{found[1]}{found[2][: CELL_MAX - behind - 1]}…{found[2][-behind:]}{found[3]}"


def fields(pairs: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> str:
    """Names and values under each other, the empty ones left out."""
    items = list(pairs.items()) if isinstance(pairs, Mapping) else list(pairs)
    rows = [[click.style(name, dim=True), str(value)] for name, value in items if value not in (None, "", [], {}, ())]
    return columns(rows)
