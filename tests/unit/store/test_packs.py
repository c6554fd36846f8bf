"""Packs: what is acknowledged stays, what was altered is named, what was killed is put right."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.core.errors import Corrupt
from noria.core.identity import digest
from noria.store.packrecords import HEADER, LIVE, header, scan
from noria.store.packs import Packs, as_key, as_name

CONTENTS = [b"content %d " % number * (number % 7) for number in range(50)]
KEYS = [as_key(digest(content)) for content in CONTENTS]


def add(packs: Packs, contents: list[bytes]) -> list[bytes]:
    keys = [as_key(digest(content)) for content in contents]
    with packs.batch() as batch:
        for key, content in zip(keys, contents, strict=True):
            batch.append(key, content)
        batch.commit()
    return keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "packs"


@pytest.fixture
def filled(folder: Path) -> Path:
    add(Packs(folder), CONTENTS)
    return folder


def only_pack(folder: Path) -> Path:
    (found,) = folder.glob("*.pack")
    return found


def forget_index(folder: Path) -> None:
    for file in folder.glob("index.db*"):
        file.unlink()


def read(packs: Packs, key: bytes) -> tuple[bool, bytes]:
    """Whether the object was said to be altered, and what was given for it otherwise."""
    try:
        found = packs.read(key)
    except Corrupt as error:
        return str(packs.folder) in str(error), b""
    assert found is not None, "it is there, well or not"
    return False, found


def everything(folder: Path) -> dict[bytes, bytes]:
    return dict(Packs(folder).read_many(KEYS))


def test_what_is_committed_is_there_for_everybody_and_what_is_not_is_nowhere(folder: Path) -> None:
    packs, other = Packs(folder), Packs(folder)
    with packs.batch() as batch:
        for key, content in zip(KEYS, CONTENTS, strict=True):
            batch.append(key, content)
        assert other.find(KEYS) == {}
        batch.commit()
    expected = dict(zip(KEYS, CONTENTS, strict=True))
    for reader in (packs, other, Packs(folder)):
        assert dict(reader.read_many(KEYS)) == expected
        assert reader.read(KEYS[3]) == CONTENTS[3]
        assert {key for key, _ in reader.objects()} == set(KEYS)
        assert reader.read(as_key(digest(b"never stored"))) is None


def test_a_batch_that_is_left_without_commit_leaves_nothing(filled: Path) -> None:
    size = only_pack(filled).stat().st_size
    packs = Packs(filled)
    with packs.batch() as batch:
        batch.append(as_key(digest(b"new")), b"new")
        batch.append(as_key(digest(bytes(3 << 20))), bytes(3 << 20))
    assert only_pack(filled).stat().st_size == size
    assert packs.find([as_key(digest(b"new"))]) == {}
    with Packs(filled.parent / "fresh").batch() as batch:
        batch.append(as_key(digest(b"new")), b"new")
    assert list((filled.parent / "fresh").glob("*.pack")) == []


def test_packs_are_turned_over_when_they_are_full(folder: Path) -> None:
    packs = Packs(folder)
    contents = [random.Random(number).randbytes(9 << 20) for number in range(17)]
    keys = add(packs, contents)
    assert len(list(folder.glob("*.pack"))) == 3
    assert dict(packs.read_many(keys)) == dict(zip(keys, contents, strict=True))
    add(packs, [b"one more"])
    assert len(list(folder.glob("*.pack"))) == 3, "the last one has room"


def test_a_pack_that_somebody_holds_is_left_to_him(filled: Path) -> None:
    with only_pack(filled).open("rb") as held:
        fcntl.flock(held.fileno(), fcntl.LOCK_EX)
        add(Packs(filled), [b"another writer"])
    assert len(list(filled.glob("*.pack"))) == 2
    assert Packs(filled).read(as_key(digest(b"another writer"))) == b"another writer"


@pytest.mark.parametrize("is_index_lost", [False, True])
def test_a_torn_tail_is_cut_and_nothing_that_was_committed_is_lost(filled: Path, is_index_lost: bool) -> None:
    pack = only_pack(filled)
    whole = pack.read_bytes()
    record = header(LIVE, 5, as_key(digest(b"whole"))) + b"whole"
    torn = header(LIVE, 500, as_key(digest(b"t"))) + b"torn"
    for tail in (b"x", bytes(5000), record[:20], torn, record + torn, record):
        pack.write_bytes(whole + tail)
        if is_index_lost:
            forget_index(filled)
        packs = Packs(filled)
        assert everything(filled) == dict(zip(KEYS, CONTENTS, strict=True))
        kept = packs.read(as_key(digest(b"whole")))
        assert kept == (b"whole" if record in tail else None), "what is whole is kept"
        (key,) = add(packs, [b"after " + tail])
        assert Packs(filled).read(key) == b"after " + tail
        size = pack.stat().st_size
        with pack.open("rb", buffering=0) as handle:
            assert scan(handle, 0, size)[1] == size, "nothing torn is left in it"
        forget_index(filled)


def test_an_index_that_is_lost_behind_or_broken_is_made_again(filled: Path, tmp_path: Path) -> None:
    shutil.copytree(filled, tmp_path / "old")
    add(Packs(filled), [b"later"])
    everything_there = {**dict(zip(KEYS, CONTENTS, strict=True)), as_key(digest(b"later")): b"later"}

    def is_whole() -> bool:
        return dict(Packs(filled).read_many(list(everything_there))) == everything_there

    forget_index(filled)
    assert is_whole()
    for broken in (b"", b"not a database", bytes(8192), os.urandom(40960)):
        forget_index(filled)
        (filled / "index.db").write_bytes(broken)
        assert is_whole()
    forget_index(filled)
    for file in (tmp_path / "old").glob("index.db*"):
        shutil.copy(file, filled / file.name)
    assert is_whole(), "an old copy of the index came back from a backup"


def test_pages_of_the_index_that_are_altered_at_random_never_give_wrong_bytes(folder: Path, tmp_path: Path) -> None:
    contents = [b"%d" % number * 9 for number in range(3000)]
    expected = dict(zip(add(Packs(folder), contents), contents, strict=True))
    Packs(folder)._index._read(lambda connection: connection.execute("pragma wal_checkpoint(truncate)").fetchall())
    chance = random.Random(11)
    clean = (folder / "index.db").read_bytes()
    for number in range(25):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(folder, copy)
        at = chance.randrange(len(clean) - 300)
        (copy / "index.db").write_bytes(clean[:at] + chance.randbytes(300) + clean[at + 300 :])
        packs = Packs(copy)
        assert dict(packs.read_many(list(expected))) == expected
        (key,) = add(packs, [b"goes on"])
        assert packs.read(key) == b"goes on"


def test_an_index_made_anew_by_another_process_is_seen(filled: Path) -> None:
    packs = Packs(filled)
    packs.find(KEYS)
    forget_index(filled)
    other = Packs(filled)
    (key,) = add(other, [b"by the other"])
    assert packs.read(key) == b"by the other"
    (mine,) = add(packs, [b"mine"])
    assert other.read(mine) == b"mine"


@pytest.mark.parametrize("place", range(0, HEADER.size + 20, 3))
def test_a_byte_altered_anywhere_in_a_record_is_never_handed_out_as_the_object(filled: Path, place: int) -> None:
    packs = Packs(filled)
    at = packs.find(KEYS)[KEYS[20]].at
    pack = only_pack(filled)
    content = bytearray(pack.read_bytes())
    content[at + place] ^= 0x20
    pack.write_bytes(content)
    for reader in (packs, Packs(filled)):
        is_named, found = read(reader, KEYS[20])
        is_right = found == CONTENTS[20]
        assert is_named or is_right or digest(found) != as_name(KEYS[20]), "the verified face sees it"
        assert dict(reader.read_many([*KEYS[:20], *KEYS[21:]])).keys() == {*KEYS[:20], *KEYS[21:]}
    with packs.batch() as batch:
        batch.append(KEYS[20], CONTENTS[20], replaces=True)
        batch.commit()
    assert everything(filled) == dict(zip(KEYS, CONTENTS, strict=True))


def test_a_record_with_an_altered_header_is_found_again_without_the_index(filled: Path) -> None:
    at = Packs(filled).find(KEYS)[KEYS[20]].at
    pack = only_pack(filled)
    for place in (0, 5, 13, 45):
        content = bytearray(pack.read_bytes())
        content[at + place] ^= 0x20
        pack.write_bytes(content)
        forget_index(filled)
        assert everything(filled) == dict(zip(KEYS, CONTENTS, strict=True))
        content[at + place] ^= 0x20
        pack.write_bytes(content)


def test_a_pack_that_is_cut_short_is_corrupt_and_never_appended_to(filled: Path) -> None:
    pack = only_pack(filled)
    os.truncate(pack, pack.stat().st_size // 2)
    packs = Packs(filled)
    with pytest.raises(Corrupt, match="altered"):
        packs.read(KEYS[-2])
    assert packs.read(KEYS[1]) == CONTENTS[1]
    add(packs, [b"new"])
    assert len(list(filled.glob("*.pack"))) == 2


def test_a_deleted_object_is_gone_with_its_bytes_and_does_not_come_back(filled: Path) -> None:
    packs = Packs(filled)
    packs.find(KEYS)
    with packs.batch() as batch:  # a second copy, as two writers at once leave one
        batch.append(KEYS[20], CONTENTS[20])
        batch.commit()
    assert only_pack(filled).read_bytes().count(CONTENTS[20]) == 2
    assert packs.delete(KEYS[20])
    assert CONTENTS[20] not in only_pack(filled).read_bytes()
    assert not packs.delete(KEYS[20])
    forget_index(filled)
    fresh = Packs(filled)
    assert fresh.read(KEYS[20]) is None
    assert set(everything(filled)) == set(KEYS) - {KEYS[20]}
    add(fresh, [CONTENTS[20]])
    assert fresh.read(KEYS[20]) == CONTENTS[20]


def test_a_pack_in_little_use_is_emptied_and_readers_go_on(filled: Path) -> None:
    packs, reader = Packs(filled), Packs(filled)
    assert reader.read(KEYS[1]) == CONTENTS[1]
    assert packs.repack() == 0, "everything in it is in use"
    big = [random.Random(number).randbytes(60_000) for number in range(30)]
    add(packs, big)
    for content in big:
        packs.delete(as_key(digest(content)))
    before = only_pack(filled)
    freed = packs.repack()
    assert freed > 29 * 60_000
    assert not before.exists()
    for each in (reader, packs, Packs(filled)):
        assert dict(each.read_many(KEYS)) == dict(zip(KEYS, CONTENTS, strict=True))
    forget_index(filled)
    assert everything(filled) == dict(zip(KEYS, CONTENTS, strict=True))


def test_a_pack_with_an_altered_object_is_not_emptied(filled: Path) -> None:
    packs = Packs(filled)
    (key,) = add(packs, [bytes(500_000)])
    packs.delete(key)
    place = packs.find(KEYS)[KEYS[20]]
    content = bytearray(only_pack(filled).read_bytes())
    content[place.at + HEADER.size] ^= 1
    only_pack(filled).write_bytes(content)
    assert packs.repack() == 0
    assert only_pack(filled).exists()


def test_a_folder_that_cannot_be_written_can_be_read(filled: Path, make_read_only: Callable[[Path], None]) -> None:
    (filled / "index.db").rename(filled / "away")
    make_read_only(filled)
    assert everything(filled) == dict(zip(KEYS, CONTENTS, strict=True))


WRITER = """
import sys, random
from pathlib import Path
from noria.core.identity import digest
from noria.engines.objects.file import FileObjects
store = FileObjects(Path(sys.argv[1]))
chance = random.Random(int(sys.argv[2]))
for _ in range(12):
    contents = [b"%d" % chance.randrange(500) * 50 for _ in range(60)]
    names = store.put_many(contents)
    assert names == [digest(content) for content in contents]
    assert dict(store.get_many(names)) == dict(zip(names, contents))
