"""The workspace: the ports that every verb is given. Frozen, and without methods."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from noria.config import Project
from noria.core.clock import Clock
from noria.core.frozen import frozen
from noria.core.identity import sortable_id
from noria.store.jobs import Jobs
from noria.store.ledger import Ledger
from noria.store.objects import Objects
from noria.store.series import Series

__all__ = ["Workspace", "acting", "new_id"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class Workspace:
    """Objects, facts, series and jobs of a project, who acts, and what time it is."""

    objects: Objects
    ledger: Ledger
    series: Series
    jobs: Jobs
    clock: Clock
    actor: str
    project: Project


def acting(ws: Workspace, actor: str) -> Workspace:
    """The same workspace as somebody else uses it: the facts are by that actor."""
    return replace(ws, ledger=ws.ledger.acting(actor), actor=actor)


def new_id(ws: Workspace, prefix: str) -> str:
    """A new id whose text order is the order of making, such as `run_01k…`."""
    at_ms = (ws.clock.now() - _EPOCH) // timedelta(milliseconds=1)
    return sortable_id(prefix, at_ms, int.from_bytes(os.urandom(10), "big"))
