"""What models, versions, releases and deployments look like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.faces.cli.text import columns, count, day, decimal, fields, first, mark, name_of, share, short, size

__all__ = ["arms", "card", "models", "promotion", "releases", "report_file", "version", "versions"]

METRICS_MAX = 3
JUDGED_MAX = 3
TYPES_SHOWN = 4


def models(found: Sequence[Mapping[str, Any]]) -> str:
    """Every model with its newest version."""
    rows = [
        [
            each["model"],
            f"{each['model']}:{each['newest']['version']}" if each["newest"] else "–",
            day(each["newest"]["at"]) if each["newest"] else "–",
            f"r{each['production']}" if each["production"] else "–",
            "  ".join(f"{name} → {number}" for name, number in each["aliases"].items()) or "–",
            _scores(each["newest"]["metrics"]) if each["newest"] else "no version yet",
        ]
        for each in found
    ]
    return columns(rows, ["model", "newest", "made", "live", "aliases", ""])


def versions(found: Sequence[Mapping[str, Any]]) -> str:
    """The versions of a model, newest first."""
    rows = [
        [
            f"{each['model']}:{each['version']}",
            name_of(each["bundle"]) if each["bundle"] else each["source"],
            each["run"],
            _pins(each["pins"]),
            day(each["at"]),
            each["actor"],
            _scores(each["metrics"]),
        ]
        for each in found
    ]
    return columns(rows, ["version", "bundle", "run", "data", "made", "by", ""])


def version(found: Mapping[str, Any]) -> str:
    """Everything of one version: what it is, what it takes, what the gates said, its releases."""
    own = found["version"]
    bundle = f"{name_of(own['bundle'], 12)}  {found['flavor']}, {found['task']}, {size(found['size_bytes'])}"
    head = {
        "bundle": bundle if own["bundle"] else "none: a client keeps its files",
        "needs": ", ".join(f"{name} {version}" for name, version in sorted(found["requires"].items())),
        "differs": "; ".join(found["differs"]),
        "types": ", ".join(found["types"][:TYPES_SHOWN])
        + (f" and {len(found['types']) - TYPES_SHOWN} more" if len(found["types"]) > TYPES_SHOWN else ""),
        "source": own["source"],
        "stage": own["stage"] if own["stage"] != "None" else "",
        "tags": ", ".join(f"{key}={value}" for key, value in own["tags"].items()),
        "said": own["description"] or "",
        "threshold": decimal(found["threshold"]) if found["task"] == "binary" else "",
        "metrics": _scores(own["metrics"]),
        "run": own["run"],
        "data": _pins(own["pins"]),
        "made": f"{day(own['at'])} by {own['actor']}",
        "aliases": ", ".join(found["aliases"]),
    }
    name = click.style(f"{own['model']}:{own['version']}", bold=True)
    inputs = [[each[0], each[1], "may be null" if each[2] else ""] for each in found["inputs"]]
    parts = [f"  model  {name}", fields(head)]
    parts += [_titled("inputs", columns(inputs, indent="    "))] if inputs else []
    parts += [_judged(each) for each in found["judgements"][:JUDGED_MAX]]
    if found["releases"]:
        parts.append(_titled("releases", releases(found["releases"], indent="    ")))
    return "\n".join(parts)


def releases(found: Sequence[Mapping[str, Any]], *, indent: str = "  ") -> str:
    """Releases with their states, newest first."""
    rows = [
        [
            f"{each['model']} r{each['release']}",
            f"{each['model']}:{each['version']}",
            mark(each["state"]),
            day(each["moved_at"]),
            name_of(each["content"]),
            short(each["reason"], 80),
        ]
        for each in found
    ]
    return columns(rows, ["release", "version", "state", "since", "content", "why"], indent=indent)


def promotion(found: Mapping[str, Any]) -> str:
    """What the gates said of a client's model, and what came of it."""
    name = click.style(f"{found['model']}:{found['version']}", bold=True)
    if found["note"]:
        return f"  model  {found['note']}"
    against = f"against version {found['champion']}" if found["champion"] else "no champion"
    passed = sum(each["passed"] for each in found["gates"])
    word = click.style("PASS", fg="green") if found["ok"] else click.style("STOP", fg="red", bold=True)
    rows = [[mark("ok" if each["passed"] else "failed"), each["gate"], each["text"]] for each in found["gates"]]
    release = f"   release r{found['release']} {mark(found['state'])}" if found["release"] else ""
    lines = [
        f"  model  {name}   {found['task']}{release}",
        f"  rows   {count(found['rows'])} of {found['holdout']}",
        f"  gates  {word} {passed}/{len(found['gates'])} {against}",
        columns(rows, indent="    "),
    ]
    if found["is_dry_run"]:
        lines.append("  dry run: nothing was recorded, nothing moved")
    elif found["alias"]:
        way = "   its rollout has begun" if found["rollout"] else ""
        lines.append(f"  alias  {found['model']}@{found['alias']} is version {found['version']} now{way}")
    return "\n".join(lines)


def arms(found: Sequence[Mapping[str, Any]]) -> str:
    """What answers now, by model."""
    rows = [
        [
            each["model"],
            ", ".join(f"r{arm['release']} {share(arm['weight'])}" for arm in each["arms"]),
            f"r{each['shadow']}" if each["shadow"] else "–",
            ", ".join(f"r{number}" for number in each["kept"]) or "–",
            short(each["cause"], 60),
            day(each["at"]),
            each["actor"],
        ]
        for each in found
    ]
    return columns(rows, ["model", "answers", "shadow", "kept warm", "because", "since", "by"])


def _judged(found: Mapping[str, Any]) -> str:
    passed = sum(each["passed"] for each in found["verdicts"])
    word = click.style("PASS", fg="green") if found["passed"] else click.style("STOP", fg="red", bold=True)
    against = f"against version {found['champion']}" if found["champion"] else "no champion"
    rows = [[mark("ok" if each["passed"] else "failed"), each["gate"], each["text"]] for each in found["verdicts"]]
    head = f"gates  {word} {count(passed)}/{len(found['verdicts'])} {against}, {day(found['at'])}"
    return _titled(head, columns(rows, indent="    "))


def _scores(metrics: Mapping[str, Any]) -> str:
    return first((f"{name} {decimal(value)}" for name, value in metrics.items()), METRICS_MAX)


def _pins(found: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{each['dataset']}@{each['version']}" for each in found)


def _titled(title: str, text: str) -> str:
    return f"  {click.style(title, bold=True)}\n{text}"


def card(found: Mapping[str, Any]) -> str:
    """The card of a version, or where it was written."""
    if not found["path"]:
        return str(found["markdown"]).rstrip("\n")
    what = f"{found['model']}:{found['version']}, {size(found['size_bytes'])}"
    return f"  card {click.style(found['path'], bold=True)}   {what}"


def report_file(found: Mapping[str, Any]) -> str:
    """Where the evaluation report of a version was written, and what names it."""
    what = f"{found['model']}:{found['version']}, {size(found['size_bytes'])}, {name_of(found['digest'], 12)}"
    return f"  report {click.style(found['path'], bold=True)}   {what}"
