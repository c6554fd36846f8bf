"""Writes what came of steps: facts in batches, then the right to their keys is given back.

Facts of quick steps share a transaction, and one object for their key documents; what they gave is
stored with one sync before it, and a kill before that finds it in the journal. Each transaction
asks first whether the run is still this driver's: one that was taken over writes nothing more.
Thread safe: the watch over a long step writes what waits meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from time import monotonic
from typing import TYPE_CHECKING

from noria.core.frozen import frozen, slotted
from noria.pipeline.caching import documents
from noria.pipeline.caching.documents import KeyDocument
from noria.pipeline.caching.flight import Flights
from noria.pipeline.facts import Item, ItemsFinished, StepFinished
from noria.pipeline.outputs.values import Value
from noria.pipeline.step import StepNode
from noria.store.failpoint import failpoint
from noria.store.ledger import Transaction
from noria.store.workspace import Workspace
from noria.tracking.run import require_own

if TYPE_CHECKING:
    from noria.data.records import DatasetVersion

__all__ = ["FLUSH_S", "Recorder", "Written"]

FLUSH_S = 0.2
"""Facts of steps quicker than this share a transaction; what a kill takes of them is in the journal."""
ITEMS = 200
"""Items that one fact holds."""
Outputs = Mapping[str, tuple[Value, ...]]


@frozen(kw_only=True)
class Written:
    """A step that has ended and is not written yet; without a `document` of its own the fact names one."""

    node: StepNode
    fact: StepFinished
    inputs: tuple[tuple[str, str], ...] = ()
    document: KeyDocument | None = None


@slotted
class _Pending:
    steps: list[Written] = field(default_factory=list)
    items: dict[str, list[Item]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.steps or self.items)


class Recorder:
    """The facts of one execution."""

    def __init__(
        self, ws: Workspace, run: str, owner: str, pins: Mapping[str, DatasetVersion], flights: Flights
    ) -> None:
        self._ws, self._run, self._owner, self._pins = ws, run, owner, pins
        self._flights = flights
        self._pending = _Pending()
        self._keys: list[str] = []
        self._flushed = monotonic()
        self._lock = threading.RLock()

    @property
    def has_news(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._pending)

    def holds(self, key: str) -> bool:
        """Whether a result of that key was made here and waits to be written."""
        with self._lock:
            return key in self._keys

    def inputs(self, node: StepNode, outputs: Outputs) -> tuple[tuple[str, str], ...]:
        """The lineage edges of a step: what it took, by node and by data set."""
        edges = [(ref.node, outputs[ref.node][ref.output].digest) for ref in node.references() if ref.node in outputs]
        return (*edges, *((f"data:{role.name}", self._pins[role.name].tree) for role in node.datasets()))

    def add(self, item: Written, key: str = "") -> None:
        """A step has ended; the right to `key` is given back once that is written."""
        with self._lock:
            self._pending.steps.append(item)
            if key:
                self._keys.append(key)
        self.flush_late()

    def add_item(self, step: str, item: Item, key: str = "") -> None:
        """The same for an item of a mapped step."""
        with self._lock:
            self._pending.items.setdefault(step, []).append(item)
            if key:
                self._keys.append(key)
        self.flush_late()

    def flush_late(self) -> None:
        """Write what waits if the last time was `FLUSH_S` ago."""
        if monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what waits, in one transaction, then let others have what was made.

        Raises: RunPreempted if another process has taken the run over: nothing was written.
        """
        with self._lock:
            if self._pending:
                pending, self._pending = self._pending, _Pending()
                made = {item.fact.step: item.document for item in pending.steps if item.document is not None}
                name = documents.write(self._ws.objects, made) if made else ""
                self._ws.objects.settle()
                failpoint("step.settled")
                with self._ws.ledger.transaction() as tx:
                    if self._owner:  # a run that nobody started (a test's own) has none
                        require_own(tx, self._run, self._owner)
                    for step, items in pending.items.items():
                        for first in range(0, len(items), ITEMS):
                            _append_items(tx, self._run, step, items[first : first + ITEMS])
                    for item in pending.steps:
                        fact = item.fact if item.document is None else replace(item.fact, document=name)
                        outputs = [(f"{fact.step}.{output.name}", output.digest) for output in fact.outputs]
                        tx.append(fact, inputs=item.inputs, outputs=outputs)
                failpoint("step.finished")
            keys, self._keys = self._keys, []
            for key in keys:
                self._flights.release(key)
            self._flushed = monotonic()


def _append_items(tx: Transaction, run: str, step: str, items: Sequence[Item]) -> None:
    outputs = [
        (f"{step}.{item.item}.{output.name}", output.digest)
        for item in items
        for output in item.outputs
        if item.status == "done"
    ]
    tx.append(ItemsFinished(run=run, step=step, items=tuple(items)), outputs=outputs)
