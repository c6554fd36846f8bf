"""What every part of taking a store over shares: the two stores, the tally, and the takeover's own fact.

A takeover is on record from the first thing that it adds: one that finds everything here already leaves
the ledger as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from noria.catalog.takeover import records
from noria.catalog.takeover.compare import Tally
from noria.catalog.takeover.documents import Store
from noria.catalog.takeover.facts import ImportBegan, ImportEnded, OriginNoted
from noria.catalog.takeover.ours import Ours
from noria.store.ledger import Transaction
from noria.store.workspace import Workspace, new_id

__all__ = ["TEXTS_MAX", "Intake", "in_parts", "note_origin"]

TEXTS_MAX = 150_000
"""How many letters of keys and values go into one fact: a fact is limited to a megabyte."""
PAIR_LETTERS = 20
PLACES = frozenset({"id", "location", "place", "storage"})
"""Where a store keeps something and how it counts it: a copy of the store says it otherwise of the same thing."""


class Intake:
    """One takeover: from a store, into a workspace."""

    def __init__(self, ws: Workspace, store: Store) -> None:
        self.ws = ws
        self.store = store
        self.ours = Ours(ws)
        self.tally = Tally(notes=dict.fromkeys(store.notes))
        self._name = new_id(ws, "import")
        self._is_begun = False

    @property
    def ref(self) -> str:
        """What the facts of this takeover name as where they come from."""
        return f"import/{self._name}"

    def begin(self) -> None:
        """Before anything is added: the takeover is on record."""
        if self._is_begun:
            return
        with self.ws.ledger.transaction() as tx:
            tx.append(ImportBegan(name=self._name, address=self.store.address, form=self.store.form))
        self._is_begun = True

    def end(self) -> None:
        """Its end is on record if its beginning is."""
        if self._is_begun:
            new = {kind: number for kind, number in self.tally.new.items() if number}
            with self.ws.ledger.transaction() as tx:
                tx.append(ImportEnded(name=self._name, new=new, differences=self.tally.count))


def note_origin(tx: Transaction, said: OriginNoted, ref: str) -> None:
    """Keep what the store says of a thing, unless that is on record already."""
    known = records.origins(tx, [said.of])[said.of]
    if not any(is_same(each, said) for each in known):
        tx.append(said, inputs=[("import", ref)])


def is_same(known: records.OriginRecord, said: OriginNoted) -> bool:
    """Whether a record says the same of a thing as its store does."""
    said_of_it, known_of_it = (
        {key: value for key, value in details.items() if key not in PLACES} for details in (said.details, known.details)
    )
    times = (known.created_ms, known.updated_ms) == (said.created_ms, said.updated_ms)
    return known.place == said.place and times and said_of_it == known_of_it


def in_parts(pairs: Mapping[str, str]) -> Sequence[dict[str, str]]:
    """The same pairs in as many mappings as facts are needed for them."""
    parts: list[dict[str, str]] = []
    letters = TEXTS_MAX
    for key, value in pairs.items():
        size = len(key) + len(value) + PAIR_LETTERS
        if letters + size > TEXTS_MAX:
            parts.append({})
            letters = 0
        parts[-1][key] = value
        letters += size
    return parts
