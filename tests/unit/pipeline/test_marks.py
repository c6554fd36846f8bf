"""A mark that is misspelt, and a step that gives something else, are told in the project's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import noria as nr
from noria.config import Project
from noria.core.errors import ProjectError, UsageError
from noria.pipeline.attempt.call import outputs_of
from noria.pipeline.define import load_pipeline
from noria.testing import open_memory


@pytest.mark.parametrize(("option", "hint"), [("timout", "did you mean 'timeout'?"), ("zzz", "options: cpu, memory")])
def test_an_unknown_option_of_a_step_names_the_nearest(option: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no option '{option}'") as error:
        nr.step(**{option: 1})  # type: ignore[call-overload]  # the mistake that is tested
    assert error.value.hint.startswith(hint)
    (tmp_path / "pipeline.py").write_text(f"import noria as nr\n@nr.step({option}=1)\ndef a():\n    pass\n")
    with pytest.raises(ProjectError, match=f"^pipeline.py: @nr.step has no option '{option}'") as failed:
        load_pipeline(Project(name="p", root=tmp_path))
    assert failed.value.hint.startswith(hint)
    assert "pipeline.py:2" in failed.value.where


@pytest.mark.parametrize(("value", "said"), [(1, "returned an int"), ("x", "returned a str"), (None, "returned None")])
def test_what_a_step_returned_has_its_article(value: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(
        "import noria as nr\n@nr.step\ndef a() -> dict:\n    pass\n@nr.pipeline\ndef p():\n    a()\n"
    )
    definition = load_pipeline(Project(name="p", root=tmp_path))
    with pytest.raises(ProjectError, match=said):
        outputs_of(open_memory(root=tmp_path).objects, definition.nodes[0], value, root=tmp_path, memory={})
