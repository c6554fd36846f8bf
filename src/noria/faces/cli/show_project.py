"""What the project as a whole looks like on a terminal: status, watch, explain, why, tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.core.printable import printable
from noria.core.words import counted
from noria.faces.cli.text import (
    attempts,
    columns,
    count,
    day,
    decimal,
    first,
    interval,
    lasting,
    mark,
    name_of,
    share,
    short,
    signed,
    size,
)

__all__ = ["explain", "months", "report", "status", "table_diff", "tests", "time_left", "waits", "watched", "why"]

WINDOWS_MAX = 12
PATHS_MAX = 12
INNER = ("deltas/", "rows/")
"""Where a table that grew keeps its segments: its rows tell more than their names."""
SHIFTS_MAX = 12
VALUES_MAX = 6
VALUE_MAX = 32
RUNS_MAX = 5
RUNNING_MAX = 8
ITEMS_MAX = 12
LINE_MAX = 96
CELL_MAX = 400
"""A value of a record that is longer is cut: a line of numbers is not."""
DETAIL = " " * 15


def status(found: Mapping[str, Any]) -> str:
    """The project: each model, then data, runs, jobs and servers."""
    servers = f"{found['servers']} server{'s' * (found['servers'] != 1)}" if found["servers"] else "not served"
    if ways := found.get("scheduling"):
        servers += f" at {' and '.join(sorted({each.partition(':')[0] for each in ways}))} priority"
    head = f"{click.style(found['project'], bold=True)}   {count(found['facts'])} facts   {servers}"
    parts = [head, *(_model(each) for each in found["models"])]
    if found["datasets"]:
        rows = [
            [f"{each['dataset']}@{each['version']}", _amount(each), size(each["size_bytes"]), day(each["at"])]
            for each in found["datasets"]
        ]
        parts.append(_titled("data", columns(rows, right=" rr")))
    stop = click.style("STOP", fg="red", bold=True)
    parts += [f"  {stop} {printable(name)}: {printable(why)}" for name, why in found.get("unread_pins", {}).items()]
    if found["runs"]:
        parts.append(_runs(found["runs"]))
    if found["jobs"]:
        parts.append(_titled("jobs", columns([[each["state"], each["kind"], each["about"]] for each in found["jobs"]])))
    if found.get("recordings"):
        rows = [
            [each["run"], _standing(each), f"{size(each['size_bytes'])} to send", each["name"], day(each["since"])]
            for each in found["recordings"]
        ]
        parts.append(_titled("waits to be sent", columns(rows)))
    return "\n".join(parts)


def _runs(found: Sequence[Mapping[str, Any]]) -> str:
    """The newest runs, and every one that is under way, with how far it is below it."""
    shown = [each for place, each in enumerate(found) if place < RUNS_MAX or each["status"] == "running"]
    rows = []
    for each in shown:
        scores = first((f"{name} {decimal(value)}" for name, value in each["metrics"].items()), 3)
        rows.append([each["run"], mark(each["status"]), f"{each['seconds']:.1f} s", each["cause"], scores])
    lines = columns(rows, right="  r").split("\n")
    told = [_progress(each["progress"]) if each.get("progress") else [] for each in shown]
    return _titled("runs", "\n".join(part for line, more in zip(lines, told, strict=True) for part in (line, *more)))


def _progress(found: Mapping[str, Any]) -> list[str]:
    """How far a run is, how long its steps will still take, and what runs now."""
    items = [f"{each['step']} {count(each['done'])} of {count(each['of'])}" for each in found["items"]]
    done = f"{count(found['done'])} of {counted(found['of'], 'step')}"
    lines = ["      " + "   ".join([done, *items, time_left(found)])]
    for each in found["running"][:RUNNING_MAX]:
        usual = "" if each["usual_s"] is None else f", usually {lasting(each['usual_s'])}"
        lines.append(f"      now {each['step']}  since {each['since'][11:19]}  {lasting(each['seconds'])}{usual}")
    more = len(found["running"]) - RUNNING_MAX
    lines += [f"      … {more} more"] if more > 0 else []
    waiting = found.get("waiting") or []
    lines += [f"      {waits(each)}" for each in waiting[:RUNNING_MAX]]
    more = len(waiting) - RUNNING_MAX
    return [*lines, *([f"      … {more} more wait"] if more > 0 else [])]


def waits(found: Mapping[str, Any]) -> str:
    """What failed and begins again: which attempt comes, when, and what became of the last."""
    limit = f" of {found['of']}" if found["of"] else ""
    error = str(found["error"]).removeprefix(f"step {found['step']} ")
    return f"again {found['step']}  attempt {found['attempt']}{limit} at {found['until'][11:19]}, the last {error}"


def time_left(found: Mapping[str, Any]) -> str:
    """How long the steps of a run will still take, as far as it is known."""
    if found["done"] == found["of"]:
        return "the steps are over"
    if found["left_s"] is None:
        return f"time left not known: {found['unknown']}"
    return f"about {lasting(found['left_s'])} left"


def _standing(found: Mapping[str, Any]) -> str:
    """How a recording stands that is not wholly sent."""
    return "ended" if found["is_ended"] else mark("running") if found["is_live"] else mark("lost")


def _model(found: Mapping[str, Any]) -> str:
    name = click.style(found["model"], bold=True)
    if found["release"]:
        arms = [f"r{arm['release']} {share(arm['weight'])}" for arm in found["arms"]]
        lines = [f"  {name}   r{found['release']} {mark('live')} since {day(found['since'])}   {'  '.join(arms)}"]
    else:
        waiting = ", ".join(f"r{each}" for each in found["candidates"])
        kept = f"; version {found['files']} is files that a client keeps" if found.get("files") else ""
        lines = [f"  {name}   nothing live" + (f"; {waiting} waits" if waiting else kept)]
    if found["unloadable"]:
        lines.append(
            f"    {click.style('out of force', fg='red', bold=True)} a server cannot load it: {found['unloadable']}"
        )
    if found["shadow"]:
        lines.append(f"    shadow r{found['shadow']}")
    rollout = found["rollout"]
    if rollout:
        step = f"{rollout['step']} ({rollout['number']}/{rollout['steps']})"
        lines.append(f"    rollout r{rollout['before']} → r{rollout['release']}: {step} since {day(rollout['since'])}")
    if any(found[each] for each in ("promotions", "refusals", "stopped")):
        tally = f"{found['promotions']} promoted  {found['refusals']} refused  {found['stopped']} stopped"
        lines.append(f"    {tally}   as of {day(found['as_of'])}")
    rows = [_window(each) for each in found["windows"][-WINDOWS_MAX:]]
    if rows:
        header = ["window", "rows", "labelled", "score", "95 %", "frozen", "drifted", "decision"]
        lines.append(columns(rows, header, indent="    ", right=" rrr r"))
    lines += [
        f"    {click.style('alert', fg='yellow')} {each['kind']}: {each['message']}" for each in found["alerts"][:5]
    ]
    return "\n".join(lines)


def _window(found: Mapping[str, Any]) -> list[str]:
    name, live = _score(found["live"])
    frozen = (found["frozen"] or {}).get(name) or {}
    return [
        found["window"],
        count(found["rows"]),
        share(found["labelled"] / found["rows"]) if found["rows"] else "–",
        f"{name} {decimal(live.get('value'))}".strip(),
        interval(live.get("low"), live.get("high")),
        decimal(frozen.get("value")),
        _few(found["drifted"]),
        mark(found["decision"]) or "–",
    ]


def _score(metrics: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The metric to show: AUC if there is one, else the first."""
    name = "auc" if "auc" in metrics else next(iter(metrics), "")
    return name, metrics.get(name) or {}


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "") if names else "–"


