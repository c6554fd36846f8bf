"""`noria test`: one verdict over a project as it is, JUnit for any CI, and production as it was, byte for byte."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from again_project import environ

import warm
from noria.bootstrap import open_workspace

CONFIG = """
[project]
name = "churn"
[data.customers]
source = "customers.parquet"
checks = "checks/customers.toml"
"""
PIPELINE = '''"""Churn."""
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import noria as nr

customers = nr.dataset("customers", key="id", time="at", label="churned")


@nr.step
def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return nr.split_by_time(rows, "20d")


@nr.step
def train(rows: pd.DataFrame):
    x, y = nr.xy(rows)
    return make_pipeline(StandardScaler(), LogisticRegression(MORE)).fit(x, y)


@nr.pipeline
def churn():
    learn, newest = split(customers)
    return nr.model("churn", train(learn), holdout=newest, metrics=["auc", "log_loss"])
'''
TESTS = "def test_one():\n    assert 1 + 1 == 2\n"


def customers(rows: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    fee, calls = rng.normal(30, 8, rows), rng.integers(0, 6, rows)
    churned = (fee / 8 + calls + rng.normal(size=rows) > 6).astype("int64")
    at = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(rows) * 3, unit="h")
    ids = [f"c{i:05d}" for i in range(rows)]
    return pd.DataFrame({"id": ids, "at": at, "fee": fee, "calls": calls, "churned": churned})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "churn"
    (folder / "tests").mkdir(parents=True)
    (folder / "noria.toml").write_text(CONFIG)
    (folder / "pipeline.py").write_text(PIPELINE.replace("MORE", "random_state=nr.seed()"))
    (folder / "tests" / "test_churn.py").write_text(TESTS)
    customers().to_parquet(folder / "customers.parquet")
    return folder


def noria(root: Path, *words: str, code: int = 0) -> dict[str, Any]:
    done = warm.noria(*words, "--json", cwd=root, env=environ({}))
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def production(root: Path) -> tuple[int, dict[str, bytes]]:
    """The ledger's head, and every file of the objects, the pins and the project itself."""
    state = root / ".noria"
    head = open_workspace(root).ledger.head() if (state / "ledger.db").is_file() else 0
    kept = [path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    own = [path for path in kept if not path.is_relative_to(state) or path.is_relative_to(state / "objects")]
    own = [path for path in own if not path.name.endswith(".db-shm")]  # who reads writes there that they read
    return head, {str(path.relative_to(root)): path.read_bytes() for path in own}


def junit(path: Path) -> dict[str, bool]:
    """Every case as `suite/name`, and whether it passed."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return {f"{case.get('classname')}/{case.get('name')}": case.find("failure") is None for case in cases}


def stages(found: dict[str, Any]) -> dict[str, bool]:
    return {stage["name"]: stage["ok"] for stage in found["stages"]}


def test_a_sound_project_passes_and_production_is_as_it_was(root: Path) -> None:
    noria(root, "run")
    frame = customers(1000)  # the source has grown: it is tested as a run would find it, and not added
    frame.to_parquet(root / "customers.parquet")
    before = production(root)
    found = noria(root, "test", "--junit", "out/test.xml")
    assert found["ok"], found
    assert stages(found) == dict.fromkeys(("tests", "data", "pipeline", "model", "again"), True)
    told = {stage["name"]: stage["text"] for stage in found["stages"]}
    assert told["data"].startswith("customers@2 ")
    assert "identical" in told["again"]
    cases = junit(root / "out" / "test.xml")
    assert all(cases.values())
    assert {"noria/tests", "noria/again", "noria.training/one row", "noria.behaviour/the same twice"} <= set(cases)
    assert any(name.endswith("/test_one") for name in cases)
    (root / "out" / "test.xml").unlink()
    after = production(root)
    assert after == before
    assert not list(root.rglob("sample/*.parquet"))


def test_a_project_that_never_ran_is_tested_too_and_stays_so(root: Path) -> None:
    before = production(root)
    found = noria(root, "test", "--sample", "600")
    assert found["ok"], found
    head, files = production(root)
    assert head == 0, "opening made a ledger, and nothing is in it"
    assert files == before[1]


@pytest.mark.parametrize("sample", ["0", "-5"])
def test_a_sample_of_no_rows_is_refused(root: Path, sample: str) -> None:
    done = warm.noria("test", "--sample", sample, cwd=root, env=environ({}))
    assert (done.returncode, "one row at least" in done.stderr) == (2, True), done.stderr


def test_each_stage_says_no(root: Path) -> None:
    noria(root, "run")
    before = production(root)
    (root / "tests" / "test_churn.py").write_text("def test_one():\n    assert 1 + 1 == 3\n")
    frame = customers()
    frame["fee"] *= 100.0
    frame.to_parquet(root / "customers.parquet")
    (root / "pipeline.py").write_text(
        PIPELINE.replace("MORE", "C=__import__('random').uniform(0.1, 9)").replace(
            "x, y = nr.xy(rows)", "x, y = nr.xy(rows, label='churned')\n    x = x.assign(calls=x['calls'])"
        )
    )
    (root / "noria.toml").write_text(
        CONFIG + '[model.churn.behaviour]\ndirection = { fee = "down" }\ninvariant = ["calls"]\n'
    )
    found = noria(root, "test", code=1)
    assert stages(found) == {"tests": False, "data": False, "pipeline": True, "model": False, "again": False}
    told = {stage["name"]: stage for stage in found["stages"]}
    assert "0 of 1" in told["tests"]["text"]
    assert "fee" in told["data"]["output"]
    assert "more fee, down" in told["model"]["text"]
    assert "calls does not matter" in told["model"]["text"]
    assert told["again"]["text"] == "train comes out otherwise: unseeded random"
    cases = junit(root / ".noria" / "test.xml")
    assert not cases["noria.behaviour/more fee, down"]
    assert cases["noria.training/one row"]
    head, files = production(root)
    assert head == before[0]
    changed = {name for name in files if files[name] != before[1].get(name)}
    assert changed == {"tests/test_churn.py", "customers.parquet", "pipeline.py", "noria.toml"}, "what this test wrote"


def test_a_gate_that_says_no_on_the_sample_is_named(root: Path) -> None:
    """So few rows that the holdout is of one class."""
    found = {stage["name"]: stage for stage in noria(root, "test", "--sample", "5", code=1)["stages"]}
    assert not found["pipeline"]["ok"]
    assert "gates said no: " in found["pipeline"]["text"]
    assert found["pipeline"]["output"]
    assert "{" not in found["pipeline"]["output"], "no document of a machine"


def test_code_that_fails_says_where(root: Path) -> None:
    (root / "pipeline.py").write_text(PIPELINE.replace("MORE", "C='no number'"))
    found = noria(root, "test", code=1)
    assert stages(found)["pipeline"] is False
    assert "train" in next(stage["text"] for stage in found["stages"] if stage["name"] == "pipeline")
    (root / "pipeline.py").write_text("raise RuntimeError('broken')\n")
    assert stages(noria(root, "test", code=1))["pipeline"] is False
