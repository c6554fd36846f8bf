"""Log files: whole lines, one writer, torn tails, rotation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from noria.core.errors import Corrupt, UsageError
from noria.serving.segment import SegmentWriter, folder, is_open, models, read, sources, sweep


class Clock:
    """Microseconds that a test moves."""

    def __init__(self) -> None:
        self.us = 1_000_000

    def __call__(self) -> int:
        return self.us


def test_lines_come_back_and_the_file_is_open_until_it_is_closed(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, Clock())
    writer.append([b"one", b"two"])
    writer.append([b"three"])
    (path,) = sources(tmp_path)
    assert read(path)[0] == [b"one", b"two", b"three"]
    assert is_open(path)
    writer.close()
    assert not is_open(path)


def test_a_file_is_rotated_when_it_is_full_or_old(tmp_path: Path) -> None:
    clock = Clock()
    writer = SegmentWriter(tmp_path, clock, max_bytes=50, max_age_s=60)
    writer.append([b"x" * 60])
    writer.append([b"y"])
    assert len(sources(tmp_path)) == 2
    clock.us += 61_000_000
    writer.append([b"z"])
    assert [read(path)[0] for path in sources(tmp_path)] == [[b"x" * 60], [b"y"], [b"z"]]
    clock.us += 61_000_000
    writer.rest()
    assert not any(is_open(path) for path in sources(tmp_path))
    writer.close()


def test_a_reader_goes_on_where_it_stopped(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, Clock())
    writer.append([b"a"])
    (path,) = sources(tmp_path)
    first, offset = read(path)
    writer.append([b"b", b"c"])
    assert (first, read(path, offset)[0]) == ([b"a"], [b"b", b"c"])
    writer.close()


def test_a_tail_cut_at_any_byte_costs_at_most_the_last_line(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, Clock())
    writer.append([b'{"id":1}', b'{"id":2}', b'{"id":3}'])
    writer.close()
    (path,) = sources(tmp_path)
    whole = path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        assert read(path)[0] == [b'{"id":1}', b'{"id":2}'], f"cut at byte {end}"


def test_a_flipped_byte_in_the_middle_is_named(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, Clock())
    writer.append([b'{"id":1}', b'{"id":2}'])
    writer.close()
    (path,) = sources(tmp_path)
    content = bytearray(path.read_bytes())
    content[12] ^= 1
    path.write_bytes(content)
    with pytest.raises(Corrupt, match="byte 0"):
        read(path)


def test_a_killed_writer_leaves_its_lines_and_lets_the_lock_go(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom noria.serving.segment import SegmentWriter\n"
        "SegmentWriter(Path(sys.argv[1]), lambda: 5).append([b'kept'])\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    (path,) = sources(tmp_path)
    assert read(path)[0] == [b"kept"]
    assert not is_open(path)


def test_a_file_that_was_never_named_is_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "1-1.tmp").touch()
    writer = SegmentWriter(tmp_path, Clock())
    writer.append([b"a"])
    sweep(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".log"]
    writer.close()


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a\0b", ".hidden", "x" * 300])
def test_a_model_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        folder(tmp_path, name)


def test_models_are_the_folders(tmp_path: Path) -> None:
    assert list(models(tmp_path)) == []
    SegmentWriter(folder(tmp_path, "m"), Clock()).append([b"a"])
    assert list(models(tmp_path)) == ["m"]
