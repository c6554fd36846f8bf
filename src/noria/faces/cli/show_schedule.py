"""What schedules and their ticks look like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.faces.cli.text import columns, mark, short

__all__ = ["backfilled", "schedule", "schedules", "ticks", "triggered", "upcoming"]

REASON_MAX = 60
SHOWN_MAX = 5


def schedules(found: Sequence[Mapping[str, Any]]) -> str:
    """Schedules with their next tick and the last one."""
    rows = [
        [
            click.style(each["name"], bold=True),
            each["when"],
            ", ".join(each["do"]),
            _state(each),
            _moment(each["next_due"]),
            f"{_moment(each['last_due'])} {mark(each['last_status'])}" if each["last_due"] else "–",
        ]
        for each in found
    ]
    table = columns(rows, ["schedule", "when", "does", "state", "next (UTC)", "last (UTC)"])
    faults = [f"  {each['name']}: {each['fault']}" for each in found if each.get("fault")]
    return "\n".join([table, *(click.style(line, fg="red") for line in faults)])


def schedule(found: Mapping[str, Any]) -> str:
    """One schedule."""
    return schedules([found])


def upcoming(found: Sequence[Mapping[str, Any]]) -> str:
    """Ticks to come, in UTC and in the zone of the schedule."""
    rows = [
        [each["schedule"], _moment(each["due"]), each["local"], "paused" if each["state"] == "paused" else ""]
        for each in found
    ]
    return columns(rows, ["schedule", "UTC", "as its clocks show it", ""])


def ticks(found: Sequence[Mapping[str, Any]]) -> str:
    """Ticks with what came of each."""
    rows = [
        [
            each["ref"].removeprefix("tick/"),
            each["cause"],
            mark(each["status"]),
            each["run"] or "–",
            short(each["reason"], REASON_MAX),
        ]
        for each in found
    ]
    return columns(rows, ["tick", "cause", "status", "run", ""])


def triggered(found: Mapping[str, Any]) -> str:
    """The ticks that were asked for."""
    waits = "" if found["jobs"] else ", behind what is at work"
    return "\n".join(f"  {ref.removeprefix('tick/')} waits{waits}; noria up does it" for ref in found["ticks"])


def backfilled(found: Mapping[str, Any]) -> str:
    """What a backfill asks for, and what it leaves alone."""
    would = "would ask for" if found["is_dry_run"] else "asked for"
    names = [ref.removeprefix("tick/") for ref in found["ticks"]]
    text = f"  {would} {_count(len(names))}, {_moment(found['first'])} to {_moment(found['last'])} UTC"
    if found["partitions"]:
        text += f", partitions {', '.join(found['partitions'])}"
    if found["done_before"]:
        text += f"\n  {_count(found['done_before'])} done before: --again does them again"
    if found["waiting_before"]:
        text += f"\n  {_count(found['waiting_before'])} waiting already"
    shown = [f"\n    {name}" for name in names[:SHOWN_MAX]]
    more = f"\n    … and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return text + "".join(shown) + more


def _state(found: Mapping[str, Any]) -> str:
    if found["state"] == "new":
        return "noria up starts it"
    if not found["waiting"]:
        return str(found["state"])
    return f"{found['state']}, {found['waiting']} waiting since {_moment(found['waiting_since'])}"


def _moment(text: str) -> str:
    """To the minute, or to the second where that says more."""
    moment = str(text).replace("T", " ")[:19]
    return (moment[:16] if moment.endswith(":00") else moment) or "–"


def _count(number: int) -> str:
    return f"{number:,} tick{'s' * (number != 1)}"
