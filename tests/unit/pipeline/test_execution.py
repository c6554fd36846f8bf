"""Pipelines that run beside themselves: maps, branches, retries and failures, the same on every executor."""

from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from noria.core.errors import NoriaError, StepFailed, StepKilled, UsageError
from noria.pipeline import records
from noria.pipeline.define import load_pipeline
from noria.pipeline.driving.execute import Execution, Manner, execute, manner_of
from noria.pipeline.outputs import values
from noria.pipeline.records import StepRecord
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.testing import open_memory

EXECUTORS = ["auto", "inline", "pool"]
MAPPED = """
    @nr.step
    def names(n: int = 5) -> list[str]:
        return [f"c{place}" for place in range(n)]

    @nr.step
    def size(name: str, factor: int = 2) -> int:
        note(name)
        return len(name) * factor

    @nr.step
    def total(sizes: list[int]) -> int:
        return sum(sizes)

    @nr.pipeline
    def flow():
        total(size.map(names()))
"""
BRANCHED = """
    @nr.step
    def kind(n: int = 1) -> str:
        return {1: "small", 2: "large"}.get(n, "odd")

    @nr.step
    def fit_small() -> str:
        return note("small")

    @nr.step
    def fit_large() -> str:
        return note("large")

    @nr.step
    def check_large(model: str) -> str:
        return note(model + " checked")

    @nr.step
    def use(model: str) -> str:
        return note("used " + model)

    @nr.pipeline
    def flow():
        use(nr.branch(kind(), {"small": fit_small, "large": lambda: check_large(fit_large())}))
"""