def watched(found: Mapping[str, Any]) -> str:
    """A model at this moment, and its newest facts."""
    arms = "   ".join(f"r{arm['release']} {share(arm['weight'])}" for arm in found["arms"]) or "nothing live"
    lines = [f"{click.style(found['model'], bold=True)}   {arms}   as of {day(found['as_of'])}"]
    rollout = found["rollout"]
    if rollout:
        lines.append(f"  rollout of r{rollout['release']}: {rollout['step']} ({rollout['number']}/{rollout['steps']})")
    elif found["last"]:
        lines.append(f"  last rollout {found['last']}")
    lines += [f"  {each['state']} {each['kind']} {each['about']}" for each in found["jobs"]]
    return "\n".join([*lines, events(found["events"])])


def events(found: Sequence[Mapping[str, Any]]) -> str:
    """Facts as lines."""
    rows = [[str(each["seq"]), each["at"][11:19], each["kind"], short(each["text"], 100)] for each in found]
    return columns(rows, right="r")


def explain(found: Mapping[str, Any]) -> str:
    """The chain behind a thing, nearest first."""
    parts = [f"{click.style(found['id'], bold=True)}  {found['kind']}"]
    parts += [_link(each) for each in found["links"]]
    if found["touched"]:
        parts.append(click.style("  what came of it", bold=True))
        parts += [_link(each) for each in found["touched"]]
    return "\n".join(parts)


