"""What doing a run again comes to, be it of a pipeline or of a script; and the environment that it is done in."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noria.core.errors import NoriaError, NotFound, WorldError
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.project.again import causes as causing
from noria.project.again.causes import Cause
from noria.project.again.place import Lacking
from noria.project.again.verdict import IMPOSSIBLE, StepVerdict
from noria.project.environments import EnvironmentLine, differences
from noria.project.rebuild import Rebuilt, rebuild
from noria.store.workspace import Workspace
from noria.tracking import environment as locks
from noria.tracking.records import RunRecord

__all__ = ["Done", "Where", "impossible", "stored_document", "took", "where"]


@frozen(kw_only=True)
class Where:
    """The environment that a run is done again in."""

    name: str
    python: str
    rebuilt: Rebuilt | None


@frozen(kw_only=True)
class Done:
    """What a repetition gave, before it is written. `notes` are what the run stood on and nothing pins."""

    verdict: str
    code: str
    environment: str
    rebuilt: Rebuilt | None
    lock: Mapping[str, Any]
    host: Mapping[str, Any]
    steps: tuple[StepVerdict, ...]
    step: str
    causes: tuple[Cause, ...]
    data: tuple[str, ...] = ()
    inputs: Sequence[JSON] = ()
    notes: tuple[str, ...] = ()


def _can_be_rebuilt(line: EnvironmentLine, lock: Mapping[str, Any]) -> bool:
    """Whether an environment made anew would be without a difference: not of code that lies on this machine only."""
    version = str(lock.get("packages", {}).get(line.name, ""))
    return line.section != "content" or (version != "" and not version.endswith("+editable"))


def where(run: RunRecord, lock: Mapping[str, Any], now: Mapping[str, Any], wanted: str, folder: Path) -> Where:
    """This environment if it is that of the run or is asked for, else one that is rebuilt. Raises: Lacking.

    Args:
        lock: that of the run; `now` is the present one.
        wanted: auto, here or rebuilt.
        folder: where one may be rebuilt.
    """
    here = Where(name="here", python=sys.executable, rebuilt=None)
    is_same = bool(lock) and not [each for each in differences(lock, now) if _can_be_rebuilt(each, lock)]
    if wanted == "here" or (wanted == "auto" and (is_same or not lock)):
        return here
    if not lock:
        raise Lacking(causing.PACKAGE, "the lock of the run's environment cannot be had", about="environment")
    try:
        made = rebuild(locks.from_document(lock), folder, ref=run.run)
    except NoriaError as error:
        if wanted == "auto":
            return here
        raise Lacking(causing.PACKAGE, f"the environment cannot be rebuilt: {error.message}", about="python") from error
    if wanted == "auto" and not made.ok:
        return Where(name="here", python=here.python, rebuilt=made)
    return Where(name="rebuilt", python=made.python, rebuilt=made)


def took(run: RunRecord) -> str:
    """How long it will be, for whoever waits: as long as it took then, and what is needed to begin."""
    return f", which took {run.seconds:.1f} s" if run.seconds else ""


def impossible(first: str, lacking: Lacking) -> Done:
    """The verdict where something cannot be had: the first thing that needs it, and what it is."""
    hint = f" (next: {lacking.hint})" if lacking.hint else ""
    return Done(
        verdict=IMPOSSIBLE,
        code="",
        environment="",
        rebuilt=None,
        lock={},
        host={},
        steps=(),
        step=first,
        causes=(Cause(kind=lacking.kind, evidence=f"{lacking.message}{hint}", sure=causing.PROVED),),
    )


def stored_document(ws: Workspace, name: str) -> Mapping[str, Any]:
    """A stored document; empty where none was kept."""
    try:
        found: Mapping[str, Any] = ws.objects.get_json(name) if name else {}
    except (NotFound, WorldError):
        return {}
    return found
