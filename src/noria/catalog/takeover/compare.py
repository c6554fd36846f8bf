"""Where two tracking stores differ, thing by thing, and the report that closes a takeover. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from noria.catalog.takeover.documents import (
    EvalRecordDoc,
    EvalsetDoc,
    ExperimentDoc,
    InputDoc,
    MeasureDoc,
    ModelDoc,
    RegisteredDoc,
    RunDoc,
    VersionDoc,
)
from noria.core.frozen import frozen, slotted
from noria.core.lazy import lazy
from noria.core.words import counted
from noria.experiments.points import Curve

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

__all__ = ["KEPT_MAX", "KINDS", "Difference", "Report", "Sum", "Tally", "differences", "sums"]

KEPT_MAX = 1000
"""Differences that a report names; the others are counted."""
SHOWN = 80
KINDS = (
    "experiment", "run", "metric", "point", "artifact", "logged model", "registered model", "version", "alias",
    "evaluation data set", "evaluation record",
)  # fmt: skip
PLURALS = {"alias": "aliases"}
Doc = ExperimentDoc | RunDoc | ModelDoc | RegisteredDoc | VersionDoc | EvalsetDoc | EvalRecordDoc


@frozen(kw_only=True)
class Difference:
    """Something that is not the same in both stores: what, where, and what each of them says."""

    kind: str
    name: str
    what: str


@frozen
class Sum:
    """What many points come to, in whatever order: how many they are, and two sums over their hashes."""

    points: int = 0
    first: int = 0
    second: int = 0

    def plus(self, found: Curve) -> Sum:
        """With the points of a curve more."""
        first, second = (
            int(np.bitwise_xor(_mixed(found, salt), np.uint64(salt)).sum(dtype=np.uint64))
            for salt in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
        )
        mask = (1 << 64) - 1
        return Sum(self.points + len(found), (self.first + first) & mask, (self.second + second) & mask)


@slotted
class Tally:
    """What was seen, what was new and what differs, as a takeover goes on. `sides` are its words for the two stores."""

    sides: tuple[str, str] = ("there", "here")

    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    new: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    size_bytes: int = 0
    count: int = 0
    kept: list[Difference] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)

    def differ(self, kind: str, name: str, what: str) -> None:
        """Something is not the same."""
        self.count += 1
        if len(self.kept) < KEPT_MAX:
            self.kept.append(Difference(kind=kind, name=name, what=what))

    def compare(self, kind: str, name: str, there: Doc, here: Doc | None, *, but: Sequence[str] = ()) -> None:
        """What differs between two documents of the same thing."""
        if here is None:
            self.differ(kind, name, f"is not {self.sides[1]}")
            return
        for what in differences(there, here, but=but, sides=self.sides):
            self.differ(kind, name, what)

    def report(self, address: str, form: str, other: str) -> Report:
        """The end of it."""
        counts = ", ".join(counted(number, kind, PLURALS.get(kind, "")) for kind, number in self.seen.items() if number)
        new = sum(self.new.values())
        ends = f"{self.count} differ" if self.count else "no difference"
        return Report(
            ok=not self.count,
            address=address,
            form=form,
            other=other,
            seen=dict(self.seen),
            new={kind: number for kind, number in self.new.items() if number},
            size_bytes=self.size_bytes,
            differing=self.count,
            differences=tuple(self.kept),
            notes=tuple(self.notes),
            summary=f"{counts or 'nothing there'}; {counted(new, 'thing')} new; {ends}",
        )


@frozen(kw_only=True)
class Report:
    """What a takeover saw and did. `ok` if both stores say the same of everything.

    `seen` and `new` count by kind; `size_bytes` is what was read of artifacts, `differences` are the first
    thousand of `differing`; `notes` say what is the same only in other words, such as where files are.
    """

    ok: bool
    address: str
    form: str
    other: str
    seen: Mapping[str, int]
    new: Mapping[str, int]
    size_bytes: int
    differing: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    summary: str


def sums(parts: Iterable[tuple[str, Curve]]) -> dict[str, Sum]:
    """What the points of each metric come to."""
    found: dict[str, Sum] = {}
    for key, part in parts:
        found[key] = found.get(key, Sum()).plus(part)
    return found


def differences(
    there: Doc, here: Doc, *, but: Sequence[str] = (), sides: tuple[str, str] = ("there", "here")
) -> Iterator[str]:
    """What two documents of the same thing say differently, each named."""
    for each in dataclasses.fields(there):
        if each.name in but:
            continue
        before, now = _plain(getattr(there, each.name)), _plain(getattr(here, each.name))
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            for key in sorted({*before, *now}, key=str):
                if before.get(key) != now.get(key):
                    yield f"{each.name} {key!r}: {_said(before, key)} {sides[0]}, {_said(now, key)} {sides[1]}"
        else:
            yield f"{each.name}: {_short(before)} {sides[0]}, {_short(now)} {sides[1]}"


def _plain(value: Any) -> Any:
    """A value that equals another exactly if both say the same; a sequence of things by their names."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return {_name(each): _content(each) for each in value}
    return value


def _name(value: Any) -> Any:
    if isinstance(value, InputDoc):
        return (value.name, value.digest)
    if isinstance(value, MeasureDoc):
        return (value.key, value.at_ms, value.step, value.run)
    return value[0] if isinstance(value, tuple) else value


def _content(value: Any) -> Any:
    if isinstance(value, InputDoc):
        return (value.source_type, value.source, value.schema, value.profile, tuple(sorted(value.tags)))
    if isinstance(value, MeasureDoc):
        return (repr(value.value), value.dataset, value.digest)  # NaN equals itself as a text
    return value[1:] if isinstance(value, tuple) else True


def _said(values: Mapping[Any, Any], key: Any) -> str:
    return _short(values[key]) if key in values else "nothing"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _mixed(found: Curve, salt: int) -> Any:
    """A hash of each point: the finalizer of splitmix64 over step, time and the bits of the value.

    Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators (OOPSLA 2014).
    """
    values = np.where(np.isnan(found.values), np.nan, found.values)  # one NaN, whatever its bits
    mixed = np.full(len(found), salt, np.uint64)
    for part in (found.steps, found.at_us, values.view(np.int64)):
        mixed = mixed ^ part.astype(np.int64).view(np.uint64)
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
