"""What two runs, models or releases look like beside each other on a terminal: figures first, the account last."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.core.words import counted
from noria.faces.cli.show_project import table_diff
from noria.faces.cli.text import columns, count, decimal, first, share, signed

__all__ = ["difference", "others", "slices"]

SECTIONS = ("run", "code", "tag", "release")
"""Of lines by name those that nothing else here tells, save what is only a digest."""
DIGESTS = frozenset({"source", "patch", "bundle", "schema", "baseline", "policy", "state"})
SLICES_MAX = 12
LOGGED_MAX = 40
INPUTS_MAX = 30
TEXT_MAX = 48
WIDTH = 112
PLACES = 4


def difference(found: Mapping[str, Any]) -> str:
    """What differs between two things, and why one is better."""
    if found["table"]:
        return table_diff(found["table"])
    if found["is_same"]:
        return f"  {found['a']} and {found['b']} are the same"
    parts = [f"  {found['kind']}  {click.style(found['a'], bold=True)} → {click.style(found['b'], bold=True)}"]
    if found["scored"]:
        parts += _scored(found["scored"])
    parts += _logged(found["logged"], found["a"], found["b"], is_short=bool(found["scored"]))
    parts += _inputs(found["inputs"])
    parts += _lines(found["lines"])
    if found["notes"]:
        parts.append(_titled("notes", "\n".join(_wrapped(each, "- ") for each in found["notes"])))
    parts.append(_titled("why", "\n".join(_wrapped(each) for each in found["why"])))
    return "\n".join(parts)


def _scored(found: Mapping[str, Any]) -> list[str]:
    """Every metric of both with its interval, the difference, the groups of the main metric, the rows that flipped."""
    data = f" ({', '.join(found['data'])})" if found["data"] else ""
    left = f" of {count(found['of'])}" if found["of"] != found["rows"] else ""
    head = f"on {count(found['rows'])}{left} rows of {found['told']}{data}"
    head += f", {100 * found['level']:g} % intervals" + ("" if found["is_new"] else ", as measured by their gates")
    rows = [
        [
            click.style(each["metric"], bold=place == 0),
            _ends(each["a"], each["a_low"], each["a_high"]),
            _ends(each["b"], each["b_low"], each["b_high"]),
            *_gap(each),
        ]
        for place, each in enumerate(found["metrics"])
    ]
    parts = [_titled(head, columns(rows, ["", found["a"], found["b"], "difference", "", ""], indent="    "))]
    parts += _slices(found)
    flips = found["flips"]
    if flips and flips["ways"]:
        moved = sum(each[1] for each in flips["ways"])
        ways = [[way, count(n), f"{found['b']} right on {count(right)}, {found['a']} on {count(n - right)}"]
                if found["task"] == "binary" else [way, count(n), ""] for way, n, right in flips["ways"]]  # fmt: skip
        title = f"rows that flipped: {count(moved)} of {count(flips['n'])}"
        parts.append(_titled(title, columns(ways, indent="    ", right=" r")))
    return parts


def slices(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The groups of the main metric that are shown, those of the column that tells the most first."""
    main = found["metrics"][0]["metric"] if found["metrics"] else ""
    parts = [each for each in found["slices"] if each["metric"] == main]
    if not found["is_declared"]:  # of columns that nobody asked for, only the one that tells something
        parts = [each for each in parts if each["column"] == found["column"]]
    order = list(dict.fromkeys(each["column"] for each in parts))
    order.sort(key=lambda name: name != found["column"])
    return sorted(parts, key=lambda each: (order.index(each["column"]), -abs(each["share"] or 0.0)))


def _slices(found: Mapping[str, Any]) -> list[str]:
    """The groups by the main metric: of the column that tells the most first, those that add the most first."""
    if not found["metrics"]:
        return []
    main, parts = found["metrics"][0], slices(found)
    if not parts:
        return []
    rows = [
        [
            f"{each['column']} = {_short(each['level'], 28)}",
            count(each["n"]),
            decimal(each["a"], PLACES),
            decimal(each["b"], PLACES),
            *_gap({**each, "better": main["better"]}),
            "" if each["share"] is None else f"{share(each['share'])} of it",
        ]
        for each in parts[:SLICES_MAX]
    ]
    header = ["", "rows", found["a"], found["b"], "difference", "", "", ""]
    text = columns(rows, header, indent="    ", right=" rrr    r")
    more = len(parts) - SLICES_MAX
    wide = f", {100 * parts[0]['confidence']:.4g} % intervals for all at once" if found["is_new"] else ""
    return [_titled(f"{main['metric']} by slice{wide}", text + (f"\n    … {more} more: --json" if more > 0 else ""))]


