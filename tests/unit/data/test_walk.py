from __future__ import annotations

import os
from pathlib import Path

import pytest

from noria.core.errors import NoriaError, NotFound, UsageError
from noria.data.folders.walk import located, walk


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("a\n1\n")
    return root


def names(path: Path) -> list[str]:
    return [found.prefix + file[0] for found in walk(located(path)) for file in found.files]


def test_files_are_found_below_a_folder_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder(tmp_path, "b.csv", "a/z.csv", "a/README.md", ".hidden", ".cache/x", "a/.dvcignore", "ü ber.csv")
    assert names(tmp_path) == [".hidden", "b.csv", "ü ber.csv", ".cache/x", "a/.dvcignore", "a/README.md", "a/z.csv"]


def test_what_tools_keep_for_themselves_is_left_out_and_named(tmp_path: Path) -> None:
    folder(tmp_path, "b.csv", "a/.git", ".git/config", ".noria/x", ".dvc/x", ".gitignore", "..data_x/y", "....")
    folder(tmp_path, ".photos.12-34-0123abcd.89abcdef.part/x", "..2026_11_21_10_00_00.123/k", ".x.part")
    found = list(walk(tmp_path))
    assert sorted(names(tmp_path)) == ["....", "..data_x/y", ".gitignore", ".x.part", "b.csv"]
    left_out = [each.prefix + name for each in found for name in each.left_out]
    volume, part = "..2026_11_21_10_00_00.123", ".photos.12-34-0123abcd.89abcdef.part"
    assert left_out == [volume, ".dvc", ".git", ".noria", part, "a/.git"]


def test_a_single_file_is_its_own_data_set(tmp_path: Path) -> None:
    assert names(folder(tmp_path, "x.csv") / "x.csv") == ["x.csv"]


def test_a_link_given_by_the_user_is_followed(tmp_path: Path) -> None:
    folder(tmp_path, "real/x.csv")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path / "link") == ["x.csv"]


def refused(path: Path, kind: type[NoriaError] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        names(path)
    return str(caught.value)


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, "in/x.csv", "out/secret.csv")
    (tmp_path / "in/more.csv").symlink_to(tmp_path / "out/secret.csv")
    assert "the link more.csv leaves the folder" in refused(tmp_path / "in")


def test_a_linked_folder_that_leaves_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, "in/x.csv", "out/secret.csv")
    (tmp_path / "in/more").symlink_to("../out")
    assert "the link more leaves the folder" in refused(tmp_path / "in")


def test_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    (folder(tmp_path, "x.csv") / "y.csv").symlink_to("gone.csv")
    assert "the link y.csv leads nowhere" in refused(tmp_path)


def test_a_link_to_a_file_that_is_already_there_is_said_to_be_one(tmp_path: Path) -> None:
    (folder(tmp_path, "x.csv", ".git/z.csv") / "y.csv").symlink_to("x.csv")
    (tmp_path / "z.csv").symlink_to(".git/z.csv")
    assert [found.repeated for found in walk(tmp_path)] == [frozenset({"y.csv"})]
    assert names(tmp_path) == ["x.csv", "y.csv", "z.csv"]


def test_a_link_to_a_folder_is_followed_once_where_the_folder_is_no_part_by_itself(tmp_path: Path) -> None:
    (folder(tmp_path, "..2026_11_21_10_00_00.123/z.csv") / "..data").symlink_to("..2026_11_21_10_00_00.123")
    (tmp_path / "shown").symlink_to("..data")
    assert names(tmp_path) == ["shown/z.csv"]
    (tmp_path / "again").symlink_to("..data")
    assert "already part" in refused(tmp_path)


def test_folders_come_in_the_order_that_their_paths_have(tmp_path: Path) -> None:
    folder(tmp_path, "a/x", "a-b/x", "a/b/x", "a0/x", "a.txt", "A/x")
    assert [found.prefix for found in walk(tmp_path)] == ["", "A/", "a-b/", "a/", "a/b/", "a0/"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (folder(tmp_path, "a/x.csv") / "a/loop").symlink_to(tmp_path / "a")
    assert "loop" in refused(tmp_path)


def test_pipes_are_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(folder(tmp_path, "x.csv") / "pipe.csv")
    assert "pipe.csv is not a regular file" in refused(tmp_path)


@pytest.mark.parametrize(
    "name",
    [b"\xff.csv", b"a\nb.csv", b"a\\b.csv", b"a\x01.csv", "u\u0308.csv".encode(), "\u202egnp.csv".encode(), b" a .csv"],
)
def test_a_name_is_kept_byte_by_byte(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("a\n1\n")
    assert [os.fsencode(found) for found in names(tmp_path)] == [name]


def test_two_unicode_forms_of_a_name_are_two_files(tmp_path: Path) -> None:
    folder(tmp_path, "u\u0308.csv", "ü.csv")
    assert names(tmp_path) == ["u\u0308.csv", "ü.csv"]


def test_everything_that_cannot_be_kept_is_named_at_once(tmp_path: Path) -> None:
    folder(tmp_path, "in/x.csv", "in/sub/y.csv", "out/secret.csv")
    (tmp_path / "in/gone").symlink_to("nowhere")
    (tmp_path / "in/sub/out").symlink_to("../../out")
    os.mkfifo(tmp_path / "in/sub/pi\npe")
    told = refused(tmp_path / "in")
    assert told.startswith("3 paths cannot be part of a data set: ")
    for words in ("the link gone leads nowhere", "the link sub/out leaves the folder", r"sub/pi\npe is not a regular"):
        assert words in told
    assert len(told.splitlines()) <= 6


def test_what_is_not_there_or_no_file_is_said(tmp_path: Path) -> None:
    assert "there is no file or folder" in refused(tmp_path / "nothing", NotFound)
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in refused(tmp_path / "pipe")
