"""Packed objects into many files: by two processes, each file verified, whatever becomes of the other process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.core.errors import Corrupt
from noria.core.identity import Digest, digest
from noria.engines.objects.file import FileObjects
from noria.store import unpack
from noria.store.objects import Objects
from noria.store.unpack import Packed, framed, serve
from noria.store.unpackers import AT_ONCE, MANY
from noria.testing.processes import is_running

WAIT_S = 120
COUNT = 2 * MANY


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Objects, dict[Digest, bytes]]:
    objects = Objects(FileObjects(tmp_path / "objects"), tmp_path / "cache")
    contents = [b"", *(b"content %d " % number * (1 + number % 200) for number in range(COUNT - 1))]
    return objects, dict(zip(objects.put_many(contents), contents, strict=True))


def targets(names: dict[Digest, bytes], folder: Path) -> dict[Digest, Path]:
    return {name: folder / f"{number % 30}" / f"{number}.\udcff" for number, name in enumerate(names)}


class Both:
    """Progress that holds this process back until the other one has written something, then does something."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.total = 0
        self._other = threading.Event()
        self._then = then
        self._lock = threading.Lock()

    def __call__(self, size_bytes: int) -> None:
        with self._lock:
            self.total += size_bytes
        if threading.current_thread() is threading.main_thread():
            assert self._other.wait(WAIT_S), "the other process did nothing"
        elif not self._other.is_set():
            self._then()
            self._other.set()


def kill_child() -> None:
    tasks = Path("/proc/self/task").glob("*/children")
    for pid in {int(word) for task in tasks for word in task.read_text().split()}:
        if b"unpack" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError("there is no other process")


@pytest.mark.parametrize("then", [lambda: None, kill_child], ids=["lives", "is killed"])
def test_two_processes_write_every_file_once_and_right(
    stored: tuple[Objects, dict[Digest, bytes]], tmp_path: Path, then: Callable[[], None]
) -> None:
    objects, contents = stored
    places = targets(contents, tmp_path / "out")
    done = Both(then)
    objects.copy_many([*places.items(), (next(iter(places)), tmp_path / "out" / "again")], done)
    for name, place in places.items():
        assert place.read_bytes() == contents[name]
    assert (tmp_path / "out" / "again").read_bytes() == b""
    assert done.total == sum(map(len, contents.values()))
    assert len([place for place in (tmp_path / "out").rglob("*") if place.is_file()]) == COUNT + 1


def test_of_many_files_an_altered_one_is_named_and_no_other_is_missing(
    stored: tuple[Objects, dict[Digest, bytes]], tmp_path: Path
) -> None:
    objects, contents = stored
    (pack,) = (tmp_path / "objects" / "packs").glob("*.pack")
    whole = bytearray(pack.read_bytes())
    bad = digest(b"content 3 " * 4)
    whole[whole.index(contents[bad]) + 2] ^= 1
    pack.write_bytes(whole)
    places = targets(contents, tmp_path / "out")
    with pytest.raises(Corrupt) as caught:
        objects.copy_many(list(places.items()))
    assert bad[7:19] in str(caught.value)
    assert {name for name, place in places.items() if not place.exists()} == {bad}
    objects.put_many([contents[bad]])
    objects.copy_many(list(places.items()))
    assert all(place.read_bytes() == contents[name] for name, place in places.items())


def test_a_pack_that_was_emptied_since_it_was_looked_up_is_no_loss(tmp_path: Path) -> None:
    class Moving(FileObjects):
        """Whose packs are collected between the look at the index and the look at the disk."""

        def places(self, digests: object) -> list[tuple[Digest, Path, int, int]]:
            found = super().places(digests)  # type: ignore[arg-type]  # passed on as it came
            return [(name, file.with_suffix(".gone"), at, size) for name, file, at, size in found]

    objects = Objects(Moving(tmp_path / "objects"), tmp_path / "cache")
    contents = [b"some %d" % number for number in range(50)]
    names = objects.put_many(contents)
    objects.copy_many([(name, tmp_path / "out" / name[7:]) for name in names])
    assert [(tmp_path / "out" / name[7:]).read_bytes() for name in names] == contents