print("done")
"""


def test_many_processes_append_at_once(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "o"), str(seed)], stdout=subprocess.PIPE)
        for seed in range(6)
    ]
    for process in processes:
        assert process.communicate(timeout=120)[0] == b"done\n"
    packs = Packs(tmp_path / "o" / "packs")
    keys = [key for key, _ in packs.objects()]
    assert 400 < len(keys) <= 500
    assert all(as_key(digest(content)) == key for key, content in packs.read_many(keys))
    assert len(list(packs.folder.glob("*.pack"))) <= 6


def test_an_index_survives_a_fork(filled: Path) -> None:
    packs = Packs(filled)
    packs.find(KEYS)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            add(packs, [b"by the child"])
            code = 0 if packs.read(KEYS[1]) == CONTENTS[1] else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert packs.read(as_key(digest(b"by the child"))) == b"by the child"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=300), max_size=8), max_size=6), st.randoms())
def test_any_batches_come_back_whatever_becomes_of_the_index(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]], chance: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("packs")
    expected: dict[bytes, bytes] = {}
    packs = Packs(folder)
    for contents in batches:
        expected.update(zip(add(packs, contents), contents, strict=True))
        if chance.random() < 0.4:
            forget_index(folder)
            packs = Packs(folder)
    assert dict(packs.read_many(list(expected))) == expected
    assert {key for key, _ in packs.objects()} == set(expected)


def test_a_fault_of_the_index_file_is_the_disks(filled: Path) -> None:
    packs = Packs(filled)
    packs.find(KEYS)

    def fail(connection: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    with pytest.raises(OSError, match=r"index\.db"):
        packs._index._read(fail)


@pytest.mark.parametrize("altered", ["first", "last"])
@pytest.mark.parametrize("is_lost", ["index", "row"])
def test_of_several_copies_one_that_is_whole_is_found_when_the_index_is_made_anew(
    folder: Path, altered: str, is_lost: str
) -> None:
    add(Packs(folder), CONTENTS)
    with Packs(folder).batch() as batch:
        batch.append(KEYS[20], CONTENTS[20], replaces=True)
        batch.commit()
    pack = only_pack(folder)
    content = bytearray(pack.read_bytes())
    at = content.index(CONTENTS[20]) if altered == "first" else content.rindex(CONTENTS[20])
    content[at] ^= 1
    pack.write_bytes(content)
    if is_lost == "index":
        forget_index(folder)
    else:
        with closing(sqlite3.connect(folder / "index.db")) as connection, connection:
            connection.execute("delete from object where digest = ?", (KEYS[20],))
    packs = Packs(folder)
    assert packs.read(KEYS[20]) == CONTENTS[20]
    assert set(everything(folder)) == set(KEYS)
