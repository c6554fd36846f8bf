"""Whether a release that was rolled back may try its way again.

A person may stop a rollout for reasons of their own, and a rollout may end undecided; nothing was
proven against the release then. What the rollout's own tests or a server found stays refused: only
another release helps. Decides nothing about gates but whether their verdict still stands.
"""

from __future__ import annotations

from noria.core.errors import GateClosed
from noria.registry.records import ReleaseRecord
from noria.registry.release import gates_hold
from noria.serving import records
from noria.serving.facts import RolloutFinished
from noria.store.workspace import Workspace

__all__ = ["refusal", "require"]

SERVICE = "service:"
"""How the actors begin that are processes of Noria, not people."""


def refusal(ws: Workspace, record: ReleaseRecord, environment: str = "local") -> GateClosed | None:
    """Why a rolled-back release may not be promoted again, with the next step that helps; None if it may."""
    proven = _proven(ws, record, environment)
    if proven:
        return GateClosed(
            f"{record.ref} was rolled back by its rollout: {proven}",
            hint=f"noria explain {record.model}@r{record.release} shows the evidence; "
            "change the code, the data or a parameter, then noria run",
        )
    with ws.ledger.read() as tx:
        holds = gates_hold(ws, tx, record, environment)
    if not holds:
        return GateClosed(
            f"{record.ref} was rolled back, and its gates were not judged against what is live and ruled now",
            hint=f"noria run judges it again, then noria promote {record.model}:{record.version}",
        )
    return None


def require(ws: Workspace, record: ReleaseRecord, environment: str) -> None:
    """Raises: GateClosed if it may not be promoted again."""
    found = refusal(ws, record, environment)
    if found is not None:
        raise found


def _proven(ws: Workspace, record: ReleaseRecord, environment: str) -> str:
    """What the newest rollout of a release found against it; empty if it was stopped by hand or ended undecided."""
    with ws.ledger.read() as tx:
        newest = next((r for r in records.rollouts(tx, record.model, environment) if r.release == record.release), None)
    if newest is None or newest.outcome != "rolled back":
        return ""
    subject = f"deployment/{environment}/{record.model}"
    for stored in ws.ledger.facts(kind="rollout.finished", subject=subject, after=newest.seq):
        ended: RolloutFinished = stored.payload
        if ended.rollout == newest.rollout:
            found_by_noria = stored.fact.actor.startswith(SERVICE) or bool(ended.evidence.get("alarm"))
            return ended.reason if found_by_noria else ""
    return ""
