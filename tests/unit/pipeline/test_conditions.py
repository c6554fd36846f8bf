"""Cache entries under conditions: what was read as the step ran is checked before its result is used again."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

from noria.core.errors import NotFound
from noria.core.identity import Digest
from noria.pipeline import records
from noria.pipeline.define import load_pipeline
from noria.pipeline.driving.execute import Execution, execute
from noria.pipeline.outputs import values
from noria.pipeline.records import StepRecord
from noria.project.why import why
from noria.store.replay import difference
from noria.store.workspace import Workspace
from noria.testing import open_memory
from noria.tracking import run as tracking

READS = """
    import json
    from pathlib import Path

    @nr.step{options}
    def work() -> int:
        return json.loads((Path(__file__).parent / "".join(["c", ".json"])).read_text())["n"]

    @nr.pipeline
    def flow():
        work()
"""


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    (tmp_path / "noria.toml").write_text('[project]\nname = "test"\n')  # a step's own process reads it
    return open_memory(root=tmp_path)


def run(ws: Workspace, text: str, name: str, **files: str) -> Execution:
    root = ws.project.root
    (root / "pipeline.py").write_text("import noria as nr\n" + textwrap.dedent(text), encoding="utf-8")
    for file, content in files.items():
        (root / file.replace("__", ".")).write_text(content, encoding="utf-8")
    made = execute(ws, load_pipeline(ws.project), run=name, pins={})
    assert difference(ws.ledger) == []
    return made


def last(made: Execution) -> tuple[str, str]:
    return made.steps[-1].status, made.steps[-1].because


def result(ws: Workspace, made: Execution) -> Any:
    return values.load(ws, made.outputs["work"][0])


def step_of(ws: Workspace, name: str) -> StepRecord:
    with ws.ledger.read() as tx:
        (found,) = records.steps(tx, name)
    return found


@pytest.mark.parametrize("options", ["", '(timeout="60s")'])
def test_a_file_that_was_read_is_a_condition_here_and_in_a_process_of_its_own(ws: Workspace, options: str) -> None:
    text = READS.format(options=options)
    assert result(ws, run(ws, text, "r1", c__json='{"n": 1}')) == 1
    assert [what for what, _ in step_of(ws, "r1").reads] == ["file c.json"]
    assert last(run(ws, text, "r2"))[0] == "cached"
    made = run(ws, text, "r3", c__json='{"n": 2}')
    assert (last(made), result(ws, made)) == (("done", "file c.json changed"), 2)
    again = run(ws, text, "r4", c__json='{"n": 1}')  # the first result holds again
    assert (last(again)[0], result(ws, again)) == ("cached", 1)


def test_many_files_are_kept_as_one_object(ws: Workspace) -> None:
    text = """
        from pathlib import Path

        @nr.step
        def work() -> int:
            return sum(int(p.read_text()) for p in sorted((Path(__file__).parent / "data").iterdir()))

        @nr.pipeline
        def flow():
            work()
    """
    folder = ws.project.root / "data"
    folder.mkdir()
    for number in range(150):
        (folder / f"{number}.txt").write_text("1")
    assert result(ws, run(ws, text, "r1")) == 150
    assert len(step_of(ws, "r1").reads) == 1
    assert last(run(ws, text, "r2"))[0] == "cached"
    (folder / "7.txt").write_text("2")
    assert last(run(ws, text, "r3")) == ("done", "file data/7.txt changed")


def test_an_edit_while_the_step_runs_keeps_the_result_out_of_the_cache(ws: Workspace) -> None:
    text = """
        from pathlib import Path
        from inner import f

        @nr.step
        def work() -> int:
            found = f()
            place = Path(__file__).with_name("inner.py")
            if place.stat().st_size < 30:
                place.write_text("def f():\\n    return 2  # edited as it ran\\n")
            return found

        @nr.pipeline
        def flow():
            work()
    """
    made = run(ws, text, "r1", inner__py="def f():\n    return 1\n")
    assert "not shared, since" in last(made)[1]
    assert "inner.py was edited meanwhile" in last(made)[1]
    assert result(ws, made) == 1
    again = run(ws, text, "r2")
    assert (last(again)[0], result(ws, again)) == ("done", 2)
    assert last(run(ws, text, "r3"))[0] == "cached"


def test_a_file_that_changes_while_it_is_read_keeps_the_result_out_of_the_cache(ws: Workspace) -> None:
    text = """
        from pathlib import Path

        @nr.step
        def work() -> int:
            place = Path(__file__).with_name("".join(["count", ".txt"]))
            found = int(place.read_text())
            place.write_text(str(found + 1))
            return found

        @nr.pipeline
        def flow():
            work()
    """
    assert "count.txt changed while the step ran" in last(run(ws, text, "r1", count__txt="1"))[1]
    assert result(ws, run(ws, text, "r2")) == 2


def test_of_a_file_that_was_looked_at_the_part_that_changed_is_named(ws: Workspace) -> None:
    text = """
        from pathlib import Path

        @nr.step
        def work() -> int:
            return Path(__file__).with_name("c.txt").stat().st_size

        @nr.pipeline
        def flow():
            work()
    """
    run(ws, text, "r1", c__txt="1")
    assert last(run(ws, text, "r2"))[0] == "cached"
    os.utime(ws.project.root / "c.txt", (1, 1))
    assert last(run(ws, text, "r3"))[1] == "the time of c.txt changed"


def test_what_cannot_be_identified_is_named_and_not_cached(ws: Workspace) -> None:
    text = """
        import sqlite3
        DB = sqlite3.connect(":memory:")

        @nr.step
        def work() -> int:
            return DB.total_changes

        @nr.pipeline
        def flow():
            work()
    """
    for name in ("r1", "r2"):
        status, because = last(run(ws, text, name))
        assert status == "done"
        assert because.startswith("not cached: constant DB: a sqlite3.Connection")


def test_a_missing_result_is_made_again(ws: Workspace) -> None:
    text = READS.format(options="")
    made = run(ws, text, "r1", c__json='{"n": 1}')
    ws.objects.store.delete(Digest(made.outputs["work"][0].digest))
    again = run(ws, text, "r2")
    assert last(again) == ("done", "its result was not whole")
    assert result(ws, again) == 1
    assert last(run(ws, text, "r3"))[0] == "cached"


def test_the_documents_of_quick_steps_share_an_object(ws: Workspace) -> None:
    text = """
        @nr.step
        def one(x: int = 1) -> int:
            return x

        @nr.step
        def work(y: int) -> int:
            return y

        @nr.pipeline
        def flow():
            work(one())
    """
    run(ws, text, "r1")
    run(ws, text, "r2")
    with ws.ledger.read() as tx:
        first, second = records.steps(tx, "r1"), records.steps(tx, "r2")
    assert len({step.document for step in first}) <= 2
    assert [step.document for step in first] == [step.document for step in second]  # a cached step names its entry's


def test_why_names_what_changed_with_its_lines(ws: Workspace) -> None:
    text = """
        from helpers import clean
        RATE = 2

        @nr.step
        def work(x: int = 1) -> int:
            return clean(x) * RATE

        @nr.pipeline
        def flow():
            work()
    """
    helper = "def clean(x):\n    y = x + 1\n    return y\n"
    for number, (body, edited) in enumerate(
        [(text, helper), (text.replace("RATE = 2", "RATE = 3"), helper.replace("+ 1", "+ 2"))]
    ):
        (ws.project.root / "pipeline.py").write_text("import noria as nr\n" + textwrap.dedent(body), encoding="utf-8")
        (ws.project.root / "helpers.py").write_text(edited, encoding="utf-8")
        with tracking.start(ws, f"flow{number}") as handle:
            execute(ws, load_pipeline(ws.project), run=handle.run, pins={})
    (told,) = why(ws, "work").steps
    found = {change.what: change for change in told.changes}
    assert found["constant RATE"].how == "2 -> 3"
    assert found["helper helpers.clean"].lines == (
        " def clean(x):",
        "-    y = x + 1",
        "+    y = x + 2",
        "     return y",
    )


def test_what_is_neither_a_run_nor_a_step_is_said_to_be_neither(ws: Workspace) -> None:
    run(ws, READS.format(options=""), "r1", c__json='{"n": 1}')
    with pytest.raises(NotFound, match="there is no run and no step 'wrok'") as caught:
        why(ws, "wrok")
    assert "noria why shows the steps" in caught.value.hint
