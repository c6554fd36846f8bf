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
from noria.serving.facts import SmokeFinished
from noria.store.workspace import Workspace

__all__ = ["MODULE", "TIMEOUT_S", "smoke"]

MODULE = "noria.faces.smoke"
TIMEOUT_S = 120.0


def smoke(ws: Workspace, model: str, release: int, *, environment: str = "local") -> SmokeFinished:
    """Test a release and put the outcome on record; who asked moves it.

    Raises: GateClosed if it fails; the failure is on record then.
    """
    found = _asked(ws, model, release, environment)
    with ws.ledger.transaction() as tx:
        tx.append(found, inputs=[("release", f"release/{model}/{release}")])
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
