"""Runs of pipelines that a recorded script makes itself (`nr.run` in a cell): told by its process, read at its end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from noria.scripts.hook.sitecustomize import VARIABLE

__all__ = ["runs_told", "tell_run"]

RUNS = "runs"


def tell_run(**told: Any) -> None:
    """In a script or cell that is recorded: a run that it made itself. Elsewhere nothing."""
    folder = Path(os.environ.get(VARIABLE, ""))
    if VARIABLE in os.environ and folder.is_dir():  # it is gone where the run that this process belonged to is over
        with (folder / RUNS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")


def runs_told(folder: Path) -> list[dict[str, Any]]:
    """The runs that a script made itself, in their order."""
    try:
        lines = (folder / RUNS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]
