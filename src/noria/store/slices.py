"""All capabilities' kinds of facts, record tables and projections, found through the plug-in table.

A command writes facts of one or two kinds, so only the slices that these concern are imported: which
they are is told by the text of their files, before any of them is. A kind stands in the `facts.py` that
declares it, and the name of its class in every `records.py` that folds it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, overload

from noria import plugins
from noria.core.fact import Kinds, kind_of
from noria.core.frozen import frozen
from noria.core.identity import JSON
from noria.store.sql.words import Table
from noria.store.tables import projected

__all__ = ["KnownKinds", "Slices", "load_slices"]

Projection = Callable[..., None]


class KnownKinds(Protocol):
    """The kinds of facts that a ledger knows: what `core.fact.Kinds` tells of them."""

    def __iter__(self) -> Iterator[str]: ...

    def __contains__(self, kind: str) -> bool: ...

    def payload_class(self, kind: str) -> type[Any]:
        """The newest payload class of a kind. Raises: KeyError for an unknown kind."""
        ...

    def upcasted(self, kind: str, version: int, data: Mapping[str, JSON]) -> dict[str, JSON]:
        """The data of an old version in the shape of the newest one. Raises: KeyError."""
        ...


@frozen
class Slices:
    """What the slices declare. `fingerprint` changes when the code that folds records changes."""

    kinds: KnownKinds
    tables: Sequence[Table]
    projections: Mapping[str, tuple[Projection, ...]]
    fingerprint: str


@functools.cache
def load_slices() -> Slices:
    """What every slice declares, once a process; each is imported when something of it is asked for."""
    found = _Found([_Slice(name) for name in plugins.names("slice")])
    return Slices(_LateKinds(found), _LateTables(found), _LateProjections(found), found.fingerprint())


class _Slice:
    """One slice: its two files as text, and as modules once they are imported."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._package = plugins.load("slice", name)
        self.facts_text = self._text("facts")
        self.records_text = self._text("records")

    def facts(self) -> ModuleType:
        """The module with FACTS and UPCASTERS."""
        return importlib.import_module(f"{self._package.__name__}.facts")

    def records(self) -> ModuleType:
        """The module with TABLES and PROJECTIONS."""
        return importlib.import_module(f"{self._package.__name__}.records")

    def _text(self, module: str) -> bytes:
        """The source of a module, without importing it where it is a plain file beside its package."""
        for folder in self._package.__path__:
            path = Path(folder) / f"{module}.py"
            if path.is_file():
                return path.read_bytes()
        file = importlib.import_module(f"{self._package.__name__}.{module}").__file__
        assert file is not None, f"{self._package.__name__}.{module} is no file"
        return Path(file).read_bytes()


class _Found:
    """The slices by name, and what has been asked of them."""

    def __init__(self, slices: Sequence[_Slice]) -> None:
        self._slices = slices
        self._of_kind: dict[str, Kinds | None] = {}
        self._projections: dict[str, tuple[Projection, ...]] = {}

    def fingerprint(self) -> str:
        """A digest of the code that folds records."""
        hasher = hashlib.sha256()
        for each in self._slices:
            hasher.update(each.name.encode() + b"\0" + hashlib.sha256(each.records_text).digest())
        return hasher.hexdigest()

    def declaring(self, kind: str) -> Kinds | None:
        """The kinds of the slice that declares a kind, or None if none does."""
        if kind not in self._of_kind:
            wanted = f'"{kind}"'.encode()
            near = [each for each in self._slices if wanted in each.facts_text]
            self._of_kind[kind] = next((known for known in map(_kinds, near) if kind in known), None)
        return self._of_kind[kind]

    def projections(self, kind: str) -> tuple[Projection, ...]:
        """What folds facts of a kind, in the order of the slices."""
        if kind not in self._projections:
            known = self.declaring(kind)
            wanted = known.payload_class(kind).__name__.encode() if known is not None else b""
            near = [each for each in self._slices if wanted and wanted in each.records_text]
            self._projections[kind] = tuple(
                function for each in near for function in each.records().PROJECTIONS if _kind_of(function) == kind
            )
        return self._projections[kind]

    @functools.cached_property
    def kinds(self) -> Kinds:
        """Every kind of every slice."""
        modules = [each.facts() for each in self._slices]
        payloads = [payload for module in modules for payload in module.FACTS]
        return Kinds(payloads, [each for module in modules for each in getattr(module, "UPCASTERS", ())])

    @functools.cached_property
    def tables(self) -> tuple[Table, ...]:
        """Every record table, in the order of the slices."""
        return tuple(table for each in self._slices for table in each.records().TABLES)

    @functools.cached_property
    def folded(self) -> tuple[str, ...]:
        """Every kind that a projection folds, in the order of the slices."""
        every = (_kind_of(function) for each in self._slices for function in each.records().PROJECTIONS)
        return tuple(dict.fromkeys(every))


def _kinds(found: _Slice) -> Kinds:
    module = found.facts()
    return Kinds(module.FACTS, getattr(module, "UPCASTERS", ()))


def _kind_of(projection: Projection) -> str:
    return kind_of(projected(projection)).kind


class _LateKinds:
    """All kinds, of which each is looked for when it is asked about."""

    def __init__(self, found: _Found) -> None:
        self._found = found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found.kinds)

    def __contains__(self, kind: str) -> bool:
        return self._found.declaring(kind) is not None

    def payload_class(self, kind: str) -> type[Any]:
        return self._of(kind).payload_class(kind)

    def upcasted(self, kind: str, version: int, data: Mapping[str, JSON]) -> dict[str, JSON]:
        return self._of(kind).upcasted(kind, version, data)

    def _of(self, kind: str) -> Kinds:
        known = self._found.declaring(kind)
        if known is None:
            raise KeyError(kind)
        return known


class _LateTables(Sequence[Table]):
    """All record tables; the first look at them imports every slice."""

    def __init__(self, found: _Found) -> None:
        self._found = found

    @overload
    def __getitem__(self, place: int) -> Table: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Table]: ...

    def __getitem__(self, place: int | slice) -> Table | Sequence[Table]:
        return self._found.tables[place]

    def __len__(self) -> int:
        return len(self._found.tables)


class _LateProjections(Mapping[str, tuple[Projection, ...]]):
    """The projections by kind; asking for one kind imports only what may fold it."""

    def __init__(self, found: _Found) -> None:
        self._found = found

    def __getitem__(self, kind: str) -> tuple[Projection, ...]:
        functions = self._found.projections(kind)
        if not functions:
            raise KeyError(kind)
        return functions

    def __iter__(self) -> Iterator[str]:
        return iter(self._found.folded)

    def __len__(self) -> int:
        return len(self._found.folded)
