"""Where a thing came from, and what came of it: a walk over the edges of facts.

Nothing is recorded for lineage; every fact names its inputs and outputs anyway. A ref is a digest or
a subject such as `run/run_01…`. A thing is made by the facts that give it as an output or, when
none does, by the facts about it (a run is).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from noria.core.errors import NotFound
from noria.core.frozen import frozen
from noria.core.identity import is_digest
from noria.core.verb import verb
from noria.governance import records
from noria.governance.records import EdgeRecord
from noria.store.fold import Reader
from noria.store.workspace import Workspace

__all__ = ["Link", "ancestors", "ancestors_within", "descendants"]

LIMIT = 10_000
"""Links that one answer holds at most."""

_RELEASE = re.compile(r"([^/@:\s]+)@r(\d{1,18})")

Step = Callable[[Reader, Sequence[str]], list[EdgeRecord]]


@frozen
class Link:
    """One step of lineage: the fact `seq` connects `ref`, in a role; `depth` counts facts from the start."""

    ref: str
    role: str
    seq: int
    kind: str
    actor: str
    at: str
    depth: int


@verb(permission="governance.read", changes=False)
def ancestors(ws: Workspace, ref: str, depth: int = 100) -> list[Link]:
    """Everything that a thing was made from, nearest first; each ref once, by its shortest way.

    Args:
        ref: such as release/churn/3, model/churn:14, run/run_01k…, dataset/churn@2 or a digest, or as
            other commands take it: churn@r3, churn:14, run_01k…, churn@2.
        depth: how many facts to go back at most.
    Raises: NotFound for what no fact names.
    """
    with ws.ledger.read() as reader:
        return ancestors_within(reader, [_known(reader, ref)], depth=depth)


@verb(permission="governance.read", changes=False)
def descendants(ws: Workspace, ref: str, depth: int = 100) -> list[Link]:
    """Everything that was made from a thing, nearest first; each ref once, by its shortest way.

    Args:
        ref: as `noria governance ancestors` takes it.
    Raises: NotFound for what no fact names.
    """
    with ws.ledger.read() as reader:
        return _walk(reader, [_known(reader, ref)], _made_from, depth)


def ancestors_within(reader: Reader, refs: Sequence[str], *, depth: int = 100) -> list[Link]:
    """`ancestors` of several refs, in a snapshot that is already open."""
    return _walk(reader, refs, _made_of, depth)


def _known(reader: Reader, name: str) -> str:
    """The ref that a name stands for: itself, or the longer form of what other commands take. Raises: NotFound."""
    forms = [name, f"model/{name}", f"dataset/{name}", f"run/{name}", f"rollout/{name}"]
    if match := _RELEASE.fullmatch(name):
        forms.append(f"release/{match[1]}/{match[2]}")
    for form in forms:
        if is_digest(form) or any(look(reader, [form]) for look in (records.producers, records.users)):
            return form
    if records.subjects(reader, [name, f"run/{name}"]):
        return name if records.subjects(reader, [name]) else f"run/{name}"
    raise NotFound(
        f"no fact names {name[:100]!r}",
        hint="such as release/churn/3, model/churn:14, dataset/churn@2, churn@r3, churn:14, a whole run_…, a digest",
    )


def _walk(reader: Reader, refs: Sequence[str], step: Step, depth: int) -> list[Link]:
    seen, found, frontier = set(refs), list[Link](), list(refs)
    for level in range(1, depth + 1):
        following: list[str] = []
        for edge in step(reader, frontier):
            if edge.ref not in seen and len(found) < LIMIT:
                seen.add(edge.ref)
                following.append(edge.ref)
                found.append(Link(edge.ref, edge.role, edge.seq, edge.kind, edge.actor, edge.at, level))
        if not following:
            break
        frontier = following
    return found


def _made_of(reader: Reader, refs: Sequence[str]) -> list[EdgeRecord]:
    made = records.producers(reader, refs)
    known = {edge.ref for edge in made}
    about = records.subjects(reader, [ref for ref in refs if ref not in known])
    return records.inputs_of(reader, sorted({edge.seq for edge in (*made, *about)}))


def _made_from(reader: Reader, refs: Sequence[str]) -> list[EdgeRecord]:
    used = records.users(reader, refs)
    about = records.subjects(reader, [ref for ref in refs if not records.producers(reader, [ref])])
    return records.outputs_of(reader, sorted({edge.seq for edge in (*used, *about)}))
