"""`noria data status`: what has changed on disk since the versions that the project stands on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from noria.core.lazy import lazy
from noria.core.verb import verb
from noria.data.folders.worktree import DatasetStatus, statuses
from noria.data.numbers import numbers_in_file

if TYPE_CHECKING:
    from noria.config import Project
    from noria.data import records
    from noria.data.pins import Pin
    from noria.store.objects import Objects
    from noria.store.workspace import Workspace
else:
    records = lazy("noria.data.records")  # with SQL, which the quick answer does without

__all__ = ["DatasetStatus", "numbers", "quick_status", "status"]


@verb(permission="data.read", changes=False, where="project")
def status(ws: Workspace, names: Sequence[str] = (), path: str = "") -> list[DatasetStatus]:
    """Compare what lies on disk with the versions that the project stands on, those of noria.lock/.

    A version is told by the number that it has in this clone, or by its id where it has none here. A folder that has
    not changed is only walked: its files are not read. Of a source that is no folder it is said what is known here,
    without asking it: `noria data ask` does. Nothing is changed.

    Args:
        names: of data sets; by default every one that has a pin.
        path: where the files of the one named data set lie; by default where they were added from.
    Raises: NotFound for a data set without a pin; ConfigError for a broken pin; UsageError.
    Example:
        noria data status flights
    """
    return statuses(ws.project, lambda: ws.objects, numbers(ws), names, path=path)


def quick_status(
    project: Project, objects: Callable[[], Objects], names: Sequence[str] = (), *, path: str = ""
) -> list[DatasetStatus] | None:
    """The same without opening the workspace; None where that is needed to know a version's number here."""
    found = numbers_in_file(project)
    if found is None:
        return None
    return statuses(project, objects, lambda pin: found.get((pin.name, pin.tree), 0), names, path=path)


def numbers(ws: Workspace) -> Callable[[Pin], int]:
    """Gives the number that the version of a pin has in this clone, 0 for none."""

    def number(pin: Pin) -> int:
        with ws.ledger.read() as tx:
            found = records.by_tree(tx, pin.name, pin.tree)
        return found.version if found is not None else 0

    return number
