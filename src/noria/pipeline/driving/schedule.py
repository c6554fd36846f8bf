"""Which steps may begin: the graph of a pipeline, and how far it has come. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

__all__ = ["GOOD", "Schedule"]

GOOD = frozenset({"done", "cached"})
"""A step that ended in one of these has outputs."""


class Schedule:
    """Nodes by name with their parents. A node is waiting, open, or over with a status."""

    def __init__(self, parents: Mapping[str, Sequence[str]]) -> None:
        self._parents = {name: tuple(dict.fromkeys(above)) for name, above in parents.items()}
        self._place = {name: place for place, name in enumerate(self._parents)}
        self._children: dict[str, list[str]] = {name: [] for name in self._parents}
        for name, above in self._parents.items():
            for parent in above:
                self._children[parent].append(name)
        self._left = {name: len(above) for name, above in self._parents.items()}
        self._ready = [place for name, place in self._place.items() if not self._left[name]]
        self._names = list(self._parents)
        self._open: set[str] = set()
        self.over: dict[str, str] = {}

    @property
    def is_over(self) -> bool:
        """Whether every node is."""
        return len(self.over) == len(self._names)

    @property
    def has_ready(self) -> bool:
        """Whether `take` would give one."""
        return bool(self._ready)

    def take(self) -> str:
        """The first node, in the pipeline's order, whose parents are over; it is open then."""
        name = self._names[heapq.heappop(self._ready)]
        self._open.add(name)
        return name

    def settle(self, name: str, status: str) -> None:
        """An open node is over."""
        assert name in self._open, f"{name} was not begun"
        self._open.discard(name)
        self.over[name] = status
        for child in self._children[name]:
            self._left[child] -= 1
            if not self._left[child]:
                heapq.heappush(self._ready, self._place[child])

    def missing(self, name: str) -> str:
        """The first parent that gave no outputs; "" if each did."""
        return next((parent for parent in self._parents[name] if self.over.get(parent) not in GOOD), "")

    def rest(self) -> list[str]:
        """The nodes that are not over, in order."""
        return [name for name in self._names if name not in self.over]
