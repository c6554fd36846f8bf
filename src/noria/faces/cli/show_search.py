"""What a search looks like on a terminal: its best trials, what came of the others, and where its page is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.faces.cli.text import columns, day, mark, short

__all__ = ["studies", "study"]

ROWS = 20
REASON_MAX = 50


def studies(found: Sequence[Mapping[str, Any]]) -> str:
    """Searches with the best of each."""
    rows = [
        [
            each["study"],
            mark(each["status"]),
            each["model"],
            f"{each['metric']} {_number(each['value'])}",
            f"trial {each['best']} of {each['trials']}" if each["best"] >= 0 else f"{each['trials']} trials",
            day(each["started_at"]),
        ]
        for each in found
    ]
    return columns(rows, ["study", "status", "model", "best", "", "started"])


def study(found: Mapping[str, Any], *, rows: int = ROWS) -> str:
    """A search: its trials, the best first, then the others; `rows` of them at most."""
    trials = found["trials"]
    sign = -1.0 if found["better"] == "higher" else 1.0
    ordered = sorted(trials, key=lambda each: (each["value"] is None, sign * (each["value"] or 0.0), each["trial"]))
    names = list(dict.fromkeys(name for each in trials for name in each["params"]))
    table = [
        [
            ("* " if each["trial"] == found["best"] else "  ") + str(each["trial"]),
            mark(each["state"]),
            _number(each["value"]),
            *(_plain(each["params"].get(name)) for name in names),
            f"{each['seconds']:.1f} s",
            short(each["reason"], REASON_MAX),
        ]
        for each in ordered[:rows]
    ]
    text = _head(found) + "\n" + columns(table, ["trial", "", found["metric"], *names, "took", ""], right="r r")
    if len(trials) > rows:
        text += f"\n    … and {len(trials) - rows} more: noria search show {found['study']}"
    if found["page"]:
        text += f"\n  page   {found['page']}"
    return text


def _head(found: Mapping[str, Any]) -> str:
    """How many trials came to what, and what the best is worth against the defaults."""
    trials = found["trials"]
    counts = [(state, sum(each["state"] == state for each in trials)) for state in _STATES]
    told = ", ".join(f"{count} {state}" for state, count in counts if count) or "no trial yet"
    text = f"  search {click.style(found['study'], bold=True)}  {told} in {found['elapsed_s']:.0f} s"
    if found["reason"]:
        text += f"; {found['reason']}"
    if found["best"] < 0:
        return text
    text += f"\n  best   {found['metric']} {_number(found['value'])} on validation rows"
    first = next((each for each in trials if each["origin"] == "default" and each["value"] is not None), None)
    if first is not None and found["value"] is not None:
        text += f" (the defaults: {_number(first['value'])})"
    values = "  ".join(f"{name}={_plain(value)}" for name, value in found["params"].items())
    return f"{text}   {values}"


_STATES = ("done", "pruned", "failed", "stopped", "open")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}" if abs(value) < 1e-3 else f"{value:.4f}"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
