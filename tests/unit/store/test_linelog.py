from __future__ import annotations

import resource
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.errors import Corrupt, StoreFull, UsageError
from noria.store.linelog import LineWriter, read_lines

PAYLOADS = [b'{"a": 1}', b"", "é".encode(), b"x" * 5000]


def written(path: Path, payloads: list[bytes]) -> bytes:
    writer = LineWriter(path)
    writer.append(payloads)
    writer.close()
    return path.read_bytes()


def test_a_line_is_its_checksum_a_space_and_its_payload(tmp_path: Path) -> None:
    assert written(tmp_path / "log", [b"hello"]) == b"%08x hello\n" % zlib.crc32(b"hello")


@given(st.lists(st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b), max_size=4), max_size=6))
def test_what_is_appended_is_read_back(tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]]) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    writer = LineWriter(path)
    for batch in batches:
        writer.append(batch)
    writer.sync()
    writer.close()
    everything = [payload for batch in batches for payload in batch]
    assert read_lines(path) == (everything, path.stat().st_size)


def test_a_reader_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(path)
    found: list[bytes] = []
    offset = 0
    for payload in PAYLOADS:
        writer.append([payload])
        lines, offset = read_lines(path, offset)
        found.extend(lines)
    assert found == PAYLOADS
    assert read_lines(path, offset) == ([], offset)
    writer.close()


def test_reading_in_limited_pieces_gives_every_line_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, PAYLOADS * 20)
    found: list[bytes] = []
    offset = 0
    while offset < path.stat().st_size:
        lines, offset = read_lines(path, offset, limit_bytes=100)
        assert lines
        found.extend(lines)
    assert found == PAYLOADS * 20


def test_a_file_cut_at_any_byte_loses_only_the_line_it_was_cut_in(tmp_path: Path) -> None:
    content = written(tmp_path / "log", [b"one", b"two", b"three"])
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10]
    for cut in range(len(content) + 1):
        path = tmp_path / f"cut{cut}"
        path.write_bytes(content[:cut])
        lines, offset = read_lines(path)
        assert lines == [b"one", b"two", b"three"][: sum(end <= cut for end in ends)]
        assert offset == max([0, *(end for end in ends if end <= cut)])
        again = LineWriter(path)
        again.append([b"new"])
        again.close()
        assert read_lines(path)[0] == [*lines, b"new"]


def test_a_changed_byte_in_a_whole_line_is_named_with_its_place(tmp_path: Path) -> None:
    content = written(tmp_path / "log", [b"one", b"two", b"three"])
    for place in range(len(content)):
        if content[place] == 10:
            continue
        path = tmp_path / f"changed{place}"
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        start = content.rfind(b"\n", 0, place) + 1
        with pytest.raises(Corrupt, match=f"line at byte {start} ") as caught:
            read_lines(path)
        assert caught.value.where == str(path)


def test_a_payload_with_a_newline_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    writer = LineWriter(tmp_path / "log")
    writer.append([])
    with pytest.raises(UsageError, match="newline"):
        writer.append([b"fine", b"a\nb"])
    assert (tmp_path / "log").read_bytes() == b""
    writer.close()
    writer.close()


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none", 7) == ([], 7)


def test_a_long_torn_tail_is_cut_when_writing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = written(path, [b"one"])
    path.write_bytes(whole + b"x" * 200_000)
    writer = LineWriter(path)
    assert writer.size_bytes == len(whole)
    writer.close()
    assert path.read_bytes() == whole
    path.write_bytes(b"y" * 200_000)
    LineWriter(path).close()
    assert path.read_bytes() == b""


def test_a_full_disk_leaves_nothing_of_the_batch(tmp_path: Path) -> None:
    """A file size limit stands for the disk: the kernel writes a part and then refuses."""
    path = tmp_path / "log"
    writer = LineWriter(path)
    writer.append([b"kept"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (writer.size_bytes + 10, hard))
    try:
        for payload in (b"too long for what is left", b"x" * 100):
            with pytest.raises(StoreFull):
                writer.append([payload])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.append([b"again"])
    writer.close()
    assert read_lines(path)[0] == [b"kept", b"again"]


@pytest.mark.parametrize("mark", [b"X", b"\x0b", b"\r", b"\0"])
def test_a_last_line_that_lost_its_end_is_named(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "log"
    whole = written(path, [b'{"a": 1}', b'{"b": 2}'])
    path.write_bytes(whole[:-1] + mark)
    with pytest.raises(Corrupt, match="the line at byte 18 has lost its end"):
        read_lines(path)
    path.write_bytes(whole[:-1])
    assert read_lines(path) == ([b'{"a": 1}'], 18), "a write that was cut there is torn"
