"""Folders of data on the command line: what is printed for a person, with exit codes; and the bars."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from noria.core.progress import shown, task
from noria.faces.cli.bars import _Amount, _Bar, _Left, _Rate, bars
from noria.faces.cli.main import run

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a folder of two photos, as the working folder."""
    (tmp_path / "noria.toml").write_text('[project]\nname = "shop"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("NORIA_SERVER", "NORIA_DEBUG", "NORIA_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "photos/cats").mkdir(parents=True)
    (tmp_path / "photos/cats/1.jpg").write_bytes(b"first")
    (tmp_path / "photos/2.jpg").write_bytes(b"second")
    return tmp_path / "photos"


def told(capsys: Captured, *words: str, code: int = 0) -> str:
    assert run(["data", *words]) == code
    found = capsys.readouterr()
    return found.out + found.err


def test_a_folder_is_added_compared_shown_and_written(capsys: Captured, photos: Path) -> None:
    assert "2 files  11 B\nnext: noria data status photos" in told(capsys, "add", "photos")
    assert "photos@1  photos   2 files  11 B   unchanged" in told(capsys, "status")
    (photos / "3.jpg").write_bytes(b"third")
    (photos / "2.jpg").write_bytes(b"other")
    (photos / "cats/1.jpg").unlink()
    text = told(capsys, "status", "photos")
    assert "1 new, 1 gone, 1 changed" in text
    assert all(line in text for line in ("+ 3.jpg", "- cats/1.jpg", "~ 2.jpg"))
    told(capsys, "add", "photos", "--note", "the third")
    assert "the third" in told(capsys, "log", "photos")
    assert "cats/1.jpg" in told(capsys, "show", "photos@1", "cats")
    assert "2 written" in told(capsys, "checkout", "photos@1", "out")
    assert "2 written, 1 removed" in told(capsys, "checkout", "photos@2", "out", "--into")
    found = json.loads(told(capsys, "status", "photos", "--json"))
    assert [(each["state"], each["version"]) for each in found] == [("same", 2)]


def test_a_file_of_mine_in_the_way_is_an_error_of_few_lines(capsys: Captured, photos: Path) -> None:
    told(capsys, "add", "photos")
    (photos / "2.jpg").write_bytes(b"new")
    told(capsys, "add", "photos")
    (photos / "2.jpg").write_bytes(b"mine")
    text = told(capsys, "checkout", "photos@1", code=2)
    assert "2.jpg would be lost" in text
    assert len(text.splitlines()) <= 6
    assert (photos / "2.jpg").read_bytes() == b"mine"


def test_verify_ends_with_1_where_something_is_altered_and_gc_looks_only(capsys: Captured, photos: Path) -> None:
    told(capsys, "add", "photos")
    assert "every byte is what it was" in told(capsys, "verify")
    assert "named by facts, pins, branches, tags and leases of 1 clone" in told(capsys, "gc")
    for pack in (photos.parent / ".noria/objects/packs").glob("*.pack"):
        content = pack.read_bytes()
        pack.chmod(0o644)
        pack.write_bytes(content.replace(b"second", b"SECOND"))
    text = told(capsys, "verify", "photos@1", code=1)
    assert "STOP" in text
    assert "photos@1 2.jpg" in text
    assert "expected 16367aacb67a" in text, "the digest of the bytes that should be there"
    assert "there is no remote" in text


def test_tags_are_set_and_removed(capsys: Captured) -> None:
    told(capsys, "add", "photos")
    told(capsys, "tag", "photos@1", "gold")
    assert "tags gold" in told(capsys, "show", "photos@gold")
    told(capsys, "remove-tag", "photos", "gold")
    assert "no version 'gold'" in told(capsys, "show", "photos@gold", code=2)


def test_the_bars_tell_amount_rate_and_time_left() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140)
    with bars("noria add", console):
        with task("storing", total=4_000_000, unit="B") as advance:
            for _ in range(2):
                advance(1_000_000)
        with task("marking", unit="objects") as advance:
            advance(5)
    text = screen.getvalue()
    assert "noria add" in text
    with bars("quiet", Console(file=io.StringIO(), width=140)), shown(None), task("hidden", total=1) as advance:
        advance(1)


def test_the_columns_say_what_is_known() -> None:
    now = [0.0]
    progress = Progress(get_time=lambda: now[0], disable=True)
    progress.add_task("storing", total=4_000_000, unit="B")
    progress.add_task("marking", total=None, unit="objects")
    progress.add_task("noria add", total=None, unit="")
    known, open_ended, line = progress.tasks
    for _ in range(2):
        now[0] += 1.0
        progress.advance(known.id, 1_000_000)
        progress.advance(open_ended.id, 1500)
    assert _Amount().render(known).plain == "2.0 MB of 4.0 MB"
    assert _Rate().render(known).plain == "1.0 MB/s"
    assert _Left().render(known).plain == "0:02 left"
    assert _Amount().render(open_ended).plain == "3,000 objects"
    assert _Left().render(open_ended).plain == ""
    assert [str(each().render(line)) for each in (_Amount, _Rate, _Left, _Bar)] == [""] * 4
