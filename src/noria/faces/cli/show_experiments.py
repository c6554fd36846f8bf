"""What recorded runs look like on a terminal: a page of a search, one run in whole, a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from noria.core.words import counted
from noria.faces.cli.text import columns, count, day, decimal, fields, first, mark, name_of, short, size

__all__ = ["details", "found", "history", "plotted"]

CELLS_MAX = 4
ITEMS_MAX = 40
TEXT_MAX = 60


def found(runs: Sequence[Mapping[str, Any]]) -> str:
    """Runs with what is shown of each, and how to ask for more."""
    if not runs:
        return "  no runs fit"
    rows = []
    for each in runs:
        scores = first((f"{name} {_value(value)}" for name, value in each["metrics"].items()), CELLS_MAX)
        given = first((f"{name}={value}" for name, value in {**each["params"], **each["tags"]}.items()), CELLS_MAX)
        rows.append(
            [
                each["run"],
                mark(each["status"]),
                each["name"] or each["pipeline"],
                each["experiment"],
                f"{each['seconds']:.1f} s" if each["seconds"] else "",
                day(each["started_at"]),
                short("  ".join(filter(None, (scores, given))), 120) or short(each["reason"], TEXT_MAX),
            ]
        )
    text = columns(rows, ["run", "status", "name", "experiment", "took", "started", ""], right="    r")
    return text + (f"\n  more   --page {runs[-1]['page']}" if runs[-1]["page"] else "")


def details(whole: Mapping[str, Any]) -> str:
    """Everything a run logged."""
    run = whole["run"]
    head = [
        ("run", run["run"]),
        ("name", run["name"]),
        ("experiment", run["experiment"]),
        ("parent", run["parent"]),
        ("status", mark(run["status"])),
        ("reason", run["reason"]),
        ("started", day(run["started_at"])),
        ("took", f"{run['seconds']:.1f} s" if run["seconds"] else ""),
        ("by", run["actor"]),
        ("page", f"{whole['page']}, of noria up"),
    ]
    parts = [fields([(name, value) for name, value in head if value])]
    parts += _titled("params", [[key, short(value, TEXT_MAX)] for key, value in whole["params"].items()])
    metrics = [
        [each["key"], _value(each["value"]) if each["value"] is not None else each["special"], f"step {each['step']}",
         f"{_value(each['low'])} … {_value(each['high'])}", counted(each["points"], "point")]
        for each in whole["metrics"]
    ]  # fmt: skip
    parts += _titled("metrics", metrics)
    parts += _titled("tags", [[key, short(value, TEXT_MAX)] for key, value in whole["tags"].items()])
    parts += _titled(
        "data",
        [
            [f"{each['name']}@{each['version']}" if each["version"] else each["name"], each["context"]]
            for each in whole["datasets"]
        ],
    )
    parts += _titled(
        "artifacts",
        [
            [each["name"], each["type"], size(each["size_bytes"]), name_of(each["digest"])]
            for each in whole["artifacts"]
        ],
    )
    parts += _titled("nested runs", [[each["run"], mark(each["status"]), each["name"]] for each in whole["children"]])
    parts += [f"  {each['kind']:8} {each['text']}" for each in whole["notes"]]
    return "\n".join(parts)


def history(curve: Mapping[str, Any]) -> str:
    """The points of a metric, with how many there are in all."""
    rows = [
        [count(step), _value(value), datetime.fromtimestamp(at / 1e6, UTC).isoformat(" ", "milliseconds")[:23]]
        for step, at, value in zip(curve["steps"], curve["at_us"], curve["values"], strict=True)
    ]
    shown = f"{count(len(rows))} of {count(curve['total'])}" if len(rows) < curve["total"] else count(len(rows))
    head = f"  {click.style(curve['metric'], bold=True)}   {shown} points of {curve['run']}"
    return head + "\n" + columns(rows, ["step", "value", "at (UTC)"], right="rr")


def plotted(picture: Mapping[str, Any]) -> str:
    """Where a picture of runs was written, and what is on it."""
    what = f"{counted(len(picture['runs']), 'run')}, {counted(len(picture['metrics']), 'metric')}"
    return f"  plot   {click.style(picture['path'], bold=True)}   {what}, {size(picture['size_bytes'])}"


def _titled(title: str, rows: Sequence[list[str]]) -> list[str]:
    if not rows:
        return []
    more = len(rows) - ITEMS_MAX
    text = click.style(f"  {title}", bold=True) + "\n" + columns(list(rows[:ITEMS_MAX]), indent="    ")
    return [text + (f"\n    … {more} more" if more > 0 else "")]


def _value(value: float | None) -> str:
    return "nan" if value is None else decimal(value)
