"""What starts a pipeline, and what does not."""

from __future__ import annotations

import pytest

from noria.data.git.hooks import what_starts


@pytest.mark.parametrize(
    "path",
    ["noria.lock/prices.toml", "service/noria.lock/x.toml", "noria.toml", "pipeline.py", "checks/prices.toml",
     "config.yaml", "requirements.txt", "sql/query.sql", "data/small.csv", "tests/test_shop.py"],
)  # fmt: skip
def test_what_a_pipeline_may_stand_on_starts_it(path: str) -> None:
    assert what_starts([path]) == [path]


@pytest.mark.parametrize(
    "path",
    ["README.md", "docs/guide.py", "notes/a.rst", "LICENSE", "CHANGELOG.md", ".gitignore", "service/.gitattributes",
     "logo.svg", ".github/workflows/noria.yml"],
)  # fmt: skip
def test_documents_start_nothing(path: str) -> None:
    assert what_starts([path]) == []


def test_pins_are_told_first() -> None:
    assert what_starts(["a.py", "README.md", "noria.lock/z.toml"]) == ["noria.lock/z.toml", "a.py"]
