"""A fact as it travels: its exact text, and the proof that a signed ledger holds it.

Whoever is given one can check, without the ledger, that the text is a leaf of a tree whose root is
signed by a key; not that the key belongs to whom they think. An altered text, place, proof or note
is found.

Source: RFC 6962 §2.1.1 (inclusion), C2SP tlog-checkpoint and signed-note.
"""

from __future__ import annotations

from typing import Any

from noria.core.errors import NotFound, Tampered
from noria.core.fact import Fact
from noria.core.identity import JSON
from noria.store.checkpoint import is_signed_by, parse_checkpoint, parse_verifier
from noria.store.ledger import Ledger
from noria.store.log import head_of, subtree
from noria.store.merkle import inclusion, is_included, leaf_hash
from noria.store.rows import fact_of

__all__ = ["checked", "evidence"]

FORMAT = "fact/1"


def evidence(ledger: Ledger, seq: int) -> dict[str, JSON]:
    """The fact with this number, with its proof under the newest checkpoint. Raises: NotFound; Tampered."""
    bodies = ledger.bodies(after=seq - 1, limit=1)
    if not bodies or bodies[0].seq != seq:
        raise NotFound(f"there is no fact {seq}")
    with ledger.database.read() as connection:
        size = head_of(connection)

        def lookup(level: int, position: int) -> bytes:
            found = subtree(connection, level, position)
            if found is None:
                raise Tampered(f"the tree lacks {level}/{position}", hint="noria audit verify names what is wrong")
            return found

        proof = inclusion(seq - 1, size, lookup)
        note = ledger.note(connection, size)
    return {
        "format": FORMAT,
        "fact": bodies[0].body,
        "seq": seq,
        "proof": [each.hex() for each in proof],
        "checkpoint": note,
        "key": str(ledger.signer.verifier),
    }


def checked(document: Any, where: str) -> tuple[Fact, str]:
    """The fact of some evidence, and the key that signed for it. Raises: Tampered if it does not hold."""
    try:
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r}")
        body, seq = str(document["fact"]), int(document["seq"])
        proof = [bytes.fromhex(each) for each in document["proof"]]
        note, key = str(document["checkpoint"]), str(document["key"])
    except (KeyError, TypeError, ValueError) as error:
        raise Tampered(f"this is no evidence of a fact: {error}", where=where) from error
    checkpoint, verifier = parse_checkpoint(note), parse_verifier(key)
    if not is_signed_by(checkpoint, [verifier]):
        raise Tampered("the checkpoint of a fact is not signed by its key", where=where)
    if not is_included(leaf_hash(body.encode()), seq - 1, checkpoint.size, proof, checkpoint.root):
        raise Tampered("a fact is not in the ledger that its checkpoint signs", where=where, hint="it was altered")
    return fact_of(seq, body), key
