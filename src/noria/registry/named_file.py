"""Which version of a model a file holds: `noria deploy model.pkl` means the one that was registered from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noria.core.errors import NotFound, UsageError
from noria.core.fact import Stored
from noria.registry import records
from noria.store.objects import hash_file
from noria.store.workspace import Workspace

__all__ = ["version_of_file"]


def version_of_file(ws: Workspace, path: Path) -> str:
    """The ref (`churn:2`) of the newest version that a run registered from exactly this content.

    Raises: NotFound if no run on record left this content, or none registered it; UsageError if one left
        several models and the file's name tells none of them.
    """
    digest = hash_file(path)
    left = [stored for stored in ws.ledger.facts(kind="script.captured", ref=digest) if _left(stored, digest)]
    if not left:
        raise NotFound(f"no run on record wrote {path} as it is now", hint="noria run SCRIPT, which writes it")
    run = left[-1].fact.subject
    bundles = {
        stored.payload.digest
        for stored in ws.ledger.facts(kind="artifact.logged", subject=run)
        if stored.payload.type == "bundle"
    }
    with ws.ledger.read() as tx:
        found = [
            version.ref
            for model in records.models(tx)
            for bundle in sorted(bundles)
            if (version := records.version_of_bundle(tx, model, bundle)) is not None
        ]
    named = [ref for ref in found if ref.partition(":")[0] == path.name.partition(".")[0]]
    chosen = found if len(found) == 1 else named
    if len(chosen) == 1:
        return chosen[0]
    if not found:
        raise NotFound(f"{path} is a file of {run}, and no model was registered from it", hint=f"noria explain {run}")
    raise UsageError(f"{path} may be one of {len(found)} models", hint=f"noria deploy {found[0]}, or another of them")


def _left(stored: Stored[Any], digest: str) -> bool:
    """Whether a run left this content, and did not only read it."""
    return any(ref == digest and role.startswith("file:") for role, ref in stored.fact.outputs)
