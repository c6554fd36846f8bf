"""Records of what was taken over: what its store said of it that no other record holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from noria.catalog.records import date
from noria.catalog.takeover.facts import ImportBegan, ImportEnded, OriginNoted
from noria.core.fact import Stored
from noria.core.frozen import frozen
from noria.registry.records import date_registered
from noria.store.ledger import Reader, Transaction
from noria.store.sql.words import JSON, BigInteger, Column, Table, Text, select
from noria.store.tables import project, record_table

__all__ = ["PROJECTIONS", "TABLES", "OriginRecord", "origins"]

CHUNK = 500
TIME_MAX_MS = 253_402_300_800_000
"""The end of the year 9999."""

_import = record_table(
    "taken_store",
    Column("name", Text, primary_key=True),
    Column("address", Text, nullable=False),
    Column("form", Text, nullable=False),
    Column("began_at", Text, nullable=False),
    Column("ended_at", Text, nullable=False),
    Column("differences", BigInteger, nullable=False),
)
_origin = record_table(
    "origin",
    Column("of", Text, primary_key=True),
    Column("place", Text, primary_key=True),
    Column("created_ms", BigInteger, nullable=True),
    Column("updated_ms", BigInteger, nullable=True),
    Column("details", JSON, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
TABLES: tuple[Table, ...] = (_import, _origin)


@frozen(kw_only=True)
class OriginRecord:
    """What a store said of something: times in milliseconds since 1970 by its clock, and words."""

    of: str
    place: str
    created_ms: int | None
    updated_ms: int | None
    details: Mapping[str, str]


@project(ImportBegan)
def began(tx: Transaction, fact: Stored[ImportBegan]) -> None:
    """A takeover is on record from its first new thing on."""
    p = fact.payload
    tx.upsert(_import, name=p.name, address=p.address, form=p.form, began_at=fact.at, ended_at="", differences=0)


@project(ImportEnded)
def ended(tx: Transaction, fact: Stored[ImportEnded]) -> None:
    """One that was broken off has no end."""
    p = fact.payload
    tx.update(_import, {"name": p.name}, ended_at=fact.at, differences=p.differences)


@project(OriginNoted)
def noted(tx: Transaction, fact: Stored[OriginNoted]) -> None:
    """What its first store says of when something was made and changed is what its record shows."""
    p = fact.payload
    is_first = tx.first(select(_origin.c.of).where(_origin.c.of == p.of, _origin.c.place != p.place)) is None
    tx.upsert(
        _origin,
        of=p.of,
        place=p.place,
        created_ms=p.created_ms,
        updated_ms=p.updated_ms,
        details=dict(p.details),
        seq=fact.seq,
    )
    updated_ms = p.created_ms if p.updated_ms is None else p.updated_ms
    if not is_first or p.created_ms is None or updated_ms is None:
        return
    if not (0 <= p.created_ms < TIME_MAX_MS and 0 <= updated_ms < TIME_MAX_MS):
        return
    kind, _, rest = p.of.partition("/")
    if kind == "experiment" and rest.isdecimal():
        date(tx, int(rest), p.created_ms, updated_ms)
    elif kind == "logged-model":
        date(tx, rest, p.created_ms, updated_ms)
    elif kind == "model":
        date_registered(tx, rest, p.created_ms, updated_ms)


PROJECTIONS = (began, ended, noted)


def origins(tx: Reader, things: Sequence[str]) -> dict[str, list[OriginRecord]]:
    """What stores said of things, the first store first."""
    found: dict[str, list[OriginRecord]] = {each: [] for each in things}
    for start in range(0, len(things), CHUNK):
        query = select(_origin).where(_origin.c.of.in_(things[start : start + CHUNK])).order_by(_origin.c.seq)
        for row in tx.rows(query):
            values = {key: value for key, value in row._mapping.items() if key != "seq"}
            found[row.of].append(OriginRecord(**values))
    return found
