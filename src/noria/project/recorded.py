"""The part of an explanation that is about a recording: its name, params, and the data that it named."""

from __future__ import annotations

from noria.core.identity import short
from noria.experiments import records
from noria.project.chain import Link
from noria.store.workspace import Workspace

__all__ = ["links"]

MAX_PARAMS = 6


def links(ws: Workspace, run: str) -> list[Link]:
    """What a recording said of a run; nothing for a run that is none."""
    with ws.ledger.read() as tx:
        found = records.run(tx, run)
        if found is None or not found.experiment:
            return []
        params = records.params(tx, [run])[run]
        used = [item for item in records.datasets(tx, run) if item.version]
    text = f"{found.name}, recorded in the experiment {found.experiment}"
    if found.parent:
        text += f", nested in {found.parent}"
    made = [Link(what="recording", ref=f"run/{run}", text=text, at=found.started_at, actor=found.actor)]
    if params:
        shown = ", ".join(f"{name}={value}" for name, value in list(params.items())[:MAX_PARAMS])
        more = f" and {len(params) - MAX_PARAMS} more" if len(params) > MAX_PARAMS else ""
        made.append(Link(what="parameters", ref=f"run/{run}", text=f"{shown}{more}", details={"params": params}))
    for item in used:
        context = f", as {item.context}" if item.context else ""
        name = f"{item.name}@{item.version}"
        made.append(Link(what="data", ref=f"dataset/{name}", text=f"{name} {short(item.digest)}{context}"))
    return made
