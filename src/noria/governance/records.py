"""Approvals as records, and the questions that lineage asks of facts and edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.governance.facts import (
    ApprovalGiven,
    ApprovalRefused,
    IdentityBound,
    PolicyProtected,
    TokenCreated,
    TokenRevoked,
)
from noria.store import tables
from noria.store.fold import Reader
from noria.store.ledger import Transaction
from noria.store.sql.words import Column, Index, Integer, Text, func, or_, select
from noria.store.tables import project, record_table

__all__ = [
    "PROJECTIONS",
    "TABLES",
    "ApprovalRecord",
    "EdgeRecord",
    "IdentityRecord",
    "ProtectionRecord",
    "RejectionRecord",
    "TokenRecord",
    "approvals",
    "holder_taken",
    "identity",
    "inputs_of",
    "is_used",
    "outputs_of",
    "producers",
    "protection",
    "rejections",
    "subjects",
    "token",
    "tokens",
    "tokens_seq",
    "users",
]

CHUNK = 500
"""Refs in one query: below SQLite's limit of bound values."""

approval = record_table(
    "approval",
    Column("about", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("comment", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("expires", Text, nullable=False),
    Column("seq", Integer, nullable=False),
)

rejection = record_table(
    "rejection",
    Column("about", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("comment", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("seq", Integer, nullable=False),
)

protection_table = record_table(
    "protection",
    Column("subject", Text, primary_key=True),
    Column("ref", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("seq", Integer, nullable=False),
)

token_table = record_table(
    "token",
    Column("token", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("approves", Text, nullable=False),
    Column("verifier", Text, nullable=False),
    Column("expires", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("way", Text, nullable=False),
    Column("once", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", Text, nullable=False),
    Column("revoked_by", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Index("token_seq", "seq"),
    Index("token_expires", "expires"),
    Index("token_holder", "holder"),
    Index("token_once", "once"),
)
"""`seq` is that of the last fact about it; lists are texts with spaces between."""

identity_table = record_table(
    "identity",
    Column("identity", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Index("identity_holder", "holder"),
)

TABLES = (approval, rejection, protection_table, token_table, identity_table)


@frozen
class ApprovalRecord:
    """One person's approval, in one role, of exactly this content."""

    about: str
    digest: str
    actor: str
    role: str
    comment: str
    at: str
    seq: int
    expires: str = ""


@frozen
class RejectionRecord:
    """One person's no to exactly this content."""

    about: str
    digest: str
    actor: str
    comment: str
    at: str
    seq: int


@frozen
class ProtectionRecord:
    """Where the rules of models are read from, by whom it was said: a git ref, or an object's digest."""

    ref: str
    content: str
    actor: str
    at: str
    seq: int


@frozen
class EdgeRecord:
    """An edge of lineage with the fact that it belongs to."""

    seq: int
    kind: str
    actor: str
    at: str
    role: str
    ref: str


@frozen
class IdentityRecord:
    """A subject of an issuer, by the digest of both, and the name that it has here."""

    identity: str
    holder: str
    issuer: str
    at: str
    seq: int


@frozen
class TokenRecord:
    """A token without its secret. `expires` and `revoked_at` are moments, or empty."""

    token: str
    holder: str
    role: str
    project: str
    scopes: tuple[str, ...]
    approves: tuple[str, ...]
    verifier: str
    expires: str
    created_at: str
    created_by: str
    revoked_at: str
    revoked_by: str
    seq: int
    origin: str = ""
    way: str = ""

    def is_live(self, now: str) -> bool:
        """Whether it opens anything at a moment (`utc_text`)."""
        return not self.revoked_at and (not self.expires or now < self.expires)


@project(ApprovalGiven)
def approve(tx: Transaction, fact: Stored[ApprovalGiven]) -> None:
    """An approval counts once for a person and role; a later one replaces it, and takes their rejection back."""
    given = fact.payload
    tx.delete(rejection, about=given.about, digest=given.digest, actor=fact.actor)
    tx.upsert(
        approval,
        about=given.about,
        digest=given.digest,
        actor=fact.actor,
        role=given.role,
        comment=given.comment,
        at=fact.at,
        expires=given.expires,
        seq=fact.seq,
    )


@project(ApprovalRefused)
def refuse(tx: Transaction, fact: Stored[ApprovalRefused]) -> None:
    """A rejection stands until the same person approves; it takes back what they approved in any role."""
    given = fact.payload
    content = {"about": given.about, "digest": given.digest, "actor": fact.actor}
    tx.delete(approval, **content)
    tx.upsert(rejection, **content, comment=given.comment, at=fact.at, seq=fact.seq)


@project(PolicyProtected)
def protect(tx: Transaction, fact: Stored[PolicyProtected]) -> None:
    """The newest says it all."""
    said = fact.payload
    tx.upsert(
        protection_table,
        subject=fact.fact.subject,
        ref=said.ref,
        content=said.content,
        actor=fact.actor,
        at=fact.at,
        seq=fact.seq,
    )


@project(TokenCreated)
def create_token(tx: Transaction, fact: Stored[TokenCreated]) -> None:
    """A token is there."""
    made = fact.payload
    tx.upsert(
        token_table,
        token=made.token,
        holder=made.holder,
        role=made.role,
        project=made.project,
        scopes=" ".join(made.scopes),
        approves=" ".join(made.approves),
        verifier=made.verifier,
        expires=made.expires,
        origin=made.origin,
        way=made.way,
        once=made.once,
        created_at=fact.at,
        created_by=fact.actor,
        revoked_at="",
        revoked_by="",
        seq=fact.seq,
    )


@project(TokenRevoked)
def revoke_token(tx: Transaction, fact: Stored[TokenRevoked]) -> None:
    """A token stays in the list, and opens nothing."""
    where = {"token": fact.payload.token}
    tx.update(token_table, where, revoked_at=fact.at, revoked_by=fact.actor, seq=fact.seq)


@project(IdentityBound)
def bind(tx: Transaction, fact: Stored[IdentityBound]) -> None:
    """A subject has its name."""
    said = fact.payload
    tx.upsert(identity_table, identity=said.identity, holder=said.holder, issuer=said.issuer, at=fact.at, seq=fact.seq)


PROJECTIONS = (approve, refuse, protect, create_token, revoke_token, bind)


def tokens(tx: Reader, *, live_at: str = "", holder: str = "") -> list[TokenRecord]:
    """Every token that was ever made, oldest first; only those that are live at a moment, or of one holder."""
    each = token_table.c
    query = select(token_table).order_by(each.created_at, each.token)
    if live_at:
        query = query.where(each.revoked_at == "", or_(each.expires == "", each.expires > live_at))
    if holder:
        query = query.where(each.holder == holder)
    return [_token(row) for row in tx.rows(query)]


def is_used(tx: Reader, once: str) -> bool:
    """Whether a token was given for this already."""
    return tx.first(select(token_table.c.seq).where(token_table.c.once == once).limit(1)) is not None


def identity(tx: Reader, digest: str) -> IdentityRecord | None:
    """The subject of that digest, if it ever came."""
    row = tx.first(select(identity_table).where(identity_table.c.identity == digest))
    return None if row is None else IdentityRecord(row.identity, row.holder, row.issuer, row.at, row.seq)


def holder_taken(tx: Reader, holder: str) -> bool:
    """Whether a subject has this name."""
    return tx.first(select(identity_table.c.seq).where(identity_table.c.holder == holder).limit(1)) is not None


def token(tx: Reader, name: str) -> TokenRecord | None:
    """The token of that id."""
    row = tx.first(select(token_table).where(token_table.c.token == name))
    return None if row is None else _token(row)


def tokens_seq(tx: Reader) -> int:
    """The number of the newest fact about any token; 0 while there is none."""
    return int(tx.scalar(select(func.max(token_table.c.seq))) or 0)


def _token(row: Any) -> TokenRecord:
    return TokenRecord(
        token=row.token,
        holder=row.holder,
        role=row.role,
        project=row.project,
        scopes=tuple(row.scopes.split()),
        approves=tuple(row.approves.split()),
        verifier=row.verifier,
        expires=row.expires,
        created_at=row.created_at,
        created_by=row.created_by,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
        seq=row.seq,
        origin=row.origin,
        way=row.way,
    )


def approvals(tx: Reader, about: str, digest: str = "") -> list[ApprovalRecord]:
    """Approvals of a thing, oldest first; with a digest only those of exactly that content."""
    query = select(approval).where(approval.c.about == about)
    if digest:
        query = query.where(approval.c.digest == digest)
    return [
        ApprovalRecord(r.about, r.digest, r.actor, r.role, r.comment, r.at, r.seq, r.expires)
        for r in tx.rows(query.order_by(approval.c.seq))
    ]


def rejections(tx: Reader, about: str, digest: str) -> list[RejectionRecord]:
    """Who rejected exactly this content and has not approved it since, oldest first."""
    query = select(rejection).where(rejection.c.about == about, rejection.c.digest == digest)
    return [
        RejectionRecord(r.about, r.digest, r.actor, r.comment, r.at, r.seq)
        for r in tx.rows(query.order_by(rejection.c.seq))
    ]


def protection(tx: Reader) -> ProtectionRecord | None:
    """Where the rules of models are read from; None for the working tree."""
    row = tx.first(select(protection_table))
    if row is None or not (row.ref or row.content):
        return None
    return ProtectionRecord(row.ref, row.content, row.actor, row.at, row.seq)


def producers(tx: Reader, refs: Sequence[str]) -> list[EdgeRecord]:
    """The output edges to any of the refs: which facts made them."""
    return _edges(tx, "out", refs)


def users(tx: Reader, refs: Sequence[str]) -> list[EdgeRecord]:
    """The input edges from any of the refs: which facts used them."""
    return _edges(tx, "in", refs)


def inputs_of(tx: Reader, seqs: Sequence[int]) -> list[EdgeRecord]:
    """The input edges of facts."""
    return _edges_of(tx, "in", seqs)


def outputs_of(tx: Reader, seqs: Sequence[int]) -> list[EdgeRecord]:
    """The output edges of facts."""
    return _edges_of(tx, "out", seqs)


def refs_from(tx: Reader, prefix: str, limit: int = 3) -> list[str]:
    """The refs of edges that begin with a text, sorted; digests by their first digits."""
    ref = tables.edge.c.ref
    query = select(ref).where(ref >= prefix, ref < prefix + "\x7f").distinct().order_by(ref).limit(limit)
    return [str(row.ref) for row in tx.rows(query) if row.ref.startswith(prefix)]


def mentioned(tx: Reader, text: str, limit: int = 3) -> list[int]:
    """The numbers of the newest facts whose text holds another, newest first. Reads the whole ledger."""
    query = select(tables.fact.c.seq).where(tables.fact.c.body.contains(text, autoescape=True))
    return [int(row.seq) for row in tx.rows(query.order_by(tables.fact.c.seq.desc()).limit(limit))]


def subjects(tx: Reader, refs: Sequence[str]) -> list[EdgeRecord]:
    """The facts that are about any of the refs; their role is `subject`."""
    found: list[EdgeRecord] = []
    fact = tables.fact.c
    for start in range(0, len(refs), CHUNK):
        query = select(fact.seq, fact.kind, fact.actor, fact.at, fact.subject)
        query = query.where(fact.subject.in_(refs[start : start + CHUNK])).order_by(fact.seq)
        found.extend(EdgeRecord(r.seq, r.kind, r.actor, r.at, "subject", r.subject) for r in tx.rows(query))
    return found


def _edges(tx: Reader, side: str, refs: Sequence[str]) -> list[EdgeRecord]:
    found: list[EdgeRecord] = []
    for start in range(0, len(refs), CHUNK):
        where = tables.edge.c.ref.in_(refs[start : start + CHUNK])
        found.extend(_select(tx, side, where))
    return found


def _edges_of(tx: Reader, side: str, seqs: Sequence[int]) -> list[EdgeRecord]:
    found: list[EdgeRecord] = []
    for start in range(0, len(seqs), CHUNK):
        where = tables.edge.c.seq.in_(seqs[start : start + CHUNK])
        found.extend(_select(tx, side, where))
    return found


def _select(tx: Reader, side: str, where: object) -> list[EdgeRecord]:
    edge, fact = tables.edge.c, tables.fact.c
    query = (
        select(edge.seq, fact.kind, fact.actor, fact.at, edge.role, edge.ref)
        .join_from(tables.edge, tables.fact, edge.seq == fact.seq)
        .where(edge.side == side, where)  # type: ignore[arg-type]  # a column expression
        .order_by(edge.seq, edge.place)
    )
    return [EdgeRecord(r.seq, r.kind, r.actor, r.at, r.role, r.ref) for r in tx.rows(query)]
