"""What running pipelines look like on a terminal: what their steps print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

__all__ = ["logs"]


def logs(found: Mapping[str, Any]) -> str:
    """What steps printed, each under its name unless there is one alone."""
    pieces = found["pieces"]
    if not pieces:
        return "  nothing was printed" if found["is_over"] and not found["cursor"].strip("{}") else ""
    if len(pieces) == 1 and found["cursor"].count(":") <= 1:
        return str(pieces[0]["text"]).rstrip("\n")
    return "\n".join(f"{click.style(each['step'], bold=True)}\n{each['text'].rstrip()}" for each in pieces)
