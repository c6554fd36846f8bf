"""Words, numbers and columns for people: the one place where output gets its form.

Colour is put in with `click.style` and taken out by `click.echo` when the output is no terminal, so
what a pipe receives is plain text. Widths are counted without colour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.core.printable import printable

__all__ = [
    "Number",
    "attempts",
    "columns",
    "count",
    "day",
    "decimal",
    "fields",
    "harmless",
    "interval",
    "lasting",
    "mark",
    "name_of",
    "share",
    "signed",
    "size",
]

Number = int | float | None
_ACTING = re.compile(
    r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters but line ends, tabs and what sets a colour; marks that turn the direction; lone surrogates."""
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
    return "–" if value is None else f"{value:,.0f}"


def decimal(value: Number, places: int = 3) -> str:
    """A number with a fixed number of places, fewer when it is large; "–" for none."""
    if value is None:
        return "–"
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

    A cell wider than `most` makes its own line longer, not every line; 0 for no such limit.
    """
    table = (
        [[click.style(cell, dim=True) for cell in header], *map(list, rows)] if header else [list(row) for row in rows]
    )
    if not table:
        return ""
    sizes = [[len(click.unstyle(cell)) for cell in row] for row in table]
    widths = [max(min(row[place], most or row[place]) for row in sizes) for place in range(len(table[0]))]
    lines = []
    for row in table:
        cells = []
        for place, cell in enumerate(row):
            gap = " " * (widths[place] - len(click.unstyle(cell)))
            cells.append(gap + cell if right[place : place + 1] == "r" else cell + gap)
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def harmless(text: str) -> str:
    r"""A text with its colours and lines, in which nothing else acts on a terminal.

    Values, column names and notes come from data, and data may hold escape sequences: ones that set the title,
    move the cursor over what was said, or write to the clipboard.

    Example:
        >>> harmless("a\x1b]0;title\x07b")
        'a\\u001b]0;title\\u0007b'
    """
    return text if text.isprintable() else _ACTING.sub(lambda found: printable(found[0]), text)


def fields(pairs: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> str:
    """Names and values under each other, the empty ones left out."""
    items = list(pairs.items()) if isinstance(pairs, Mapping) else list(pairs)
    rows = [[click.style(name, dim=True), str(value)] for name, value in items if value not in (None, "", [], {}, ())]
    return columns(rows)
