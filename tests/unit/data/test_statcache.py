from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from noria.data.folders import statcache
from noria.data.folders.statcache import NEVER, StatCache, packed, unpacked, without_racy
from noria.data.folders.walk import File, Folder

DIGEST = bytes(range(32))
OLD = 1_000_000_000


def folder(prefix: str, *names: str, size: int = 3) -> Folder:
    return Folder("/x", prefix, [(name, size, OLD, OLD, 7) for name in names], [])


def saved(path: Path, *folders: Folder, tree: str = "t") -> StatCache:
    cache = StatCache(path)
    rows = [(each.prefix, each.files, DIGEST * len(each.files)) for each in folders]
    cache.save(cache.root("/x"), tree, rows, removed=(), is_source=True)
    return cache


def test_a_folder_that_is_as_it_was_is_known_by_one_comparison(tmp_path: Path) -> None:
    saved(tmp_path / "c.db", folder("", "a", "b"), folder("d/", "e")).close()
    cache = StatCache(tmp_path / "c.db")
    root = cache.root("/x")
    assert cache.tree(root) == "t"
    steps = list(cache.steps(root, [folder("", "a", "b"), folder("d/", "e", size=4)]))
    assert [step.is_same for step in steps] == [True, False]
    assert steps[0].row is not None
    assert cache.digests(steps[0].row) == DIGEST * 2
    assert cache.known(steps[0].row)["b"] == (("b", 3, OLD, OLD, 7), "sha256:" + DIGEST.hex())


def test_folders_that_are_new_or_gone_are_told_in_order(tmp_path: Path) -> None:
    cache = saved(tmp_path / "c.db", folder("", "a"), folder("gone/", "x"), folder("stays/", "x"))
    steps = list(cache.steps(cache.root("/x"), [folder("", "a"), folder("new/", "x"), folder("stays/", "x")]))
    told = [(s.folder.prefix if s.folder else "", s.row.prefix if s.row else "-", s.is_same) for s in steps]
    assert told == [("", "", True), ("", "gone/", False), ("new/", "-", False), ("stays/", "stays/", True)]


def test_more_folders_than_one_page_are_all_compared(tmp_path: Path) -> None:
    count = 2 * statcache._PAGE + 3
    folders = [folder("", "a"), *(folder(f"{number:05d}/", "x") for number in range(count))]
    cache = saved(tmp_path / "c.db", *folders)
    assert all(step.is_same for step in cache.steps(cache.root("/x"), folders))
    assert sum(1 for _ in cache.steps(cache.root("/x"), [])) == count + 1


@pytest.mark.parametrize("younger", [2, 3], ids=["written", "changed"])
def test_a_file_younger_than_two_seconds_is_never_trusted(younger: int) -> None:
    now = 10_000_000_000
    file: list[int] = [3, now - 3_000_000_000, now - 3_000_000_000, 7]
    steady: File = ("a", *file)  # type: ignore[assignment]  # four numbers
    assert without_racy([steady], now) == [steady]
    file[younger - 1] = now - 1_999_999_999
    racy: File = ("a", *file)  # type: ignore[assignment]  # four numbers
    remembered = without_racy([racy], now)
    assert remembered[0][2:4] == (NEVER, NEVER)
    assert packed(remembered) != packed([racy])


def test_a_broken_row_is_no_row(tmp_path: Path) -> None:
    saved(tmp_path / "c.db", folder("", "a")).close()
    with sqlite3.connect(tmp_path / "c.db") as connection:
        connection.execute("update folder set body = ?", (bytes(32),))
    connection.close()
    cache = StatCache(tmp_path / "c.db")
    step = next(cache.steps(cache.root("/x"), [folder("", "a")]))
    assert step.row is not None
    assert cache.digests(step.row) is None
    assert cache.known(step.row) == {}
    assert unpacked(b"\xc1 no list") == []


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_cache_file_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.db").write_bytes(content)
    cache = StatCache(tmp_path / "c.db")
    assert cache.tree(cache.root("/x")) == ""
    cache.save(cache.root("/x"), "t", [("", folder("", "a").files, DIGEST)], removed=(), is_source=True)
    cache.close()
    again = StatCache(tmp_path / "c.db")
    assert again.tree(again.root("/x")) == "t"


def test_a_cache_that_cannot_be_written_keeps_nothing_and_fails_nothing(tmp_path: Path) -> None:
    place = tmp_path / "file" / "c.db"
    (tmp_path / "file").write_text("in the way")
    cache = StatCache(place)
    cache.save(cache.root("/x"), "t", [("", folder("", "a").files, DIGEST)], removed=(), is_source=True)
    assert cache.tree(cache.root("/x")) == "t"
    assert cache.now_ns() > 0
    cache.close()
    assert StatCache(place).tree(1) == ""


def test_new_stamps_are_kept_only_where_no_one_else_wrote(tmp_path: Path) -> None:
    cache = saved(tmp_path / "c.db", folder("", "a"))
    root = cache.root("/x")
    row = next(cache.steps(root, [])).row
    assert row is not None
    touched: list[File] = [("a", 3, OLD + 1, OLD + 1, 7)]
    cache.refresh(root, "another tree", [(row, touched, DIGEST)])
    assert next(cache.steps(root, [folder("", "a")])).is_same
    cache.refresh(root, "t", [(row, touched, DIGEST)])
    assert next(cache.steps(root, [Folder("/x", "", touched, [])])).is_same


def test_places_that_were_only_checked_out_are_forgotten_after_some(tmp_path: Path) -> None:
    cache = saved(tmp_path / "c.db", folder("", "a"))
    for number in range(statcache.CHECKOUTS + 5):
        rows = [("", folder("", "a").files, DIGEST)]
        cache.save(cache.root(f"/out{number}"), "t", rows, removed=None, is_source=False)
    assert cache.tree(cache.root("/x")) == "t"
    assert cache.newest_source() == "/x"
    cache.close()
    with sqlite3.connect(tmp_path / "c.db") as connection:
        assert connection.execute("select count(*) from root").fetchone() == (statcache.CHECKOUTS + 1,)
        assert connection.execute("select count(*) from folder").fetchone() == (statcache.CHECKOUTS + 1,)
    connection.close()


def test_notes_are_kept_by_content(tmp_path: Path) -> None:
    cache = StatCache(tmp_path / "c.db")
    cache.keep_notes("csv:", [("sha256:" + DIGEST.hex(), b"rows")])
    assert cache.notes("csv:") == {"sha256:" + DIGEST.hex(): b"rows"}
    assert cache.notes("csv:t") == {}


def test_the_clock_is_that_of_the_file_system(tmp_path: Path) -> None:
    cache = StatCache(tmp_path / "c.db")
    before = cache.now_ns()
    (tmp_path / "f").touch()
    assert before <= (tmp_path / "f").stat().st_mtime_ns <= cache.now_ns()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".now")] == []
