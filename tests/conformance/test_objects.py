"""Every object store that Noria brings does what the seam asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from noria import plugins
from noria.engines.objects.file import FileObjects
from noria.engines.objects.memory import MemoryObjects
from noria.engines.objects.s3 import S3Objects
from noria.store.objects import ObjectStore
from noria.testing.conformance import ObjectStoreConformance

if TYPE_CHECKING:
    from s3_server import S3Server


class TestFileObjects(ObjectStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return FileObjects(tmp_path / "objects")


class TestMemoryObjects(ObjectStoreConformance):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryObjects()


class TestS3Objects(ObjectStoreConformance):
    @pytest.fixture
    def store(self, s3_server: S3Server, tmp_path: Path) -> ObjectStore:
        return S3Objects(s3_server.new_bucket(), s3_server.endpoint, cache=tmp_path / "cache")


def test_every_built_in_store_is_tested_here() -> None:
    assert {plugins.load("objects", name) for name in plugins.BUILTIN["objects"]} == {
        FileObjects,
        MemoryObjects,
        S3Objects,
    }
