"""The usual first mistakes of a pipeline: each is one error with the line it is in, and with what to do instead."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from noria.config import Project
from noria.core.errors import NoriaError, ProjectError, StepFailed
from noria.pipeline.define import PipelineDefinition, load_pipeline
from noria.pipeline.driving.execute import execute
from noria.pipeline.outputs import values
from noria.pipeline.space import space_of
from noria.testing import open_memory

STEPS = """
import asyncio
import math
import pickle
import numpy as np
import pandas as pd
import noria as nr

@nr.step
def one(x: int = 1) -> int:
    return x

@nr.step
def two(x: int) -> tuple[int, int]:
    return x, x

@nr.step
def rows(*names: str) -> list:
    return list(names)
"""
HEAD = len(STEPS.splitlines())
FLOW = "\n@nr.pipeline\ndef flow():\n"


def read(tmp_path: Path, text: str) -> PipelineDefinition:
    (tmp_path / "pipeline.py").write_text(text, encoding="utf-8")
    return load_pipeline(Project(name="p", root=tmp_path))


def refused(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> NoriaError:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ProjectError) as caught:
        read(tmp_path, text)
    error = caught.value
    assert len(str(error).splitlines()) <= 3, "one sentence, the place, and what to do"
    assert error.exit_code == 4
    assert error.hint, error.message
    return error


@pytest.mark.parametrize(
    ("line", "said", "after"),
    [
        ("one({one()})", "the result of step one stands in a set", "in a list or a tuple"),
        ("one({one(): 1})", "the result of step one stands in a dict", "in a list or a tuple"),
        ("one({'a': {2: [one()]}})", "the result of step one stands in a dict", "in a list or a tuple"),
        ("if one() > 3: two(1)", "> needs the value of step one, which does not exist while", "nr.branch("),
        ("if one() == 'a': two(1)", "== needs the value", "nr.branch("),
        ("if one() != 'a': two(1)", "!= needs the value", "nr.branch("),
        ("if one(): two(1)", "a condition (if, while", "nr.branch("),
        ("while not one(): pass", "a condition (if, while", "nr.branch("),
        ("if 'a' in one(): two(1)", "in needs the value", "nr.branch("),
        ("[two(each) for each in one()]", "a loop, or unpacking, needs the value", "STEP.map("),
        ("a, b = one()", "a loop, or unpacking, needs the value", "-> tuple[A, B]"),
        ("for number in range(one()): two(number)", "range(...), or its use as an index,", "STEP.map("),
        ("len(one())", "len(...) needs", "inside a step"),
        ("int(one())", "int(...) needs", "inside a step"),
        ("float(one())", "float(...) needs", "inside a step"),
        ("math.log(one())", "float(...) needs", "inside a step"),
        ("np.log(one())", "an array of it needs", "inside a step"),
        ("np.arange(3) * one()", "needs the value", "inside a step"),
        ("print(one())", "print(...), str(...) needs", "noria pipeline logs"),
        ("two(f'{one()} rows')", "a text with it in braces needs", "inside a step"),
        ("two(one() + 1)", "+ needs", "inside a step"),
        ("two(2 * one())", "* needs", "inside a step"),
        ("two(-one())", "- needs", "inside a step"),
        ("one()['day']", "['day'] needs", "inside a step"),
        ("one()[0]", "[0] needs", "inside a step"),
        ("one().mean()", ".mean needs", "inside a step"),
        ("one()()", "calling it needs", "inside a step"),
        ("one().x = 1", "setting .x needs", "inside a step"),
        ("open(one())", "a path needs", "inside a step"),
        ("one() >> two(1)", ">> needs", "call one step with the result of the other"),
        ("two(1)[5]", "step two gives 2 values, and none at [5]", "a, b = two(...)"),
        ("two(1)['x']", "step two gives 2 values, and none at ['x']", "a, b = two(...)"),
        ("one(two(1))", "step two gives 2 values; unpack them", "a, b = two(...)"),
        ("one(1, 2)", "step one: too many positional arguments", "it is one(x=1)"),
        (
            "nr.model('m', one(), label='y')",
            "unexpected keyword argument 'label'",
            "nr.model takes name, model, holdout=",
        ),
        ("one(y=2)", "step one: got an unexpected keyword argument 'y'", "it is one(x=1)"),
        ("two()", "step two: missing a required argument: 'x'", "it is two(x)"),
        ("rows('a')", "step rows takes *names", "make names a list"),
        ("one.map([1], x=1)", "step one has no parameter left for the items", "it is one(x=1)"),
        ("one.map(3)", "step one cannot be mapped over an int", "give a list"),
        ("one.map('abc')", "step one cannot be mapped over a str", "one.map([…])"),
        ("one.map(lambda: 1)", "step one cannot be mapped over a function", "give a list"),
        ("one.map(nr.dataset('rows'))", "step one cannot be mapped over a data set", "nr.partition divides"),
        ("one.map()", "map of step one is given no items: it takes the list of items for x", "one.map([…])"),
        ("one.map([1], [2])", "map of step one is given 2 values by their place", "it is one(x=1)"),
        ("one.map(x=[1])", "step one has no parameter left for the items", "it is one(x=1)"),
        ("one.map(one)", "map of step one is given the step one, not its result", "write one()"),
        ("one(one)", "x of step one is given the step one, not its result", "write one()"),
        ("one(x=two)", "x of step one is given the step two, not its result", "write two(…)"),
        ("one([one(), one])", "x of step one is given the step one, not its result", "write one()"),
        ("one({'a': [one]})", "x of step one is given the step one, not its result", "write one()"),
        ("one({one})", "x of step one is given the step one, not its result", "one.function is the plain function"),
        ("one.map([1, one])", "x of step one is given the step one, not its result", "write one()"),
        ("nr.branch(one, {1: lambda: one()})", "nr.branch is given the step one, not its result", "write one()"),
        ("nr.partition(one, by='a')", "nr.partition is given the step one, not its result", "write one()"),
        ("nr.partition([1], by='a')", "nr.partition divides a data set, or", "nr.partition(nr.dataset(NAME)"),
        ("return nr.model('m', model=one, holdout=one())", "model of nr.model is given the step one", "write one()"),
        (
            "nr.branch(one(), {2: one(5)})",
            "the case 2 of nr.branch is the result of step one-2",
            "write lambda: in front",
        ),
        ("nr.branch(one(), {}, otherwise=one())", "otherwise of nr.branch is the result of", "write lambda: in front"),
        ("nr.branch(one(), {2: 5})", "the case 2 of nr.branch is an int, not a function", "lambda: ..."),
        (
            "nr.branch(one(), {2: lambda x: one(x)})",
            "the case 2 of nr.branch takes x, which nobody gives",
            "without par",
        ),
        ("nr.branch(one(), {})", "nr.branch has no case", "otherwise=lambda: ..."),
        ("nr.branch(one())", "nr.branch has no case", "otherwise=lambda: ..."),
        ("nr.branch(one(), lambda: one())", "the cases of nr.branch are a dict of a function for each label", "lambda"),
        ("nr.branch(one(), [lambda: one()])", "for each label, not a list", "lambda: ..."),
        ("pickle.dumps(one())", "a pickle of it needs the value of step one", "inside a step"),
        ("a, b, c = two(1)", "pipeline flow failed: ValueError: not enough values to unpack", "only calls steps"),
        ("pd.DataFrame(one())", "needs the value", "inside a step"),
        ("undefined(1)", "NameError", "only calls steps"),
        ("3", "pipeline flow calls no step", "@nr.step"),
    ],
)
def test_what_a_pipeline_cannot_do_is_said_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str, after: str
) -> None:
    error = refused(tmp_path, STEPS + FLOW + f"    {line}\n", monkeypatch)
    assert said in error.message
    assert after in error.hint
    if line != "3":
        assert error.where.startswith(f"{tmp_path}/pipeline.py:{HEAD + 4} in "), error.where
        assert error.where.endswith(f": {line}")


@pytest.mark.parametrize(
    ("text", "said", "after"),
    [
        ("@nr.step\ndef each():\n    yield 1\n", "step each yields", "collect what it yields in a list"),
        ("@nr.step\nasync def each():\n    return 1\n", "step each is async", "asyncio.run("),
        ("@nr.step\nasync def each():\n    yield 1\n", "step each is async", "asyncio.run("),
        ("@nr.step\nclass Each: pass\n", "@nr.step marks a function, not the class Each", "right above a def"),
        ("@nr.step\n@nr.step\ndef each(): pass\n", "@nr.step marks a function, not the step each", "right above a def"),
        ("@nr.pipeline\n@nr.step\ndef each(): pass\n", "not the step each", "right above a def"),
        ("@nr.pipeline\ndef flow():\n    yield one()\n", "pipeline flow yields", "one by one"),
        ("@nr.pipeline\nasync def flow():\n    await one()\n", "pipeline flow is async", "without await"),
        ("@nr.pipeline\ndef flow(n):\n    one(n)\n", "pipeline flow takes n, which nobody gives", "-p STEP.NAME"),
        ("found = one()\n", "step one is called while pipeline.py is imported", "@nr.pipeline"),
        ("found = one.map([1])\n", "step one is called while pipeline.py is imported", "@nr.pipeline"),
        ("@nr.pipeline\ndef flow():\n    one()\nflow()\n", "step one is called while pipeline.py is imported", ""),
        ("1 / 0\n", "pipeline.py failed: ZeroDivisionError", "NORIA_DEBUG=1"),
        ("nr.Log(0.01)\n", "nr.Log is not given high", "write nr.Log(0.01, 0.3)"),
        ("nr.Log(0.01, 0.1, 3)\n", "nr.Log takes low and high, and is given 3 values", "write nr.Log(0.01, 0.3)"),
        ("nr.Range()\n", "nr.Range is not given low and high", "write nr.Range(0.01, 0.3)"),
        ("nr.Range(1, 2, setp=1)\n", "nr.Range takes low, high, log and step, and no 'setp'", "step=0.01"),
        ("nr.Range(1, 2, low=1)\n", "nr.Range is given low twice", "write nr.Range(0.01, 0.3)"),
        ("nr.Range(1, 10, 2)\n", "nr.Range: log is 2, not True or False", "step=0.01"),
        ("nr.Choice(values=[1])\n", "nr.Choice takes its values, and no 'values'", "write nr.Choice([15, 31, 63])"),
        ("nr.Int('a', 3)\n", "noria has no 'Int'", "Annotated[int, nr.Range(1, 9)]"),
        ("nr.LogUniform(1, 3)\n", "noria has no 'LogUniform'", "Annotated[float, nr.Log(0.01, 0.3)]"),
        ("nr.datset('a')\n", "noria has no 'datset'", "did you mean nr.dataset?"),
        ("@nr.pipeline\ndef flow():\n    return one\n", "pipeline flow returned the step one itself", "write one(…)"),
    ],
)
def test_what_a_projects_file_cannot_do_is_said_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str, after: str
) -> None:
    error = refused(tmp_path, STEPS + text, monkeypatch)
    assert said in error.message
    assert after in error.hint
    assert error.where.startswith(f"{tmp_path}/pipeline.py:")


def test_a_promise_can_still_be_shown_in_a_debugger_and_kept_in_a_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    flow = "    made = one()\n    assert 'of step one' in repr(made)\n    assert made in {made} and made in [made]\n"
    assert [node.name for node in read(tmp_path, STEPS + FLOW + flow).nodes] == ["one"]


GIVES = """
import copy
from functools import partial
import noria as nr

