"""What of a notebook goes into a project file."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from noria.core.errors import UsageError
from noria.scripts.exporting import module_text, require_notebook

STEP = "import noria as nr\n@nr.step\ndef f(a):\n    return {body}\n"


def text_of(*cells: str) -> str:
    text, _, _ = module_text(cells, source="a.ipynb")
    ast.parse(text)
    return text


def test_what_steps_reach_is_taken_and_the_rest_stays() -> None:
    text = text_of(
        "import pandas as pd\nimport matplotlib\nRATE = 2\nUNUSED = 3",
        "def helper(x):\n    return x * RATE",
        STEP.format(body="helper(pd.Series(a))"),
        "print(f(1))\nresult = f(2)\nresult.plot()",
    )
    assert "import pandas as pd" in text
    assert "RATE = 2" in text
    assert "def helper" in text
    for absent in ("matplotlib", "UNUSED", "print", "result"):
        assert absent not in text


def test_text_and_comments_are_kept_as_they_are_written() -> None:
    text = text_of("# why\nRATE  =  2   # as agreed\n" + STEP.format(body="a  *  RATE  # times"))
    assert "# why\nRATE  =  2   # as agreed" in text
    assert "return a  *  RATE  # times" in text


@pytest.mark.parametrize(
    "magic",
    ["%matplotlib inline", "!pip install x", "%time f(1)", "x = !ls", "f?", "%%time", "?f"],
)
def test_magics_are_left_out(magic: str) -> None:
    text = text_of(f"{magic}\nRATE = 2", STEP.format(body="a * RATE"))
    assert "RATE = 2" in text
    assert magic not in text


def test_a_cell_of_another_language_is_left_out() -> None:
    assert "ls" not in text_of("%%bash\nls -l\nif", STEP.format(body="a"))


def test_a_magic_in_a_block_leaves_the_block_valid() -> None:
    assert "pass" in text_of("def g():\n    !ls\n", STEP.format(body="g()"))


def test_names_that_are_bound_in_blocks_or_changed_later_come_along() -> None:
    text = text_of(
        "try:\n    import fast as lib\nexcept ImportError:\n    import json as lib",
        "TABLE = {}\nTABLE['a'] = 1\nTABLE.update(b=2)",
        "LIMIT = 1\nLIMIT += 1",
        STEP.format(body="lib.dumps(TABLE[a] + LIMIT)"),
    )
    assert "import json as lib" in text
    assert "TABLE['a'] = 1" in text
    assert "LIMIT += 1" in text


def test_statements_that_share_a_line_are_apart() -> None:
    text = text_of("A = 1; B = 2", STEP.format(body="A"))
    assert "A = 1" in text
    assert "B = 2" not in text


def test_annotations_that_are_texts_are_uses() -> None:
    text = text_of(
        "class Row:\n    pass", "import noria as nr\n@nr.step\ndef f(a: 'Row') -> 'list[Row]':\n    return [a]"
    )
    assert "class Row" in text


def test_a_notebook_without_steps_is_refused_and_a_broken_cell_is_named() -> None:
    with pytest.raises(UsageError, match="defines no step"):
        module_text(["x = 1"], source="a.ipynb")
    with pytest.raises(UsageError) as error:
        module_text(["x = 1", "def f(:\n"], source="a.ipynb")
    assert error.value.where == "a.ipynb, cell 2, line 1"


def test_a_notebook_of_python_may_be_run(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "source": "x = 1"}
    for told in (
        {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []},
        {"nbformat": 4, "metadata": {"kernelspec": {"language": "Python"}}, "cells": [cell]},
        {"nbformat": 3, "worksheets": [{"cells": []}]},
    ):
        (tmp_path / "n.ipynb").write_text(json.dumps(told))
        require_notebook(tmp_path / "n.ipynb")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("import json\n", "is no notebook"),
        ("", "is no notebook"),
        ("[]", "is no notebook"),
        ("{}", "is no notebook"),
        ('{"nbformat": 4, "cells": {}}', "is no whole notebook"),
        ('{"nbformat": 4, "cells": [{"cell_type": "code"}]}', "is no whole notebook"),
        ('{"nbformat": 4, "metadata": {"kernelspec": {"language": "julia"}}, "cells": []}', "is a notebook of julia"),
    ],
)
def test_what_is_no_notebook_of_python_is_refused_by_name(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(UsageError, match=match):
        require_notebook(tmp_path / "n.ipynb")
