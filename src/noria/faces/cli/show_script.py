"""What the run of a script looks like on a terminal: files, what was fitted, metrics, and each model's fate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.faces.cli.text import count, decimal, mark, name_of, size

__all__ = ["script"]

FILES_MAX = 6
FITS_MAX = 6
METRICS_MAX = 8
NOTES_MAX = 4
PARAMS_MAX = 4
RUNS_MAX = 4


def script(found: Mapping[str, Any]) -> str:
    """Everything that a script did, in the order in which it is asked for."""
    parts = [
        *_files("read", found["read"]),
        *_files("wrote", found["written"]),
        *_fits(found["fits"]),
        *_metrics(found["metrics"]),
    ]
    for each in found["models"]:
        parts += _model(each)
    for each in found.get("runs", ())[-RUNS_MAX:]:
        made = f"  {each['model']}:{each['version']} {each['state']}" if each["version"] else ""
        parts.append(f"  made   {each['run']}{made}")
    if not found["models"] and not found.get("runs"):
        parts.append("  model  none: no file and no variable holds a fitted model at the end")
    parts += [f"  note   {note}" for note in found["notes"][:NOTES_MAX]]
    if len(found["notes"]) > NOTES_MAX:
        parts.append(f"         and {len(found['notes']) - NOTES_MAX} more: noria explain {found['run']} --json")
    parts.append(f"  run    {found['run']}  {found['seconds']:.1f} s, the script {found['script_seconds']:.1f} s")
    return "\n".join(parts)


def _files(word: str, files: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for number, each in enumerate(files[:FILES_MAX]):
        head = f"{word:<6}" if number == 0 else " " * 6
        what = f"  {each['dataset']}" if each["dataset"] else ""
        note = f"  ({each['note']})" if each["note"] else ""
        named = f"{name_of(each['digest'])}  " if each["digest"] else ""
        lines.append(f"  {head} {each['path']}  {named}{size(each['size_bytes'])}{what}{note}")
    if len(files) > FILES_MAX:
        lines.append(f"         and {count(len(files) - FILES_MAX)} more")
    return lines


def _fits(fits: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for number, each in enumerate(fits[:FITS_MAX]):
        head = "fit   " if number == 0 else " " * 6
        rows = f"  {count(each['rows'])} rows" if each["rows"] is not None else ""
        lines.append(f"  {head} {click.style(each['name'], bold=True)}{rows}  {each['seconds']:.1f} s")
    if len(fits) > FITS_MAX:
        lines.append(f"         and {count(len(fits) - FITS_MAX)} more")
    return lines


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    shown = [f"{name} {decimal(value)}" for name, value in list(metrics.items())[:METRICS_MAX]]
    more = f"  and {len(metrics) - METRICS_MAX} more" if len(metrics) > METRICS_MAX else ""
    return [f"  score  {'  '.join(shown)}{more}"] if shown else []


def _model(each: Mapping[str, Any]) -> list[str]:
    if not each["version"]:
        word = mark("refused") if each["is_refused"] else "kept as a file only"
        return [f"  model  {each['source'] or each['model']}  {each['type']}  {word}: {each['note']}"]
    passed = sum(verdict["passed"] for verdict in each["gates"])
    word = click.style("STOP", fg="red", bold=True) if each["is_refused"] else click.style("PASS", fg="green")
    about = f"{word} {passed}/{len(each['gates'])}"
    if not each["asked"]:
        about += f"   none asked: noria.toml has no [model.{each['model']}.gate]"
    elif each["holdout"]:
        about += f"   on the {count(each['holdout'])} rows that the script scored it on"
    lines = [f"  gate   {about}"]
    lines += [f"           {verdict['gate']}: {verdict['text']}" for verdict in each["gates"] if not verdict["passed"]]
    name = click.style(f"{each['model']}:{each['version']}", bold=True)
    release = f"   release r{each['release']} {mark(each['state'])}" if each["release"] else ""
    lines.append(f"  model  {name}   {each['type']} from {each['source']}{release}   {size(each['size_bytes'])}")
    if each["note"] and not each["is_refused"]:
        lines.append(f"         {each['note']}")
    elif each["note"] and "(" in each["note"]:
        lines.append(f"         {each['note'].rpartition('(')[2].rstrip(')')}")
    return lines
