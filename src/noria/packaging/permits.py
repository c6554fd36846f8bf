"""Permission to load a bundle that runs code when it is loaded: a pickle, or a program of its author's.

noria.toml says it of a model (`[model.NAME] allow_pickle = true`), read where the policy is protected. The workspace
then signs which bundle it made under that name, and what the bundle may name. To load it both must hold: the
signature of this workspace's key over the digest, and the permission as it stands now, so that it can be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from noria.core.errors import Denied, Tampered
from noria.core.identity import JSON, Digest
from noria.governance import policy
from noria.packaging.flavor import Bundle
from noria.store.envelope import opened, seal
from noria.store.workspace import Workspace

__all__ = ["KIND", "ROLE", "denied", "is_allowed", "require", "sign"]

KIND = "application/vnd.noria.code-permit+json"
ROLE = "permit"
"""The edge from the fact that names a bundle to the signed document."""


def is_allowed(ws: Workspace, model: str) -> bool:
    """Whether the rules of a model let code of its files run: `allow_pickle`, or any file of its clients.

    The rules are read anew, so that a server which runs for months heeds what was permitted or taken back meanwhile.
    Raises: ConfigError if they cannot be read.
    """
    if not model:
        return False
    found = policy.now(ws, model)
    return found.allow_pickle or found.clients.trust == "any"


def sign(ws: Workspace, bundle: Bundle, model: str) -> Digest:
    """Sign that this workspace made a bundle as that model's; gives the document's digest. No fact is written."""
    return ws.objects.put_json(seal(ws.ledger.signer, KIND, _statement(bundle, model)))


def require(ws: Workspace, bundle: Bundle, documents: Sequence[str]) -> str:
    """The model as which a bundle may be loaded. Raises: Denied: unsigned, by another key, or not allowed now.

    Args:
        documents: the permits that facts name for the bundle.
    """
    models = [model for name in documents if (model := _signed(ws, name, bundle))]
    if not models:
        raise Denied(
            f"the bundle {bundle.digest[:19]} ({bundle.flavor}) runs code when it is loaded, "
            "and no signature of this workspace's key covers it; it was not loaded",
            hint="log the model again under [model.NAME] allow_pickle = true in noria.toml, or in a safe format",
        )
    for model in models:
        if is_allowed(ws, model):
            return model
    raise denied(bundle.flavor, models[0])


def denied(what: str, model: str = "", why: str = "") -> Denied:
    """What is said where the rules of a model do not let its code run."""
    return Denied(
        f"the model ({what}) can only be kept in a form that runs code when it is loaded, and nothing allows that"
        + (f": {why}" if why else ""),
        hint=f"[model.{model or 'NAME'}] allow_pickle = true in noria.toml does, in a process of its own; "
        "docs/models.md has the formats that need no permission",
    )


def _signed(ws: Workspace, document: str, bundle: Bundle) -> str:
    """The model that a permit names, "" if it is none of ours for exactly this bundle."""
    try:
        found: Any = opened(ws.objects.get_json(document), ws.ledger.signer.verifier, KIND)
    except Tampered:
        return ""
    model = str(found.get("model", "")) if isinstance(found, dict) else ""
    return model if found == _statement(bundle, model) else ""


def _statement(bundle: Bundle, model: str) -> dict[str, JSON]:
    return {"bundle": bundle.digest, "flavor": bundle.flavor, "model": model, "names": list(_texts(bundle.types))}


def _texts(names: Iterable[str]) -> list[str]:
    return [str(name) for name in names]
