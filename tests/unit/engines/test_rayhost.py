"""A node says by itself that steps may not run on it, before any does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noria.core.errors import UsageError
from noria.engines.executors.raycluster import RayExecutor
from noria.engines.executors.rayhost import Host, environ_of, terms_of


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    path = tmp_path / "project" / ".noria" / "ray" / "mark"
    path.parent.mkdir(parents=True)
    path.write_text("seen", encoding="ascii")
    return path


def elsewhere(terms: dict[str, Any], **changed: object) -> dict[str, Any]:
    return {**terms, "place": ["another machine", "/opt/python"], **changed}


def test_a_node_that_agrees_refuses_nothing(mark: Path) -> None:
    assert Host().meet(terms_of(mark))["refused"] == ""
    assert Host().meet(elsewhere(terms_of(mark)))["refused"] == "", "the same packages at another place"


@pytest.mark.parametrize("content", [None, "another folder's"])
def test_a_node_that_does_not_see_the_folder_says_so(mark: Path, content: str | None) -> None:
    terms = terms_of(mark)
    if content is None:
        mark.unlink()
    else:
        mark.write_text(content, encoding="ascii")
    found = Host().meet(terms)
    assert f"does not see the folder {mark.parents[2]}" in found["refused"]
    assert "share it" in found["hint"]


def test_a_node_with_other_packages_names_one(mark: Path) -> None:
    terms = terms_of(mark)
    other = terms["packages"] | {"numpy": "0.1"}
    assert "and this process has 0.1" in Host().meet(elsewhere(terms, packages=other))["refused"]
    more = terms["packages"] | {"zz-not-there": "2"}
    assert "has zz-not-there not, and this process has 2" in Host().meet(elsewhere(terms, packages=more))["refused"]
    assert "has Python" in Host().meet(elsewhere(terms, python="3.1.4"))["refused"]


def test_what_ray_brings_along_for_its_own_workers_is_no_package_of_a_node(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = terms_of(mark)
    inside = tmp_path / "site" / "ray" / "thirdparty_files"
    (inside / "zz_carried-1.dist-info").mkdir(parents=True)
    (inside / "zz_carried-1.dist-info" / "METADATA").write_text("Name: zz-carried\nVersion: 1\n", encoding="utf-8")
    (tmp_path / "site" / "ray" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(inside))
    assert Host().meet(elsewhere(terms))["refused"] == ""


def test_steps_are_given_the_variables_of_the_run_and_the_places_of_the_node(
    mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGION", "eu")
    monkeypatch.setenv("HOME", "/home/driver")
    terms = terms_of(mark)
    monkeypatch.setenv("REGION", "us")
    monkeypatch.setenv("HOME", "/home/node")
    found = environ_of(terms)
    assert (found["REGION"], found["HOME"]) == ("eu", "/home/node")


def test_an_address_that_ray_clients_use_is_refused_with_what_to_write() -> None:
    executor = RayExecutor(address="ray://host:10001")
    with pytest.raises(UsageError, match="not the address") as caught:
        executor.require()
    assert "HOST:PORT" in caught.value.hint
    executor.close()