KEPT = []

@nr.step
def one(x: int = 1) -> int:
    return x

@nr.step
def call(f, x: int = 2) -> int:
    return f(x)

@nr.step
def own(f=one) -> int:
    return f(7)

@nr.step
def result():
    return RESULT

@nr.pipeline
def flow():
    made = one()
    KEPT.append(made)
    call(FUNCTION, copy.deepcopy(copy.copy(made)))
    own()
    result()
"""


@pytest.mark.parametrize("function", ["one.function", "partial(one, 5).func.function", "lambda x: x", "partial(one)"])
def test_a_function_that_is_handed_on_is_called_in_the_step(tmp_path: Path, function: str) -> None:
    (tmp_path / "noria.toml").write_text('[project]\nname = "test"\n')
    (tmp_path / "pipeline.py").write_text(GIVES.replace("FUNCTION", function).replace("RESULT", "one(3)"), "utf-8")
    ws = open_memory(root=tmp_path)
    made = execute(ws, load_pipeline(ws.project), run="run_1", pins={})
    assert [values.load(ws, made.outputs[name][0]) for name in ("call", "own", "result")] == [1, 7, 3]


@pytest.mark.parametrize(
    ("result", "said", "after"),
    [
        ("one", "it is or holds the step one itself, not what that gives", "write one(…)"),
        ("[{'a': (1, one)}]", "it is or holds the step one itself", "write one(…)"),
        ("partial(one, 2)", "it is or holds the step one itself", "has no @nr.step"),
        ("KEPT[0]", "it is or holds the result of step one, which the pipeline function only", "as an argument"),
        ("{1: KEPT}", "it is or holds the result of step one, which the pipeline function only", "as an argument"),
    ],
)
def test_a_step_or_a_promise_is_no_result_of_a_step(tmp_path: Path, result: str, said: str, after: str) -> None:
    (tmp_path / "noria.toml").write_text('[project]\nname = "test"\n')
    (tmp_path / "pipeline.py").write_text(
        GIVES.replace("FUNCTION", "one.function").replace("RESULT", result), encoding="utf-8"
    )
    ws = open_memory(root=tmp_path)
    with pytest.raises(StepFailed) as caught:
        execute(ws, load_pipeline(ws.project), run="run_1", pins={})
    assert caught.value.message.startswith(f"result of step result cannot be stored: {said}")
    assert after in caught.value.hint


def test_a_range_in_an_annotation_that_is_kept_as_text_is_told_with_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "from __future__ import annotations\nfrom typing import Annotated\nimport noria as nr\n\n@nr.step\n"
        "def one(x: Annotated[float, HERE] = 0.1) -> float:\n    return x\n\n@nr.pipeline\ndef flow():\n    one()\n"
    )
    error = refused(tmp_path, text.replace("HERE", "nr.Log(0.01)"), monkeypatch)
    assert (error.message, error.where) == ("nr.Log is not given high", f"{tmp_path}/pipeline.py:5")
    definition = read(tmp_path, text.replace("HERE", "nr.Int(1, 3)"))
    with pytest.raises(ProjectError, match=r"annotations of step one cannot be read: .* noria has no 'Int'") as caught:
        space_of(definition)
    assert caught.value.where == f"{tmp_path}/pipeline.py:5"


PLACES = """
import noria as nr

