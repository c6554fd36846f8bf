"""What a run looks like on a terminal: data, steps and why they ran, metrics, gates, the release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.faces.cli.text import (
    attempts,
    columns,
    count,
    day,
    decimal,
    first,
    interval,
    mark,
    name_of,
    short,
    signed,
    size,
)

__all__ = ["report", "runs"]

METRICS_MAX = 4
SEARCH_ROWS = 5


def runs(found: Sequence[Mapping[str, Any]]) -> str:
    """Runs, newest first, with their first metrics."""
    if not found:
        return "  no runs yet"
    rows = []
    for each in found:
        metrics = dict(each.get("metrics") or {})
        scores = first((f"{name} {decimal(value)}" for name, value in metrics.items()), METRICS_MAX)
        rows.append(
            [
                each["run"],
                mark(each["status"]),
                str(each["pipeline"]),
                f"{each['seconds']:.1f} s" if each["seconds"] else "",
                str(each["cause"]),
                day(each["started_at"]),
                scores or short(each.get("reason") or "", 60),
            ]
        )
    return columns(rows, ["run", "status", "pipeline", "took", "cause", "started", ""], right="   r")


def report(found: Mapping[str, Any]) -> str:
    """Everything a run did, in the order in which it happened."""
    parts = []
    if found.get("search"):
        from noria.faces.cli.show_search import study

        parts.append(study(found["search"], rows=SEARCH_ROWS))
    parts += [_data(each) for each in found["data"]]
    parts.append(_steps(found["steps"]))
    is_champion = found.get("is_champion") or found["state"] == "production"
    parts.append(_metrics(found["metrics"], is_compared=bool(found["champion"]), is_champion=is_champion))
    parts.append(_worst(found.get("worst")))
    parts.append(_gates(found))
    return "\n".join(part for part in parts if part)


def _data(found: Mapping[str, Any]) -> str:
    name = name_of(found.get("content") or found["tree"])
    text = f"  data   {found['dataset']}@{found['version']}  {name}  {count(found['rows'])} rows"
    if found["added"] and found["before"]:
        text += f"  ({signed(found['added'], 0)} since @{found['before']})"
    if found["checks"]:
        passed = found["checks"] - found["failed"]
        text += f"   checks {passed}/{found['checks']} {mark('ok' if found['ok'] else 'failed')}"
    else:
        text += f"   no checks: noria data check {found['dataset']} --infer"
    notes = [found["note"]] if found["note"] else []
    return text + "".join(f"\n           {line}" for line in [*notes, *found["failures"]])


def _steps(found: Sequence[Mapping[str, Any]]) -> str:
    """Cached steps share a line; a step that ran says how long and because of what."""
    words = []
    for each in found:
        if each["status"] == "cached":
            words.append(f"{each['step']} {click.style('cached', dim=True)}")
        elif each["status"] == "done":
            because = f"   because: {each['because']}" if each["because"] else ""
            words.append(f"{click.style(each['step'], bold=True)}  {each['seconds']:.1f} s{because}{attempts(each)}\n")
        else:
            words.append(f"{each['step']} {mark(each['status'])}  {each['because']}{attempts(each)}\n")
    lines = "  ".join(words).replace("\n  ", "\n").strip().splitlines()
    return "\n".join(f"  {'step ' if number == 0 else '     '}  {line.rstrip()}" for number, line in enumerate(lines))


def _metrics(found: Sequence[Mapping[str, Any]], *, is_compared: bool, is_champion: bool) -> str:
    rows = []
    for each in found:
        compared = ""
        if each["champion"] is not None:
            bounds = interval(each["gain_low"], each["gain_high"])
            compared = f"champion {decimal(each['champion'])}, gain {signed(each['gain'])}"
            compared += f", 95% {bounds}" if bounds else ""
        rows.append([each["metric"], decimal(each["value"]), interval(each["low"], each["high"]), compared])
    table = columns(rows, indent="         ")
    note = "" if is_compared else "   (this is the champion)" if is_champion else "   (no champion yet)"
    return f"  score{table[7:]}{note}" if table else ""


def _worst(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    where = f"{found['column']}={found['level']}"
    change = signed(found["difference"])
    return f"  worst slice {where}  {found['metric']} {decimal(found['value'])} ({change}, {count(found['n'])} rows)"


def _gates(found: Mapping[str, Any]) -> str:
    gates = found["gates"]
    passed = sum(each["passed"] for each in gates)
    word = click.style("PASS", fg="green") if found["ok"] else click.style("STOP", fg="red", bold=True)
    text = f"  gate   {word} {passed}/{len(gates)}"
    if found["version"]:
        text += f"   model {click.style(found['model'] + ':' + str(found['version']), bold=True)}"
    if found["release"]:
        is_serving = found["state"] in ("production", "shadow", "canary")
        if is_serving and not found["ok"]:
            text += f"   release r{found['release']} stays in {found['state']}: a gate takes nothing down"
        elif not found["ok"] and found["state"] in ("validated", "staging"):
            text += f"   release r{found['release']} cannot be shipped as the rules are now"
        else:
            text += f"   release r{found['release']} {mark(found['state'])}"
    if found["size_bytes"]:
        text += f"   {size(found['size_bytes'])}"
    failed = [f"\n           {each['gate']}: {each['text']}" for each in gates if not each["passed"]]
    return text + "".join(failed) + f"\n  run    {found['run']}  {found['seconds']:.1f} s"
