"""The page of the last report on a version, written where it can be opened."""

from __future__ import annotations

from pathlib import Path

import msgspec

from noria.checks import records
from noria.checks.examine import StoredReport
from noria.checks.page import page
from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.verb import verb
from noria.data.versions import resolve
from noria.store.objects import disk_faults
from noria.store.workspace import Workspace

__all__ = ["WrittenReport", "report"]


@frozen(kw_only=True)
class WrittenReport:
    """Where a report page was written."""

    dataset: str
    version: int
    ok: bool
    to: str


@verb(permission="checks.export", changes=False, where="project")
def report(ws: Workspace, dataset: str, to: str = "") -> WrittenReport:
    """Write the last report on a version as one HTML page: every failure with its rows, every column.

    Args:
        to: the file; by default `.noria/reports/NAME@VERSION.html`, which Git ignores.
    Raises: NotFound if the version was not checked.
    """
    version = resolve(ws, dataset)
    with ws.ledger.read() as tx:
        found = records.latest(tx, version.name, version.tree)
    if found is None:
        raise NotFound(f"{version.ref} was not checked", hint=f"noria data check {version.name}")
    made = msgspec.json.decode(ws.objects.get_bytes(found.report), type=StoredReport)
    target = Path(to).absolute() if to else ws.project.state / "reports" / f"{version.ref}.html"
    with disk_faults(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_text(page(made), encoding="utf-8")
        part.replace(target)
    return WrittenReport(dataset=version.name, version=version.version, ok=found.ok, to=str(target))
