"""Does the ledger still say what was signed? Recompute every leaf and the tree, and compare.

The facts' bytes are hashed again, the columns, edges and subtrees that repeat them are compared,
and the roots are held against signed checkpoints: those in the database, the one that this client
saw last, and one brought from elsewhere. Whoever has the database but not the key cannot make
these agree. The newest agreeing root proves everything before it, so older notes are read only to
find where a lie begins. Nothing is written.

Source: RFC 6962 §2.1; the attacks are those of a log's own administrator.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from noria.core.errors import Corrupt, Tampered
from noria.store import tables
from noria.store.checkpoint import Checkpoint, Verifier, is_signed_by, parse_checkpoint
from noria.store.ledger import Ledger
from noria.store.log import head_of
from noria.store.merkle import EMPTY_ROOT, Frontier, Node, leaf_hash
from noria.store.rows import edge_rows, fact_of

__all__ = ["Verdict", "verify"]

BATCH = 4096
NOTES_CHECKED = 20_000
"""So many of the newest notes have their own signature and root checked; older ones prove nothing more."""
CANDIDATES = 100_000
"""How far ahead a fact that was moved is looked for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`first_bad` is 0 when all is well; `kind` says what was done to that fact.

    Kinds: edited, deleted, inserted, reordered, truncated, forked, unsigned, checkpoint (a stored
    note was changed or taken away), tree (a stored subtree was changed or taken away).
    """

    size: int
    root: bytes
    first_bad: int = 0
    kind: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    """A fact row as found: where it is, what it hashes to, what the row claims it hashes to."""

    seq: int
    leaf: bytes
    stored_leaf: bytes
    complaint: str


class _Log:
    """The whole log in memory as leaf hashes, with the roots of every size on demand."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self.rows = rows
        self._roots: list[bytes] = [EMPTY_ROOT]
        self._frontier = Frontier()

    def root(self, size: int) -> bytes:
        while len(self._roots) <= size:
            self._frontier.append(self.rows[len(self._roots) - 1].leaf)
            self._roots.append(self._frontier.root())
        return self._roots[size]

    def frontier(self, size: int) -> Frontier:
        found = Frontier()
        for row in self.rows[:size]:
            found.append(row.leaf)
        return found


def verify(ledger: Ledger, verifiers: Sequence[Verifier], outside: Sequence[Checkpoint] = ()) -> Verdict:
    """Recompute the ledger and hold it against its checkpoints and those from outside.

    Args:
        verifiers: the keys whose signatures count.
        outside: checkpoints kept elsewhere, already checked for their signature.
    Complexity: linear; about 30 µs a fact.
    """
    with ledger.database.read() as connection:
        rows = [row for page in _pages(connection) for row in page]
        log = _Log(rows)
        notes = _notes(connection)
        findings = [
            *_gaps(rows),
            *_against_outside(log, outside),
            *_against_notes(log, notes, verifiers, outside),
            *(Verdict(0, b"", row.seq, "edited", row.complaint) for row in rows if row.complaint),
            *_against_subtrees(connection, rows),
        ]
    size, root = len(rows), log.root(len(rows))
    if not findings:
        return Verdict(size, root)
    first = min(findings, key=lambda finding: finding.first_bad)
    return Verdict(size, root, first.first_bad, first.kind, first.message)


def _pages(connection: Connection) -> Iterator[list[_Row]]:
    after = 0
    while True:
        query = select(tables.fact).where(tables.fact.c.seq > after).order_by(tables.fact.c.seq).limit(BATCH)
        page = connection.execute(query).all()
        if not page:
            return
        edges: dict[int, list[dict[str, Any]]] = {}
        within = tables.edge.c.seq.between(page[0].seq, page[-1].seq)
        for edge in connection.execute(select(tables.edge).where(within)).mappings():
            edges.setdefault(edge["seq"], []).append(dict(edge))
        yield [_row(row, edges.get(row.seq, [])) for row in page]
        after = page[-1].seq


def _row(row: Any, edges: list[dict[str, Any]]) -> _Row:
    leaf = leaf_hash(row.body.encode("utf-8", errors="surrogatepass"))
    return _Row(row.seq, leaf, bytes(row.leaf), "" if leaf != bytes(row.leaf) else _complaint(row, edges))


def _complaint(row: Any, edges: list[dict[str, Any]]) -> str:
    """What in a row contradicts its own signed content."""
    try:
        fact = fact_of(row.seq, row.body)
    except Corrupt as error:
        return error.message
    for name in ("kind", "subject", "actor", "at"):
        if getattr(row, name) != getattr(fact, name):
            return f"the column {name} of fact {row.seq} says {getattr(row, name)!r}, its content {getattr(fact, name)!r}"

    def key(edge: dict[str, Any]) -> tuple[str, int]:
        return edge["side"], edge["place"]

    if sorted(edges, key=key) != sorted(edge_rows(row.seq, fact), key=key):
        return f"the edges of fact {row.seq} are not those of its content"
    return ""


def _notes(connection: Connection) -> dict[int, str]:
    return {row.size: row.note for row in connection.execute(select(tables.checkpoint))}


def _gaps(rows: Sequence[_Row]) -> Iterator[Verdict]:
    for place, row in enumerate(rows, start=1):
        if row.seq != place:
            yield Verdict(0, b"", place, "deleted", f"fact {place} is gone; the next one there is {row.seq}")
            return