def _gap(each: Mapping[str, Any]) -> list[str]:
    """A difference, its interval, and what it says."""
    bounds = "" if each["low"] is None else f"[{signed(each['low'], PLACES)}, {signed(each['high'], PLACES)}]"
    if each["is_beyond_chance"] is None:
        word = click.style(_short(each["note"], 64), dim=True)
    elif not each["is_beyond_chance"]:
        word = click.style("within chance", dim=True)
    else:
        is_better = (each["difference"] > 0) == (each["better"] == "higher")
        word = click.style("better", fg="green") if is_better else click.style("worse", fg="red")
    return [signed(each["difference"], PLACES), bounds, word]


def _ends(value: float | None, low: float | None, high: float | None) -> str:
    bounds = "" if low is None else f" [{decimal(low, PLACES)}, {decimal(high, PLACES)}]"
    return decimal(value, PLACES) + bounds


def _logged(found: Sequence[Mapping[str, Any]], a: str, b: str, *, is_short: bool) -> list[str]:
    """Metrics as the runs logged them; beside measured ones only series, which tell of the training."""
    shown = [each for each in found if not is_short or max(each["a_points"], each["b_points"]) > 1]
    if not shown:
        return []
    rows = [
        [
            each["metric"],
            decimal(each["a"], PLACES),
            decimal(each["b"], PLACES),
            signed(each["difference"], PLACES),
            _best(each, "a"),
            _best(each, "b"),
        ]
        for each in shown[:LOGGED_MAX]
    ]
    header = ["", _tail(a), _tail(b), "difference", f"best of {_tail(a)}", f"best of {_tail(b)}"]
    if not any(row[4] or row[5] for row in rows):
        rows, header = [row[:4] for row in rows], header[:4]
    more = f"\n    … {len(shown) - LOGGED_MAX} more: --json" if len(shown) > LOGGED_MAX else ""
    return [_titled("as logged, each on rows of its own", columns(rows, header, indent="    ", right=" rrr") + more)]


def _best(each: Mapping[str, Any], side: str) -> str:
    value, step = each[f"{side}_best"], each[f"{side}_best_step"]
    return "" if value is None else f"{decimal(value, PLACES)} at step {step}"


def _tail(name: str) -> str:
    """What heads a column: of a run's id the end, by which it can be named too."""
    return f"…{name[-6:]}" if name.startswith("run_") and len(name) > 16 else name


def _inputs(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What went in and differs, by kind; code with its lines."""
    if not found:
        return []
    text, kind = [], ""
    for each in found[:INPUTS_MAX]:
        head = each["kind"] if each["kind"] != kind else ""
        kind = each["kind"]
        where = f" in {each['file']}" if each["file"] and each["file"] != each["name"] else ""
        values = f"{_short(each['a']) or 'unset'} → {_short(each['b']) or 'unset'}" if each["a"] or each["b"] else ""
        moved = f"columns {first(each['columns'], 6, ', ')}" if each["columns"] else ""
        told = "  ".join(part for part in (values, each["change"], moved) if part)
        text.append(f"    {click.style(f'{head:13}', dim=True)}  {each['name']}{where}  {told}".rstrip())
        for line in each["lines"]:
            colour = "green" if line.startswith("+") else "red" if line.startswith("-") else None
            text.append(" " * 19 + click.style(_short(line, 100), fg=colour, dim=colour is None))
        if each["hidden"]:
            text.append(" " * 19 + f"… {counted(each['hidden'], 'more line')}")
    if len(found) > INPUTS_MAX:
        text.append(f"    … {len(found) - INPUTS_MAX} more: --json")
    return [_titled("went in", "\n".join(text))]


def others(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of what differs by name, what neither figures nor inputs tell."""
    return [each for each in lines if each["section"] in SECTIONS and each["name"] not in DIGESTS]


def _lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        [each["section"], each["name"], _short(each["a"], 40), "→", _short(each["b"], 40)] for each in others(found)
    ]
    return [_titled("and", columns(rows, indent="    "))] if rows else []


def _titled(title: str, text: str) -> str:
    return click.style(f"  {title}", bold=True) + "\n" + text


def _wrapped(text: str, mark: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=f"    {mark}", subsequent_indent="    " + " " * len(mark), break_on_hyphens=False
    )


def _short(value: Any, limit: int = TEXT_MAX) -> str:
    text = str(value).replace("\n", "\\n")
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
