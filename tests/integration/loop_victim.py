"""A trainer that is killed: takes one job of a project and does it; NORIA_FAILPOINT says where it dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from noria.bootstrap import open_workspace
from noria.loop import react

ws = open_workspace(Path(sys.argv[1]), actor="service:trainer")
react.tick(ws)
owner = f"trainer/{os.getpid()}"
job = ws.jobs.claim(react.KINDS, owner=owner, lease_s=1.0)
while job is not None:
    ws.jobs.finish(job.id, owner, react.work(ws, job))
    react.tick(ws)
    job = ws.jobs.claim(react.KINDS, owner=owner, lease_s=1.0)
