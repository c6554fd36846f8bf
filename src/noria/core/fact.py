"""The envelope of a fact, and how a capability declares its kinds.

A fact is one immutable sentence: at T, actor A did K to subject S, from inputs, giving outputs.
A kind is a frozen dataclass marked with `@fact`; the mark only adds attributes, and nothing is
registered at import: the ledger is handed the kinds that `plugins.py` names. A change of shape
that a default cannot cover is a new version of the kind and one pure upcaster beside it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast, dataclass_transform

from noria.core.frozen import frozen
from noria.core.identity import JSON, canonical

__all__ = ["Edge", "Fact", "FactKind", "Kinds", "Stored", "Upcaster", "fact", "kind_of", "upcast"]

Edge = tuple[str, str]
"""(role, ref): ref is a digest, or a subject such as `run/run_01…` or `model/churn:3`."""

P = TypeVar("P")
_KIND = re.compile(r"[a-z_]+\.[a-z_]+")
_FIELD = re.compile(r"\{(\w+)\}")


@frozen(kw_only=True)
class Fact:
    """What is hashed: the content of one ledger entry, without its place in the ledger.

    `at` is UTC with microseconds (`2026-11-21T04:40:00.000000Z`), `version` the schema version
    of the kind, `data` the canonical JSON of the kind's own dataclass.
    """

    kind: str
    version: int
    subject: str
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    data: Mapping[str, JSON]
    actor: str
    at: str

    def canonical(self) -> bytes:
        """The bytes that the leaf hash covers."""
        return canonical(
            {
                "kind": self.kind,
                "version": self.version,
                "subject": self.subject,
                "inputs": self.inputs,
                "outputs": self.outputs,
                "data": self.data,
                "actor": self.actor,
                "at": self.at,
            }
        )


@frozen(kw_only=True)
class Stored(Generic[P]):
    """A fact in its place: its sequence number (from 1), and its payload as a typed value."""

    seq: int
    fact: Fact
    payload: P

    @property
    def at(self) -> str:
        """When it was appended: UTC, microseconds."""
        return self.fact.at

    @property
    def actor(self) -> str:
        """Who did it: a pseudonymous id."""
        return self.fact.actor

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.fact.subject


@frozen
class FactKind:
    """The declaration behind a payload class; `subject` is a format string over its fields."""

    kind: str
    version: int
    subject: str

    def subject_of(self, payload: object) -> str:
        """What a payload of this kind is about."""
        return self.subject.format(**{name: getattr(payload, name) for name in _fields_in(self.subject)})


@functools.cache
def _fields_in(subject: str) -> tuple[str, ...]:
    """The fields that a format string names."""
    return tuple(_FIELD.findall(subject))


@dataclass_transform(frozen_default=True, kw_only_default=True)
def fact(kind: str, *, version: int = 1, subject: str) -> Callable[[type[P]], type[P]]:
    """Declare a kind of fact: makes the class a frozen keyword-only dataclass with slots.

    Example:
        >>> @fact("alias.moved", subject="model/{model}")
        ... class AliasMoved:
        ...     model: str
        ...     alias: str
        >>> kind_of(AliasMoved).kind
        'alias.moved'
    """
    assert _KIND.fullmatch(kind), f"{kind}: a kind is noun.past_tense"

    def declare(cls: type[P]) -> type[P]:
        made = frozen(kw_only=True)(cls)
        made.__noria_fact__ = FactKind(kind, version, subject)  # type: ignore[attr-defined]  # the mark
        return made

    return declare


def kind_of(payload: type[Any] | object) -> FactKind:
    """The declaration of a payload class or value. Raises: TypeError if it is not a fact."""
    found = getattr(payload, "__noria_fact__", None)
    if not isinstance(found, FactKind):
        name = payload.__name__ if isinstance(payload, type) else type(payload).__name__
        raise TypeError(f"{name} is not declared with @fact")
    return found


Upcaster = Callable[[dict[str, JSON]], dict[str, JSON]]


def upcast(kind: str, *, version: int) -> Callable[[Upcaster], Upcaster]:
    """Mark a pure function that turns the data of (kind, version) into that of version + 1."""

    def mark(function: Upcaster) -> Upcaster:
        function.__noria_upcast__ = (kind, version)  # type: ignore[attr-defined]  # the mark
        return function

    return mark


class Kinds:
    """All kinds that a ledger knows, newest version of each, and the upcasters between versions."""

    def __init__(self, payloads: Iterable[type[Any]], upcasters: Iterable[Upcaster] = ()) -> None:
        self._classes: dict[str, type[Any]] = {}
        self._upcasters: dict[tuple[str, int], Upcaster] = {}
        for payload in payloads:
            declared = kind_of(payload)
            assert declared.kind not in self._classes, f"{declared.kind} is declared twice"
            self._classes[declared.kind] = payload
        for function in upcasters:
            key = cast("tuple[str, int]", function.__noria_upcast__)  # type: ignore[attr-defined]  # the mark
            self._upcasters[key] = function

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes))

    def __contains__(self, kind: str) -> bool:
        return kind in self._classes

    def payload_class(self, kind: str) -> type[Any]:
        """The newest payload class of a kind. Raises: KeyError for an unknown kind."""
        return self._classes[kind]

    def upcasted(self, kind: str, version: int, data: Mapping[str, JSON]) -> dict[str, JSON]:
        """The data of an old version in the shape of the newest one.

        Raises: KeyError if the kind is unknown or a step between versions has no upcaster.
        """
        newest = kind_of(self._classes[kind]).version
        current = dict(data)
        for step in range(version, newest):
            current = self._upcasters[(kind, step)](current)
        return current
