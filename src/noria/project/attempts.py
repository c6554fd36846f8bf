"""The attempts behind one client id: a refused request that was sent again has the same id, and so has a retry.

Reads few columns of the log only; the whole row of the one that counts is asked for by its own id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from noria.core.frozen import frozen
from noria.core.lazy import lazy
from noria.serving import records as serving
from noria.serving import segment
from noria.serving.line import decode
from noria.store.workspace import Workspace

pc: Any = lazy("pyarrow.compute")
pq: Any = lazy("pyarrow.parquet")

__all__ = ["Attempt", "attempts"]

ANSWERED = 200


@frozen
class Attempt:
    """One logged request: its prediction id, when it was answered (µs), the status, the model and release."""

    id: str
    t: int
    status: int
    model: str
    release: int


def attempts(ws: Workspace, name: str, *, environment: str = "local") -> list[Attempt]:
    """Every attempt of a client id, the one that counts first: the newest answered, else the newest; then by age."""
    found = {item.id: item for item in (*_in_files(ws, name), *_in_segments(ws, name, environment))}
    return sorted(found.values(), key=lambda item: (item.status == ANSWERED, item.t, item.id), reverse=True)


def _in_files(ws: Workspace, name: str) -> Iterator[Attempt]:
    needle = name.encode()
    for model in segment.models(ws.project.state):
        for path in segment.sources(segment.folder(ws.project.state, model)):
            for line in decode([payload for payload in segment.read(path)[0] if needle in payload]):
                if line.rid == name and not line.is_shadow:
                    yield Attempt(line.id, line.t, line.st, model, line.rel)


def _in_segments(ws: Workspace, name: str, environment: str) -> Iterator[Attempt]:
    with ws.ledger.read() as tx:
        pieces = [piece for model in serving.logged_models(tx) for piece in serving.segments(tx, model, environment)]
    for piece in pieces:
        path = ws.objects.path(piece.segment)
        if not pc.any(pc.equal(pq.read_table(path, columns=["rid"])["rid"], name)).as_py():
            continue
        table = pq.read_table(path, columns=["id", "t", "st", "rel", "sh"], filters=[("rid", "==", name)])
        for row in table.to_pylist():
            if not row["sh"]:
                yield Attempt(row["id"], int(row["t"].timestamp() * 1e6), row["st"], piece.model, row["rel"])
