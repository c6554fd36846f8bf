"""What checks, their rules and their anomalies look like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.core.words import counted, percent
from noria.faces.cli.text import columns, first, short

__all__ = ["checks", "exported", "imported", "quarantined", "suite", "watched"]

FINDINGS_MAX = 20
SAMPLES_MAX = 3
VALUE_MAX = 24
CHANGES_MAX = 40
_BARS = "▁▂▃▄▅▆▇█"
_SPARK = 24


def suite(found: Mapping[str, Any]) -> str:
    """What was inferred, where it stands, and what inferring again would change."""
    state = "accepted" if found["is_accepted"] else "written" if found["is_new"] else "unchanged"
    held = f"{counted(found['rules'], 'rule')} over {counted(found['columns'], 'column')}"
    text = f"  checks {found['suite']}  {state}: {held}"
    changes = found["changes"]
    if not changes:
        return text
    kept = sum(each["is_kept"] for each in changes)
    news = len(changes) - kept
    word = "taken" if found["is_accepted"] else "would change"
    lines = [text, f"         {counted(news, 'key')} {word}, {kept} kept as you edited {'it' if kept == 1 else 'them'}"]
    for each in changes[:CHANGES_MAX]:
        lines += _change(each)
    if len(changes) > CHANGES_MAX:
        lines.append(f"    … {len(changes) - CHANGES_MAX} more")
    return "\n".join(lines)


def checks(found: Mapping[str, Any]) -> str:
    """The outcome of a suite on a version, each failed rule with its count, share, rows and examples."""
    ref = f"{found['dataset']}@{found['version']}"
    total = found["passed"] + found["failed"]
    head = f"  checks {ref}  {found['passed']}/{total} ok"
    if found.get("warned"):
        head += f"  {counted(found['warned'], 'warning')}"
    bad = [each for each in found["findings"] if not each["passed"]]
    if not bad:
        return head
    if not found["ok"]:
        label = click.style("STOP", fg="red", bold=True)
        head = f"  {label} {ref}: {found['failed']} of {counted(total, 'check')} failed."
    shown = bad[:FINDINGS_MAX]
    words = [[each["column"] or "(table)", each["rule"], " ".join(each["message"].split())] for each in shown]
    names = columns(words, indent="    ")
    lines = [head]
    for each, line in zip(shown, names.splitlines(), strict=True):
        lines.append(line if each["severity"] == "error" else f"{line}  {click.style('warning', fg='yellow')}")
        rows = _rows(each)
        lines += [click.style(f"      {rows}", dim=True)] if rows else []
    if len(bad) > FINDINGS_MAX:
        lines.append(f"    … {len(bad) - FINDINGS_MAX} more, all on the page (noria checks report {ref})")
    return "\n".join(lines)


def quarantined(found: Mapping[str, Any]) -> str:
    """What was set apart."""
    ref = f"{found['dataset']}@{found['version']}"
    if not found["failing"]:
        text = f"  quarantine {ref}: no row breaks a rule"
    else:
        rest = found["rows"] - found["failing"]
        text = f"  quarantine {ref}: {counted(found['failing'], 'row')} → {found['quarantine']}"
        text += f"   {counted(rest, 'row')} → {found['clean']}" if found["clean"] else "   no row is left"
    for each in found["whole"][:FINDINGS_MAX]:
        text += f"\n    {click.style('still', fg='yellow')} {each}"
    return text


def watched(found: Mapping[str, Any]) -> str:
    """Each data set with its last row counts, and what is out of the ordinary."""
    lines = []
    for each in found["datasets"]:
        sign = click.style("ok", fg="green") if each["ok"] else click.style("LOOK", fg="red", bold=True)
        spark = _spark([*each["rows_before"], each["rows"]])
        ref = f"{each['dataset']}@{each['version']}"
        lines.append(f"  {sign} {click.style(ref, bold=True)}  {counted(each['rows'], each['unit'])}  {spark}")
        if each["history"] < 5:
            lines.append(f"       {counted(each['history'], 'earlier version')}: too few to know what is usual")
        for anomaly in each["anomalies"]:
            colour = "red" if anomaly["severity"] == "error" else "yellow"
            place = f"{anomaly['column']}: " if anomaly["column"] and anomaly["question"] == "nulls" else ""
            lines.append(f"       {click.style(anomaly['question'], fg=colour)}  {place}{anomaly['message']}")
        if each["unread"]:
            shown = first(map(str, each["unread"]), 8, ", ")
            lines.append(f"       nulls unknown in versions that are not here: {shown}")
    return "\n".join(lines) or "  no data sets"


def imported(found: Mapping[str, Any]) -> str:
    """Each rule of the other tool: mapped, or refused with its reason."""
    told = f"{found['mapped']} mapped ({counted(found['added'], 'rule')} added), {found['refused']} refused"
    head = f"  checks {found['suite']}  {told}"
    rows = []
    for each in found["expectations"]:
        told = click.style("refused", fg="yellow") if each["refused"] else ", ".join(each["rules"])
        rows.append([each["source"], each["column"], told, each["refused"]])
    return head + "\n" + columns(rows, indent="    ")


def exported(found: Mapping[str, Any]) -> str:
    """Where the schema is, and what it cannot say."""
    text = f"  schema {found['to']}"
    if found["left"]:
        text += f"\n         it does not hold: {', '.join(found['left'][:12])}"
        text += f" … {len(found['left']) - 12} more" if len(found["left"]) > 12 else ""
    return text


def _rows(each: Mapping[str, Any]) -> str:
    """How many rows, what share of them, and the first of them with their numbers and values."""
    if not each["rows"]:
        return f"in {each['file']}" if each["file"] else ""
    of = f" ({percent(each['count'] / each['total'])})" if each["total"] else ""
    place = f" of {each['file']}" if each["file"] else ""
    told = [(sample["row"], _told(sample["values"], each["column"])) for sample in each["samples"][:SAMPLES_MAX]]
    if all(text == "null" for _, text in told):
        told = [(row, "") for row in each["rows"][:SAMPLES_MAX]]
    head, more = f"{counted(each['count'], 'row')}{of}{place}:", " …" if each["count"] > len(told) else ""
    if any("=" in text for _, text in told) and each["column"] not in each["samples"][0]["values"]:
        return "\n        ".join([head, *(f"{row}  {text}" for row, text in told)]) + more
    return f"{head} " + ", ".join(f"{row} ({text})" if text else str(row) for row, text in told) + more


def _told(values: Mapping[str, str], column: str) -> str:
    """The value of the column that is accused; of a rule about several, each with its name."""
    if column in values:
        return short(values[column], VALUE_MAX)
    return ", ".join(f"{name}={short(value, VALUE_MAX)}" for name, value in values.items())


def _change(each: Mapping[str, Any]) -> list[str]:
    """A key as a diff: - what is there, + what is inferred now."""
    yours, now = each["yours"], each["now"]
    if each["is_kept"]:
        edited = f"yours {_cut(yours) or '(removed)'}; inferred {_cut(now) or '(nothing)'}"
        return [f"    {click.style('=', fg='yellow')} {each['key']}  {edited}"]
    lines = []
    if yours:
        lines.append(click.style(f"    - {each['key']} = {_cut(yours)}", fg="red"))
    if now:
        lines.append(click.style(f"    + {each['key']} = {_cut(now)}", fg="green"))
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"


def _spark(values: Sequence[int]) -> str:
    """Row counts as a line of small bars, from zero."""
    shown = values[-_SPARK:]
    top = max(shown) or 1
    return "".join(_BARS[min(int(value / top * len(_BARS)), len(_BARS) - 1)] for value in shown)
