"""What running pipelines look like on a terminal: what their steps print.

It is the project's own text, colours and all, and stays as it is, to the byte: whoever reads it ran it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

__all__ = ["Screen"]


class Screen:
    """What was shown so far: the pieces that come next go on from there."""

    def __init__(self) -> None:
        self._step = ""
        self._is_at_start = True
        self._is_empty = True

    def text_of(self, found: Mapping[str, Any]) -> str:
        """What steps printed, each under its name unless there is one alone."""
        is_alone = found["cursor"].count(":") <= 1
        text = ""
        for each in found["pieces"]:
            if each["step"] != self._step:
                text += "" if self._is_at_start else "\n"
                text += "" if is_alone and self._is_empty else click.style(each["step"], bold=True) + "\n"
            text += each["text"]
            self._step, self._is_at_start, self._is_empty = each["step"], each["text"].endswith("\n"), False
        return text

    def end(self, empty: str) -> str:
        """What is shown at the end: the rest of a line, or that there was nothing."""
        return empty if self._is_empty else "" if self._is_at_start else "\n"
