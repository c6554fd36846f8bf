"""What a version of a data set looks like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.core.printable import printable
from noria.core.words import counted
from noria.faces.cli.text import columns, count, day, name_of, size

__all__ = ["dropped", "linked", "log", "tagged", "version"]


def version(found: Mapping[str, Any]) -> str:
    """One version of a data set."""
    span = f"{day(found['time_min'])} … {day(found['time_max'])}" if found.get("time_min") else ""
    roles = "  ".join(f"{role}={found[role]}" for role in ("key", "time", "label") if found.get(role))
    head = f"  data   {click.style(_ref(found), bold=True)}  {name_of(found['content'])}"
    facts = f"{counted(found['rows'], 'row')}  {counted(len(found['columns']), 'column')}  {size(found['size_bytes'])}"
    notes = [f"         {found[each]}" for each in ("left_out", "settles", "takes_back") if found.get(each)]
    if not found["columns"]:
        facts = f"{counted(found['files'], 'file')}  {size(found['size_bytes'])}"
    return "\n".join(
        filter(
            None,
            [f"{head}   {facts}", f"         {span}" if span else "", f"         {roles}" if roles else "", *notes],
        )
    )


def log(found: Sequence[Mapping[str, Any]]) -> str:
    """The versions of a data set, newest first."""
    rows = [
        [
            _ref(each),
            name_of(each["content"]),
            count(each["rows"]) if each["columns"] or each["rows"] else "",
            count(each["files"]),
            size(each["size_bytes"]),
            f"{day(each['time_min'])} … {day(each['time_max'])}" if each.get("time_min") else "",
            day(each["at"]),
            _noted(each),
        ]
        for each in found
    ]
    return columns(rows, ["version", "id", "rows", "files", "size", "times", "added", "note"], right="  rrr")


def dropped(found: Mapping[str, Any]) -> str:
    """The version that was dropped, and what becomes of its bytes."""
    ref = click.style(_ref(found), bold=True)
    lines = [f"  data   {ref}  {name_of(found['content'])}   {_noted(found)}", f"         {found['stays']}"]
    if found["uses"]:
        lines.append(f"         still named by {', '.join(found['uses'])}")
    return "\n".join(lines)


def _noted(found: Mapping[str, Any]) -> str:
    """The note of a version; of one that was dropped, when, by whom and why."""
    if not found.get("dropped_at"):
        return printable(str(found.get("note") or ""))
    why = printable(f": {found['dropped_why']}") if found["dropped_why"] else ""
    return click.style("dropped", fg="yellow") + f" {day(found['dropped_at'])} by {found['dropped_by']}{why}"


def linked(found: Mapping[str, Any]) -> str:
    """What was set up in a clone, and what is left to do."""
    rows = [["repository", found["repository"]], ["driver", found["driver"]], ["written", ", ".join(found["written"])]]
    return "\n".join([columns(rows), *(f"  note   {each}" for each in found["notes"])])


def tagged(found: Mapping[str, Any]) -> str:
    """What became of a tag, and the version."""
    before = f", before {found['name']}@{found['before']}" if found["did"] == "moved to" else ""
    return f"  tag    {click.style(found['tag'], bold=True)} {found['did']} {_ref(found)}{before}\n{version(found)}"


def _ref(found: Mapping[str, Any]) -> str:
    return f"{found['name']}@{found['version']}"
