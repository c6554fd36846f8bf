"""The step cache: is there a result of this key that still holds, and is it whole?

An entry is a fact, written after its objects. It holds while its conditions do (`reads.py`); of
several, the newest that holds is used. A result that is missing or altered is never handed out: its
entry is passed over, and the step is run again, which puts the object right.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.errors import NotFound, WorldError
from noria.pipeline import records
from noria.pipeline.caching.keys import Keys, Planned
from noria.pipeline.caching.reads import Reads
from noria.pipeline.facts import Output
from noria.pipeline.outputs.values import Value
from noria.pipeline.records import StepRecord
from noria.store.workspace import Workspace

__all__ = ["Cache"]

LIST = "list of reads"


class Cache:
    """What earlier runs left, for one execution; the newest results are looked up together, at the start."""

    def __init__(self, ws: Workspace, keys: Keys, reads: Reads, steps: Sequence[str]) -> None:
        self._ws, self._keys, self._reads = ws, keys, reads
        with ws.ledger.read() as tx:
            self.newest = records.newest(tx, steps)
            known = {found.key for found in self.newest.values() if found.key}
            self._entries = records.entries(tx, sorted(known))
        self._looked_up: dict[str, int] = {}
        """The keys that `find` was not asked for since they were looked up, with the ledger's head before that."""

    def expect(self, keys: Sequence[str]) -> None:
        """Look some keys up together, before `find` is asked for each of them."""
        self._look([key for key in keys if key not in self._entries])

    def _look(self, keys: Sequence[str]) -> None:
        head = self._ws.ledger.head()
        with self._ws.ledger.read() as tx:
            found = records.entries(tx, keys)
        self._entries.update({key: found.get(key, []) for key in keys})
        self._looked_up.update(dict.fromkeys(keys, head))

    def find(self, planned: Planned) -> tuple[StepRecord | None, str]:
        """A result that can be used, or why the ones there are cannot ("" if there is none).

        Who has the right to the key sees all that was made under it: a key that was looked up before is
        looked up again if anything was written since.
        """
        if planned.opaque:
            return None, ""
        if planned.key in self._looked_up:
            head = self._ws.ledger.head()
            if self._looked_up[planned.key] != head:
                self._look([key for key, seen in self._looked_up.items() if seen != head])
        is_new = self._looked_up.pop(planned.key, None) is not None
        reason = ""
        for entry in self._entries.get(planned.key, ()):
            told = self._refused(entry, planned)
            if not told:
                return entry, ""
            reason = reason or told
        if is_new:
            return None, reason
        with self._ws.ledger.read() as tx:
            fresh = records.entries(tx, [planned.key]).get(planned.key, [])
        seen = {entry.seq for entry in self._entries.get(planned.key, ())}
        for entry in fresh:
            if entry.seq not in seen:
                told = self._refused(entry, planned)
                if not told:
                    return entry, ""
                reason = reason or told
        return None, reason

    def _refused(self, entry: StepRecord, planned: Planned) -> str:
        """Why an entry cannot be used; "" if it can."""
        if not self._is_whole(entry.outputs):
            return "its result was not whole"
        return self._reads.differing(self.reads_of(entry), planned.ambient)

    def reads_of(self, entry: StepRecord) -> Sequence[tuple[str, str]]:
        """The conditions of an entry, all of them."""
        return read_list(self._ws, entry.reads)

    def _is_whole(self, outputs: Sequence[Output]) -> bool:
        try:
            return all(map(self._is_usable, outputs))
        except (NotFound, WorldError):
            return False

    def _is_usable(self, output: Output) -> bool:
        """Whether a value is whole and can be made into an object. Raises: NotFound; WorldError."""
        value = Value(output.digest, output.type)
        if not self._keys.will_read(value):
            self._ws.objects.require(output.digest)
        return self._keys.is_usable(value)


def read_list(ws: Workspace, reads: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """The conditions of an entry; many are kept as an object. Raises: NotFound; Corrupt."""
    if len(reads) == 1 and reads[0][0] == LIST:
        return [(what, known) for what, known in ws.objects.get_json(reads[0][1])]
    return reads


def short_list(ws: Workspace, reads: Sequence[tuple[str, str]], limit: int = 100) -> tuple[tuple[str, str], ...]:
    """Conditions as a fact can hold them: themselves, or, if they are many, the object that lists them."""
    if len(reads) <= limit:
        return tuple(reads)
    return ((LIST, ws.objects.put_json([[what, known] for what, known in reads])),)
