"""Environments, their differences, and repeated runs as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.faces.cli.text import columns, count, fields, mark, name_of, size

__all__ = ["environment", "environment_diff", "rebuilt", "reproduction"]

SHOWN_MAX = 40


def environment(found: Mapping[str, Any]) -> str:
    """A lock and its host; the packages in columns."""
    host = found["host"]
    lines = [click.style(found["ref"], bold=True)]
    told = {
        "Python": f"{found['python']} {found['implementation']} {found['abi']}",
        "system": f"{host.get('system', '')} {found['machine']} {found['libc']}",
        "processor": f"{host.get('cpu', '')} ({host.get('cores', '?')} cores) {' '.join(host.get('flags', ()))}",
        "memory": size(host["memory_bytes"]) if host.get("memory_bytes") else "",
        "graphics": " ".join([*host.get("gpus", ()), host.get("gpu_driver", "")]).strip() or "none",
        "time zone": host.get("timezone", ""),
        "locale": host.get("locale", ""),
        "hash seed": host.get("hash_seed", ""),
        "variables": " ".join(f"{name}={value}" for name, value in host.get("variables", {}).items()),
        "lock": name_of(found["lock"], 12),
    }
    lines.append(fields(told if host else {name: told[name] for name in ("Python", "lock")}))
    rows = [
        [each["name"], each["version"], name_of(each["record"], 12) or "–", each["origin"]]
        for each in found["packages"]
    ]
    lines.append(columns(rows[:SHOWN_MAX], ["package", "version", "content", ""]))
    if len(rows) > SHOWN_MAX:
        lines.append(f"  … {len(rows) - SHOWN_MAX} more; --json has all")
    if found["ref"] != "here":
        other = found["differences"]
        lines.append(f"  {count(other)} {'thing is' if other == 1 else 'things are'} otherwise here")
    return "\n".join(lines)


def environment_diff(found: Mapping[str, Any]) -> str:
    """What differs, as `name  then → now`."""
    if found["is_same"]:
        return f"  {found['a']} and {found['b']} are the same"
    head = f"  {click.style(found['a'], bold=True)} → {click.style(found['b'], bold=True)}"
    same = "   the same Python and packages" if found["is_same_lock"] else ""
    return head + same + "\n" + lines_of(found["lines"])


def lines_of(lines: Sequence[Mapping[str, Any]]) -> str:
    """The lines of a difference of environments."""
    rows = [[each["section"], each["name"], each["a"] or "absent", "→", each["b"] or "absent"] for each in lines]
    more = f"\n    … {len(rows) - SHOWN_MAX} more; --json has all" if len(rows) > SHOWN_MAX else ""
    return columns(rows[:SHOWN_MAX], indent="    ") + more


def rebuilt(found: Mapping[str, Any]) -> str:
    """What of an environment is as it was, and what is not."""
    python = found["python_found"]
    if python != found["python_wanted"]:
        python += click.style(f" (it was {found['python_wanted']})", fg="red")
    verified = f"{found['verified']} of {found['packages']} packages are what they were, file by file"
    lines = [f"  {mark('ok' if found['ok'] else 'failed')}  {found['folder']}   Python {python}   {verified}"]
    for title, name in (("could not be had", "missing"), ("is not the same", "altered"), ("not pinned", "unpinned")):
        rows = [[each["name"], each["version"], each["why"]] for each in found[name]]
        if rows:
            lines.append(f"  {click.style(title, bold=True)}\n" + columns(rows[:SHOWN_MAX], indent="    "))
    return "\n".join(lines)


def reproduction(found: Mapping[str, Any]) -> str:
    """What a repetition gave, step by step; if something differs, where first and why."""
    name = f"{found['model']}  {found['run']}" if found["model"] else found["run"]
    lines = [click.style(name, bold=True), fields(_pins(found))]
    rows = [
        [_verdict(each["verdict"]), each["step"], f"{each['seconds']:.1f} s" if each["seconds"] else "", _of(each)]
        for each in found["steps"]
    ]
    lines.append(columns(rows[:SHOWN_MAX], right="  r"))
    if len(rows) > SHOWN_MAX:
        lines.append(f"  … {len(rows) - SHOWN_MAX} more; --json has all")
    if not found["is_same_lock"] and found["lines"]:
        packages = [each for each in found["lines"] if each["section"] != "host"]
        lines.append(f"  {click.style('not the environment of the run', fg='yellow')}\n" + lines_of(packages[:8]))
    absent = (found["rebuilt"] or {}).get("missing", ())
    for trouble in absent[:4]:
        lines.append(f"    {trouble['name']} {trouble['version']} could not be had: {trouble['why']}")
    if len(absent) > 4:
        lines.append(f"    … {len(absent) - 4} more; --json has all")
    if found["causes"]:
        head = f"{found['step']}: {found['causes'][0]['kind']}"
        lines.append(f"  {click.style('first', dim=True)}  {click.style(head, fg='red', bold=True)}")
        lines += [line for cause in found["causes"][:CAUSES_MAX] for line in _cause(cause)]
    lines += [f"  {click.style('note', fg='yellow')}   {note}" for note in found["notes"][:NOTES_MAX]]
    counted = [each for each in found["steps"] if each["verdict"] != "noted"]
    same = sum(each["verdict"] in _GOOD for each in counted)
    lines.append(f"  {_word(found)}  {same} of {len(counted)}   {found['seconds']:.1f} s")
    lines.append(f"  signed {name_of(found['document'], 12)}   fact {found['fact']}")
    return "\n".join(line for line in lines if line)


CAUSES_MAX = NOTES_MAX = 4
_GOOD = ("identical", "tolerated")


def _verdict(word: str) -> str:
    return click.style(word, fg="green" if word in _GOOD else "yellow" if word == "noted" else "red")


def _pins(found: Mapping[str, Any]) -> dict[str, str]:
    same = "equal" if found["is_same_lock"] else "not equal"
    return {
        "code": found["code"],
        "data": " ".join(found["data"]),
        "environment": f"{found['environment']} ({same})" if found["environment"] else "",
        "seed": str(found["seed"]),
    }


def _of(step: Mapping[str, Any]) -> str:
    text = str(step["text"])
    if text:
        return text if len(text) <= 100 else text[:99] + "…"
    return f"{len(step['outputs'])} output{'s' * (len(step['outputs']) != 1)}"


def _cause(cause: Mapping[str, Any]) -> list[str]:
    told = [f"    {cause['kind']} ({cause['sure']}): {cause['evidence']}"]
    told += [f"      at {cause['where']}"] if cause["where"] else []
    return [*told, f"      {click.style(cause['hint'], dim=True)}"]


def _word(found: Mapping[str, Any]) -> str:
    words = {
        "identical": "reproduced, bit by bit",
        "tolerated": "reproduced, within what was declared",
        "different": "NOT reproduced",
        "impossible": "CANNOT be reproduced",
    }
    return click.style(words[found["verdict"]], fg="green" if found["ok"] else "red", bold=True)
