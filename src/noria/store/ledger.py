"""The ledger: read records, decide, append facts; records are folded in the same transaction.

`transaction()` holds the one writer lock from its first line, so a verb may read, decide and append
without a race. At commit the Merkle tree over the facts has grown and every new size of it is
signed. What an acknowledged commit means: the fact, its records and its signed checkpoint are on
disk, all three or none. Facts are never updated or deleted here; projections alone write records.

A fact that hangs on nothing that a transaction reads is made ready before it (`Ledger.ready`), and only placed
while the lock is held.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from noria.core.clock import Clock, utc_text
from noria.core.errors import Tampered, UsageError
from noria.core.fact import Edge, Fact, Stored, kind_of
from noria.core.frozen import frozen, slotted
from noria.store import tables
from noria.store.checkpoint import Signer
from noria.store.database import Database
from noria.store.failpoint import failpoint
from noria.store.fold import Fold, Reader, Statements
from noria.store.log import frontier_of, head_of
from noria.store.merkle import EMPTY_ROOT, Frontier, Node, leaf_hash
from noria.store.payload import decode, encode
from noria.store.rows import edge_rows, stored_of
from noria.store.seen import Seen
from noria.store.slices import Slices
from noria.store.sql.words import Connection, insert, select

__all__ = ["Body", "Ledger", "Reader", "Ready", "Transaction"]

P = TypeVar("P")
FACT_LIMIT_BYTES = 1 << 20
LARGE_BYTES = 1 << 16
"""A fact that is larger is written at once, so that many of them never wait in memory."""
PAGE = 1000
TIME_BYTES = len("2026-11-21T04:40:00.000000Z")
_TIME = b',"at":"'
"""What stands before the time in a fact's canonical text."""

_INSERT_FACT = insert(tables.fact)
_INSERT_EDGE = insert(tables.edge)
_INSERT_NODE = insert(tables.node)
_INSERT_CHECKPOINT = insert(tables.checkpoint)


@frozen
class Body:
    """A fact's canonical text with its leaf hash."""

    seq: int
    leaf: bytes
    body: str


@slotted
class _Tip:
    """The tree as this process committed it last: one for all who act on a ledger, whose head says if it is the newest.

    Whoever acts has a ledger of their own for as long as they do something; it would read the tree each time.
    """

    frontier: Frontier


@frozen
class Ready(Generic[P]):
    """A fact that lacks nothing but its time and place; `payload` is as a replay will read it.

    `before` and `behind` are its canonical text around the time.
    """

    payload: P
    fact: Fact
    before: bytes
    behind: bytes

    def at(self, moment: str) -> tuple[Fact, bytes]:
        """The fact at a moment, with the bytes that its leaf covers."""
        fact = self.fact
        stood = Fact(
            kind=fact.kind,
            version=fact.version,
            subject=fact.subject,
            inputs=fact.inputs,
            outputs=fact.outputs,
            data=fact.data,
            actor=fact.actor,
            at=moment,
        )
        return stood, b"%b%b%b" % (self.before, moment.encode(), self.behind)


