"""Consent: a person approves a thing by its digest. The thing's authors and services never count."""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.errors import Denied, NotFound, UsageError
from noria.core.identity import is_digest, short
from noria.core.verb import verb
from noria.governance import records
from noria.governance.facts import ApprovalGiven
from noria.governance.lineage import ancestors_within
from noria.governance.records import ApprovalRecord, EdgeRecord
from noria.store.fold import Reader
from noria.store.workspace import Workspace

__all__ = ["approve", "authors", "missing"]

COMMENT_LIMIT = 2000


@verb(permission="governance.approve")
def approve(ws: Workspace, about: str, role: str = "approver", comment: str = "") -> ApprovalRecord:
    """Approve a release (`flights:3`, `flights@r3`) or anything else that a fact made, as it is now.

    Idempotent for a person and role. The approval is of the content's digest: changed content needs a new one.

    Raises: NotFound; Denied for a service, or for an author of the thing.
    """
    if len(comment) > COMMENT_LIMIT:
        raise UsageError(f"a comment of {len(comment)} characters is over the limit of {COMMENT_LIMIT}")
    with ws.ledger.transaction() as tx:
        ref, digest = _resolve(tx, about)
        if not ws.actor.startswith("user:"):
            raise Denied(f"{ws.actor} may not approve: only people do", hint="set NORIA_ACTOR=user:NAME")
        if ws.actor in authors(tx, ref):
            raise Denied(
                f"{ws.actor} may not approve {ref}: the author of a thing never counts",
                hint="ask somebody else to run: noria approve " + about,
            )
        if not _given(tx, ref, digest, ws.actor, role):
            tx.append(
                ApprovalGiven(about=ref, digest=digest, role=role, comment=comment),
                inputs=[("thing", ref), ("content", digest)],
            )
        return _given(tx, ref, digest, ws.actor, role)[0]


def authors(tx: Reader, ref: str) -> set[str]:
    """Who made a thing: the actors of the facts that gave it, and of the runs and versions behind it."""
    makers = {edge.actor for edge in records.producers(tx, [ref])}
    links = ancestors_within(tx, [ref])
    above = [link.ref for link in links if link.ref.startswith(("run/", "model/"))]
    makers |= {edge.actor for edge in records.producers(tx, above)}
    return makers | {edge.actor for edge in records.subjects(tx, [r for r in above if r.startswith("run/")])}


def missing(tx: Reader, about: str, digest: str, required: Sequence[str]) -> list[str]:
    """Which of the required roles nobody has approved this content in; an author's approval never counts."""
    excluded = authors(tx, about)
    given = {a.role for a in records.approvals(tx, about, digest) if a.actor not in excluded}
    return [role for role in required if role not in given]


def _given(tx: Reader, ref: str, digest: str, actor: str, role: str) -> list[ApprovalRecord]:
    return [a for a in records.approvals(tx, ref, digest) if (a.actor, a.role) == (actor, role)]


def _resolve(tx: Reader, about: str) -> tuple[str, str]:
    """The ref and the digest of what is meant."""
    name, _, number = about.replace("@r", ":").rpartition(":")
    forms = [about, f"release/{name}/{number}"] if name and number.isdigit() else [about]
    for ref in forms:
        made = records.producers(tx, [ref])
        if made:
            return ref, _digest(tx, ref, made[-1])
    raise NotFound(f"no fact made {about!r}", hint="name a release such as MODEL:NUMBER; noria status lists them")


def _digest(tx: Reader, ref: str, made: EdgeRecord) -> str:
    if is_digest(ref):
        return ref
    for edge in records.outputs_of(tx, [made.seq]):
        if is_digest(edge.ref):
            return edge.ref
    raise NotFound(f"the fact {made.seq} that made {short(ref)} names no content that could be approved")
