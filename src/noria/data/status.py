"""`noria data status`: what has changed on disk since the versions that the project stands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from noria.core.verb import verb
from noria.data.folders.worktree import DatasetStatus, statuses

if TYPE_CHECKING:
    from noria.store.workspace import Workspace

__all__ = ["DatasetStatus", "status"]


@verb(permission="data.read", changes=False, where="project")
def status(ws: Workspace, names: Sequence[str] = (), path: str = "") -> list[DatasetStatus]:
    """Compare what lies on disk with the versions that the project stands on, those of noria.lock.

    A folder that has not changed is only walked: its files are not read. Of a source that is no folder
    it is said what is known here, without asking it: `noria data ask` does. Nothing is changed.

    Args:
        names: of data sets; by default every one that has a pin.
        path: where the files of the one named data set lie; by default where they were added from.
    Raises: NotFound for a data set without a pin; ConfigError for a broken pin; UsageError.
    Example:
        noria data status flights
    """
    return statuses(ws.project, lambda: ws.objects, names, path=path)
