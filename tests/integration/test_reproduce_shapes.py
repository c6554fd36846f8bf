"""`noria reproduce` of pipelines with branches and maps: what differs is found in its item, or its branch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from again_project import Planted, environ

import warm
from noria.bootstrap import open_workspace
from noria.project.again import verdict

HEAD = """
import os, random, time, uuid
import pyarrow as pa
import noria as nr

sales = nr.dataset("sales")

@nr.step
def kind(rows: pa.Table) -> str:
    {decides}
    return "large" if len(rows) > 10 else "small"

@nr.step
def fit_small(rows: pa.Table) -> float:
    return min(rows["amount"].to_pylist())

@nr.step
def fit_large(rows: pa.Table) -> float:
    return max(rows["amount"].to_pylist())

@nr.step
def numbers(most: float, count: int = 5) -> list[int]:
    return list(range(count))

@nr.step
def score(number: int, most: float) -> {hint}:
    {scores}

@nr.step
def total(scores: list) -> int:
    return len(scores)

@nr.pipeline
def flow():
    most = nr.branch(kind(sales), {{"small": lambda: fit_small(sales), "large": lambda: fit_large(sales)}})
    total(score.map({over}, most=most))
"""
SAME = "return number * most"


@pytest.fixture
def project(tmp_path: Path) -> Planted:
    return Planted(tmp_path / "project")


def write(
    project: Planted, scores: str, *, decides: str = "", hint: str = "float", over: str = "numbers(most)"
) -> None:
    project.write("return 0")
    body = scores.replace("\n", "\n    ")
    text = HEAD.format(scores=body, decides=decides, hint=hint, over=over)
    (project.root / "pipeline.py").write_text(text, encoding="utf-8")


def verdicts(found: Mapping[str, Any]) -> dict[str, str]:
    return {each["step"]: each["verdict"] for each in found["steps"]}


def items(found: Mapping[str, Any]) -> dict[str, int]:
    """The items that differ, by their step."""
    return {each["step"]: each["item"] for each in found["steps"] if each["item"] is not None}


@pytest.mark.parametrize("over", ["numbers(most)", "[0, 1, 2]", "[fit_small(sales), 2]"])
def test_branches_and_maps_without_chance_are_bit_identical(project: Planted, over: str) -> None:
    write(project, SAME, over=over)
    project.run()
    found = project.again(code=0)
    assert (found["verdict"], found["step"], found["causes"]) == ("identical", "", [])
    steps = verdicts(found)
    assert set(steps.values()) == {"identical"}
    assert {"kind", "fit_large", "branch", "score", "total"} <= set(steps)
    assert project.again(code=0)["verdict"] == "identical", "the first time left nothing behind"
    project.run()
    assert project.again(code=0)["verdict"] == "identical", "nor does it matter that a run was all cached"


@pytest.mark.parametrize(
    ("planted", "kind", "where"),
    [
        ("random.random()", "unseeded random", "random.random()"),
        ("time.time()", "time", "time.time()"),
        ("hash('a text') % 1000", "hash seed", "PYTHONHASHSEED"),
    ],
)
def test_chance_in_one_item_is_found_in_that_item(project: Planted, planted: str, kind: str, where: str) -> None:
    write(project, f"return number * most + ({planted} if number == 3 else 0.0)")
    run = project.run()["run"]
    done = warm.noria("reproduce", cwd=project.root, env=environ({}))
    assert (done.returncode, f"score.3: {kind}" in done.stdout) == (1, True), done.stdout + done.stderr
    _, found = verdict.read(open_workspace(project.root), run)
    assert (found["verdict"], found["step"]) == ("different", "score.3"), found["causes"]
    first = found["causes"][0]
    assert (first["kind"], first["sure"]) == (kind, "proved"), found["causes"]
    assert where in first["evidence"] + first["where"]
    steps = verdicts(found)
    assert (steps["kind"], steps["branch"], steps["numbers"], steps["score"]) == (*("identical",) * 3, "different")
    assert steps["total"] == "identical", "it counts them only"


def test_a_cached_list_and_items_of_constants_are_located_too(project: Planted) -> None:
    """The items are those of an earlier run, the result of a step among them, and each gives two values."""
    scores = "return number, (random.random() if number == 7 else most)"
    write(project, scores, hint="tuple[float, float]", over="[fit_small(sales), 7, 8]")
    project.run()
    second = project.run()
    assert {each["step"]: each["status"] for each in second["steps"]}["score"] == "cached"
    found = project.again()
    assert (found["step"], found["causes"][0]["kind"]) == ("score.1", "unseeded random"), found["causes"]
    assert items(found) == {"score": 1}


def test_an_item_within_its_tolerance_is_not_the_one(project: Planted) -> None:
    write(project, "return number + random.random() * (1e-9 if number == 1 else 1.0 if number == 2 else 0.0)")
    with (project.root / "noria.toml").open("a") as settings:
        settings.write("[reproduce]\ntolerance = { score = 1e-6 }\n")
    project.run()
    found = project.again()
    assert (found["step"], found["causes"][0]["kind"]) == ("score.2", "unseeded random"), found["causes"]
    assert items(found) == {"score": 2}


def test_an_item_that_fails_now_is_named(project: Planted, tmp_path: Path) -> None:
    table = tmp_path / "table.txt"
    table.write_text("12")
    read = f"(int(open({str(table)!r}).read()) if number == 4 else 1)"
    write(project, f"return number * {read}")
    project.run()
    assert project.again(code=0)["ok"]
    table.write_text("no number")
    found = project.again()
    assert (found["step"], found["causes"][0]["kind"]) == ("score.4", "file outside the inputs"), found["causes"]
    assert (verdicts(found)["score"], items(found)) == ("failed", {"score": 4})


def test_a_decision_that_falls_otherwise_is_the_first_that_differs(project: Planted) -> None:
    write(project, SAME, decides='if os.environ.get("SIZE"):\n        return os.environ["SIZE"]')
    project.run(SIZE="small")
    assert project.again(code=0, SIZE="small")["verdict"] == "identical"
    found = project.again(SIZE="large")
    assert (found["step"], found["causes"][0]["kind"]) == ("kind", "environment variable"), found["causes"]
    steps = verdicts(found)
    assert (steps["fit_small"], steps["fit_large"]) == ("failed", "different"), "the other branch ran"


def test_chance_in_the_branch_that_ran_is_found_there(project: Planted) -> None:
    write(project, SAME)
    text = (project.root / "pipeline.py").read_text()
    (project.root / "pipeline.py").write_text(
        text.replace('max(rows["amount"].to_pylist())', 'max(rows["amount"].to_pylist()) + time.time()')
    )
    project.run()
    found = project.again()
    assert (found["step"], found["causes"][0]["kind"]) == ("fit_large", "time"), found["causes"]
    assert verdicts(found)["fit_small"] == "identical", "it was passed over both times"