WRITER = """
import sys, threading
from pathlib import Path
from noria.engines.objects.file import FileObjects
from noria.store.objects import Objects
root = Path(sys.argv[1])
objects = Objects(FileObjects(root / "objects"), root / "cache")
names = list(objects.names())
objects.copy_many([(name, root / "out" / name[7:]) for name in names], lambda size: threading.Event().wait())
"""
"""Each of the two processes writes one part, and then waits for ever."""


def test_when_the_asking_process_is_killed_the_other_one_ends_and_leaves_whole_files(
    stored: tuple[Objects, dict[Digest, bytes]], tmp_path: Path
) -> None:
    _, contents = stored
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
    ends = time.monotonic() + WAIT_S
    while not (tmp_path / "out").exists() or len(list((tmp_path / "out").iterdir())) <= AT_ONCE:
        assert process.poll() is None
        assert time.monotonic() < ends, "only one of the two writes"
        time.sleep(0.01)
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    (other,) = {int(word) for task in tasks for word in task.read_text().split()}
    process.kill()
    assert process.wait(WAIT_S) == -signal.SIGKILL
    while is_running(other):
        assert time.monotonic() < ends, "the other process went on by itself"
        time.sleep(0.01)
    written = list((tmp_path / "out").iterdir())
    assert AT_ONCE < len(written) <= 2 * AT_ONCE
    cut = [place for place in written if place.read_bytes() != contents[Digest(f"sha256:{place.name}")]]
    assert len(cut) <= 1, "no file but the one that was being written is there in part"


def packed(file: Path, contents: list[bytes], folder: Path) -> list[Packed]:
    file.write_bytes(b"".join(contents))
    ends = [sum(map(len, contents[:number])) for number in range(len(contents))]
    return [
        Packed(os.fsencode(file), at, len(content), bytes.fromhex(digest(content)[7:]), os.fsencode(folder / str(at)))
        for at, content in zip(ends, contents, strict=True)
    ]


def test_the_process_answers_each_frame_and_ends_with_its_input(tmp_path: Path) -> None:
    contents = [b"%d" % number * 40_000 for number in range(50)]
    work = packed(tmp_path / "pack", contents, tmp_path / "out")
    wrong = work[3]._replace(key=bytes(32), target=os.fsencode(tmp_path / "out" / "wrong"))
    beyond = work[-1]._replace(at=work[-1].at + 1, target=os.fsencode(tmp_path / "out" / "beyond"))
    frames = framed(work[:20]) + framed([wrong, *work[20:], beyond])
    done = subprocess.run(
        [sys.executable, "-I", "-S", unpack.__file__], input=frames, capture_output=True, timeout=WAIT_S, check=True
    )
    first, second = (list(map(int, line.split())) for line in done.stdout.splitlines())
    assert first == [sum(map(len, contents[:20]))]
    assert second == [sum(map(len, contents[20:])), 0, 31]
    assert sorted(int(place.name) for place in (tmp_path / "out").iterdir()) == [each.at for each in work]
    assert [Path(os.fsdecode(each.target)).read_bytes() for each in work] == contents


def test_a_frame_that_is_cut_off_is_not_done_in_part(tmp_path: Path) -> None:
    work = packed(tmp_path / "pack", [b"some", b"more"], tmp_path / "out")
    whole = framed(work)
    for size in range(len(whole)):
        sink = io.BytesIO()
        serve(io.BytesIO(whole[:size]), sink)
        assert not sink.getvalue()
    assert not (tmp_path / "out").exists()
    serve(io.BytesIO(whole), sink)
    assert sink.getvalue() == b"8\n"
    serve(io.BytesIO(whole), sink)
    assert sorted(place.read_bytes() for place in (tmp_path / "out").iterdir()) == [b"more", b"some"]
