"""Rows of the ledger's tables from facts, and facts from rows."""

from __future__ import annotations

import json
from typing import Any

from noria.core.errors import Corrupt
from noria.core.fact import Fact, Stored
from noria.store.payload import decode
from noria.store.slices import Slices
from noria.store.sql.rows import parsed

__all__ = ["edge_rows", "fact_of", "parsed", "stored_of"]


def edge_rows(seq: int, fact: Fact) -> list[dict[str, Any]]:
    """The edge rows that belong to a fact."""
    return [
        {"seq": seq, "side": side, "place": place, "role": role, "ref": ref}
        for side, edges in (("in", fact.inputs), ("out", fact.outputs))
        for place, (role, ref) in enumerate(edges)
    ]


def fact_of(seq: int, body: str) -> Fact:
    """The fact that a row's body holds, as it was appended. Raises: Corrupt."""
    try:
        document = json.loads(body)
        return Fact(
            kind=document["kind"],
            version=document["version"],
            subject=document["subject"],
            inputs=tuple((role, ref) for role, ref in document["inputs"]),
            outputs=tuple((role, ref) for role, ref in document["outputs"]),
            data=document["data"],
            actor=document["actor"],
            at=document["at"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"fact {seq} cannot be read: {error}", hint="noria audit verify names what is wrong") from error


def stored_of(slices: Slices, seq: int, body: str) -> Stored[Any]:
    """A fact row as a typed value, in the newest shape of its kind.

    The payload of a kind that no slice declares is its plain data. Raises: Corrupt.
    """
    fact = fact_of(seq, body)
    kinds = slices.kinds
    if fact.kind not in kinds:
        return Stored(seq=seq, fact=fact, payload=fact.data)
    data = kinds.upcasted(fact.kind, fact.version, fact.data)
    return Stored(seq=seq, fact=fact, payload=decode(kinds.payload_class(fact.kind), data))