@pytest.fixture
def ws(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    # what steps note lies elsewhere: a file of the project that their code names would be part of their key
    monkeypatch.setenv("NOTED", str(tmp_path_factory.mktemp("noted") / "notes.txt"))
    (tmp_path / "noria.toml").write_text('[project]\nname = "test"\n')  # workers read it
    (tmp_path / "notes.py").write_text(
        "import os\n"
        "def note(text):\n"
        "    place = os.open(os.environ['NOTED'], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "    os.write(place, (text + '\\n').encode())\n"
        "    os.close(place)\n"
        "    return text\n"
    )
    return open_memory(root=tmp_path)


def run(ws: Workspace, text: str, name: str, params: dict[str, Any] | None = None, **manner: Any) -> Execution:
    """Execute the pipeline; whatever comes of it, the records are the fold of the facts."""
    head = "import os, signal, time\nfrom pathlib import Path\nimport noria as nr\nfrom notes import note\n"
    (ws.project.root / "pipeline.py").write_text(head + textwrap.dedent(text), encoding="utf-8")
    try:
        return execute(ws, load_pipeline(ws.project), run=name, pins={}, params=params, manner=Manner(**manner))
    finally:
        assert difference(ws.ledger) == []


def result(ws: Workspace, made: Execution, node: str) -> Any:
    return values.load(ws, made.outputs[node][0])


def told(ws: Workspace, name: str) -> dict[str, tuple[str, str]]:
    with ws.ledger.read() as tx:
        return {step.step: (step.status, step.because) for step in records.steps(tx, name)}


def items(ws: Workspace, name: str) -> list[StepRecord]:
    with ws.ledger.read() as tx:
        return records.items(tx, name)


def noted(ws: Workspace) -> list[str]:
    place = Path(os.environ["NOTED"])
    return place.read_text().split("\n")[:-1] if place.is_file() else []


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_mapped_step_gives_the_results_in_order(ws: Workspace, executor: str) -> None:
    made = run(ws, MAPPED, "r1", executor=executor)
    assert result(ws, made, "size") == [4] * 5
    assert result(ws, made, "total") == 20
    assert sorted(noted(ws)) == ["c0", "c1", "c2", "c3", "c4"]
    assert sorted(item.step for item in items(ws, "r1")) == [f"size.{place}" for place in range(5)]
    assert next(step.items for step in made.steps if step.step == "size") == 5


def test_a_new_item_runs_alone_on_whatever_executor(ws: Workspace) -> None:
    run(ws, MAPPED, "r1", executor="inline")
    made = run(ws, MAPPED, "r2", {"names.n": 7}, executor="pool")
    assert result(ws, made, "total") == 28
    assert sorted(item.step for item in items(ws, "r2")) == ["size.5", "size.6"]
    again = run(ws, MAPPED, "r3", {"names.n": 7}, executor="inline")
    assert {step.status for step in again.steps} == {"cached"}
    assert len(noted(ws)) == 7


def test_an_edit_runs_every_item_again_and_says_why(ws: Workspace) -> None:
    run(ws, MAPPED, "r1", executor="inline")
    run(ws, MAPPED.replace("len(name) * factor", "len(name) + factor"), "r2", executor="inline")
    assert len(noted(ws)) == 10
    assert {item.because for item in items(ws, "r2")} == {"step size changed"}


def test_a_list_in_the_pipeline_and_a_mapped_result_can_be_mapped_over(ws: Workspace) -> None:
    text = """
        @nr.step
        def double(x: int) -> tuple[int, str]:
            return x * 2, str(x)

        @nr.step
        def joined(pair: tuple[int, str], end: str = "!") -> str:
            return f"{pair[0]}{pair[1]}{end}"

        @nr.pipeline
        def flow():
            joined.map(double.map([1, 2, 3]), end="?")
    """
    made = run(ws, text, "r1", executor="inline")
    assert result(ws, made, "double") == [(2, "1"), (4, "2"), (6, "3")]
    assert result(ws, made, "joined") == ["21?", "42?", "63?"]


def test_only_a_window_of_items_is_under_way(ws: Workspace) -> None:
    text = """
        @nr.step(cache=False)
        def one(n: int) -> int:
            return n

        @nr.step
        def last(parts: "Iterable[int]") -> int:
            assert not isinstance(parts, list)
            return sum(parts)

        @nr.pipeline
        def flow():
            last(one.map(list(range(300))))
    """
    text = "\n    from collections.abc import Iterable\n" + textwrap.indent(textwrap.dedent(text), "    ")
    made = run(ws, text, "r1", executor="inline", window=8)
    assert result(ws, made, "last") == sum(range(300))
    assert len(items(ws, "r1")) == 300
    facts = ws.ledger.facts(kind="items.finished")
    assert len(facts) < 60, "items share facts"


@pytest.mark.parametrize("over", ["None", "3"])
def test_what_is_no_list_cannot_be_mapped_over(ws: Workspace, over: str) -> None:
    text = MAPPED.replace("-> list[str]", "").replace('[f"c{place}" for place in range(n)]', over)
    with pytest.raises(StepFailed, match="which is no list"):
        run(ws, text, "r1", executor="inline")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_only_the_branch_that_was_chosen_runs(ws: Workspace, executor: str) -> None:
    made = run(ws, BRANCHED, "r1", executor=executor)
    assert result(ws, made, "use") == "used small"
    assert noted(ws) == ["small", "used small"]
    assert told(ws, "r1")["fit_large"] == ("skipped", "kind gave 'small', and this is for 'large'")
    assert told(ws, "r1")["check_large"][0] == "skipped"
    assert told(ws, "r1")["branch"] == ("done", "kind gave 'small': fit_small")
    other = run(ws, BRANCHED, "r2", {"kind.n": 2}, executor=executor)
    assert result(ws, other, "use") == "used large checked"
    back = run(ws, BRANCHED, "r3", executor=executor)
    assert result(ws, back, "use") == "used small"
    assert len(noted(ws)) == 5, "both ways are cached"


def test_a_decision_without_a_branch_fails_the_run_unless_there_is_another_way(ws: Workspace) -> None:
    with pytest.raises(StepFailed, match="no branch is called so"):
        run(ws, BRANCHED, "r1", {"kind.n": 3}, executor="inline")
    assert told(ws, "r1")["use"][0] == "skipped"
    text = BRANCHED.replace("check_large(fit_large())}", "check_large(fit_large())}, otherwise=fit_small")
    assert result(ws, run(ws, text, "r2", {"kind.n": 3}, executor="inline"), "use") == "used small"


@pytest.mark.parametrize("gave", ["np.str_('small')", "np.array(['small', 'large'])[0]"])
def test_a_decision_that_numpy_made_is_the_text_that_it_says(ws: Workspace, gave: str) -> None:
    text = BRANCHED.replace('{1: "small", 2: "large"}.get(n, "odd")', f"__import__('numpy') and {gave}")
    text = text.replace(
        "-> str:\n        return __import__", "-> object:\n        import numpy as np\n        return __import__"
    )
    assert result(ws, run(ws, text, "r1", executor="inline"), "use") == "used small"


def test_a_table_is_no_decision_and_is_named(ws: Workspace) -> None:
    gave = "__import__('numpy').zeros(3)"
    text = BRANCHED.replace('{1: "small", 2: "large"}.get(n, "odd")', gave).replace(
        "int = 1) -> str", "int = 1) -> object"
    )
    with pytest.raises(StepFailed, match="step kind gave a value of numpy, and no branch is called so"):
        run(ws, text, "r1", executor="inline")


@pytest.mark.parametrize("label", ["None", "1.0", "('small',)"])
def test_a_case_is_named_by_a_text_a_whole_number_or_a_truth(ws: Workspace, label: str) -> None:
    with pytest.raises(NoriaError, match="which is no text, whole number, True or False"):
        run(ws, BRANCHED.replace('"small": ', f"{label}: "), "r1", executor="inline")


def test_fewer_than_no_workers_are_refused(ws: Workspace) -> None:
    with pytest.raises(UsageError, match="workers is -3, less than none"):
        manner_of(ws, workers=-3)


def test_branches_may_stand_in_branches(ws: Workspace) -> None:
    text = """
        @nr.step
        def yes(n: int = 1) -> bool:
            return bool(n)

        @nr.step
        def give(word: str) -> str:
            return note(word)

        @nr.pipeline
        def flow():
            inner = lambda: nr.branch(yes(0), {True: lambda: give("a"), False: lambda: give("b")})
            give(nr.branch(yes(), {True: inner, False: lambda: give("c")}))
    """
    made = run(ws, text, "r1", executor="inline")
    assert noted(ws) == ["b", "b"] or noted(ws) == ["b"]
    assert result(ws, made, "branch-2") == "b"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_step_that_fails_is_tried_again_as_often_as_it_says(ws: Workspace, executor: str) -> None:
    text = """
        @nr.step(retries=3, retry_wait="10ms")
        def shaky() -> int:
            print("trying")
            note("x")
            if len(Path(os.environ["NOTED"]).read_text()) < 6:
                raise ValueError("not yet")
            return 7

        @nr.pipeline
        def flow():
            shaky()
    """
    made = run(ws, text, "r1", executor=executor)
    assert result(ws, made, "shaky") == 7
    assert noted(ws) == ["x"] * 3
    with ws.ledger.read() as tx:
        (step,) = records.steps(tx, "r1")
    assert (step.status, step.attempts) == ("done", 3)
    assert (ws.project.state / "runs" / "r1" / "shaky.log").read_text().count("trying\n") == 3


FAILING = """
    @nr.step
    def bad() -> int:
        time.sleep(0.3)
        raise ValueError("no such plan")

    @nr.step
    def after(x: int) -> int:
        return note("after") and 1

    @nr.step
    def slow() -> int:
        note("slow begins")
        time.sleep({slow})
        note("slow ends")
        return 1

    @nr.step
    def behind(x: int) -> int:
        note("behind")
        return x

    @nr.pipeline
    def flow():
        after(bad())
        behind(slow())
"""


def test_a_failure_ends_what_runs_beside_it(ws: Workspace) -> None:
    began = time.monotonic()
    with pytest.raises(StepFailed, match="no such plan"):
        run(ws, FAILING.format(slow=120), "r1", executor="pool", workers=2)
    assert time.monotonic() - began < 100
    assert "slow ends" not in noted(ws)
    found = {name: status for name, (status, _) in told(ws, "r1").items()}
    assert found == {"bad": "failed", "slow": "cancelled", "after": "skipped", "behind": "skipped"}


def test_with_finish_what_does_not_need_it_goes_on(ws: Workspace) -> None:
    with pytest.raises(StepFailed, match="no such plan"):
        run(ws, FAILING.format(slow=0.5), "r1", executor="pool", workers=2, on_failure="finish")
    assert noted(ws)[-2:] == ["slow ends", "behind"]
    found = {name: status for name, (status, _) in told(ws, "r1").items()}
    assert found == {"bad": "failed", "slow": "done", "after": "skipped", "behind": "done"}
    assert told(ws, "r1")["after"] == ("skipped", "bad was failed")


def test_an_item_that_fails_fails_the_step_and_the_others_are_kept(ws: Workspace) -> None:
    text = MAPPED.replace("return len(name) * factor", "return 1 // (name != 'c3') and len(name) * factor")
    with pytest.raises(StepFailed, match=r"size\.3 raised ZeroDivisionError"):
        run(ws, text, "r1", executor="inline", on_failure="finish")
    assert told(ws, "r1")["size"][0] == "failed"
    assert told(ws, "r1")["total"] == ("skipped", "size was failed")
    assert sorted(item.status for item in items(ws, "r1")) == ["done"] * 4 + ["failed"]
    assert len(noted(ws)) == 5
    with pytest.raises(StepFailed):
        run(ws, text, "r2", executor="inline")
    assert len(noted(ws)) == 6, "only the one that failed is tried again"


def test_steps_run_beside_each_other_and_gpus_and_memory_are_asked_for_first(ws: Workspace) -> None:
    text = """
        @nr.step
        def one(n: int) -> int:
            note("begin")
            give_up = time.monotonic() + 60
            while Path(os.environ["NOTED"]).read_text().count("begin") < 2:
                assert time.monotonic() < give_up, "nothing ran beside it"
                time.sleep(0.01)
            return n

        @nr.pipeline
        def flow():
            one(1), one(2)
    """
    made = run(ws, text, "r1", executor="auto")
    assert [result(ws, made, name) for name in ("one", "one-2")] == [1, 2]


@pytest.mark.parametrize(
    ("option", "said"), [("gpu=1", "gpu=1, and there is none"), ('memory="4000TiB"', "memory of 4096000.0 GiB")]
)
def test_what_no_executor_has_is_said_before_anything_runs(ws: Workspace, option: str, said: str) -> None:
    text = MAPPED.replace("@nr.step\n    def total", f"@nr.step({option})\n    def total")
    with pytest.raises(UsageError, match=said) as caught:
        run(ws, text, "r1")
    assert caught.value.hint.startswith("no executor that is installed has that: ask for less")
    assert noted(ws) == []


def test_an_executor_that_could_is_named(ws: Workspace) -> None:
    text = MAPPED.replace("@nr.step\n    def total", "@nr.step(timeout='9s')\n    def total")
    with pytest.raises(UsageError, match="a process of its own") as caught:
        run(ws, text, "r1", executor="inline")
    assert "--executor auto" in caught.value.hint


def test_a_device_is_given_to_one_step_at_a_time(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_GPUS", "2")
    text = """
        @nr.step(gpu=1, cpu=0, cache=False)
        def one(n: int) -> str:
            time.sleep(0.2)
            return os.environ["CUDA_VISIBLE_DEVICES"]

        @nr.step
        def none() -> str:
            return os.environ.get("CUDA_VISIBLE_DEVICES", "all")

        @nr.pipeline
        def flow():
            one.map([1, 2, 3]), none()
    """
    made = run(ws, text, "r1", executor="pool")
    assert set(result(ws, made, "one")) <= {"0", "1"}
    assert result(ws, made, "none") == ""


def test_equal_steps_of_one_run_are_made_once(ws: Workspace) -> None:
    text = """
        @nr.step
        def one(n: int = 1) -> int:
            note("one")
            return n

        @nr.pipeline
        def flow():
            one(), one(), one()
    """
    made = run(ws, text, "r1", executor="pool")
    assert sorted(step.status for step in made.steps) == ["cached", "cached", "done"]
    assert noted(ws) == ["one"]


def test_a_step_that_dies_in_the_pool_leaves_the_others_alone(ws: Workspace) -> None:
    text = """
        @nr.step(retries=1, retry_wait="0s")
        def dies(n: int = 1) -> int:
            if note("try") and len(Path(os.environ["NOTED"]).read_text()) < 8:
                os.kill(os.getpid(), signal.SIGKILL)
            return n

        @nr.step
        def other() -> int:
            time.sleep(0.5)
            return 2

        @nr.pipeline
        def flow():
            dies(), other()
    """
    made = run(ws, text, "r1", executor="pool")
    assert {step.status for step in made.steps} == {"done"}
    with pytest.raises(StepKilled, match="SIGKILL"):
        run(ws, text.replace("< 8", "< 800").replace("retries=1, ", ""), "r2", executor="pool")


def test_a_partition_has_parts_with_an_identity_of_their_own(ws: Workspace) -> None:
    text = """
        import pandas as pd

        @nr.step
        def rows(n: int = 3) -> pd.DataFrame:
            return pd.DataFrame({"month": ["a", "b", "c", "a", "b"][: n + 2], "x": [1, 2, 3, 4, 5][: n + 2]})

        @nr.step
        def summed(part: pd.DataFrame) -> int:
            note(part["month"].iloc[0])
            return int(part["x"].sum())

        @nr.pipeline
        def flow():
            summed.map(nr.partition(rows(), by="month"))
    """
    made = run(ws, text, "r1", {"rows.n": 2}, executor="inline")
    assert result(ws, made, "summed") == [5, 2, 3]
    again = run(ws, text, "r2", {"rows.n": 3}, executor="inline")
    assert result(ws, again, "summed") == [5, 7, 3]
    assert noted(ws) == ["a", "b", "c", "b"], "only the part with the new row"


@pytest.mark.parametrize("more", ["baabcd", "aabcdb", "ababcd"])
def test_a_row_that_comes_anywhere_makes_its_own_part_run_alone(ws: Workspace, more: str) -> None:
    text = """
        import pandas as pd

        @nr.step
        def rows(months: list[str] = ["a", "a", "b", "c", "d"]) -> pd.DataFrame:
            return pd.DataFrame({"month": months})

        @nr.step
        def counted(part: pd.DataFrame) -> int:
            note(part["month"].iloc[0])
            return len(part)

        @nr.pipeline
        def flow():
            counted.map(nr.partition(rows(), by="month"))
    """
    assert result(ws, run(ws, text, "r1", executor="inline"), "counted") == [2, 1, 1, 1]
    found = run(ws, text, "r2", {"rows.months": list(more)}, executor="inline")
    assert result(ws, found, "counted") == [2, 2, 1, 1]
    assert noted(ws) == ["a", "b", "c", "d", "b"], "only the part with the new row"


def test_a_pipeline_that_asks_for_what_cannot_be_is_told_where(ws: Workspace) -> None:
    wrong = {
        "step.map()": "size.map('abc')",
        "no promise": "nr.branch('small', {'small': names})",
        "some": "nr.branch(names(), {'a': names, 'b': lambda: None})",
    }
    for call in wrong.values():
        with pytest.raises(NoriaError):
            run(ws, MAPPED.replace("total(size.map(names()))", call), "r1")
    with pytest.raises(NoriaError, match="retries is -1"):
        run(ws, MAPPED.replace("@nr.step\n    def size", "@nr.step(retries=-1)\n    def size"), "r1")
