"""What is read of a folder of distributions is remembered for other projects, and believed while it has not changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from noria.tracking import installed


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "noria" / "installed"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "site-packages"
    install(folder, "tool", "1")
    return folder


def install(folder: Path, name: str, version: str, at: int = 1) -> None:
    notes = folder / f"{name}-{version}.dist-info"
    notes.mkdir(parents=True)
    (notes / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (notes / "RECORD").write_text(f"{name}/__init__.py,sha256=aaa,3\n{name}-{version}.dist-info/RECORD,,\n")
    os.utime(folder, (at, at))


def versions(folder: Path) -> dict[str, str]:
    installed._remembered.cache_clear()  # as a process that begins
    return {each.name: each.version for each in installed.in_folder(str(folder))}


def test_another_project_reads_no_metadata(cache: Path, packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = installed.in_folder(str(packages))
    monkeypatch.setattr(installed, "_read", lambda folder: pytest.fail("it was read again"))
    installed._remembered.cache_clear()
    assert installed.in_folder(str(packages)) == first
    assert first[0].roots == ("tool",)
    assert len(list(cache.iterdir())) == 1


def test_a_folder_that_changed_is_read_again(cache: Path, packages: Path) -> None:
    assert versions(packages) == {"tool": "1"}
    install(packages, "other", "2", at=2)
    assert versions(packages) == {"tool": "1", "other": "2"}


def test_an_environment_whose_times_were_set_has_another_stamp(packages: Path) -> None:
    """As in the layers of an image, or a copy: another version, and the folder has the time that it had."""
    before = installed.stamp_of(str(packages))
    (packages / "tool-1.dist-info").rename(packages.parent / "gone")
    install(packages, "tool", "2")
    assert packages.stat().st_mtime == 1
    assert installed.stamp_of(str(packages)) not in ("", before)


def test_a_distribution_that_is_read_while_it_is_installed_is_read_again(cache: Path, packages: Path) -> None:
    """Installers write the last notes when the folder itself does not change any more."""
    versions(packages)
    notes = packages / "tool-1.dist-info"
    (notes / "direct_url.json").write_text('{"url": "file:///src", "dir_info": {"editable": true}}')
    os.utime(notes, (5, 5))
    os.utime(packages, (1, 1))
    assert versions(packages) == {"tool": "1+editable"}


@pytest.mark.parametrize("content", ["", "not json", "[]", "{}", '{"format": "installed/0"}', "null"])
def test_what_cannot_be_read_is_made_anew(cache: Path, packages: Path, content: str) -> None:
    versions(packages)
    (kept,) = cache.iterdir()
    kept.write_text(content)
    assert versions(packages) == {"tool": "1"}
    assert json.loads(kept.read_text())["found"][0]["name"] == "tool"


def test_it_is_of_this_folder_alone(cache: Path, packages: Path, tmp_path: Path) -> None:
    versions(packages)
    (kept,) = cache.iterdir()
    other = tmp_path / "other" / "site-packages"
    install(other, "other", "2")
    kept.replace(installed._place(str(other)))
    assert versions(other) == {"other": "2"}


def test_a_home_that_cannot_be_written_costs_only_time(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert versions(packages) == versions(packages) == {"tool": "1"}


def test_what_was_read_long_ago_is_forgotten(cache: Path, tmp_path: Path) -> None:
    for number in range(40):
        folder = tmp_path / str(number) / "site-packages"
        install(folder, "tool", str(number))
        assert versions(folder) == {"tool": str(number)}
        os.utime(installed._place(str(folder)), (number, number))
    assert len(list(cache.iterdir())) == 32
    assert installed._place(str(tmp_path / "39" / "site-packages")).exists()
    assert not installed._place(str(tmp_path / "0" / "site-packages")).exists()


def test_a_folder_of_sources_is_not_remembered(cache: Path, tmp_path: Path) -> None:
    install(tmp_path / "src", "tool", "1")
    assert versions(tmp_path / "src") == {"tool": "1"}
    assert not cache.exists()
