"""A process that looks at a clock that stands, and does what is due; NORIA_FAILPOINT says where it dies."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.schedule import work
from noria.schedule.tick import Watcher


class StandingClock:
    """A clock that shows one moment."""

    def __init__(self, moment: str) -> None:
        self._moment = datetime.fromisoformat(moment)

    def now(self) -> datetime:
        """The moment."""
        return self._moment


ws = open_workspace(Path(sys.argv[1]), actor="service:schedule", clock=StandingClock(sys.argv[2]))
owner = f"scheduled/{os.getpid()}"
watcher = Watcher(ws)
watcher.look()
while (job := ws.jobs.claim(work.KINDS, owner=owner, lease_s=15)) is not None:
    ws.jobs.finish(job.id, owner, work.work(ws, job))
    watcher.look()
