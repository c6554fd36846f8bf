"""A project's file that cannot be read: the file that is wrong is named, in few and short lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.config import Project
from noria.core.errors import ProjectError
from noria.pipeline.define import load_pipeline


@pytest.mark.parametrize(
    ("pipeline", "module", "named"),
    [("def f(:\n", "", "pipeline.py"), ("import helper\n", "x = 1\ndef f(:\n", "helper.py")],
)
def test_the_file_with_the_wrong_line_is_named_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline: str, module: str, named: str
) -> None:
    (tmp_path / "pipeline.py").write_text(pipeline, encoding="utf-8")
    (tmp_path / "helper.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ProjectError) as caught:
        load_pipeline(Project(name="p", root=tmp_path))
    assert caught.value.message == f"{named} is not valid Python: invalid syntax"
    line = 2 if module else 1
    assert caught.value.where == f"{tmp_path / named}:{line}: def f(:"


def test_a_long_message_of_the_projects_code_is_cut(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(f"raise ValueError('{'much ' * 200}')\n", encoding="utf-8")
    with pytest.raises(ProjectError) as caught:
        load_pipeline(Project(name="p", root=tmp_path))
    assert len(caught.value.message) < 160
    assert len(caught.value.where.removeprefix(str(tmp_path))) < 160
