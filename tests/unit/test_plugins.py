"""The table of names: what a distribution adds is found wherever Python's own parser would find it."""

from __future__ import annotations

import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from noria import plugins

POINTS = "[console_scripts]\nx = x:main\n\n[noria.drift]\nfirst-of-all = x.y:z\n"


def put(folder: Path, place: str, text: str) -> None:
    file = folder / place / "entry_points.txt"
    file.parent.mkdir(parents=True)
    file.write_text(text)


@pytest.mark.parametrize("place", ["x-1.0.dist-info", "x-1.0.egg-info", "X_Y-1.0.dist-info"])
def test_what_a_distribution_adds_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    put(tmp_path, place, POINTS)
    before = plugins.names("drift")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(plugins.names("drift")) - set(before) == {"first-of-all"}
    assert plugins.target("drift", "first-of-all") == "x.y:z"
    assert "first-of-all" not in plugins.names("gate")


def test_a_distribution_in_an_archive_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x-1.0.dist-info/entry_points.txt", POINTS)
        archive.writestr("x-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: x\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "x.zip"))
    assert "first-of-all" in plugins.names("drift")


def test_a_distribution_that_only_a_finder_knows_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Known(metadata.Distribution):
        metadata = {"Name": "known"}  # type: ignore[assignment]  # what is asked of it is the name

        def read_text(self, filename: str) -> str | None:
            return POINTS if filename == "entry_points.txt" else None

        def locate_file(self, path: object) -> Path:
            return Path(str(path))

    class Finder(metadata.DistributionFinder):
        def find_distributions(self, context: object = None) -> list[metadata.Distribution]:
            return [Known()]

        def find_spec(self, *_: object) -> None:
            return None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert "first-of-all" in plugins.names("drift")


def test_other_groups_and_broken_lists_add_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "x-1.0.dist-info", "[console_scripts]\nnoria.drift = x:main\n")
    (tmp_path / "y-1.0.dist-info").write_text("a file")
    before = plugins.names("drift")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "none"))
    assert plugins.names("drift") == before
