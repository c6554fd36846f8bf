"""`import noria as nr`: what users write, whatever was imported before."""

from __future__ import annotations

import subprocess
import sys

import pytest


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
    import noria

    assert all(hasattr(noria, name) for name in noria.__all__)
    with pytest.raises(AttributeError, match="no 'joins'"):
        noria.joins  # noqa: B018
