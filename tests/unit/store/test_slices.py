"""Slices: what of them a kind concerns is imported when the kind is asked for, and nothing of it is missed."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noria import plugins
from noria.core.fact import kind_of
from noria.store.slices import load_slices
from noria.store.tables import projected

WRITES_ONE_FACT = """
import sys
from noria.store.slices import load_slices
slices = load_slices()
assert slices.fingerprint and "approval.given" in slices.kinds
assert not [name for name in sys.modules if name.endswith(".records")], "a kind of fact needs no records"
assert slices.kinds.payload_class("dataset.tagged").__name__ == "DatasetTagged"
assert slices.projections["dataset.tagged"]
loaded = [name for name in sys.modules if name.endswith((".records", ".facts"))]
assert "noria.data.records" in loaded and "noria.serving.records" not in loaded, loaded
print(*loaded)
"""


def eagerly() -> dict[str, tuple[list[Callable[..., None]], type[Any]]]:
    """Every kind with what folds it and its class, by importing every slice."""
    packages = [plugins.load("slice", name).__name__ for name in plugins.names("slice")]
    found: dict[str, tuple[list[Callable[..., None]], type[Any]]] = {}
    for package in packages:
        for payload in importlib.import_module(f"{package}.facts").FACTS:
            assert kind_of(payload).kind not in found
            found[kind_of(payload).kind] = ([], payload)
    for package in packages:
        for function in importlib.import_module(f"{package}.records").PROJECTIONS:
            found[kind_of(projected(function)).kind][0].append(function)
    return found


def test_each_kind_alone_finds_everything_that_folds_it() -> None:
    slices, every = load_slices(), eagerly()
    assert set(slices.kinds) == set(every)
    assert set(slices.projections) == {kind for kind, (functions, _) in every.items() if functions}
    assert len(slices.projections) == len(set(slices.projections))
    for kind, (functions, payload) in every.items():
        assert kind in slices.kinds
        assert slices.kinds.payload_class(kind) is payload
        assert slices.projections.get(kind, ()) == tuple(functions), kind


def test_tables_come_in_the_order_of_the_slices() -> None:
    packages = [plugins.load("slice", name).__name__ for name in plugins.names("slice")]
    every = [table for package in packages for table in importlib.import_module(f"{package}.records").TABLES]
    tables = load_slices().tables
    assert [*tables] == every
    assert len(tables) == len(every)
    assert tables[0] is every[0]
    assert [*tables[1:3]] == every[1:3]


def test_an_unknown_kind_is_unknown() -> None:
    slices = load_slices()
    assert "nobody.knows" not in slices.kinds
    assert "nobody.knows" not in slices.projections
    with pytest.raises(KeyError, match=r"nobody\.knows"):
        slices.kinds.payload_class("nobody.knows")
    with pytest.raises(KeyError, match=r"nobody\.knows"):
        slices.kinds.upcasted("nobody.knows", 1, {})


def test_the_fingerprint_is_of_the_code_that_folds() -> None:
    hasher = hashlib.sha256()
    for name in plugins.names("slice"):
        file = importlib.import_module(f"{plugins.load('slice', name).__name__}.records").__file__
        assert file is not None
        hasher.update(name.encode() + b"\0" + hashlib.sha256(Path(file).read_bytes()).digest())
    assert load_slices().fingerprint == hasher.hexdigest()


def test_a_process_that_writes_one_fact_imports_only_what_folds_it() -> None:
    done = subprocess.run([sys.executable, "-c", WRITES_ONE_FACT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
