"""What shipping, rolling back and auditing look like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.faces.cli.text import columns, count, day, fields, mark, name_of

__all__ = ["audit", "audit_help", "exported", "lineage", "queued", "rolled_back", "shipped"]

ALTERED_MAX = 5


def shipped(found: Mapping[str, Any]) -> str:
    """What a deploy or a promotion set going."""
    release = click.style(f"{found['model']} r{found['release']}", bold=True)
    would = "would: " if found["is_dry_run"] else ""
    was = f" (was r{found['before']})" if found["before"] not in (0, found["release"]) else ""
    text = f"  {would}{found['action']}  {release}, model version {found['version']}, in {found['environment']}{was}"
    if found["steps"]:
        text += "\n  path   " + "  →  ".join(found["steps"])
    return text


def rolled_back(found: Mapping[str, Any]) -> str:
    """What answers after a rollback, and how long it took."""
    release = click.style(f"{found['model']} r{found['release']}", bold=True)
    ended = f"the rollout of r{found['ended']} ended; " if found["ended"] else ""
    if found["before"] == found["release"]:
        text = f"  live   {ended}{release} stays live  {found['ms']:.0f} ms"
    else:
        text = f"  live   {ended}{release} (was r{found['before']})  {found['ms']:.0f} ms"
    if found["servers"]:
        text += f"   {found['acknowledged']} of {found['servers']} servers acknowledged"
    else:
        text += "   no server is running"
    return text


def audit(found: Mapping[str, Any]) -> str:
    """The outcome of an audit."""
    if not found["ok"]:
        head = click.style("STOP", fg="red", bold=True)
        where = f"the first bad fact is {found['first_bad']}: " if found["first_bad"] else ""
        text = f"  {head}  {where}{found['kind']}\n         {found['message']}"
        places = [f"         {_place(each, found['store'])}" for each in found["altered"][:ALTERED_MAX]]
        more = len(found["altered"]) - ALTERED_MAX
        return "\n".join([text, *places, *([f"         … {more} more"] if more > 0 else [])])
    parts = {
        "audit": f"{mark('ok')}  {count(found['size'])} facts",
        "root": found["root"],
        "compared": ", ".join(found["compared"]),
        "note": found["message"],
    }
    return fields(parts)


def _place(name: str, store: str) -> str:
    """Where an object or a log file lies, from the project's folder."""
    return f"{store.rstrip('/')}/{name[7:9]}/{name[9:]}" if name.startswith("sha256:") else f".noria/{name}"


def audit_help(found: Mapping[str, Any]) -> str:
    """What mends what an audit found."""
    kept = "; noria audit export DIR keeps the evidence"
    if found["kind"] == "record":
        return "noria admin rebuild   (the facts are well: the records are folded from them again)"
    if found["kind"] == "queue":
        return (
            "stop what runs in this project, then noria admin rebuild   (takes the row away; the loop finds its work)"
        )
    if found["kind"] == "signer":
        return (
            "if another clone writes this ledger: noria audit verify --json there tells its `signer`; "
            "put that line into .noria/signers here. If .noria/key was lost and made anew: copy the old one back from "
            "a backup, or put key.pub of an earlier audit export into .noria/signers. If neither, somebody forged facts"
        )
    if found["kind"] == "object":
        return f"copy these files back from a backup of {found['store']}, then noria audit verify{kept}"
    if found["kind"] == "log":
        return f"copy these files back from a backup of .noria, then noria audit verify{kept}"
    if found.get("ledger"):
        return f"stop what writes, restore {found['ledger']} from the newest dump whose audit is ok{kept}"
    return f"stop what writes, restore the whole .noria from the newest backup whose audit is ok{kept}"


def exported(found: Mapping[str, Any]) -> str:
    """Where the ledger was written to."""
    folder = click.style(found["folder"], bold=True)
    return f"  export {folder}  {count(found['facts'])} facts\n         {'  '.join(found['files'])}"


def queued(found: Mapping[str, Any]) -> str:
    """A review that was asked for."""
    data = f"{found['dataset']}@{found['version']}"
    return f"  review {found['model']} {found['window']} with {data}   asked for as {found['job']}"


def lineage(found: Sequence[Mapping[str, Any]]) -> str:
    """Links of lineage, nearest first."""
    rows = [
        [
            str(each["depth"]),
            each["role"],
            name_of(each["ref"], 12),
            f"{each['kind']} (fact/{each['seq']})",
            day(each["at"]),
            each["actor"],
        ]
        for each in found
    ]
    return columns(rows, ["steps", "role", "what", "by", "when", "who"], right="r")
