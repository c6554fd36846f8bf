"""`import noria as nr`: what users write, whatever was imported before."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import noria
from noria.data.versions import log
from noria.faces import verbs


@pytest.mark.parametrize(
    "before", ["", "import noria.pipeline.define", "import noria.pipeline", "from noria.loop import run"]
)
def test_the_mark_and_the_package_share_their_name(before: str) -> None:
    code = f"""
{before}
import noria as nr
@nr.pipeline
def chain():
    pass
assert type(chain).__name__ == "Pipeline", chain
from noria.pipeline import define
assert define.pipeline(chain.function).name == "chain"
assert callable(nr.step) and callable(nr.dataset) and callable(nr.metric(better="lower"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_face_imports_no_library() -> None:
    heavy = ("numpy", "pandas", "pyarrow", "sqlalchemy", "duckdb")
    code = f"import sys, noria; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(hasattr(noria, name) for name in noria.__all__)
    with pytest.raises(AttributeError, match="no 'joins'"):
        noria.joins  # noqa: B018


def test_only_public_names_are_listed() -> None:
    assert dir(noria) == sorted(noria.__all__)


def test_an_open_project_has_every_verb_under_its_names(tmp_path: Path) -> None:
    (tmp_path / "noria.toml").write_text('[project]\nname = "shop"\n', encoding="utf-8")
    for place in (tmp_path, str(tmp_path)):
        shop = noria.open(place)
        assert shop.status().project == "shop"
    for capability, name in verbs.collect():
        assert name.replace("-", "_") in dir(getattr(shop, capability))
    assert {"status", "run", "promote", "rollback", "explain", "data", "registry", "audit"} <= set(dir(shop))
    assert shop.data.list() == []
    assert shop.audit.verify().ok
    assert list(inspect.signature(shop.data.log).parameters) == list(inspect.signature(log).parameters)[1:]
    assert inspect.getdoc(shop.data.log) == inspect.getdoc(log)
    with pytest.raises(AttributeError, match="did you mean 'status'"):
        shop.statis  # noqa: B018
