"""A store's texts as every database can hold them, and the report says of which things that is not what is there.

PostgreSQL takes no U+0000 in a text. A takeover comes out the same whatever database the project has, so the
character is replaced by U+FFFD everywhere, as what is logged here itself is; a source may have it, from SQLite.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from noria.catalog.takeover.documents import ExperimentDoc, ModelDoc, RegisteredDoc, RunDoc, Tracker, VersionDoc
from noria.experiments.journal import plain
from noria.experiments.points import Curve

__all__ = ["PlainTexts"]

SAID = "holds the character U+0000, or half a surrogate pair, which no database takes: replaced by U+FFFD, or ?"
D = TypeVar("D", ExperimentDoc, RunDoc, ModelDoc, RegisteredDoc, VersionDoc)


class PlainTexts:
    """A tracker whose texts every database takes; `tell` hears of each thing that is altered by its kind and name."""

    def __init__(self, tracker: Tracker, tell: Callable[[str, str, str], None]) -> None:
        self._tracker, self._tell = tracker, tell
        self._there: list[tuple[ExperimentDoc, ExperimentDoc]] = []  # some trackers have several of one id

    def experiments(self) -> Sequence[ExperimentDoc]:
        """Every experiment."""
        self._there = [(self._plain("experiment", each), each) for each in self._tracker.experiments()]
        return [made for made, _ in self._there]

    def runs(self, experiment: ExperimentDoc) -> Iterator[RunDoc]:
        """The runs of an experiment that `experiments` gave."""
        return (self._plain("run", each) for each in self._tracker.runs(self._of(experiment)))

    def points(self, run: str) -> Iterator[tuple[str, Curve]]:
        """The points of a run's metrics."""
        for name, curve in self._tracker.points(run):
            yield self._text("metric", name, run), curve

    def models(self, experiment: ExperimentDoc) -> Iterator[ModelDoc]:
        """The logged models of an experiment that `experiments` gave."""
        return (self._plain("logged model", each) for each in self._tracker.models(self._of(experiment)))

    def registered(self) -> Iterator[tuple[RegisteredDoc, Sequence[VersionDoc]]]:
        """Every registered model with its versions."""
        for model, versions in self._tracker.registered():
            made = self._plain("registered model", model)
            yield made, [self._plain("model version", each) for each in versions]

    def _of(self, experiment: ExperimentDoc) -> ExperimentDoc:
        """What the tracker itself gave for one that `experiments` gave."""
        return next((there for made, there in self._there if made is experiment), experiment)

    def _plain(self, kind: str, doc: D) -> D:
        made: D = _plain(doc)
        if made is not doc:
            if isinstance(made, VersionDoc):
                name = f"{made.model} {made.number}"
            else:
                name = made.name if isinstance(made, RegisteredDoc) else made.id
            self._tell(kind, name, SAID)
        return made

    def _text(self, kind: str, text: str, of: str) -> str:
        made = plain(text)
        if made != text:
            self._tell(kind, f"{made} of {of}", SAID)
        return made


def _plain(value: Any) -> Any:
    """The same thing with plain texts; the thing itself where they are so. What is no text is left as it is."""
    if isinstance(value, str):
        return value if (made := plain(value)) == value else made
    if isinstance(value, Mapping):
        pairs = {_plain(key): _plain(each) for key, each in value.items()}
        is_same = all(key is was and pairs[key] is value[was] for key, was in zip(pairs, value, strict=False))
        return value if is_same and len(pairs) == len(value) else pairs
    if isinstance(value, tuple | list):
        parts = [_plain(each) for each in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else type(value)(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        changed = {name: made for name, each in held.items() if (made := _plain(each)) is not each}
        return dataclasses.replace(value, **changed) if changed else value
    return value
