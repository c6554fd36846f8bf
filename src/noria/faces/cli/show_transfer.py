"""What pushes, pulls, takeovers and exports look like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from noria.core.words import counted
from noria.faces.cli.text import columns, count, name_of, size

__all__ = ["taken_over", "transferred"]

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
