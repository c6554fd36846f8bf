"""A mapped step under way: its items are brought in a few at a time, and only their names are kept of the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace

from noria.core.errors import NoriaError, StepFailed
from noria.core.frozen import slotted
from noria.pipeline.bindings import Binding, Const, Group, Ref, Stored
from noria.pipeline.caching.keys import Planned
from noria.pipeline.caching.reads import Conditions
from noria.pipeline.executor import Done, Usage
from noria.pipeline.outputs import values
from noria.pipeline.outputs.plain import from_json
from noria.pipeline.outputs.values import Value
from noria.pipeline.step import StepNode
from noria.store.objects import Objects

__all__ = ["Mapped", "items_of"]


def items_of(objects: Objects, node: StepNode, outputs: Mapping[str, Sequence[Value]]) -> list[Binding]:
    """What a mapped step runs over, one binding an item; parts of a stored list are named, not read.

    Raises: StepFailed if what it is mapped over is no list.
    """
    binding = node.bindings[node.over]
    if isinstance(binding, Group):
        return list(binding.items)
    assert isinstance(binding, Ref), "a mapped parameter is a list or a result"
    value = outputs[binding.node][binding.output]
    found = values.elements(objects, value)
    if found is None:
        raise StepFailed(
            f"step {node.name} is mapped over what {binding.node} gave, which is no list",
            where=node.step.where,
            hint=f"let {binding.node} return a list",
        )
    return [_item(objects, each) for each in found]


def _item(objects: Objects, told: object) -> Binding:
    if isinstance(told, Value):
        return Stored(told.digest, told.type)
    try:
        return Const(from_json(told))
    except values.Unstorable:  # a list or a tuple with stored parts in it: it becomes an object of its own
        stored = values.document(objects, told)
        return Stored(stored.digest, stored.type, stored.size_bytes)


@slotted
class Mapped:
    """The items of one mapped step: which come next, how many are open, and where the results are."""

    planned: Planned
    items: list[Binding]
    because: str
    following: int = 0
    open: int = 0
    results: dict[int, tuple[Value, ...]] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    error: NoriaError | None = None
    is_killed: bool = False
    _reads: dict[str, str] = field(default_factory=dict)
    _reason: str = ""

    @property
    def node(self) -> StepNode:
        """The mapped step."""
        return self.planned.node

    @property
    def has_more(self) -> bool:
        """Whether an item was not brought in yet."""
        return self.following < len(self.items)

    @property
    def is_over(self) -> bool:
        """Whether every item is."""
        return not self.open and not self.has_more

    def take(self, count: int) -> Iterator[tuple[int, Binding]]:
        """The next items, at most so many; they are open then."""
        for _ in range(count):
            if not self.has_more:
                return
            place = self.following
            self.following += 1
            self.open += 1
            yield place, self.items[place]

    def settle(self, place: int, done: Done, conditions: Conditions) -> None:
        """An open item is over."""
        self.open -= 1
        if done.error is not None:
            self.error, self.is_killed = self.error or done.error, self.is_killed or done.is_killed
            return
        self.results[place] = done.outputs
        self.usage = _sum(self.usage, done.usage)
        self._reason = self._reason or conditions.reason
        for what, known in conditions.reads:
            if self._reads.setdefault(what, known) != known:
                self._reason = self._reason or f"{what} was not the same for all items"

    def drop_rest(self) -> None:
        """Bring in no more items."""
        self.following = len(self.items)

    def conditions(self) -> Conditions:
        """What the list as a whole is good under."""
        return Conditions(reads=tuple(sorted(self._reads.items())), reason=self._reason)

    def value(self, objects: Objects) -> Value:
        """The results in the order of the items, as one stored list."""
        return values.list_of(objects, [self.results[place] for place in range(len(self.items))])


def _sum(a: Usage, b: Usage) -> Usage:
    return replace(
        a,
        seconds=a.seconds + b.seconds,
        cpu_seconds=a.cpu_seconds + b.cpu_seconds,
        memory_peak_bytes=max(a.memory_peak_bytes, b.memory_peak_bytes),
        read_bytes=a.read_bytes + b.read_bytes,
        written_bytes=a.written_bytes + b.written_bytes,
    )
