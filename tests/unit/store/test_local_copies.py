"""The cache of local copies: its bound, what goes first, and what is never taken from under a reader."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria.core.identity import Digest
from noria.engines.objects.memory import MemoryObjects
from noria.store.localcopies import LocalCopies, _Copy
from noria.store.objects import Objects


def opened(folder: Path, bound_bytes: int) -> Objects:
    return Objects(MemoryObjects(), folder / "cache", LocalCopies(folder / "cache", bound_bytes))


def aged(path: Path, hours: float = 12) -> None:
    """As if nobody had used it for so long, and as if reading it did not tell (as with the mount option relatime)."""
    then = time.time() - hours * 3600
    os.utime(path, (then, then - 3600))


def held(folder: Path) -> dict[str, int]:
    """The copies by digest, with their sizes."""
    found = [each for each in (folder / "cache").glob("**/*") if each.is_file() and len(each.name) == 62]
    return {f"sha256:{each.parent.name}{each.name}": each.stat().st_size for each in found}


def copied(objects: Objects, *contents: bytes, hours: float = 0) -> list[Digest]:
    names = [objects.put_bytes(content) for content in contents]
    for number, name in enumerate(names):
        place = objects.path(name)
        if hours:
            aged(place, hours - number / 100)
    return names


def test_what_was_used_least_lately_goes_when_the_bound_is_passed(tmp_path: Path) -> None:
    objects = opened(tmp_path, 10_000)
    old = copied(objects, *(bytes([number]) * 1_000 for number in range(9)), hours=18)
    assert set(held(tmp_path)) == set(old), "below the bound nothing goes"
    fresh = opened(tmp_path, 10_000)  # as another process: it marks what it uses
    for name in old:
        fresh.put_bytes(objects.get_bytes(name))
    assert fresh.path(old[0]).read_bytes() == bytes(1_000)
    big = copied(fresh, bytes(4_000) + b"new")
    assert set(held(tmp_path)) == {old[0], *old[6:], *big}, "the oldest went, but for the one that was used again"
    assert sum(held(tmp_path).values()) == 8_003, "down to nine tenths of the bound"
    assert fresh.path(old[1]).read_bytes() == bytes([1]) * 1_000, "and is made again when it is wanted"


def test_nothing_that_was_used_lately_goes_even_above_the_bound(tmp_path: Path) -> None:
    objects = opened(tmp_path, 100)
    names = copied(objects, *(bytes([number]) * 1_000 for number in range(20)))
    assert set(held(tmp_path)) == set(names)
    pruned = objects.copies.prune(0)
    assert (pruned.copies, pruned.size_bytes, pruned.freed) == (20, 20_000, 0)
    for name in names[:15]:
        aged(objects.path(name))
    assert objects.copies.look(0).freed == 15
    assert len(held(tmp_path)) == 20, "a look removes nothing"
    assert objects.copies.prune(0).freed_bytes == 15_000
    assert set(held(tmp_path)) == set(names[15:])


def test_a_bound_that_the_grace_defers_holds_as_soon_as_it_is_over(tmp_path: Path) -> None:
    objects = opened(tmp_path, 5_000)
    for name in copied(objects, *(bytes([number]) * 1_000 for number in range(12))):
        aged(tmp_path / "cache" / name[7:9] / name[9:])
    copied(objects, b"one more" * 125)
    assert sum(held(tmp_path).values()) <= 5_000


def test_caches_of_remotes_and_what_a_kill_left_count_and_other_files_are_left_alone(tmp_path: Path) -> None:
    objects = opened(tmp_path, 5_000)
    remote = Objects(objects.store, tmp_path / "cache/remote/origin", objects.copies)
    name = objects.put_bytes(b"r" * 2_000)
    aged(remote.path(name))
    left = tmp_path / "cache/ab" / f".{'c' * 62}.0123"
    left.parent.mkdir()
    left.write_bytes(bytes(3_000))
    aged(left)
    for other in ("stat/photos.db", "packs/ab", "digests.json"):
        (tmp_path / "cache" / other).parent.mkdir(exist_ok=True)
        (tmp_path / "cache" / other).write_bytes(bytes(9_000))
        aged(tmp_path / "cache" / other)
    copied(objects, bytes(500))
    assert left.exists()
    pruned = objects.copies.prune(0)
    assert (pruned.copies, pruned.freed, pruned.freed_bytes) == (3, 2, 5_000)
    assert not left.exists()
    assert (tmp_path / "cache/stat/photos.db").exists()
    assert (tmp_path / "cache/packs/ab").exists()
    assert (tmp_path / "cache/digests.json").exists()


@pytest.mark.parametrize("content", [b"", b"12", b"a b c", b"-1 nan inf", b"\xff" * 80])
def test_a_cache_that_was_never_counted_or_a_spoilt_tally_is_counted_anew(tmp_path: Path, content: bytes) -> None:
    objects = opened(tmp_path, 3_000)
    copied(objects, *(bytes([number]) * 1_000 for number in range(6)), hours=12)
    (tmp_path / "cache/copies.tally").write_bytes(content)
    copied(objects, b"x" * 1_000)
    assert sum(held(tmp_path).values()) <= 3_000
    words = (tmp_path / "cache/copies.tally").read_text().split()
    assert int(words[0]) == sum(held(tmp_path).values())


def test_a_cache_that_cannot_be_bounded_fails_nobody(
    tmp_path: Path, make_read_only: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    objects = opened(tmp_path, 1_000)
    name = copied(objects, b"a" * 900, hours=12)[0]
    make_read_only(tmp_path / "cache")
    again = opened(tmp_path, 1_000)
    assert again.path(name).read_bytes() == b"a" * 900
    with caplog.at_level("WARNING", "noria.store"):
        again.copies.added(again.path(name))
        again.copies.added(again.path(name))
    assert "could not be bounded" in caplog.text
    assert name in held(tmp_path)


READER = """
import random, sys, time
from pathlib import Path
from noria.core.identity import digest
from noria.engines.objects.file import FileObjects
from noria.store.localcopies import LocalCopies
from noria.store.objects import Objects

