"""Smoke tests: a release is loaded in a fresh process and asked its golden rows before it may answer.

What works in the process that trained it proves nothing about the process that will serve it. The
child gets only where the store is and which release to load; it answers with one JSON line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from noria.core.errors import GateClosed
from noria.registry import records as registry_records
from noria.registry import release as releases
from noria.serving.facts import SmokeFinished
from noria.store.workspace import Workspace

__all__ = ["MODULE", "TIMEOUT_S", "smoke"]

MODULE = "noria.faces.smoke"
TIMEOUT_S = 120.0


def smoke(ws: Workspace, model: str, release: int, *, environment: str = "local") -> SmokeFinished:
    """Test a validated release; it becomes staging if it passes. A release beyond that is tested and not moved.

    Raises: GateClosed if it fails; the failure is on record then.
    """
    found = _asked(ws, model, release, environment)
    with ws.ledger.transaction() as tx:
        tx.append(found, inputs=[("release", f"release/{model}/{release}")])
        record = registry_records.release(tx, model, release)
        assert record is not None, "a tested release has a record"
        if found.passed and releases.state_in(tx, record, environment) == "validated":
            reason = f"smoke test: {found.rows} golden rows in a fresh process"
            releases.transition(ws, tx, model, release, "staging", reason=reason, environment=environment)
    if not found.passed:
        raise GateClosed(
            f"the smoke test of {model} r{release} failed: {found.reason}",
            hint=f"noria registry show {model} shows the version; nothing was deployed",
        )
    return found


def _asked(ws: Workspace, model: str, release: int, environment: str) -> SmokeFinished:
    project = ws.project
    question = {
        "name": project.name,
        "root": str(Path(project.root).resolve()),
        "database": project.store.database,
        "objects": project.store.objects,
        "model": model,
        "release": release,
    }
    started = time.monotonic()
    rows, reason = 0, ""
    try:
        child = subprocess.run(
            [sys.executable, "-m", MODULE],
            input=json.dumps(question).encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer within {TIMEOUT_S:.0f} s"
    else:
        if child.returncode == 0:
            rows = int(json.loads(child.stdout)["rows"])
        else:
            reason = (
                child.stderr.decode(errors="replace").strip()[-500:] or f"the process ended with {child.returncode}"
            )
    seconds = round(time.monotonic() - started, 3)
    return SmokeFinished(
        model=model,
        release=release,
        environment=environment,
        passed=not reason,
        rows=rows,
        seconds=seconds,
        reason=reason,
    )
