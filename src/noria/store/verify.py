"""Does the ledger still say what was signed? Recompute every leaf and the tree, and compare.

The facts' bytes are hashed again, the columns, edges and subtrees that repeat them are compared,
and the roots are held against signed checkpoints: those in the database, the one that this client
saw last, and one brought from elsewhere. Whoever has the database but not the key cannot make
these agree. The newest agreeing root proves everything before it, so older notes are read only to
find where a lie begins. Nothing is written.

Source: RFC 6962 §2.1; the attacks are those of a log's own administrator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from noria.core.errors import Corrupt, Tampered
from noria.core.frozen import frozen
from noria.store import tables
from noria.store.checkpoint import Checkpoint, Verifier, checkpoint_body, is_signed_by, parse_checkpoint
from noria.store.ledger import Ledger
from noria.store.merkle import EMPTY_ROOT, Frontier, Node, leaf_hash
from noria.store.rows import edge_rows, fact_of
from noria.store.sql.words import Connection, func, select

__all__ = ["Verdict", "verify"]

BATCH = 4096
SIGNATURES = 2000
"""So many of the newest notes have their signature checked (100 µs each); of older ones, which prove
nothing that a newer one does not, what they state is compared."""
_UNSIGNED = ("unsigned", "checkpoint")
CANDIDATES = 100_000
"""How far ahead a fact that was moved is looked for."""


@frozen
class Verdict:
    """`first_bad` is 0 when all is well; `kind` says what was done to that fact.

    Kinds: edited, deleted, inserted, reordered, truncated, forked, unsigned, checkpoint (a stored
    note was changed or taken away), tree (a stored subtree was changed or taken away), damaged (the
    database's own check failed, though every fact is well), signer (all is well but that checkpoints
    are signed by a key that is not known: another clone's, or a forger's).
    """

    size: int
    root: bytes
    first_bad: int = 0
    kind: str = ""
    message: str = ""


@frozen
class _Row:
    """A fact row as found: where it is, what its content hashes to, and what contradicts it."""

    seq: int
    leaf: bytes
    complaint: str


@frozen
class _Finding:
    seq: int
    kind: str
    message: str


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


def verify(
    ledger: Ledger,
    verifiers: Sequence[Verifier],
    outside: Sequence[Checkpoint] = (),
    *,
    signatures: int = SIGNATURES,
) -> Verdict:
    """Recompute the ledger and hold it against its checkpoints and those from outside.

    Args:
        verifiers: the keys whose signatures count.
        outside: checkpoints kept elsewhere, already checked for their signature.
        signatures: how many of the newest stored notes have their signature checked, at least one.
    Complexity: linear in the facts.
    """
    with ledger.database.read() as connection, ledger.database.lenient(connection):
        rows = [row for page in _pages(connection) for row in page]
        log, notes = _Log(rows), _Notes(connection, verifiers)
        of_facts = [
            *_against_roots(log, notes, outside),
            *(_Finding(row.seq, "edited", row.complaint) for row in rows if row.complaint),
        ]
        of_copies = [*_against_subtrees(connection, rows), *notes.findings(log, signatures)]
        damage = ledger.database.damage(connection)
    size, root = len(rows), log.root(len(rows))
    if not of_facts and not of_copies:
        return (
            Verdict(size, root, 0, "damaged", f"the database file is damaged: {damage}")
            if damage
            else Verdict(size, root)
        )
    first = min(of_facts or of_copies, key=lambda finding: finding.seq)
    if not damage and all(finding.kind in _UNSIGNED for finding in (*of_facts, *of_copies)):
        first = notes.by_strangers(log, signatures) or first
    return Verdict(size, root, first.seq, first.kind, first.message)


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
    if not isinstance(row.body, str) or not isinstance(row.leaf, bytes):
        return _Row(row.seq, leaf_hash(b""), f"the row of fact {row.seq} is damaged")
    leaf = leaf_hash(row.body.encode("utf-8", errors="surrogateescape"))
    if leaf != row.leaf:
        return _Row(row.seq, leaf, f"fact {row.seq} does not match its stored hash")
    return _Row(row.seq, leaf, _complaint(row, edges))


def _complaint(row: Any, edges: list[dict[str, Any]]) -> str:
    """What in a row contradicts its own signed content."""
    try:
        fact = fact_of(row.seq, row.body)
    except Corrupt as error:
        return error.message
    for name in ("kind", "subject", "actor", "at"):
        if getattr(row, name) != getattr(fact, name):
            return (
                f"the column {name} of fact {row.seq} says {getattr(row, name)!r}, its content {getattr(fact, name)!r}"
            )

    def key(edge: dict[str, Any]) -> tuple[str, int]:
        return edge["side"], edge["place"]

    if sorted(edges, key=key) != sorted(edge_rows(row.seq, fact), key=key):
        return f"the edges of fact {row.seq} are not those of its content"
    return ""


class _Notes:
    """The checkpoints that the database holds, parsed and checked when they are asked for."""

    def __init__(self, connection: Connection, verifiers: Sequence[Verifier]) -> None:
        self._texts = {row.size: str(row.note) for row in connection.execute(select(tables.checkpoint))}
        self._verifiers = verifiers
        self._parsed: dict[int, Checkpoint | None] = {}
        self.sizes = sorted(self._texts)

    def valid(self, size: int) -> Checkpoint | None:
        """The note for a size if it is there, well formed, for that size, and signed by a known key."""
        if size not in self._parsed:
            self._parsed[size] = self._check(size)
        return self._parsed[size]

    def newest(self) -> Checkpoint | None:
        """The valid note of the largest size."""
        return next((found for size in reversed(self.sizes) if (found := self.valid(size))), None)

    def agrees(self, log: _Log, size: int) -> bool:
        """Whether the facts up to a size are those that were signed."""
        note = self.valid(size)
        return note is not None and size <= len(log.rows) and log.root(size) == note.root

    def findings(self, log: _Log, signatures: int) -> Iterator[_Finding]:
        """Notes that were changed, or taken away."""
        newest = self.newest()
        for size in self.sizes[: -signatures if newest else 0]:
            stated = checkpoint_body(newest.origin, size, log.root(size)) if newest and size <= len(log.rows) else ""
            if not self._texts[size].startswith(stated):
                yield _Finding(size, "checkpoint", f"the checkpoint of size {size} does not state its tree")
        for size in self.sizes[-signatures:]:
            if self.valid(size) is None:
                yield _Finding(size, "checkpoint", f"the checkpoint of size {size} is not signed by a known key")
        if len(self.sizes) < len(log.rows):
            missing = next(size for size in range(1, len(log.rows) + 1) if size not in self._texts)
            yield _Finding(missing, "checkpoint", f"the checkpoint of size {missing} is gone")

    def by_strangers(self, log: _Log, signatures: int) -> _Finding | None:
        """That notes are signed by keys which are not known, if nothing else is wrong with any note."""
        if self.sizes != list(range(1, len(log.rows) + 1)):
            return None
        known = {(verifier.name, verifier.key_id) for verifier in self._verifiers}
        first, strangers = 0, set()
        for size in self.sizes:
            try:
                note = parse_checkpoint(self._texts[size])
            except Tampered:
                return None
            if note.size != size or note.root != log.root(size):
                return None
            if not known & note.signatures.keys():
                first = first or size
                strangers |= {key_id.hex() for _, key_id in note.signatures}
            elif size in self.sizes[-signatures:] and self.valid(size) is None:
                return None  # a key that is known did not sign what its name stands under
        told = f"{', '.join(sorted(strangers)[:3])}{', …' if len(strangers) > 3 else ''}"
        if not first:
            return None
        return _Finding(
            first, "signer", f"from fact {first} on there are checkpoints of a key that is not known here: {told}"
        )

    def _check(self, size: int) -> Checkpoint | None:
        try:
            found = parse_checkpoint(self._texts.get(size, ""))
        except Tampered:
            return None  # a note that cannot be read is no note: findings() names it
        return found if found.size == size and is_signed_by(found, self._verifiers) else None


def _against_roots(log: _Log, notes: _Notes, outside: Sequence[Checkpoint]) -> Iterator[_Finding]:
    """Where the facts leave what was signed: at most one finding."""
    count = len(log.rows)
    newest = notes.newest()
    trusted = [*outside, *([newest] if newest else [])]
    signed = max((checkpoint.size for checkpoint in trusted), default=0)
    agreeing = [c.size for c in trusted if c.size <= count and log.root(c.size) == c.root]
    if len(agreeing) == len(trusted):
        if count > signed:
            yield _Finding(signed + 1, "unsigned", f"facts from {signed + 1} to {count} are covered by no signature")
        return
    good, bad = _boundary(log, notes, max(agreeing, default=0))
    if good == count:
        yield _Finding(count + 1, "truncated", f"facts from {count + 1} to {signed} were cut off")
    elif bad is not None and bad == good + 1:
        note = notes.valid(bad)
        assert note is not None, "the boundary is a valid note"
        yield _named(log, bad, note.root, signed)
    else:
        yield _Finding(good + 1, *_unnamed(log, good, bad, signed))


def _boundary(log: _Log, notes: _Notes, good: int) -> tuple[int, int | None]:
    """The largest size that is known to agree, and the next one whose valid note does not agree."""
    sizes = [size for size in notes.sizes if size > good]
    low, high = 0, len(sizes)
    while low < high:
        middle = (low + high) // 2
        if notes.agrees(log, sizes[middle]):
            low = middle + 1
        else:
            high = middle
    if low:
        good = sizes[low - 1]
    bad = next((size for size in sizes[low:] if notes.valid(size) and not notes.agrees(log, size)), None)
    return good, bad


def _named(log: _Log, seq: int, root: bytes, signed: int) -> _Finding:
    """What was done at the first bad place, whose signed root is known."""
    rows = log.rows
    if seq > len(rows):
        return _Finding(seq, "truncated", f"facts from {seq} to {signed} were cut off")
    if rows[seq - 1].seq != seq:
        return _Finding(seq, "deleted", f"fact {seq} is gone; the next one there is {rows[seq - 1].seq}")
    found = _moved_from(log, seq, root)
    if found is None:
        if len(rows) < signed:
            return _Finding(seq, "deleted", f"fact {seq} is gone; {len(rows)} facts are left of {signed}")
        return _Finding(seq, "edited", f"fact {seq} is not the one that was signed")
    if found == seq + 1 and len(rows) > signed:
        return _Finding(seq, "inserted", f"fact {seq} was put in; the signed one is now {found}")
    return _Finding(seq, "reordered", f"the fact that was signed as {seq} is now {found}")


def _moved_from(log: _Log, seq: int, root: bytes) -> int | None:
    """Where the fact that belongs at `seq` is now, if it is still there."""
    before = log.frontier(seq - 1)
    for row in log.rows[seq : seq + CANDIDATES]:
        after = before.copy()
        after.append(row.leaf)
        if after.root() == root:
            return row.seq
    return None


def _unnamed(log: _Log, good: int, bad: int | None, signed: int) -> tuple[str, str]:
    """What can be said when no signed root names the first bad fact by itself."""
    rows = log.rows
    gap = next((place for place, row in enumerate(rows, start=1) if row.seq != place), None)
    if gap == good + 1:
        return "deleted", f"fact {gap} is gone; the next one there is {rows[gap - 1].seq}"
    if bad is None and len(rows) < signed:
        return "truncated", f"{len(rows)} facts are left of {signed}, and those from {good + 1} on cannot be proved"
    last = bad or min(signed, len(rows))
    return "forked", f"this is another history than the one that was signed: it differs between {good + 1} and {last}"


def _against_subtrees(connection: Connection, rows: Sequence[_Row]) -> Iterator[_Finding]:
    """Stored subtrees that were changed, taken away, or belong to facts that are not there."""
    frontier, expected = Frontier(), 0
    for start in range(0, len(rows), BATCH):
        batch: list[Node] = []
        for row in rows[start : start + BATCH]:
            batch.extend(frontier.append(row.leaf))
        expected += len(batch)
        stored = _stored_nodes(connection, batch)
        for node in batch:
            if stored.get((node.level, node.position)) != node.hash:
                last = (node.position + 1) << node.level
                yield _Finding(
                    last, "tree", f"the stored subtree {node.level}/{node.position} is not that of its facts"
                )
                return
    count = int(connection.execute(select(func.count()).select_from(tables.node)).scalar() or 0)
    if count > expected:
        yield _Finding(len(rows) + 1, "tree", f"{count - expected} stored subtrees belong to facts that are not there")


def _stored_nodes(connection: Connection, nodes: Sequence[Node]) -> dict[tuple[int, int], bytes]:
    found: dict[tuple[int, int], bytes] = {}
    for level in {node.level for node in nodes}:
        positions = [node.position for node in nodes if node.level == level]
        query = select(tables.node.c.position, tables.node.c.hash).where(
            tables.node.c.level == level, tables.node.c.position.between(min(positions), max(positions))
        )
        found.update({(level, row.position): row.hash for row in connection.execute(query)})
    return found
