"""A project may have several pipelines: each runs by its name, and what asks for a model runs the one that makes it."""

from __future__ import annotations

import json
from pathlib import Path

from steps_project import make, noria
from test_noria_test import CONFIG, PIPELINE, customers

from noria.bootstrap import open_workspace
from noria.config import load_project
from noria.loop.judging import rows_for
from noria.pipeline.define import load_pipeline, load_pipelines

TWO = """
@nr.step
def one() -> int:
    return 1

@nr.step
def two(n: int) -> int:
    if os.environ.get("BREAK"):
        raise ValueError("broken")
    return n + 1

@nr.pipeline
def first():
    one()

@nr.pipeline
def second():
    two(one())
"""
LATER = """

@nr.step
def count(rows: pd.DataFrame) -> int:
    return len(rows)


@nr.pipeline
def counted():
    count(customers)
"""


def test_each_runs_by_its_name_and_a_resumed_run_is_of_its_own(tmp_path: Path) -> None:
    folder = make(tmp_path / "p", TWO)
    unnamed = noria(folder, "run")
    assert unnamed.returncode == 2
    assert "name one of: first, second" in unnamed.stderr
    unknown = noria(folder, "run", "third")
    assert unknown.returncode == 2
    assert "'third'" in unknown.stderr
    told = json.loads(noria(folder, "run", "first", "--json").stdout)
    assert [step["step"] for step in told["steps"]] == ["one"]
    broken = noria(folder, "run", "second", BREAK="1")
    assert broken.returncode == 4, broken.stderr
    resumed = noria(folder, "run", "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert {step["step"]: step["status"] for step in json.loads(resumed.stdout)["steps"]}["two"] == "done"


def test_a_model_is_made_and_judged_by_the_pipeline_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE.replace("MORE", "random_state=0") + LATER, encoding="utf-8")
    rules = "[model.churn.gate]\nauc = { min = 0.5 }\n"
    (tmp_path / "noria.toml").write_text(
        CONFIG.replace('checks = "checks/customers.toml"\n', "") + rules, encoding="utf-8"
    )
    customers().to_parquet(tmp_path / "customers.parquet")
    project = load_project(tmp_path)
    assert [each.name for each in load_pipelines(project)] == ["churn", "counted"]
    assert load_pipeline(project, model="churn").name == "churn"
    # The rules are about a model of the other pipeline, which has made none yet.
    assert noria(tmp_path, "run", "counted").returncode == 0
    assert noria(tmp_path, "run", "churn").returncode == 0
    told = noria(tmp_path, "test", "--json")
    stages = {each["name"]: each["ok"] for each in json.loads(told.stdout)["stages"]}
    assert {name for name in stages if name.startswith(("pipeline", "again"))} == {
        "pipeline churn",
        "pipeline counted",
        "again churn",
        "again counted",
    }
    assert stages["pipeline counted"]
    ws = open_workspace(tmp_path)
    assert "holdout of run_" in rows_for(ws, "churn").told
