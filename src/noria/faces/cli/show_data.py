"""What a version of a data set looks like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.faces.cli.text import columns, count, day, name_of, size

__all__ = ["log", "version"]


def version(found: Mapping[str, Any]) -> str:
    """One version of a data set."""
    span = f"{day(found['time_min'])} … {day(found['time_max'])}" if found.get("time_min") else ""
    roles = "  ".join(f"{role}={found[role]}" for role in ("key", "time", "label") if found.get(role))
    head = f"  data   {click.style(_ref(found), bold=True)}  {name_of(found['tree'])}"
    facts = f"{count(found['rows'])} rows  {len(found['columns'])} columns  {size(found['size_bytes'])}"
    if not found["columns"]:
        facts = f"{count(found['files'])} {'file' if found['files'] == 1 else 'files'}  {size(found['size_bytes'])}"
    return "\n".join(
        filter(None, [f"{head}   {facts}", f"         {span}" if span else "", f"         {roles}" if roles else ""])
    )


def log(found: Sequence[Mapping[str, Any]]) -> str:
    """The versions of a data set, newest first."""
    rows = [
        [
            _ref(each),
            name_of(each["tree"]),
            count(each["rows"]) if each["columns"] else "",
            count(each["files"]),
            size(each["size_bytes"]),
            f"{day(each['time_min'])} … {day(each['time_max'])}" if each.get("time_min") else "",
            day(each["at"]),
            str(each.get("note") or ""),
        ]
        for each in found
    ]
    return columns(rows, ["version", "tree", "rows", "files", "size", "times", "added", "note"], right="  rrr")


def _ref(found: Mapping[str, Any]) -> str:
    return f"{found['name']}@{found['version']}"
