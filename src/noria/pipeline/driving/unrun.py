"""Names of steps where a run was asked for: those that run now, or have not run yet, are told apart from typing errors.

The pipeline's file is looked at as text: whoever reads what runs did must not make the project's code run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from noria.core.errors import NotFound, WorldError
from noria.core.lazy import lazy
from noria.pipeline import records
from noria.pipeline.attempt import journal
from noria.store.workspace import Workspace
from noria.tracking import records as tracking

if TYPE_CHECKING:
    import difflib
else:
    difflib = lazy("difflib")

__all__ = ["begun_in", "nearest", "require_begun"]


def require_begun(ws: Workspace, step: str) -> None:
    """A run's id passes. Raises NotFound for anything else: a step of the pipeline without a result yet, or neither."""
    with ws.ledger.read() as tx:
        fits = tracking.by_prefix(tx, step.removeprefix("run/"))
        newest = tracking.newest(tx)
        known = [] if newest is None else [each.step for each in records.steps(tx, newest.run)]
    if fits or step == "last":
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
    if step.isidentifier() and _is_declared(ws, step):
        raise NotFound(f"step {step} has not run yet", hint="noria run")
    near = nearest(step, [*known, *(seen.parents if seen is not None else ())])
    lists = "noria why shows the steps of the newest run, noria runs lists the runs"
    raise NotFound(f"there is no run and no step {step!r}", hint=f"did you mean the step {near}?" if near else lists)


def begun_in(ws: Workspace, step: str) -> str:
    """The newest run, if it is going on and has begun that step, or that item of one; "" otherwise."""
    with ws.ledger.read() as tx:
        newest = tracking.newest(tx)
    if newest is None or newest.status != "running":
        return ""
    seen = journal.seen(journal.place(ws.project.state, newest.run))
    return newest.run if seen is not None and step in {*seen.begun, *seen.over, *seen.maps} else ""


def nearest(name: str, known: Sequence[str]) -> str:
    """The known name that is most like one that was typed; "" if none is."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.6)), "")


def _is_declared(ws: Workspace, step: str) -> bool:
    """Whether the pipeline's file has a function of that name, under something that makes it a step."""
    try:
        text = (ws.project.root / ws.project.pipeline).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise WorldError(f"{ws.project.pipeline} cannot be read: {error.strerror}") from error
    return re.search(rf"^@\S*step\b(?:.*\n)+?(?:async )?def {step}\(", text, re.MULTILINE) is not None
