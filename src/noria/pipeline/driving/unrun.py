"""Names of steps where a run was asked for: those that run now, or have not run yet, are told apart from typing errors.

The pipeline's file is looked at as text: whoever reads what runs did must not make the project's code run.
"""

from __future__ import annotations

import re

from noria.core.errors import NotFound, WorldError
from noria.pipeline.attempt import journal
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

__all__ = ["require_begun"]


def require_begun(ws: Workspace, step: str) -> None:
    """Raises NotFound that says so for a step of the pipeline without a result yet; a run's id passes, or anything."""
    with ws.ledger.read() as tx:
        fits = tracking.by_prefix(tx, step.removeprefix("run/"))
        newest = tracking.newest(tx)
    if fits or not step.isidentifier():
        return
    seen = None if newest is None else journal.seen(journal.place(ws.project.state, newest.run))
    if newest is not None and seen is not None and step in seen.parents:
        if newest.status == "running":
            how = "is under way" if step in seen.begun else "has not begun yet"
            text, hint = f"step {step} {how} in {newest.run}", f"noria pipeline logs {newest.run} --follow"
        else:
            text = f"step {step} has not run: {newest.run} is {newest.status} and did not come to it"
            hint = f"noria why {newest.run}"
        raise NotFound(text, hint=hint)
    if _is_declared(ws, step):
        raise NotFound(f"step {step} has not run yet", hint="noria run")


def _is_declared(ws: Workspace, step: str) -> bool:
    """Whether the pipeline's file has a function of that name, under something that makes it a step."""
    try:
        text = (ws.project.root / ws.project.pipeline).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise WorldError(f"{ws.project.pipeline} cannot be read: {error.strerror}") from error
    return re.search(rf"^@\S*step\b(?:.*\n)+?(?:async )?def {step}\(", text, re.MULTILINE) is not None
