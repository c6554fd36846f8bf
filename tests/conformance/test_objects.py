"""Every object store that Noria brings does what the seam asks for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from noria import plugins
from noria.core.errors import ConfigError, NotFound
from noria.engines.objects.file import FileObjects
from noria.engines.objects.memory import MemoryObjects
from noria.engines.objects.over import OverObjects
from noria.engines.objects.s3 import S3Objects
from noria.store.objects import HasNamed, ObjectStore
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


class TestOverObjects(ObjectStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return OverObjects(f"over://{tmp_path / 'top'}?base={quote(str(tmp_path / 'base'), safe='')}")


def test_a_store_over_another_reads_it_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    base = FileObjects(tmp_path / "base")
    below = base.put(io.BytesIO(b"below" * 50_000))
    before = {path: path.read_bytes() for path in (tmp_path / "base").rglob("*") if path.is_file()}
    over = OverObjects(f"over://{tmp_path / 'top'}?base={quote(str(tmp_path / 'base'), safe='')}")
    above = over.put(io.BytesIO(b"above"))
    with over.get(below) as stream:
        assert stream.read() == b"below" * 50_000
    assert {name for name, _ in over.list()} == {below, above}
    assert over.has(below)
    assert over.path_of(below).read_bytes() == b"below" * 50_000
    with pytest.raises(NotFound):
        over.delete(below)
    over.delete(above)
    assert not over.has(above)
    assert not base.has(above)
    assert {path: path.read_bytes() for path in (tmp_path / "base").rglob("*") if path.is_file()} == before
    with pytest.raises(ConfigError):
        OverObjects(f"over://{tmp_path / 'top'}")


def test_every_built_in_store_is_tested_here() -> None:
    assert {plugins.load("objects", name) for name in plugins.BUILTIN["objects"]} == {
        FileObjects,
        MemoryObjects,
        OverObjects,
        S3Objects,
    }


def test_the_stores_of_files_and_of_s3_take_verified_names() -> None:
    assert issubclass(FileObjects, HasNamed)
    assert issubclass(S3Objects, HasNamed)
