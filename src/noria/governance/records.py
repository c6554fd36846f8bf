"""Approvals as records, and the questions that lineage asks of facts and edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Integer, Text, select

from noria.core.fact import Stored
from noria.governance.facts import ApprovalGiven
from noria.store import tables
from noria.store.fold import Reader
from noria.store.ledger import Transaction
from noria.store.tables import project, record_table

__all__ = [
    "PROJECTIONS",
    "TABLES",
    "ApprovalRecord",
    "EdgeRecord",
    "approvals",
    "inputs_of",
    "outputs_of",
    "producers",
    "subjects",
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
    Column("seq", Integer, nullable=False),
)

TABLES = (approval,)


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """One person's approval, in one role, of exactly this content."""

    about: str
    digest: str
    actor: str
    role: str
    comment: str
    at: str
    seq: int


@dataclass(frozen=True, slots=True)
class EdgeRecord:
    """An edge of lineage with the fact that it belongs to."""

    seq: int
    kind: str
    actor: str
    at: str
    role: str
    ref: str


@project(ApprovalGiven)
def approve(tx: Transaction, fact: Stored[ApprovalGiven]) -> None:
    """An approval counts once for a person and role; a later one replaces its comment."""
    given = fact.payload
    tx.upsert(
        approval,
        about=given.about,
        digest=given.digest,
        actor=fact.actor,
        role=given.role,
        comment=given.comment,
        at=fact.at,
        seq=fact.seq,
    )


PROJECTIONS = (approve,)


def approvals(tx: Reader, about: str, digest: str = "") -> list[ApprovalRecord]:
    """Approvals of a thing, oldest first; with a digest only those of exactly that content."""
    query = select(approval).where(approval.c.about == about)
    if digest:
        query = query.where(approval.c.digest == digest)
    return [
        ApprovalRecord(r.about, r.digest, r.actor, r.role, r.comment, r.at, r.seq)
        for r in tx.rows(query.order_by(approval.c.seq))
    ]


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
