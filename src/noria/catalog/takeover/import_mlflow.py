"""Take over a whole tracking store of MLflow: experiments, runs, artifacts, logged models and the registry.

The store is read and never written. What is here already is compared and left, so doing it again adds nothing
and one that was broken off is gone on with. Runs and logged models keep their ids, experiments their numbers
where these are free. At the end both stores have been compared thing by thing; what differs is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from noria import plugins
from noria.catalog.takeover.compare import Report
from noria.catalog.takeover.taking import take
from noria.core.errors import NotFound
from noria.store.workspace import Workspace

__all__ = ["import_mlflow", "kind_of"]


def import_mlflow(ws: Workspace, address: str, *, artifacts: Sequence[str] = ()) -> Report:
    """Take over a tracking store of MLflow; doing it again adds nothing.

    Args:
        address: a folder (`mlruns`), a database (`sqlite:///mlflow.db`, `postgresql://…`) or a server (`http://…`).
        artifacts: folders of this machine in which artifacts may be, beside that of the store itself.
    Raises: NotFound; UsageError for a store of an unknown kind or version; StoreUnavailable.
    """
    folders = [Path(each).expanduser().resolve() for each in artifacts]
    for each in folders:
        if not each.is_dir():
            raise NotFound(f"there is no folder {each}", hint="--artifacts DIR is where the artifacts are")
    with plugins.load("tracker", kind_of(address))(address, folders) as store:
        return take(ws, store)


def kind_of(address: str) -> str:
    """Which kind of store an address names: database, server or folder."""
    scheme, mark, _ = address.partition("://")
    if not mark or scheme == "file":
        return "folder"
    return "server" if scheme in ("http", "https") else "database"
