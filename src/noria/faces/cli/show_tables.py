"""What growing tables and the history of a row look like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from noria.core.words import counted
from noria.faces.cli.show_data import version
from noria.faces.cli.text import columns, count, day, size

__all__ = ["appended", "compacted", "deleted", "from_predictions", "history", "upserted"]

VALUES_MAX = 12


def appended(found: Mapping[str, Any]) -> str:
    """What an append brought, and what it left out."""
    lines = [version(found["dataset"])]
    known = f"  {count(found['known'])} known" if found["known"] else ""
    lines.append(f"         +{counted(found['appended'], 'row')}{known}  watermark {found['watermark']}")
    if found["late"]:
        few = ", ".join(found["late_examples"])
        words = f"{counted(found['late'], 'late row')}, at or before the watermark and not in the data set: {few}"
        lines.append(f"         {click.style(words, fg='yellow')}")
    if found["deleted"]:
        words = f"{counted(found['deleted'], 'row')} left out: deleted before (noria data upsert puts a row back)"
        lines.append(f"         {words}")
    if found["unordered"]:
        column = found["watermark"].partition("=")[0]
        lines.append(f"         {counted(found['unordered'], 'row')} left out: no {column} there")
    return "\n".join([*lines, *_brought(found)])


def upserted(found: Mapping[str, Any]) -> str:
    """What an upsert changed."""
    told = f"+{counted(found['inserted'], 'row')}"
    told += f"  {count(found['updated'])} changed  {count(found['unchanged'])} as they were"
    if found["new_columns"]:
        new = f"new: {', '.join(found['new_columns'])}, empty in the rows that did not come"
        told += f"\n         {click.style(new, fg='yellow')}"
    return "\n".join([version(found["dataset"]), f"         {told}", *_brought(found)])


def deleted(found: Mapping[str, Any]) -> str:
    """What a deletion removed."""
    missing = f"  {counted(found['missing'], 'key')} named no row" if found["missing"] else ""
    told = f"         −{counted(found['deleted'], 'row')}{missing}"
    return "\n".join([version(found["dataset"]), told, *_brought(found)])


def compacted(found: Mapping[str, Any]) -> str:
    """What a compaction folded together."""
    dataset = found["dataset"]
    before = f"{counted(found['files_before'], 'file')}, {size(found['size_before'])}"
    after = f"{counted(dataset['files'], 'file')}, {size(dataset['size_bytes'])}"
    told = f"         {before} → {after}, the same rows"
    return "\n".join([version(dataset), told, *_brought(found)])


def history(found: Mapping[str, Any]) -> str:
    """Each version that did something to a row, oldest first."""
    state = "is there" if found["is_there"] else "is gone"
    head = f"  {found['name']}  {found['column']} = {click.style(found['key'], bold=True)}  {state}"
    blocks = [head]
    for each in found["changes"]:
        told = [
            f"@{each['version']}",
            each["change"],
            day(each["at"]),
            each["actor"],
            f"{each['operation']} {each['source']}",
        ]
        about = [*each["made_by"], *([f"code {each['code'][:12]}"] if each["code"] else []), each["note"]]
        line = "  ".join(part for part in told if part.strip())
        blocks.append(f"    {click.style(line, bold=True)}" + "".join(f"\n      {part}" for part in about if part))
        rows = [[v["column"], _value(v["before"]), "→", _value(v["after"])] for v in each["values"]]
        more = f"\n      … {len(rows) - VALUES_MAX} more" if len(rows) > VALUES_MAX else ""
        blocks.append(columns(rows[:VALUES_MAX], indent="      ") + more)
    return "\n".join([*blocks, *map(history, found.get("more", ()))])


def from_predictions(found: Mapping[str, Any]) -> str:
    """What became of logged predictions and their labels, with what to beware of."""
    lines = [version(found["dataset"])]
    answers = counted(found["answered"], "answer has", "answers have")
    lines.append(f"         {count(found['labelled'])} of {answers} a label")
    lines += [f"         {click.style(each, fg='yellow')}" for each in found["warnings"]]
    return "\n".join(lines)


def _brought(found: Mapping[str, Any]) -> list[str]:
    """The lines about a version that the project did not stand on: what is of it in this, or what is not."""
    said = (found.get(name) for name in ("brings_in", "leaves_out"))
    return [f"         {click.style(words, fg='yellow')}" for words in said if words]


def _value(value: str | None) -> str:
    return "–" if value is None else value