@nr.step
def kw(a: int, /, b: int = 2, *, c: int, d: int = 4, **rest) -> str:
    return f"{a} {b} {c} {d} {sorted(rest.items())}"

@nr.pipeline
def flow():
    kw(1, c=3, z=9)
    kw.map([5], c=6)
"""


def test_a_parameter_that_is_given_by_its_place_alone_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in plain Python; where one call names it too, for **rest, it is refused before anything runs."""
    (tmp_path / "noria.toml").write_text('[project]\nname = "test"\n')
    (tmp_path / "pipeline.py").write_text(PLACES, encoding="utf-8")
    ws = open_memory(root=tmp_path)
    made = execute(ws, load_pipeline(ws.project), run="run_1", pins={})
    found = {name: values.load(ws, made.outputs[name][0]) for name in ("kw", "kw-2")}
    assert found == {"kw": "1 2 3 4 [('z', 9)]", "kw-2": ["5 2 6 4 []"]}
    error = refused(tmp_path, PLACES.replace("z=9", "a=9"), monkeypatch)
    assert error.message == "step kw is given a by its place, and another a for **rest"


COMPILED = """
import pandas as pd
import noria as nr

@nr.step
def parse() -> int:
    return len(moments(["2025-01-01", "2025-03-30 02:30"]))

def moments(texts):
    return pd.to_datetime(texts)

@nr.step
def wrapped() -> int:
    try:
        number = int("x")
    except ValueError:
        exec("raise KeyError('a')")
    return number

@nr.pipeline
def flow():
    STEP()
"""


@pytest.mark.parametrize(
    ("step", "line"),
    [("parse", "in moments: return pd.to_datetime(texts)"), ("wrapped", "in wrapped: exec(")],
    ids=["compiled", "exec"],
)
def test_an_error_of_compiled_code_names_the_deepest_line_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, line: str
) -> None:
    """Compiled libraries name files that are relative to where they were built, so seemingly of the project."""
    (tmp_path / "noria.toml").write_text('[project]\nname = "test"\n')
    (tmp_path / "pipeline.py").write_text(textwrap.dedent(COMPILED.replace("STEP", step)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    ws = open_memory(root=tmp_path)
    with pytest.raises(StepFailed) as caught:
        execute(ws, load_pipeline(ws.project), run="run_1", pins={})
    assert caught.value.where.startswith(f"{tmp_path}/pipeline.py:")
    assert line in caught.value.where
    assert not caught.value.message.endswith(":"), "what it announces is said"
