"""What data and its checks look like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.faces.cli.text import columns, count, day, name_of, size

__all__ = ["checks", "log", "suite", "version"]

FINDINGS_MAX = 20


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


def suite(found: Mapping[str, Any]) -> str:
    """What was inferred, and where it stands."""
    state = "written" if found["is_new"] else "unchanged"
    text = f"  checks {found['written']}  {state}: {count(found['rules'])} rules over {count(found['columns'])} columns"
    if found["suite"] and found["written"] != found["suite"]:
        text += f"\n         {found['suite']} is kept as it is; compare the two"
    return text


def checks(found: Mapping[str, Any]) -> str:
    """The outcome of a suite on a version, each failed rule with its rows."""
    ref = f"{found['dataset']}@{found['version']}"
    total = found["passed"] + found["failed"]
    good = f"  checks {ref}  {found['passed']}/{total} ok"
    if found.get("warned"):
        good += f"  {found['warned']} warnings"
    bad = [each for each in found["findings"] if not each["passed"]]
    if not bad:
        return good
    head = good
    if not found["ok"]:
        label = click.style("STOP", fg="red", bold=True)
        head = f"  {label} {ref}: {found['failed']} of {total} checks failed."
    rows = []
    for each in bad[:FINDINGS_MAX]:
        places = ", ".join(map(str, each["rows"][:4])) + (" …" if len(each["rows"]) > 4 else "")
        where = f"rows {places}" if places else ""
        word = "" if each["severity"] == "error" else each["severity"]
        rows.append([each["column"] or "(table)", each["message"] or each["rule"], where, word])
    more = f"\n    … {len(bad) - FINDINGS_MAX} more" if len(bad) > FINDINGS_MAX else ""
    return head + "\n" + columns(rows, indent="    ") + more


def _ref(found: Mapping[str, Any]) -> str:
    return f"{found['name']}@{found['version']}"
