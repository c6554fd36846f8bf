"""Take over what Weights & Biases, Aim or Neptune's exporter left on a disk: runs with points, files and words.

The store is first written out in a form that no tool owns, then taken over as any other (`taking.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from noria import plugins
from noria.catalog.takeover.compare import Report
from noria.catalog.takeover.taking import scratch, take
from noria.core.errors import NotFound
from noria.store.workspace import Workspace

__all__ = ["import_foreign"]


def import_foreign(ws: Workspace, tool: str, path: str, *, artifacts: Sequence[str] = (), python: str = "") -> Report:
    """Take over a store of another tool; doing it again adds nothing.

    Args:
        tool: wandb, aim or neptune.
        path: the store on this machine.
        artifacts: folders of this machine in which files of runs may be, beside the store itself.
        python: the interpreter of an environment that has the tool; "" for the one that Noria runs in.
    Raises: NotFound; UsageError for what is no such store, or if the tool's library is not here; StoreUnavailable.
    """
    store = Path(path).expanduser().resolve()
    folders = [Path(each).expanduser().resolve() for each in artifacts]
    if not store.exists():
        raise NotFound(f"there is no {store}")
    for each in folders:
        if not each.is_dir():
            raise NotFound(f"there is no folder {each}", hint="--artifacts DIR is where the files are")
    with scratch(ws) as folder:
        read = plugins.load("foreign_tracker", tool)
        return take(ws, read(store, folder, folders, python=python, env=os.environ))
