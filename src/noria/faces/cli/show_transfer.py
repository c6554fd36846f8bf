"""What pushes, pulls, takeovers and exports look like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from noria.core.printable import printable
from noria.core.words import counted
from noria.faces.cli.text import columns, count, name_of, size

__all__ = ["taken_over", "tracker_taken", "transferred"]

SHOWN = 20


def transferred(found: Mapping[str, Any]) -> str:
    """What travelled, one line a version; versions that were there already are only counted."""
    rows = []
    for each in found["versions"]:
        if each["objects"] or each["note"]:
            what = counted(each["objects"], "object") if each["objects"] else each["note"]
            ref = click.style(f"{each['dataset']}@{each['version']}", bold=True)
            rows.append(
                [
                    ref,
                    name_of(each["content"] or each["tree"]),
                    what,
                    size(each["size_bytes"]) if each["objects"] else "",
                ]
            )
    more = f"\n  … {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    table = columns(rows[:SHOWN], right="   r") + more
    total = f", {counted(found['objects'], 'object')}, {size(found['size_bytes'])}" if found["objects"] else ""
    return "\n".join(filter(None, [table, f"  {found['summary']}{total}"]))


def taken_over(found: Mapping[str, Any]) -> str:
    """The data sets of a takeover, what was left out, and what differs."""
    newest = {each["dataset"]: each for each in found["versions"]}
    numbers: dict[str, int] = {}
    for each in found["versions"]:
        numbers[each["dataset"]] = numbers.get(each["dataset"], 0) + 1
    rows = [
        [
            click.style(name, bold=True),
            each["path"],
            counted(numbers[name], "version"),
            count(each["files"]),
            size(each["size_bytes"]),
        ]
        for name, each in newest.items()
    ]
    more = f"\n  … {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    parts = [
        columns(rows[:SHOWN], ["data set", "path", "history", "files", "size"], right="   rr") + more if rows else ""
    ]
    for title, key, colour in (("left out", "left_out", "red"), ("differs", "differences", "yellow")):
        lines = list(found[key])
        shown = "".join(f"\n    {line}" for line in lines[:SHOWN])
        rest = f"\n    … {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        parts.append(f"  {click.style(title, fg=colour)}{shown}{rest}" if lines else "")
    parts += [f"  remote {line}" for line in found["remotes"]]
    return "\n".join([*filter(None, parts), f"  {found['summary']}"])


def tracker_taken(found: Mapping[str, Any]) -> str:
    """What a tracking store had, what was new of it, and each difference by name."""
    rows = [[kind, count(number), count(found["new"].get(kind, 0))] for kind, number in found["seen"].items() if number]
    parts = [columns(rows, ["", "compared", "new"], right=" rr")] if rows else []
    named = [f"{each['kind']} {printable(each['name'])}: {printable(each['what'])}" for each in found["differences"]]
    hidden = found["differing"] - min(len(named), SHOWN)
    if named:
        shown = "".join(f"\n    {line}" for line in named[:SHOWN])
        rest = f"\n    … {hidden} more" + (" (--json has a thousand)" if hidden else "") if hidden > 0 else ""
        parts.append(f"  {click.style('differs', fg='yellow')}{shown}{rest}")
    parts += [f"  note   {printable(each)}" for each in found["notes"][:SHOWN]]
    parts.append(f"  {found['form']} {printable(found['address'])}")
    return "\n".join([*parts, f"  {found['summary']}"])
