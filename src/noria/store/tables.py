"""The tables of the ledger, and how a slice declares its record tables and projections.

Ledger tables hold the truth and change only by migrations; nothing updates or deletes their rows,
and triggers in both databases refuse it. Record tables are folds of the facts: they may be dropped
and replayed. The queue's tables (`job`, `lease`) are neither: they are what is going on now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from noria.store.sql.words import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "IMMUTABLE",
    "LEDGER",
    "RECORDS",
    "checkpoint",
    "edge",
    "fact",
    "job",
    "lease",
    "node",
    "project",
    "projected",
    "record_table",
    "secret",
    "setting",
]

F = TypeVar("F", bound=Callable[..., None])

LEDGER = MetaData()
RECORDS = MetaData()
_Seq = BigInteger().with_variant(Integer(), "sqlite")

fact = Table(
    "fact",
    LEDGER,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Index("fact_kind", "kind", "seq"),
    Index("fact_subject", "subject", "seq"),
)
"""One row a fact. `body` is the canonical JSON that `leaf` covers; the other columns repeat parts of it."""

edge = Table(
    "edge",
    LEDGER,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("side", Text, primary_key=True),
    Column("place", SmallInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("role", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Index("edge_ref", "ref", "seq"),
)
"""The inputs and outputs of facts by ref: `side` is "in" or "out", `place` the position in the fact."""

node = Table(
    "node",
    LEDGER,
    Column("level", _Seq, primary_key=True, autoincrement=False),
    Column("position", _Seq, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
"""Complete subtrees above the leaves."""

checkpoint = Table(
    "checkpoint",
    LEDGER,
    Column("size", _Seq, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)
"""A signed note for every size of the tree."""

setting = Table(
    "setting",
    LEDGER,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""The log's origin, and the fingerprint of the code that folded the records."""

job = Table(
    "job",
    LEDGER,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("lease_until_us", BigInteger, nullable=False),
    Column("result", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("sum", BigInteger, nullable=False),
    UniqueConstraint("key", name="job_key"),
    Index("job_state", "state", "kind", "due_us"),
)

lease = Table(
    "lease",
    LEDGER,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    Column("sum", BigInteger, nullable=False),
)
"""Rows of `job` and `lease` carry a sum of their other columns (sealed.py)."""

secret = Table(
    "secret",
    LEDGER,
    Column("name", Text, primary_key=True),
    Column("sealed", Text, nullable=False),
)
"""Secrets that Noria signs with, sealed by a key that is not in the database (secrets.py)."""

IMMUTABLE = (fact, edge, node, checkpoint)
"""Tables whose rows nothing may update or delete."""


def record_table(name: str, *columns: Column[Any] | Index | UniqueConstraint) -> Table:
    """Declare a record table. It needs a primary key: projections touch rows by key only.

    Use portable types: Text, Integer, BigInteger, Float, Boolean, JSON. List it in the slice's TABLES.
    """
    assert name not in LEDGER.tables, f"{name} is a table of the ledger"
    made = Table(name, RECORDS, *columns)
    assert made.primary_key.columns, f"{name} has no primary key"
    return made


def project(payload: type[Any]) -> Callable[[F], F]:
    """Mark `def f(tx, fact)` as the way a kind of fact changes records; list it in PROJECTIONS.

    A projection is replayed, so it may use nothing but `tx` and the fact: no clock, no files, no randomness.
    """

    def mark(function: F) -> F:
        function.__noria_projects__ = payload  # type: ignore[attr-defined]  # the mark
        return function

    return mark


def projected(function: Callable[..., None]) -> type[Any]:
    """The payload class that a projection is for."""
    found = function.__noria_projects__  # type: ignore[attr-defined]  # the mark
    assert isinstance(found, type)
    return found
