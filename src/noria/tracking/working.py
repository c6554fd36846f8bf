"""How long the processes of a run worked on it: one measure, of one that goes on, that ended, that was taken up again.

It is the sum over its processes, from when each began with it until its end, or until its last sign of life. The
time in which nobody was at it does not count.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from noria.core.clock import instant
from noria.store.jobs import Lease
from noria.store.workspace import Workspace
from noria.tracking.records import RunRecord

__all__ = ["LEASE_S", "driven_since", "lost_s", "worked_s"]

LEASE_S = 15.0


def driven_since(ws: Workspace, record: RunRecord) -> datetime:
    """When the process that a run has now, or had at its end, began with it."""
    if record.resumed:
        taken_up = ws.ledger.facts(kind="run.resumed", subject=f"run/{record.run}")
        if taken_up:
            return instant(taken_up[-1].at)
    return instant(record.started_at)


def worked_s(ws: Workspace, record: RunRecord) -> float:
    """Seconds until its end, or until now; before an end the record has those of the processes before."""
    if record.status != "running":
        return record.seconds
    return _with(record, ws.clock.now() - driven_since(ws, record))


def lost_s(ws: Workspace, record: RunRecord, lease: Lease | None) -> float:
    """Those of a run whose process is gone, until its last sign of life: a beat of its lease, or what it wrote here."""
    since, now = driven_since(ws, record), ws.clock.now()
    signs = [since]
    if lease is not None:
        signs.append(lease.expires_at - timedelta(seconds=LEASE_S))
    folder = ws.project.state / "runs" / record.run
    if folder.is_dir():
        signs += [datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in folder.iterdir()]
    return _with(record, max(sign for sign in signs if sign <= now) - since)


def _with(record: RunRecord, more: timedelta) -> float:
    return round(record.seconds + max(0.0, more.total_seconds()), 6)
