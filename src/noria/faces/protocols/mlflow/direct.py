"""Large artifacts past the server, by signed addresses of the object store: `[server] artifacts = "direct"`.

The server says who may, gives the addresses, and names what came by its content. An upload is one of the store's,
so any server over it completes what another began.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.errors import NotFound, UsageError
from noria.core.identity import Digest
from noria.faces.protocols.mlflow import artifacts
from noria.faces.protocols.mlflow.refusals import invalid, missing
from noria.store.direct import Direct, HasDirect
from noria.store.workspace import Workspace

__all__ = ["abort", "address", "begin", "complete", "is_on", "keeper", "parts"]

DIRECT = "direct"


def is_on(ws: Workspace) -> bool:
    """Whether large artifacts go past the server."""
    return keeper(ws) is not None


def keeper(ws: Workspace) -> Direct | None:
    """What gives out addresses, if that is wanted and the store can."""
    store = ws.objects.store
    return store.direct if ws.project.server.artifacts == DIRECT and isinstance(store, HasDirect) else None


def begin(ws: Workspace, path: str, count: int) -> dict[str, Any] | None:
    """An upload with the address of each part; None if parts go through the server. The caller may change `path`."""
    at = keeper(ws)
    if at is None:
        return None
    begun = at.begin(path, count)
    told = [{"url": url, "part_number": number, "headers": {}} for number, url in enumerate(begun.addresses, 1)]
    return {"upload_id": begun.id, "credentials": told}


def parts(ws: Workspace, upload: str) -> dict[str, Any] | None:
    """The parts that are there; None for an upload through the server."""
    at = keeper(ws)
    found = at.find(upload) if at is not None else None
    if at is None or found is None:
        return None
    known = sorted(at.parts(found).items())
    told = [{"part_number": number, "etag": f'"{tag}"', "size": size} for number, (tag, size) in known]
    return {"num_parts": found.count, "parts": told}


def complete(ws: Workspace, path: str, upload: str, said: Sequence[Mapping[str, Any]]) -> bool:
    """Keep all parts as one artifact; False for an upload through the server. Raises: Refused.

    The caller may change `path`. Of two that complete the same, and of one that comes again, both are right.
    """
    at = keeper(ws)
    if at is None:
        return False
    if at.has_ended(upload, path):
        return True
    found = at.find(upload)
    if found is None:
        return False
    if found.note != path:
        raise invalid("The upload is of another artifact.")
    numbers = [int(each.get("part_number", 0)) for each in said]
    if numbers != list(range(1, found.count + 1)):
        raise invalid(f"The upload has parts 1 to {found.count}, in this order; {len(numbers)} were named.")
    try:
        digest, size = at.join(found, [str(each.get("etag", "")).strip('"') for each in said])
    except UsageError as error:
        raise invalid(f"{error.message}; {error.hint}") from error
    except NotFound as error:
        if at.has_ended(upload, path):
            return True
        raise missing("The upload is over: it was completed or aborted.") from error
    owner, name = artifacts.named(path)
    artifacts.note(ws, owner, name, digest, size)
    at.end(found)
    return True


def abort(ws: Workspace, path: str, upload: str) -> bool:
    """Take the parts away; False for an upload through the server. Raises: Refused."""
    at = keeper(ws)
    found = at.find(upload) if at is not None else None
    if at is None or found is None:
        return False
    if found.note != path:
        raise invalid("The upload is of another artifact.")
    at.abort(found)
    return True


def address(ws: Workspace, path: str, digest: str) -> str:
    """Where an artifact is read past the server; empty if it is not."""
    at = keeper(ws)
    return at.address_of(Digest(digest), posixpath.basename(path)) if at is not None else ""
