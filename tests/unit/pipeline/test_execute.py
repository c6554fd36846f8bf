"""Running a pipeline: what is cached, what runs again and why, and what a bad entry does."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from noria.core.errors import StepFailed, StepKilled, UsageError
from noria.core.identity import Digest
from noria.pipeline.define import load_pipeline
from noria.pipeline.driving.execute import Execution, execute
from noria.pipeline.outputs import values
from noria.store.objects import HasPlaces
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.testing import open_memory

CHAIN = """
    @nr.step
    def first(x: int = 1) -> int:
        print("making", x)
        return x + 1

    @nr.step
    def second(y: int) -> int:
        return y * 10

    @nr.pipeline
    def flow():
        second(first())
"""


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    (tmp_path / "noria.toml").write_text('[project]\nname = "test"\n')  # a step's own process reads it
    return open_memory(root=tmp_path)


def run(ws: Workspace, text: str, name: str, params: dict[str, Any] | None = None, **modules: str) -> Execution:
    root = ws.project.root
    (root / "pipeline.py").write_text("import noria as nr\n" + textwrap.dedent(text), encoding="utf-8")
    for module, content in modules.items():
        (root / f"{module}.py").write_text(textwrap.dedent(content), encoding="utf-8")
    made = execute(ws, load_pipeline(ws.project), run=name, pins={}, params=params)
    assert difference(ws.ledger) == []
    return made


def result(ws: Workspace, made: Execution, node: str) -> Any:
    return values.load(ws, made.outputs[node][0])


def told(made: Execution) -> dict[str, tuple[str, str]]:
    return {step.step: (step.status, step.because) for step in made.steps}


def test_a_second_run_is_all_cached(ws: Workspace) -> None:
    assert told(run(ws, CHAIN, "r1")) == {"first": ("done", "first run"), "second": ("done", "first run")}
    again = run(ws, CHAIN, "r2")
    assert {status for status, _ in told(again).values()} == {"cached"}
    assert result(ws, again, "second") == 20


def test_a_number_beyond_the_digits_of_a_text_is_a_parameter_and_a_result(ws: Workspace) -> None:
    text = """
    @nr.step
    def big(n: int) -> int:
        return n + 1

    @nr.pipeline
    def flow():
        big(10**5000)
    """
    made = run(ws, text, "r1")
    assert result(ws, made, "big") == 10**5000 + 1
    assert told(run(ws, text, "r2"))["big"][0] == "cached"
    assert told(run(ws, text.replace("10**5000", "10**5000 + 1"), "r3"))["big"][0] == "done"


def test_an_equal_result_stops_the_cascade(ws: Workspace) -> None:
    run(ws, CHAIN, "r1")
    again = told(run(ws, CHAIN.replace("x + 1", "1 + x"), "r2"))
    assert again["first"] == ("done", "step first changed")
    assert again["second"][0] == "cached"


def test_a_parameter_is_named_with_both_values(ws: Workspace) -> None:
    run(ws, CHAIN, "r1")
    made = run(ws, CHAIN, "r2", {"first.x": 4})
    assert told(made)["first"] == ("done", "parameter x 1 -> 4")
    assert told(made)["second"] == ("done", "first gave another result")
    assert result(ws, made, "second") == 50
    with pytest.raises(UsageError, match=r"first\.y"):
        run(ws, CHAIN, "r3", {"first.y": 1})


def test_an_altered_result_is_made_again(ws: Workspace) -> None:
    made = run(ws, CHAIN, "r1")
    store = ws.objects.store
    assert isinstance(store, HasPlaces)
    ((_, pack, at, size),) = store.places([Digest(made.outputs["first"][0].digest)])
    with pack.open("r+b") as file:
        file.seek(at)
        file.write(b"9" * size)
    again = run(ws, CHAIN, "r2")
    assert told(again)["first"][0] == "done"
    assert result(ws, again, "second") == 20


def test_a_result_that_could_not_be_read_back_is_refused_when_it_is_made(ws: Workspace) -> None:
    text = CHAIN.replace("-> int:", "-> object:", 1).replace("return x + 1", "return iter([x])")
    with pytest.raises(StepFailed, match=r"result of step first cannot be stored.*builtins\.iter") as caught:
        run(ws, text, "r1")
    assert "pipeline.py:" in caught.value.where


def test_what_a_step_prints_is_in_its_log(ws: Workspace) -> None:
    run(ws, CHAIN, "r1")
    assert (ws.project.state / "runs" / "r1" / "first.log").read_text() == "making 1\n"


def test_a_module_imported_inside_a_step_is_followed(ws: Workspace) -> None:
    text = """
        @nr.step
        def only() -> int:
            import inner
            return inner.f()

        @nr.pipeline
        def flow():
            only()
    """
    assert result(ws, run(ws, text, "r1", inner="def f():\n    return 1\n"), "only") == 1
    made = run(ws, text, "r2", inner="def f():\n    return 2\n")
    assert told(made)["only"] == ("done", "helper inner.f changed")
    assert result(ws, made, "only") == 2


def test_the_class_of_a_stored_object_is_code_of_the_step_that_takes_it(ws: Workspace) -> None:
    text = """
        from things import Thing

        @nr.step
        def make():
            return Thing(3)

        @nr.step
        def use(thing) -> int:
            return thing.go()

        @nr.pipeline
        def flow():
            use(make())
    """
    thing = (
        "class Thing:\n    def __init__(self, x):\n        self.x = x\n    def go(self):\n        return self.x + {}\n"
    )
    assert result(ws, run(ws, text, "r1", things=thing.format(1)), "use") == 4
    assert result(ws, run(ws, text, "r2", things=thing.format(2)), "use") == 5


@pytest.mark.parametrize(
    ("body", "error", "part"),
    [
        ("raise ValueError('no such plan')", StepFailed, "ValueError: no such plan"),
        ("return 'text'", StepFailed, "annotation says int"),
        ("return None", StepFailed, "returned None"),
    ],
)
def test_a_failing_step_is_told_in_six_lines(ws: Workspace, body: str, error: type, part: str) -> None:
    text = CHAIN.replace("return y * 10", body)
    with pytest.raises(error, match=part) as caught:
        run(ws, text, "r1")
    assert caught.value.exit_code == 4
    assert "second" in str(caught.value)
    assert "pipeline.py:" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 6
    assert told(run(ws, CHAIN, "r2"))["first"][0] == "cached"  # what was done before stays done


@pytest.mark.parametrize(
    ("option", "body", "part"),
    [
        ('timeout="2s"', "import time; time.sleep(60)", "limit of 2 s"),
        ('timeout="60s"', "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ('memory="300MiB"', "return len(bytearray(2**31))", "memory"),
    ],
)
def test_a_killed_step_is_told(ws: Workspace, option: str, body: str, part: str) -> None:
    text = CHAIN.replace("@nr.step\n    def second", f"@nr.step({option})\n    def second").replace(
        "return y * 10", body
    )
    with pytest.raises(StepKilled, match=part) as caught:
        run(ws, text, "r1")
    assert caught.value.exit_code == 4
    assert len(str(caught.value).splitlines()) <= 6
