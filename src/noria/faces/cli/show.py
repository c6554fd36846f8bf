"""What a result looks like on a terminal: one function a kind of result, from plain values.

The functions take what JSON would hold, so a result from a server and a local one look the same. Names, notes and
comments are written by whoever logs, approves or is imported: what would act on the reader's terminal is escaped here.
`anything` shows whatever has no function of its own.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from noria.core.printable import legible, printable
from noria.faces.cli.text import columns, day, fields

__all__ = ["RENDERERS", "anything", "next_command", "plain", "render", "renderer"]

Renderer = Callable[[Any], str]
CELLS_MAX = 9
WIDTH_MAX = 60
FIELD_MAX = 400
"""A field of one record has its line for itself, and is whole unless it is a text of many lines."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def render(name: str, result: Any, *, empty: str = "") -> str:
    """The text of a result; `name` is that of a renderer, `empty` the sentence for one that holds nothing."""
    if empty and result in ([], ""):
        return f"  {empty}"
    if name == "anything" and next_of(result):
        result = {key: value for key, value in result.items() if key != "next"}  # it is told below, by itself
    return renderer(name)(plain(result))


def renderer(name: str) -> Renderer:
    """The function of a name of the table. Imports its module, and no other."""
    if name == "anything":
        return anything
    module, _, function = RENDERERS[name].partition(":")
    found: Renderer = getattr(importlib.import_module(f"noria.faces.cli.{module}"), function)
    return found


def plain(value: Any) -> Any:
    """The same values with every text, keys too, as a terminal can show it."""
    if isinstance(value, str):
        return legible(value)
    if isinstance(value, Mapping):
        return {legible(key) if isinstance(key, str) else key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def help_after(name: str, result: Any) -> str:
    """The command to go on with after a no, where the result does not name one."""
    if name != "audit":
        return ""
    from noria.faces.cli.show_live import audit_help

    return audit_help(result)


def next_command(template: str, result: Any) -> str:
    """The command to go on with: the result's own `next`, else the template with its fields."""
    if isinstance(result, Mapping):
        if own := next_of(result):
            return printable(own)
        return printable(re.sub(r"\{(\w+)\}", lambda found: str(result.get(found[1], "")), template))
    if isinstance(result, Sequence) and result and isinstance(result[0], Mapping):
        return next_command(template, result[0])
    return "" if "{" in template else template


def next_of(result: Any) -> str:
    """What a result itself says of how to go on; "" if it says nothing."""
    own = result.get("next") if isinstance(result, Mapping) else ""
    return own if isinstance(own, str) else ""


def anything(result: Any) -> str:
    """A list of records as a table, a record as its fields, anything else as itself."""
    if result is None or result == []:
        return "  nothing"
    if isinstance(result, str):
        return result
    if isinstance(result, Mapping):
        known = {name: value for name, value in result.items() if value not in (None, "", [], {})}
        plain = [(name, _cell(value, FIELD_MAX)) for name, value in known.items() if not _is_nested(value)]
        parts = [fields(plain)]
        for name, value in result.items():
            if _is_nested(value):
                parts.append(click.style(f"  {name}", bold=True) + "\n" + anything(value))
        return "\n".join(part for part in parts if part)
    if isinstance(result, Sequence) and all(isinstance(row, Mapping) for row in result):
        names = [name for name in result[0] if not any(_is_nested(row.get(name)) for row in result)][:CELLS_MAX]
        return columns([[_cell(row.get(name)) for name in names] for row in result], names)
    if isinstance(result, Sequence):
        return columns([[_cell(row)] for row in result])
    return f"  {result}"


def _is_nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value)


def _cell(value: Any, most: int = WIDTH_MAX) -> str:
    if value in (None, "", [], {}):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = str(value)
    if _MOMENT.fullmatch(text):
        return day(text)
    text = re.sub(r"sha256:([0-9a-f]{12})[0-9a-f]{52}", r"\1", text).replace("\n", " ")
    return text if len(text) <= most else text[: most - 1] + "…"


# name -> "module:function" beside this one
RENDERERS: Mapping[str, str] = {
    "models": "show_registry:models",
    "token": "show_people:token",
    "tokens": "show_people:tokens",
    "version": "show_registry:version",
    "versions": "show_registry:versions",
    "releases": "show_registry:releases",
    "arms": "show_registry:arms",
    "exported": "show_live:exported",
    "queued": "show_live:queued",
    "lineage": "show_live:lineage",
    "data": "show_data:version",
    "data_linked": "show_data:linked",
    "data_log": "show_data:log",
    "data_dropped": "show_data:dropped",
    "data_tag": "show_data:tagged",
    "data_files": "show_folders:files",
    "data_status": "show_folders:status",
    "data_verify": "show_folders:verify",
    "data_gc": "show_folders:gc",
    "checked_out": "show_folders:checked_out",
    "appended": "show_tables:appended",
    "upserted": "show_tables:upserted",
    "deleted": "show_tables:deleted",
    "compacted": "show_tables:compacted",
    "row_history": "show_tables:history",
    "from_predictions": "show_tables:from_predictions",
    "transferred": "show_transfer:transferred",
    "taken_over": "show_transfer:taken_over",
    "tracker_taken": "show_transfer:tracker_taken",
    "checks": "show_checks:checks",
    "suite": "show_checks:suite",
    "quarantined": "show_checks:quarantined",
    "watched": "show_checks:watched",
    "imported": "show_checks:imported",
    "suite_exported": "show_checks:exported",
    "run": "show_run:report",
    "script": "show_script:script",
    "runs": "show_run:runs",
    "found_runs": "show_experiments:found",
    "run_details": "show_experiments:details",
    "history": "show_experiments:history",
    "schedule": "show_schedule:schedule",
    "schedules": "show_schedule:schedules",
    "upcoming": "show_schedule:upcoming",
    "ticks": "show_schedule:ticks",
    "triggered": "show_schedule:triggered",
    "backfilled": "show_schedule:backfilled",
    "study": "show_search:study",
    "studies": "show_search:studies",
    "promotion": "show_registry:promotion",
    "report_file": "show_registry:report_file",
    "card": "show_registry:card",
    "plotted": "show_experiments:plotted",
    "shipped": "show_live:shipped",
    "rolled_back": "show_live:rolled_back",
    "audit": "show_live:audit",
    "status": "show_project:status",
    "explain": "show_project:explain",
    "difference": "show_diff:difference",
    "table_diff": "show_project:table_diff",
    "why": "show_project:why",
    "tests": "show_project:tests",
    "report": "show_project:report",
    "months": "show_project:months",
    "reproduction": "show_trust:reproduction",
    "environment": "show_trust:environment",
    "environment_diff": "show_trust:environment_diff",
    "environment_rebuilt": "show_trust:rebuilt",
}
