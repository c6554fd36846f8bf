from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from noria.core.errors import ConfigError
from noria.data.commit import code_of
from noria.data.pins import parse_pin, pin_path, pin_text, pins, read_pin, sorted_pins, write_pin
from noria.data.records import DatasetVersion

TREE = "sha256:" + "ab" * 32


def version(name: str = "photos") -> DatasetVersion:
    return DatasetVersion(
        name=name, version=3, tree=TREE, rows=0, size_bytes=11, files=2, columns=(), source='data/"ü"', note="n"
    )


def test_a_pin_says_what_the_version_is_in_one_line_a_field(tmp_path: Path) -> None:
    path = write_pin(tmp_path, "photos", pin_text(version()))
    found = read_pin(tmp_path, "photos")
    assert found is not None
    assert (found.name, found.version, found.tree, found.files, found.size_bytes) == ("photos", 3, TREE, 2, 11)
    assert found.source == 'data/"ü"'
    assert [each.name for each in pins(tmp_path)] == ["photos"]
    before = path.stat().st_ino
    write_pin(tmp_path, "photos", pin_text(version()))
    assert path.stat().st_ino == before, "the same pin is not written again"
    assert [each.name for each in path.parent.iterdir()] == ["photos.toml"]


def test_there_may_be_no_pin(tmp_path: Path) -> None:
    assert read_pin(tmp_path, "photos") is None
    assert pins(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [b"<<<<<<< ours\n", b"\xff", b'name = "photos"\n', b'name = "photos"\ntree = "sha256:short"\n', b"tree = 3\n"],
)
def test_a_broken_pin_is_named(tmp_path: Path, content: bytes) -> None:
    pin_path(tmp_path, "photos").parent.mkdir()
    pin_path(tmp_path, "photos").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        pins(tmp_path)
    assert caught.value.where == str(pin_path(tmp_path, "photos"))
    with pytest.raises(ConfigError):
        parse_pin(content, "elsewhere")


def test_a_pin_under_another_name_is_named(tmp_path: Path) -> None:
    """A copy would be told as a second data set, and a renamed file as one that is not here."""
    write_pin(tmp_path, "copy", pin_text(version()))
    with pytest.raises(ConfigError, match="the pin says name = 'photos', and the file is that of 'copy'"):
        read_pin(tmp_path, "copy")
    good, broken = sorted_pins(tmp_path)
    assert (good, [each.name for each in broken]) == ([], ["copy"])


def test_a_folder_where_a_pin_should_be_is_named(tmp_path: Path) -> None:
    pin_path(tmp_path, "photos").mkdir(parents=True)
    with pytest.raises(ConfigError, match="the pin is a folder"):
        read_pin(tmp_path, "photos")


def git(root: Path, *words: str) -> str:
    name = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(root), *name, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_that_a_folder_stands_on_is_read_without_git(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    (root / "inner").mkdir(parents=True)
    assert code_of(root) == ""
    git(root, "init", "-q", "-b", "main")
    assert code_of(root) == ""
    git(root, "commit", "-q", "--allow-empty", "-m", "one")
    head = git(root, "rev-parse", "HEAD")
    assert code_of(root) == code_of(root / "inner") == head
    git(root, "pack-refs", "--all")
    assert code_of(root) == head
    git(root, "worktree", "add", "-q", str(tmp_path / "beside"), "-b", "other")
    git(tmp_path / "beside", "commit", "-q", "--allow-empty", "-m", "two")
    assert code_of(tmp_path / "beside") == git(tmp_path / "beside", "rev-parse", "HEAD") != head
    git(root, "checkout", "-q", "--detach")
    assert code_of(root) == head
