"""All capabilities' kinds of facts, record tables and projections, found through the plug-in table."""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from noria import plugins
from noria.core.fact import Kinds, kind_of
from noria.store.tables import projected

__all__ = ["Slices", "load_slices"]


@dataclass(frozen=True, slots=True)
class Slices:
    """What the slices declare. `fingerprint` changes when the code that folds records changes."""

    kinds: Kinds
    tables: tuple[Table, ...]
    projections: Mapping[str, tuple[Callable[..., None], ...]]
    fingerprint: str


@functools.cache
def load_slices() -> Slices:
    """Import every slice's facts and records, once a process."""
    payloads: list[type[Any]] = []
    upcasters: list[Any] = []
    tables: list[Table] = []
    projections: dict[str, list[Callable[..., None]]] = {}
    hasher = hashlib.sha256()
    for name in plugins.names("slice"):
        package = plugins.load("slice", name).__name__
        facts = importlib.import_module(f"{package}.facts")
        payloads.extend(facts.FACTS)
        upcasters.extend(getattr(facts, "UPCASTERS", ()))
        records = importlib.import_module(f"{package}.records")
        tables.extend(records.TABLES)
        for function in records.PROJECTIONS:
            projections.setdefault(kind_of(projected(function)).kind, []).append(function)
        assert records.__file__ is not None
        hasher.update(name.encode() + b"\0" + hashlib.sha256(Path(records.__file__).read_bytes()).digest())
    frozen = {kind: tuple(functions) for kind, functions in projections.items()}
    return Slices(Kinds(payloads, upcasters), tuple(tables), frozen, hasher.hexdigest())
