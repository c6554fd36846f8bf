"""What `noria why` names of an edit: the helper, the class, the attribute, the constant, and the lines."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from noria.config import Project
from noria.pipeline import sources
from noria.pipeline.changes import Change, changes
from noria.pipeline.define import load_pipeline
from noria.pipeline.documents import KeyDocument
from noria.pipeline.fingerprint import Fingerprints
from noria.pipeline.ownership import Ownership
from noria.tracking.environment import Environment

ENVIRONMENT = Environment(
    python="3.11.0", implementation="CPython", system="Linux", machine="x86_64", packages={}, roots={}
)
HEAD = "import noria as nr\n"
TAIL = "\n@nr.step\ndef work() -> object:\n    return {}\n\n@nr.pipeline\ndef flow():\n    work()\n"


def document(root: Path, text: str, value: str) -> KeyDocument:
    """What the key of the step `work` is computed from, as far as it is code."""
    root.mkdir(exist_ok=True)
    (root / "pipeline.py").write_text(HEAD + textwrap.dedent(text) + TAIL.format(value), encoding="utf-8")
    definition = load_pipeline(Project(name="t", root=root))
    with sources.project_on_path(definition.root):
        code = Fingerprints(definition.root, Ownership(definition.root, ENVIRONMENT)).code(
            definition.nodes[-1].step, {}
        )
    return KeyDocument("", {"code": code.digest, "names": dict(code.names)}, code.shown)


@pytest.mark.parametrize(
    ("before", "after", "value", "what", "how"),
    [
        (
            "class K:\n    pass\nK.v = 5\n",
            "class K:\n    pass\nK.v = 6\n",
            "K.v",
            "attribute K.v",
            "5 -> 6",
        ),
        (
            "def h(x, k=3):\n    return x * k\n",
            "def h(x, k=4):\n    return x * k\n",
            "h(2)",
            "defaults of helper h",
            "((3,), None) -> ((4,), None)",
        ),
        (
            "import functools\ndef h(x, y):\n    return x\ng = functools.partial(h, y=3)\n",
            "import functools\ndef h(x, y):\n    return x\ng = functools.partial(h, y=4)\n",
            "g(1)",
            "constant g",
            "functools.partial(<function h>, y=3) -> functools.partial(<function h>, y=4)",
        ),
    ],
    ids=["attribute", "default", "partial"],
)
def test_a_value_is_named_with_what_it_was_and_is(
    before: str, after: str, value: str, what: str, how: str, tmp_path: Path
) -> None:
    found = changes(document(tmp_path, before, value), document(tmp_path, after, value))
    assert Change(what=what, how=how) in found


@pytest.mark.parametrize(
    ("value", "before", "after"),
    [
        ("h.__doc__", '    """one"""', '    """two"""'),
        ("inspect.getsource(h)", "    # c", "    # d"),
    ],
)
def test_what_only_a_look_at_its_text_sees_is_named_with_its_lines(
    value: str, before: str, after: str, tmp_path: Path
) -> None:
    text = "import inspect\ndef h():\n{}\n    return 1\n"
    found = changes(document(tmp_path, text.format(before), value), document(tmp_path, text.format(after), value))
    (change,) = (each for each in found if each.what == "helper h")
    assert {f"-{before}", f"+{after}"} <= set(change.lines)


def test_annotations_that_are_read_are_named_with_their_lines(tmp_path: Path) -> None:
    text = "import typing\ndef h(x: {}):\n    return x\n"
    value = "str(typing.get_type_hints(h))"
    found = changes(document(tmp_path, text.format("int"), value), document(tmp_path, text.format("str"), value))
    (change,) = found
    assert (change.what, change.lines) == ("helper h", ("-def h(x: int):", "+def h(x: str):", "     return x"))


def test_of_a_dataclass_only_the_class_is_named(tmp_path: Path) -> None:
    text = "import dataclasses\n@dataclasses.dataclass(order=True)\nclass C:\n    {}: int\n    {}: int\n"
    value = "C(1, 2) < C(2, 1)"
    found = changes(document(tmp_path, text.format("a", "b"), value), document(tmp_path, text.format("b", "a"), value))
    assert [each.what for each in found] == ["attribute C.__match_args__", "class C"]


def test_a_level_that_a_step_asks_for_is_named(tmp_path: Path) -> None:
    text = "import logging\nX = logging.getLogger('changes.x')\nX.setLevel({})\n"
    found = changes(document(tmp_path, text.format(10), "X.level"), document(tmp_path, text.format(30), "X.level"))
    (change,) = (each for each in found if each.what == "levels of loggers")
    assert "['changes.x', 10, False, True]" in change.how
    assert "['changes.x', 30, False, True]" in change.how