def _link(found: Mapping[str, Any]) -> str:
    """One link: what and when, then a sentence, then its figures as compactly as they go."""
    by = "  ".join(part for part in (day(found["at"]), found["actor"]) if part)
    ref = found["ref"] if len(found["ref"]) < 60 else name_of(found["ref"], 12)
    what = click.style(f"{found['what']:<12}", fg="cyan")
    lines = [f"  {what} {ref}" + (f"   {click.style(by, dim=True)}" if by else "")]
    if found["text"]:
        lines.append(f"{DETAIL}{found['text']}")
    known = {name: value for name, value in found["details"].items() if value not in (None, "", [], {})}
    scalars = {name: value for name, value in known.items() if not isinstance(value, Mapping | list)}
    lines += _folded(scalars)
    for name, value in known.items():
        if isinstance(value, Mapping):
            lines += _folded(value, name)
        elif isinstance(value, list):
            rows = [line for each in value[:ITEMS_MAX] for line in _cells(each)]
            lines += [f"{DETAIL}{click.style(name, dim=True)}", *(f"{DETAIL}  {row}" for row in rows)]
            if len(value) > ITEMS_MAX:
                lines.append(f"{DETAIL}  … {len(value) - ITEMS_MAX} more: --json")
    return "\n".join(lines)


def _folded(pairs: Mapping[str, Any], title: str = "") -> list[str]:
    """`name=value` pairs, as many on a line as fit."""
    words = [f"{click.style(name, dim=True)}={_short(value)}" for name, value in pairs.items()]
    lines, line = [], click.style(title, dim=True) if title else ""
    for word in words:
        if line and len(click.unstyle(line)) + len(click.unstyle(word)) > LINE_MAX:
            lines.append(line)
            line = ""
        line = f"{line}  {word}" if line else word
    return [f"{DETAIL}{each}" for each in [*lines, line] if each]


def _cells(value: Any) -> list[str]:
    """The values of a record, whole: on one line, or on as many as they need, the further ones further in."""
    if not isinstance(value, Mapping):
        return [_short(value, LINE_MAX)]
    lines, room = [""], LINE_MAX
    for word in (_short(each, CELL_MAX) for each in value.values() if each not in (None, "")):
        if lines[-1] and len(lines[-1]) + len(word) > room:
            lines.append(f"    {word}")
        else:
            lines[-1] = f"{lines[-1]}  {word}" if lines[-1] else word
    return lines


def _short(value: Any, limit: int = 48) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else name_of(value, 12) if isinstance(value, str) else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def table_diff(found: Mapping[str, Any]) -> str:
    """What differs between two versions of a data set."""
    lines = [f"  data   {found['before']} → {found['after']}   {found['summary']}"]
    rows = [[each["column"], each["before"] or "new", "→", each["after"] or "gone"] for each in found["schema"]]
    if rows:
        lines.append(_titled("schema", columns(rows, indent="    ")))
    lines += _changed(found["rows"], found["files"])
    moved = [
        each
        for each in found["shifts"]
        if each["size"] >= 0.1 or abs(each["nulls_after"] - each["nulls_before"]) >= 0.1
    ]
    rows = []
    for each in moved[:SHIFTS_MAX]:
        nulls = (
            ""
            if each["nulls_before"] == each["nulls_after"]
            else f"null {share(each['nulls_before'])} → {share(each['nulls_after'])}"
        )
        levels = f"new: {_few(each['new_levels'])}" if each["new_levels"] else ""
        rows.append(
            [
                each["column"],
                f"{each['size']:.2f}",
                f"{_short(each['before'])} → {_short(each['after'])}",
                nulls,
                levels,
            ]
        )
    if rows:
        lines.append(_titled(f"columns that moved ({found['compared']})", columns(rows, indent="    ", right=" r")))
    return "\n".join(lines)


def _value(text: str | None) -> str:
    """A value of a row as a table cell; null is the word."""
    return short("null" if text is None else printable(text) or '""', VALUE_MAX)


def _changed(rows: Mapping[str, Any], files: Mapping[str, Any]) -> list[str]:
    """Rows by key with examples and the columns that differ in them; of folders, the paths."""
    lines = []
    told = [
        [word, count(rows[name]), _few(rows[f"{name}_keys"])]
        for word, name in (("new", "added"), ("gone", "removed"), ("changed", "changed"))
        if rows[name]
    ]
    if told:
        key = f" by {rows['key']}" if rows["key"] else ", counted whole: no key tells them apart"
        lines.append(_titled(f"rows{key}", columns(told, indent="    ", right=" r")))
    if rows["changed_columns"]:
        cells = [[column, f"in {counted(number, 'row')}"] for column, number in rows["changed_columns"][:SHIFTS_MAX]]
        lines.append(_titled("changed in", columns(cells, indent="    ")))
    values = [
        [printable(str(key)), column, f"{_value(old)} → {_value(new)}"]
        for key, column, old, new in rows.get("changed_values", ())
    ]
    if values:
        more = [["…", "", "--json has more"]] if len(values) > VALUES_MAX else []
        lines.append(_titled("such as", columns([*values[:VALUES_MAX], *more], indent="    ")))
    paths = [
        [word, printable(path)]
        for word, name in (("new", "added"), ("gone", "removed"), ("changed", "changed"))
        for path in files[name]
        if not path.startswith(INNER)
    ]
    if paths:
        more = [["…", f"{len(paths) - PATHS_MAX} more; --json has all"]] if len(paths) > PATHS_MAX else []
        lines.append(_titled("files", columns([*paths[:PATHS_MAX], *more], indent="    ")))
    return lines


