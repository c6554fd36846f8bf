"""Tokens and approvals as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from noria.faces.cli.text import columns, day, fields

__all__ = ["token", "tokens"]


def token(found: Mapping[str, Any]) -> str:
    """A new token: the one time that it is seen."""
    told = {
        "token": found["token"],
        "holder": found["holder"],
        "role": _role(found),
        "project": found["project"],
        "only for": " ".join(found["scopes"]),
        "until": day(found["expires"]) if found["expires"] else "revoked",
    }
    once = click.style("kept nowhere: it is shown this once", fg="yellow")
    return f"{fields(told)}\n\n  {click.style(found['secret'], bold=True)}\n\n  {once}"


def tokens(found: Sequence[Mapping[str, Any]]) -> str:
    """The tokens, one a line."""
    rows = [
        [
            each["token"],
            each["holder"],
            _role(each),
            each["project"],
            each["state"],
            day(each["expires"]) if each["expires"] else "never",
            day(each["last_used"]) if each["last_used"] else "never",
            each["origin"] or each["created_by"],
            " ".join(each["scopes"]),
        ]
        for each in found
    ]
    return columns(rows, ["token", "holder", "role", "project", "state", "expires", "last used", "made by", "only for"])


def _role(found: Mapping[str, Any]) -> str:
    named = ", ".join(found["approves"])
    return f"{found['role']} ({named})" if named else str(found["role"])