class Transaction(Fold):
    """The one writer of the ledger: reads, appends, and lets projections write records."""

    def __init__(self, connection: Connection, ledger: Ledger, frontier: Frontier) -> None:
        super().__init__(connection, ledger.slices, ledger.statements)
        self._ledger = ledger
        self._nodes: list[Node] = []
        self._notes: list[tuple[int, bytes]] = []
        self.frontier = frontier
        self.last_note = ""

    def append(
        self,
        payload: P,
        *,
        inputs: Sequence[Edge] = (),
        outputs: Sequence[Edge] = (),
        actor: str = "",
    ) -> Stored[P]:
        """Append a fact and fold it into the records at once. Gives it in its place.

        Args:
            inputs, outputs: edges (role, ref) of lineage; a ref is a digest or a subject.
            actor: who did it, when it is not the ledger's own actor.
        Raises: UsageError if the fact is larger than a decision may be, or its kind is not declared.
        """
        return self.place(self._ledger.ready(payload, inputs=inputs, outputs=outputs, actor=actor))

    def place(self, ready: Ready[P]) -> Stored[P]:
        """Append a fact that was made ready, and fold it into the records at once. Gives it in its place."""
        assert not self._is_projecting, "a projection may not append"
        fact, body = ready.at(utc_text(self._ledger.clock.now()))
        seq = self._insert(fact, body)
        failpoint("append.fact")
        stored = Stored(seq=seq, fact=fact, payload=ready.payload)
        self.fold(stored)
        if len(body) > LARGE_BYTES:
            self.flush()
        failpoint("append.projected")
        return stored

    @property
    def connection(self) -> Connection:
        """For what the store keeps beside facts and records, and changes together with them."""
        return self._connection

    def finish(self) -> int:
        """Write what waits and the grown tree, each new size of it signed; gives the size. The ledger calls this."""
        self.flush()
        signer = self._ledger.signer
        if self._nodes:
            self._connection.execute(
                _INSERT_NODE,
                [{"level": n.level, "position": n.position, "hash": n.hash} for n in self._nodes],
            )
        notes = [{"size": size, "note": signer.sign(size, root)} for size, root in self._notes]
        if notes:
            self._connection.execute(_INSERT_CHECKPOINT, notes)
            self.last_note = str(notes[-1]["note"])
        return self.frontier.size

    def _insert(self, fact: Fact, body: bytes) -> int:
        leaf = leaf_hash(body)
        seq = self.frontier.size + 1
        row = {
            "seq": seq,
            "kind": fact.kind,
            "subject": fact.subject,
            "actor": fact.actor,
            "at": fact.at,
            "body": body.decode(),
            "leaf": leaf,
        }
        self._write(tables.fact, _INSERT_FACT, row)
        edges = edge_rows(seq, fact)
        if edges:
            self._write(tables.edge, _INSERT_EDGE, *edges)
        self._nodes.extend(self.frontier.append(leaf))
        self._notes.append((seq, self.frontier.root()))
        return seq