def why(found: Mapping[str, Any]) -> str:
    """Each step of a run and why it ran, or did not, with the lines that changed."""
    rows = [
        [each["step"], mark(each["status"]), f"{each['seconds']:.1f} s", each["because"] + attempts(each)]
        for each in found["steps"]
    ]
    head = f"  {found['run']}  {mark(found['status'])}  {found['cause']}"
    reason = f"\n  {found['reason']}" if found["reason"] else ""
    parts = [head + reason + "\n" + columns(rows, indent="    ", right="  r")]
    for each in found["steps"]:
        told = [line for change in each["changes"] for line in _change(change)]
        if len(found["steps"]) == 1 and each["reads"]:
            told.append(f"    holds while these do: {first(each['reads'], 6, ', ')}")
        parts += [f"  {click.style(each['step'], bold=True)}", *told] if told else []
    if found.get("script"):
        parts += _of_script(found)
    return "\n".join(parts)


def _of_script(found: Mapping[str, Any]) -> list[str]:
    """What is otherwise than in the run before of a script."""
    name = click.style(found["script"], bold=True)
    if not found["since"]:
        return [f"  {name}  its first run"]
    if not found["changes"]:
        return [f"  {name}  nothing that is on record changed since {found['since']}"]
    return [f"  {name}  since {found['since']}", *(line for each in found["changes"] for line in _change(each))]


def _change(change: Mapping[str, Any]) -> list[str]:
    """One change, and its lines as in a diff."""
    colours = {"+": "green", "-": "red"}
    lines = [f"      {click.style(line, fg=colours.get(line[:1]))}" for line in change["lines"]]
    more = [f"      … {change['hidden']} more lines"] if change["hidden"] else []
    return [f"    {change['what']} {change['how']}", *lines, *more]


def tests(found: Mapping[str, Any]) -> str:
    """Each stage of a test run, with the end of what a failed one printed."""
    rows = [
        [
            mark("ok" if each["ok"] else "failed"),
            each["name"],
            f"{each['seconds']:.1f} s",
            each["text"].partition("\n")[0],
        ]
        for each in found["stages"]
    ]
    bad = [
        "\n".join(f"    {line}" for line in each["output"].splitlines())
        for each in found["stages"]
        if each["output"] and not each["ok"]
    ]
    return "\n".join([columns(rows, right="  r"), *bad, f"  junit {found['junit']}"])


def report(found: Mapping[str, Any]) -> str:
    """Where the report was written."""
    many = f"{found['windows']} window{'s' * (found['windows'] != 1)} of {found['model']}"
    text = f"  report {click.style(found['path'], bold=True)}   {many}, {size(found['size_bytes'])}"
    return text + (f"\n         {found['note']}" if found["note"] else "")


def months(found: Sequence[Mapping[str, Any]]) -> str:
    """Every window of a model: the first release against what was served, and what was decided."""
    rows = [
        [
            each["month"],
            count(each["rows"]),
            decimal(each["auc_static"]),
            decimal(each["auc_live"]),
            _gain(each["auc_static"], each["auc_live"]),
            _few(each["drifted_columns"]),
            mark(each["decision"]) or "–",
            _short(each["reason"], 60) or _so_far(each["as_of"]),
        ]
        for each in found
    ]
    header = ["window", "requests", "auc first", "auc live", "gain", "drifted", "decision", ""]
    return columns(rows, header, right=" rrrr") or "  no window was measured yet"


def _so_far(as_of: str) -> str:
    return f"not over: as of {day(as_of)}; noria watch measures it again" if as_of else ""


def _gain(first: float | None, live: float | None) -> str:
    return "–" if first is None or live is None else signed(live - first)


def _amount(each: Mapping[str, Any]) -> str:
    """The rows of a data set; the files of one that holds no table."""
    if each["rows"] or not each["files"]:
        return f"{count(each['rows'])} rows"
    return f"{count(each['files'])} {'file' if each['files'] == 1 else 'files'}"


def _titled(title: str, text: str) -> str:
    return f"  {click.style(title, bold=True)}\n{text}"
