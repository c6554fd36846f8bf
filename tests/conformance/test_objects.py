"""Every object store that Noria brings does what the seam asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria import plugins
from noria.engines.objects.file import FileObjects
from noria.engines.objects.memory import MemoryObjects
from noria.store.objects import ObjectStore
from noria.testing.conformance import ObjectStoreConformance


class TestFileObjects(ObjectStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FileObjects(tmp_path / "objects")


class TestMemoryObjects(ObjectStoreConformance):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryObjects()


def test_every_built_in_store_is_tested_here() -> None:
    assert {plugins.load("objects", name) for name in plugins.BUILTIN["objects"]} == {FileObjects, MemoryObjects}
