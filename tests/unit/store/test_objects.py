from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import Conflict, Corrupt, NotFound, StoreFull, StoreUnavailable
from noria.core.identity import Digest, digest
from noria.engines.objects.file import FileObjects
from noria.engines.objects.memory import MemoryObjects
from noria.store.objects import Objects, ObjectStore, disk_faults, hash_file


@pytest.fixture(params=["file", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    store: ObjectStore = FileObjects(tmp_path / "objects") if request.param == "file" else MemoryObjects()
    return Objects(store, tmp_path / "cache")


@pytest.fixture
def on_disk(tmp_path: Path) -> Objects:
    return Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache")


def alter(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


@given(st.binary(max_size=200))
def test_bytes_come_back_under_their_own_name(content: bytes) -> None:
    objects = Objects(MemoryObjects(), Path("unused"))
    name = objects.put_bytes(content)
    assert name == digest(content)
    assert objects.get_bytes(name) == content
    assert objects.size(name) == len(content)


def test_json_is_stored_by_its_canonical_bytes(objects: Objects) -> None:
    name = objects.put_json({"b": 1.0, "a": [None, True]})
    assert objects.get_bytes(name) == b'{"a":[null,true],"b":1}'
    assert objects.get_json(name) == {"a": [None, True], "b": 1}
    with pytest.raises(Corrupt, match="is not JSON"):
        objects.get_json(objects.put_bytes(b"not json"))


def test_a_file_is_stored_and_left_as_it_was(objects: Objects, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"a,b\n" * 1_000_000)
    before = file.stat()
    name = objects.put_file(file)
    assert name == hash_file(file)
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert objects.path(name).read_bytes() == file.read_bytes()
    assert not stat.S_IMODE(objects.path(name).stat().st_mode) & 0o222 or isinstance(objects.store, MemoryObjects)


def test_a_file_that_changes_while_it_is_read_is_refused(on_disk: Objects, tmp_path: Path) -> None:
    file = tmp_path / "growing"
    file.write_bytes(b"x" * 100)

    class Growing(FileObjects):
        def put(self, source: object) -> object:  # type: ignore[override]  # a store that dawdles
            with file.open("ab") as stream:
                stream.write(b"y")
            return super().put(source)  # type: ignore[arg-type]  # passed through

    with pytest.raises(Conflict, match="changed while it was read"):
        Objects(Growing(tmp_path / "o"), tmp_path / "c").put_file(file)  # type: ignore[arg-type]  # the dawdler


@pytest.mark.parametrize("name", ["", "x", "sha256:zz", "../../etc/passwd", "sha256:" + "A" * 64])
def test_what_is_no_digest_is_not_found(objects: Objects, name: str) -> None:
    for call in (objects.get_bytes, objects.path, objects.has, objects.size):
        with pytest.raises(NotFound):
            call(name)


def test_an_object_that_is_not_there_is_not_found(objects: Objects, tmp_path: Path) -> None:
    name = digest(b"never stored")
    assert not objects.has(name)
    for call in (objects.get_bytes, objects.path, objects.size, objects.store.get, objects.store.delete):
        with pytest.raises(NotFound):
            call(name)
    with pytest.raises(NotFound):
        objects.copy_to(name, tmp_path / "copy")
    with pytest.raises(NotFound):
        objects.put_file(tmp_path / "no file")
    with pytest.raises(NotFound):
        objects.put_file(tmp_path)


@pytest.mark.parametrize("altered", [b"", b"content?", b"x" * 100])
def test_an_altered_object_is_never_handed_out_and_storing_it_again_heals_it(
    on_disk: Objects, tmp_path: Path, altered: bytes
) -> None:
    name = on_disk.put_bytes(b"content!")
    place = on_disk.path(name)
    alter(place, altered)
    for call in (on_disk.get_bytes, on_disk.path, on_disk.get_json):
        with pytest.raises(Corrupt, match="was altered"):
            call(name)
    with pytest.raises(Corrupt):
        on_disk.copy_to(name, tmp_path / "copy")
    assert list(tmp_path.glob("*copy*")) == []
    assert on_disk.put_bytes(b"content!") == name
    assert on_disk.get_bytes(name) == b"content!"


def test_a_change_that_keeps_size_and_time_is_found_by_a_fresh_process(on_disk: Objects, tmp_path: Path) -> None:
    name = on_disk.put_bytes(b"content!")
    place = on_disk.path(name)
    status = place.stat()
    alter(place, b"content?")
    os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(Corrupt):
        on_disk.get_bytes(name)
    with pytest.raises(Corrupt):
        Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache").path(name)


def test_a_copy_replaces_what_was_there_and_leaves_no_temporary_file(objects: Objects, tmp_path: Path) -> None:
    name = objects.put_bytes(b"new")
    target = tmp_path / "folder" / "copy"
    objects.copy_to(name, target)
    target.write_bytes(b"old")
    objects.copy_to(name, target)
    assert target.read_bytes() == b"new"
    assert [file.name for file in target.parent.iterdir()] == ["copy"]


def test_an_altered_cached_copy_is_noticed(tmp_path: Path) -> None:
    objects = Objects(MemoryObjects(), tmp_path / "cache")
    name = objects.put_bytes(b"content")
    place = objects.path(name)
    assert objects.path(name) == place
    alter(place, b"contenT")
    with pytest.raises(Corrupt):
        objects.path(name)


def test_old_temporary_files_are_swept_and_young_ones_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    (root / "tmp").mkdir(parents=True)
    (root / "tmp" / "old").write_bytes(b"")
    (root / "tmp" / "young").write_bytes(b"")
    os.utime(root / "tmp" / "old", (0, 0))
    FileObjects(root).put(io.BytesIO(b"x"))
    assert [file.name for file in (root / "tmp").iterdir()] == ["young"]


def test_a_list_names_every_object_and_nothing_else(objects: Objects) -> None:
    assert list(objects.store.list()) == []
    names = {objects.put_bytes(bytes([number])): 1 for number in range(20)}
    assert dict(objects.store.list()) == names
    objects.store.delete(next(iter(names)))
    assert len(dict(objects.store.list())) == 19


def test_the_machines_refusals_become_errors_with_advice(tmp_path: Path) -> None:
    with pytest.raises(StoreFull, match="no space is left"), disk_faults(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StoreUnavailable, match="Read-only") as caught, disk_faults(tmp_path):
        raise OSError(errno.EROFS, "Read-only file system")
    assert caught.value.hint
    assert len(str(caught.value).splitlines()) <= 6


def test_a_stream_that_cannot_seek_is_measured_by_reading(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    class Piped(MemoryObjects):
        def get(self, digest: Digest) -> io.BytesIO:
            return Pipe(super().get(digest).read())

    objects = Objects(Piped(), tmp_path)
    assert objects.size(objects.put_bytes(b"12345")) == 5