class Ledger:
    """Facts and records of one workspace, over one database. Thread safe; open in many processes."""

    def __init__(
        self,
        database: Database,
        *,
        slices: Slices,
        signer: Callable[[], Signer],
        seen: Seen,
        clock: Clock,
        actor: str,
    ) -> None:
        self.database = database
        self.slices = slices
        self.clock = clock
        self.actor = actor
        self.statements: Statements = {}
        self.seen = seen
        self._make_signer = signer
        self._signer: Signer | None = None
        self._condition: Callable[[Transaction], None] | None = None
        self._tip = _Tip(Frontier())

    def acting(self, actor: str) -> Ledger:
        """The same ledger, whose facts are by another actor."""
        made = self._copy()
        made.actor = actor
        return made

    def under(self, condition: Callable[[Transaction], None]) -> Ledger:
        """The same ledger, where each transaction first asks a condition: what that raises ends it, unwritten."""
        made = self._copy()
        made._condition = condition
        return made

    def _copy(self) -> Ledger:
        made = object.__new__(Ledger)
        made.__dict__.update(self.__dict__)  # a request makes one: copy.copy takes six times as long
        return made

    def ready(
        self,
        payload: P,
        *,
        inputs: Sequence[Edge] = (),
        outputs: Sequence[Edge] = (),
        actor: str = "",
    ) -> Ready[P]:
        """A fact made ready to be placed: checked, encoded and read back, which takes most of an append's time.

        What does not depend on what a transaction reads is made ready before it, while others hold the lock.

        Args: as those of `Transaction.append`.
        Raises: as that.
        """
        declared = kind_of(payload)
        kinds = self.slices.kinds
        if declared.kind not in kinds:
            raise UsageError(f"{declared.kind} is not a kind of fact that a slice declares")
        fact = Fact(
            kind=declared.kind,
            version=declared.version,
            subject=declared.subject_of(payload),
            inputs=tuple([(role, ref) for role, ref in inputs]),
            outputs=tuple([(role, ref) for role, ref in outputs]),
            data=encode(payload),
            actor=actor or self.actor,
            at="",
        )
        body = fact.canonical()
        size = len(body) + TIME_BYTES
        if size > FACT_LIMIT_BYTES:
            raise UsageError(
                f"a {declared.kind} fact of {size} bytes is over the limit of {FACT_LIMIT_BYTES}",
                hint="store the content as an object and name its digest",
            )
        end = body.index(_TIME) + len(_TIME)  # no text holds it: there its quotes would be escaped
        read = decode(kinds.payload_class(fact.kind), json.loads(body)["data"])
        return Ready(read, fact, body[:end], body[end:])

    @property
    def signer(self) -> Signer:
        """The key that signs checkpoints; read from its file at the first use."""
        if self._signer is None:
            self._signer = self._make_signer()
        return self._signer

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """The single writer: locked at once, committed at exit, rolled back on any exception.

        Raises: StoreUnavailable; StoreFull; Corrupt; Tampered if the ledger is not the one seen before.
        """
        assert self.signer, "the key is read before the lock is taken"
        with self.database.write() as connection:
            failpoint("transaction.begun")
            head = head_of(connection)
            self.seen.check(connection, head)
            frontier = self._tip.frontier
            if frontier.size != head:
                frontier = frontier_of(connection, head)
            transaction = Transaction(connection, self, frontier.copy())
            if self._condition is not None:
                self._condition(transaction)
            yield transaction
            size = transaction.finish()
            failpoint("commit.before")
        failpoint("commit.after")
        self._tip.frontier = transaction.frontier
        if size > head:
            self.seen.store(size, transaction.last_note)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """A snapshot of facts and records; never waits for a writer."""
        with self.database.read() as connection:
            yield Reader(connection)

    def facts(
        self, *, after: int = 0, limit: int = PAGE, kind: str = "", subject: str = "", ref: str = ""
    ) -> list[Stored[Any]]:
        """Facts in order, oldest first, beginning behind the sequence number `after`.

        Args:
            kind, subject: only these; empty for all.
            ref: only facts with an edge, in or out, to this ref.
        """
        query = select(tables.fact.c.seq, tables.fact.c.body).where(tables.fact.c.seq > after)
        if kind:
            query = query.where(tables.fact.c.kind == kind)
        if subject:
            query = query.where(tables.fact.c.subject == subject)
        if ref:
            query = query.where(tables.fact.c.seq.in_(select(tables.edge.c.seq).where(tables.edge.c.ref == ref)))
        with self.read() as reader:
            rows = reader.rows(query.order_by(tables.fact.c.seq).limit(limit))
        return [stored_of(self.slices, row.seq, row.body) for row in rows]

    def bodies(self, *, after: int = 0, limit: int = PAGE) -> list[Body]:
        """Facts as the exact text that their leaves cover, in order, behind the sequence number `after`."""
        query = select(tables.fact.c.seq, tables.fact.c.leaf, tables.fact.c.body).where(tables.fact.c.seq > after)
        with self.read() as reader:
            rows = reader.rows(query.order_by(tables.fact.c.seq).limit(limit))
        return [Body(row.seq, bytes(row.leaf), row.body) for row in rows]

    def head(self) -> int:
        """The newest sequence number; 0 for an empty ledger."""
        with self.database.read() as connection:
            return head_of(connection)

    def checkpoint(self) -> str:
        """The signed note of the tree as it is now. Keep one elsewhere: it proves later changes."""
        with self.database.read() as connection:
            head = head_of(connection)
            return self.note(connection, head) if head else self.signer.sign(0, EMPTY_ROOT)

    def note(self, connection: Connection, size: int) -> str:
        """The signed note of the tree of that size, on a connection that is open. Raises: Tampered."""
        note = connection.execute(select(tables.checkpoint.c.note).where(tables.checkpoint.c.size == size)).scalar()
        if note is None:
            raise Tampered(f"the newest fact, {size}, is not signed", hint="noria audit verify names what is wrong")
        return str(note)
