"""Objects in a folder: packs, files and chunks behind one face, and what happens when one is altered."""

from __future__ import annotations

import errno
import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.core.errors import Conflict, Corrupt, NotFound, StoreFull, StoreUnavailable
from noria.core.identity import Digest, digest
from noria.engines.objects import adding
from noria.engines.objects.file import FileObjects
from noria.engines.objects.memory import MemoryObjects
from noria.store import packs
from noria.store.chunks import pack_recipe
from noria.store.objects import HasBatches, HasChunks, HasFiles, HasForms, HasPaths, HasTrash, Objects


def text(seed: int, rows: int = 120_000) -> bytes:
    chance = random.Random(seed)
    return b"".join(b"%d,%d,%d\n" % (n, chance.randrange(1000), n * n) for n in range(rows))


TEXT = text(1)
NOISE = random.Random(1).randbytes(3 << 20)


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Small and large ones, equal ones, an empty one, in folders, with odd names."""
    contents = {
        "a/one.bin": b"one", "a/two.bin": b"two", "b/one again.bin": b"one", "b/empty": b"", "large.csv": TEXT,
        "noise.jpg": NOISE, "middle": NOISE[:200_000], "b/middle again": NOISE[:200_000], "a/line\nbreak": b"odd",
        os.fsdecode(b"a/caf\xe9"): b"latin",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(content)
    return [tmp_path / "source" / name for name in contents]


def alter(path: Path, at: int) -> None:
    """One bit of a file is another one."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def test_the_store_on_disk_has_every_optional_part_and_the_one_in_memory_says_what_it_has() -> None:
    on_disk, in_memory = FileObjects(Path("unused")), MemoryObjects()
    for protocol in (HasBatches, HasChunks, HasFiles, HasForms, HasPaths, HasTrash):
        assert isinstance(on_disk, protocol)
    assert isinstance(in_memory, HasBatches)
    assert isinstance(in_memory, HasTrash)
    assert not isinstance(in_memory, HasPaths)


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_many_files_are_stored_read_and_copied(kind: str, files: list[Path], tmp_path: Path) -> None:
    objects = Objects(FileObjects(tmp_path / "o") if kind == "file" else MemoryObjects(), tmp_path / "cache")
    done: list[int] = []
    names = objects.put_files(files, done.append)
    contents = [path.read_bytes() for path in files]
    assert names == [digest(content) for content in contents]
    assert sum(done) == sum(map(len, contents))
    assert objects.has_many(names) == set(names)
    assert dict(objects.get_many(names)) == dict(zip(names, contents, strict=True))
    for name, content in zip(names, contents, strict=True):
        assert objects.size(name) == len(content)
        assert objects.get_bytes(name) == objects.path(name).read_bytes() == content
        objects.verify(name)
        with objects.open(name) as stream:
            stream.seek(len(content) // 2)
            assert stream.read() == content[len(content) // 2 :]
    targets = [tmp_path / "out" / f"{number}" / path.name for number, path in enumerate(files)]
    targets[3].parent.mkdir(parents=True)
    targets[3].write_bytes(b"something else")
    done.clear()
    objects.copy_many(list(zip(names, targets, strict=True)), done.append)
    assert [target.read_bytes() for target in targets] == contents
    assert sum(done) == sum(map(len, contents))
    assert {file for file in (tmp_path / "out").rglob("*") if file.is_file()} == set(targets)
    assert all(path.stat().st_mode & 0o200 for path in targets), "a working copy can be written"
    assert objects.put_files(files) == names
    assert objects.put_files([]) == []
    objects.copy_many([])


def test_each_kind_of_file_is_kept_in_its_form(objects: Objects, files: list[Path], tmp_path: Path) -> None:
    names = dict(zip([path.name for path in files], objects.put_files(files), strict=True))
    root = tmp_path / "objects"
    loose = {file.name for folder in root.glob("[0-9a-f][0-9a-f]") for file in folder.iterdir()}
    assert loose == {names["noise.jpg"][9:], names["middle"][9:], names["large.csv"][9:] + ".chunks"}
    chunks = objects.chunks_of(names["large.csv"])
    assert chunks is not None
    assert sum(size for _, size in chunks) == len(TEXT)
    assert objects.chunks_of(names["noise.jpg"]) is objects.chunks_of(names["one.bin"]) is None
    assert set(objects.names()) == {*names.values(), *(chunk for chunk, _ in chunks)}
    assert len(list((root / "packs").glob("*.pack"))) <= 2
    assert list((root / "tmp").iterdir()) == []


def test_a_change_of_a_large_file_costs_what_changed(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "large.csv"
    source.write_bytes(TEXT)
    objects.put_file(source)
    before = sum(file.stat().st_size for file in (tmp_path / "objects").rglob("*.pack"))
    assert before < 1.01 * len(TEXT)
    source.write_bytes(TEXT[: len(TEXT) // 2] + b"a new row\n" + TEXT[len(TEXT) // 2 :])
    name = objects.put_file(source)
    after = sum(file.stat().st_size for file in (tmp_path / "objects").rglob("*.pack"))
    assert after - before < 0.15 * len(TEXT)
    assert objects.get_bytes(name) == source.read_bytes()


@pytest.mark.parametrize("name", ["a/one.bin", "large.csv", "noise.jpg", "middle"])
@pytest.mark.parametrize("change", ["longer", "other", "replaced"])
def test_a_file_that_changes_while_it_is_added_is_named_and_is_no_version(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: str
) -> None:
    changing = next(path for path in files if str(path).endswith(name))
    before = changing.stat()

    def touch() -> None:
        if change == "longer":
            with changing.open("ab") as stream:
                stream.write(b"more")
        else:
            changing.write_bytes(changing.read_bytes()[::-1])
            os.utime(changing, ns=(before.st_atime_ns, before.st_mtime_ns + 1))

    class Reading:
        """`os`, but that a file changes when its descriptor was asked for its status the first time."""

        def __getattr__(self, attribute: str) -> object:
            return getattr(os, attribute)

        def fstat(self, handle: int) -> os.stat_result:
            status = os.fstat(handle)
            if status.st_ino == before.st_ino and not done:
                done.append(1)
                touch()
            return status

    done: list[int] = []
    objects = Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache")
    monkeypatch.setattr(adding, "os", Reading())  # the disk, with a neighbour on it
    with pytest.raises(Conflict, match="changed while it was read") as caught:
        objects.put_files(files) if change != "replaced" else objects.put_file(changing)
    monkeypatch.undo()
    assert str(changing) in str(caught.value)
    assert objects.put_file(changing) == digest(changing.read_bytes())


def test_after_a_failed_write_nothing_more_is_appended_and_nothing_is_kept(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "many"
    source.mkdir()
    files = [source / f"{number:04d}" for number in range(3000)]
    for number, path in enumerate(files):
        path.write_bytes(b"%d " % number * 20)

    class Failing:
        """`os`, but that the second write finds the disk full; there is room again for the next."""

        calls = 0

        def __getattr__(self, attribute: str) -> object:
            return getattr(os, attribute)

        def pwritev(self, handle: int, parts: list[bytes], at: int) -> int:
            self.calls += 1
            if self.calls == 2:
                raise OSError(errno.ENOSPC, "no space")
            return os.pwritev(handle, parts, at)

    disk = Failing()
    monkeypatch.setattr(packs, "os", disk)
    with pytest.raises(StoreFull):
        objects.put_files(files)
    assert disk.calls == 2
    monkeypatch.undo()
    assert list(objects.names()) == []
    assert sum(file.stat().st_size for file in (tmp_path / "objects/packs").glob("*.pack")) == 0
    assert objects.put_files(files) == [digest(path.read_bytes()) for path in files]


def test_what_is_no_file_is_named(objects: Objects, files: list[Path], tmp_path: Path) -> None:
    for bad in (tmp_path / "nowhere", tmp_path / "source", files[0] / "below a file"):
        for call in (lambda path: objects.put_files([*files, path]), objects.put_file):
            with pytest.raises(NotFound) as caught:
                call(bad)
            assert str(bad) in str(caught.value)


def test_an_altered_packed_object_is_named_never_handed_out_and_healed_by_a_put(
    objects: Objects, tmp_path: Path
) -> None:
    contents = [b"content %d" % number * 30 for number in range(20)]
    names = objects.put_many(contents)
    (pack,) = (tmp_path / "objects" / "packs").glob("*.pack")
    alter(pack, pack.read_bytes().index(contents[7]) + 5)
    for again in (objects, Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache")):
        for call in (again.get_bytes, again.path, again.verify, again.open, again.get_json):
            with pytest.raises(Corrupt, match="was altered") as caught:
                call(names[7])
            assert names[7][7:19] in str(caught.value)
        with pytest.raises(Corrupt):
            again.copy_many([(name, tmp_path / "out" / name[7:]) for name in names])
        assert not (tmp_path / "out" / names[7][7:]).exists()
        with pytest.raises(Corrupt):
            list(again.get_many(names))
    assert objects.put_many(contents) == names
    assert dict(objects.get_many(names)) == dict(zip(names, contents, strict=True))
    assert Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache").get_bytes(names[7]) == contents[7]


def test_an_altered_chunk_is_found_where_it_is_read_and_healed(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "large.csv"
    source.write_bytes(TEXT)
    name = objects.put_file(source)
    chunks = objects.chunks_of(name)
    assert chunks is not None
    bad = chunks[5][0]
    at = sum(size for _, size in chunks[:5])
    (pack,) = (tmp_path / "objects" / "packs").glob("*.pack")
    alter(pack, pack.read_bytes().index(TEXT[at : at + 500]) + 250)
    for call in (objects.get_bytes, objects.path, objects.verify):
        with pytest.raises(Corrupt, match="was altered"):
            call(name)
    with pytest.raises(Corrupt):
        objects.copy_to(name, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with objects.open(name) as stream:
        assert stream.read(at - 10) == TEXT[: at - 10], "what is before it can be read"
    with objects.open(name) as stream:
        stream.seek(at + 1)
        with pytest.raises(Corrupt, match=bad[7:19]):
            stream.read(1)
    objects.quarantine(name)
    assert not objects.has(bad)
    assert objects.has(chunks[4][0]), "what is well stays"
    assert objects.put_file(source) == name
    objects.verify(name)
    assert objects.path(name).read_bytes() == TEXT


def test_a_file_put_again_heals_chunks_and_their_list_without_more_ado(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "large.csv"
    source.write_bytes(TEXT)
    name = objects.put_file(source)
    (pack,) = (tmp_path / "objects" / "packs").glob("*.pack")
    recipe = tmp_path / "objects" / name[7:9] / (name[9:] + ".chunks")
    for at in (100, len(TEXT) // 2):
        alter(pack, at)
    alter(recipe, 90)
    with pytest.raises(Corrupt, match="chunk list") as caught:
        objects.get_bytes(name)
    assert str(recipe) in str(caught.value)
    for call in (objects.size, objects.open, objects.verify, objects.chunks_of, objects.path):
        with pytest.raises(Corrupt):
            call(name)
    assert name in set(objects.names()), "it is listed, so that an audit meets it"
    assert objects.put_file(source) == name
    assert objects.get_bytes(name) == TEXT
    alter(recipe, 40)
    objects.quarantine(name)
    assert not objects.has(name)
    with pytest.raises(NotFound):
        objects.get_bytes(name)
    assert objects.put_bytes(TEXT) == name
    assert objects.get_bytes(name) == TEXT


def test_a_stream_of_what_is_chunked_or_packed_is_not_stored_twice(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "large.csv"
    source.write_bytes(TEXT)
    name, small = objects.put_file(source), objects.put_many([b"small"])[0]
    assert objects.put_bytes(TEXT) == name
    assert objects.put_bytes(b"small") == small
    assert not objects.store.path_of(name).exists()  # type: ignore[attr-defined]  # the store on disk
    assert not objects.store.path_of(small).exists()  # type: ignore[attr-defined]  # the store on disk
    (pack,) = (tmp_path / "objects" / "packs").glob("*.pack")
    alter(pack, pack.read_bytes().index(b"small"))
    alter(pack, len(TEXT) // 2)
    assert objects.put_bytes(TEXT) == name
    assert objects.put_bytes(b"small") == small
    assert objects.get_bytes(name) == TEXT
    assert objects.get_bytes(small) == b"small"


def test_chunks_that_are_not_the_object_are_refused(objects: Objects) -> None:
    store = objects.store
    assert isinstance(store, FileObjects)
    one, two = store.put_many([b"one", b"two"])
    with pytest.raises(Corrupt, match="are not object"):
        store.put_chunked(digest(b"twoone"), [(one, 3), (two, 3)])
    with pytest.raises(NotFound):
        store.put_chunked(digest(b"onesix"), [(one, 3), (digest(b"six"), 3)])
    assert set(store.list()) == {(one, 3), (two, 3)}


def test_a_recipe_of_another_object_is_not_taken_for_this_one(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "large.csv"
    source.write_bytes(TEXT)
    name = objects.put_file(source)
    store = objects.store
    assert isinstance(store, FileObjects)
    recipe = store._recipe(name)
    assert recipe is not None
    other = Digest("sha256:" + "0" * 64)
    path = tmp_path / "objects" / "00" / ("0" * 62 + ".chunks")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pack_recipe(recipe))
    with pytest.raises(Corrupt):
        objects.get_bytes(other)


def test_a_cached_copy_that_was_altered_is_made_again(objects: Objects) -> None:
    name = objects.put_many([b"packed"])[0]
    place = objects.path(name)
    alter(place, 0)
    assert objects.path(name).read_bytes() == b"packed"


def test_quarantine_keeps_what_is_well_and_says_what_is_not_there(objects: Objects, tmp_path: Path) -> None:
    loose, packed = objects.put_bytes(b"loose"), objects.put_many([b"packed"])[0]
    objects.quarantine(loose)
    objects.quarantine(packed)
    assert objects.has_many([loose, packed]) == {loose, packed}
    with pytest.raises(NotFound):
        objects.quarantine(digest(b"never stored"))
    alter(objects.path(loose), 0)
    objects.quarantine(loose)
    assert not objects.has(loose)
    assert [file.read_bytes() for file in (tmp_path / "objects" / "quarantine").iterdir()] == [b"moose"]


def test_a_store_that_cannot_be_written_is_read_and_refuses_to_be_added_to(
    objects: Objects, files: list[Path], tmp_path: Path, make_read_only: Callable[[Path], None]
) -> None:
    names = objects.put_files(files)
    make_read_only(tmp_path / "objects")
    again = Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache2")
    for name, path in zip(names, files, strict=True):
        assert again.get_bytes(name) == path.read_bytes()
    again.copy_many([(name, tmp_path / "out" / str(number)) for number, name in enumerate(names)])
    for call in (lambda: again.put_many([b"new"]), lambda: again.put_bytes(b"new")):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert len(str(caught.value).splitlines()) <= 6


ADDER = """
import sys
from pathlib import Path
from noria.engines.objects.file import FileObjects
from noria.store.objects import Objects
root, source = Path(sys.argv[1]), Path(sys.argv[2])
objects = Objects(FileObjects(root / "objects"), root / "cache" / sys.argv[3])
files = sorted(path for path in source.rglob("*") if path.is_file())
names = objects.put_files(files)
objects.copy_many([(name, root / sys.argv[3] / str(number)) for number, name in enumerate(names)])
for number, file in enumerate(files):
    assert (root / sys.argv[3] / str(number)).read_bytes() == file.read_bytes()
print("done")
"""


def test_many_processes_add_and_check_out_the_same_at_once(files: list[Path], tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", ADDER, str(tmp_path / "p"), str(tmp_path / "source")]
    processes = [subprocess.Popen([*arguments, str(number)], stdout=subprocess.PIPE) for number in range(6)]
    for process in processes:
        assert process.communicate(timeout=120)[0] == b"done\n"
    objects = Objects(FileObjects(tmp_path / "p" / "objects"), tmp_path / "cache")
    for name in objects.names():
        objects.verify(name)
    assert objects.put_files(files) == [digest(path.read_bytes()) for path in files]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "sparse", "text"])
def test_half_a_gibibyte_is_added_in_flat_memory(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "big"
    with source.open("wb") as sink:
        if kind == "sparse":
            sink.truncate(1 << 29)
        else:
            block = NOISE[: 1 << 20] if kind == "noise" else TEXT[: 1 << 20]
            for number in range(512):
                sink.write(number.to_bytes(8, "big") + block[8:])
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from noria.engines.objects.file import FileObjects\nfrom noria.store.objects import Objects\n"
        "objects = Objects(FileObjects(Path(sys.argv[2]) / 'o'), Path(sys.argv[2]) / 'c')\n"
        "name = objects.put_file(Path(sys.argv[1]))\nobjects.verify(name)\n"
        "objects.copy_to(name, Path(sys.argv[2]) / 'copy')\n"
        "peak = open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]\n"  # ru_maxrss: the parent's too
        "print(name, int(peak) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(tmp_path)], capture_output=True, text=True, check=True
    )
    name, peak_mib = done.stdout.split()
    with source.open("rb") as stream, (tmp_path / "copy").open("rb") as copy:
        while block := stream.read(1 << 22):
            assert copy.read(1 << 22) == block
        assert copy.read(1) == b""
    assert int(peak_mib) < 250
    objects = Objects(FileObjects(tmp_path / "o"), tmp_path / "c")
    assert objects.size(name) == 1 << 29
    assert io.BytesIO(TEXT).read(1) == TEXT[:1]


def test_a_megabyte_in_the_middle_of_a_large_archive_costs_a_megabyte(tmp_path: Path) -> None:
    chance = random.Random(7)
    content = chance.randbytes(72 << 20)
    file = tmp_path / "archive.zip"
    file.write_bytes(content)
    store = FileObjects(tmp_path / "o")
    first = store.put_file(file)
    before = sum(path.stat().st_size for path in (tmp_path / "o" / "packs").glob("*.pack"))
    file.write_bytes(content[: 36 << 20] + chance.randbytes(1 << 20) + content[36 << 20 :])
    second = store.put_file(file)
    grown = sum(path.stat().st_size for path in (tmp_path / "o" / "packs").glob("*.pack")) - before
    assert 1 << 20 <= grown < 2 << 20
    target = tmp_path / "copy"
    Objects(store, tmp_path / "c").copy_to(second, target)
    assert target.read_bytes() == file.read_bytes()
    assert store.size_of(first) == 72 << 20


def test_a_folder_in_the_place_of_a_file_is_damage_and_a_put_heals_it(objects: Objects) -> None:
    store = objects.store
    assert isinstance(store, HasPaths)
    name = objects.put_bytes(NOISE)
    path = store.path_of(name)
    path.unlink()
    path.mkdir()
    for ask in (objects.get_bytes, objects.require, objects.path, objects.verify):
        with pytest.raises(Corrupt, match="a folder is in the place of its file"):
            ask(name)
    objects.put_bytes(NOISE)
    assert objects.get_bytes(name) == NOISE
    path.unlink()
    path.mkdir()
    objects.quarantine(name)
    assert not path.exists()
