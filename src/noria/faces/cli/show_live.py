"""What shipping, rolling back and auditing look like on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from noria.faces.cli.text import count, fields, mark

__all__ = ["audit", "rolled_back", "shipped"]


def shipped(found: Mapping[str, Any]) -> str:
    """What a deploy or a promotion set going."""
    release = click.style(f"{found['model']} r{found['release']}", bold=True)
    would = "would: " if found["is_dry_run"] else ""
    was = f" (was r{found['before']})" if found["before"] else ""
    text = f"  {would}{found['action']}  {release}, model version {found['version']}, in {found['environment']}{was}"
    if found["steps"]:
        text += "\n  path   " + "  →  ".join(found["steps"])
    return text


def rolled_back(found: Mapping[str, Any]) -> str:
    """What answers after a rollback, and how long it took."""
    release = click.style(f"{found['model']} r{found['release']}", bold=True)
    text = f"  live   {release} (was r{found['before']})  {found['ms']:.0f} ms"
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
        return f"  {head}  {where}{found['kind']}\n         {found['message']}"
    parts = {
        "audit": f"{mark('ok')}  {count(found['size'])} facts",
        "root": found["root"],
        "compared": ", ".join(found["compared"]),
        "note": found["message"],
    }
    return fields(parts)