root, seed, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
objects = Objects(FileObjects(root / "objects"), root / "cache", LocalCopies(root / "cache", 400_000))
names = [digest(b"%06d" % each * 1_000) for each in range(number)]
chosen = random.Random(seed)
for turn in range(400):
    several = [(name, objects.path(name)) for name in chosen.sample(names, 3)]
    time.sleep(0.001)
    for name, path in several:
        assert digest(path.read_bytes()) == name, (turn, path)
print("read all")
"""


def test_two_processes_read_and_prune_one_cache_at_once_and_no_path_vanishes(tmp_path: Path) -> None:
    """Copies of yesterday fill the cache above its bound; both readers take and remove them all the time."""
    from_packs = 600
    script = tmp_path / "reader.py"
    script.write_text(READER, encoding="utf-8")
    source = opened(tmp_path / "source", 10**9)
    contents = [b"%06d" % number * 1_000 for number in range(from_packs)]
    names = copied(source, *contents)
    shutil.copytree(tmp_path / "source/cache", tmp_path / "cache")
    (tmp_path / "cache/copies.tally").unlink()
    for name in names:
        aged(tmp_path / "cache" / name[7:9] / name[9:])
    fill = "import sys\nfrom pathlib import Path\nfrom noria.engines.objects.file import FileObjects\n"
    fill += "FileObjects(Path(sys.argv[1])).put_many(b'%06d' % each * 1_000 for each in range(int(sys.argv[2])))\n"
    subprocess.run([sys.executable, "-c", fill, str(tmp_path / "objects"), str(from_packs)], check=True)
    words = [sys.executable, str(script), str(tmp_path)]
    readers = [
        subprocess.Popen([*words, str(seed), str(from_packs)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for seed in (1, 2)
    ]
    cache = LocalCopies(tmp_path / "cache", 400_000)
    while any(reader.poll() is None for reader in readers):
        cache.prune(0)
    ends = [reader.communicate() for reader in readers]
    assert [(reader.returncode, out) for reader, (out, _) in zip(readers, ends, strict=True)] == [
        (0, b"read all\n")
    ] * 2, ends
    total = sum(held(tmp_path).values())
    for path in (tmp_path / "cache").glob("??/*"):
        aged(path)
    pruned = cache.prune(0)
    assert (pruned.size_bytes, held(tmp_path)) == (total, {})


class Between(LocalCopies):
    """A cache in which something happens after the copies were listed, and before the first is removed."""

    def __init__(self, folder: Path, happens: Callable[[], object]) -> None:
        super().__init__(folder, 0)
        self._happens = happens

    def _copies(self) -> Iterator[_Copy]:
        found = list(super()._copies())
        self._happens()
        yield from found


def test_what_is_taken_while_a_removal_is_under_way_stays(tmp_path: Path) -> None:
    objects = opened(tmp_path, 10**9)
    names = copied(objects, *(bytes([number]) * 1_000 for number in range(4)), hours=12)
    places = [tmp_path / "cache" / name[7:9] / name[9:] for name in names]
    reader = LocalCopies(tmp_path / "cache")
    pruned = Between(tmp_path / "cache", lambda: reader.take(places[1])).prune(0)
    assert (pruned.copies, pruned.freed, pruned.freed_bytes) == (4, 3, 3_000)
    assert [place.exists() for place in places] == [False, True, False, False]
    assert not reader.take(places[0])
    assert LocalCopies(tmp_path / "cache").prune(0).freed == 0, "it was marked as used, though nobody read it yet"
